"""Approve a run's result, and land it on a branch through the gates: the facts, the decision, the entries.

Rules kept here:

- What lands is the result that the record binds, never what lies in the workspace by now.
- The decision is `gates.promotion.decide_promotion`'s; this gathers its facts and enters what came of it.
- A landing that a crash left open is closed first, by looking at the branch.
"""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from agentgov.calls import ToolCall
from agentgov.errors import (
    AgentgovError,
    ApprovalMissingError,
    BrokenRecordError,
    ConflictError,
    ExitCode,
    IncompleteError,
    PolicyDeniedError,
    UsageError,
)
from agentgov.files import open_private_dir
from agentgov.gates import landing
from agentgov.gates.adoption import AdoptedPolicy, find_policy, operator_key, protected_targets
from agentgov.gates.checked_out import TreeUpdate, update_work_trees
from agentgov.gates.journal import StreamJournal
from agentgov.gates.landed import recover_landing
from agentgov.gates.places import Places
from agentgov.gates.promotion import PromotionDecision, PromotionFacts, decide_promotion, is_protected
from agentgov.gates.review import DEFAULT_LIFETIME_US, PAYLOAD_TYPE, Approval
from agentgov.gates.tiers import ChangedPath, tier_of
from agentgov.gates.trust import TrustedPersons
from agentgov.harness import people
from agentgov.harness.settled import SettledRun, Workplace
from agentgov.layout import StateHome
from agentgov.ledger.checkpoint import Checkpoint
from agentgov.ledger.entry import Draft, Entry
from agentgov.ledger.history import Promotion, RunRecord
from agentgov.ledger.sshsig import PersonKey, sign_statement
from agentgov.rollback.result import export_to_repo
from agentgov.text import printable

# The digest of a change that changes nothing.
_NOTHING = hashlib.sha256().hexdigest()


@dataclass(frozen=True, slots=True)
class PromoteRequest:
    """What is asked for.

    Attributes:
        target: The branch, as `refs/heads/...`.
        state: The user's state folder.
        home: The user's home folder, for the rules' paths.
        started_on: The branch that was checked out when the run began.
        intent: What the run was for.
        operator_email: Who started the run, as they claim.
        person: Who moves the branch.
        record_problem: Why the record does not verify, with what to exit with; None when it does.
        policy_ref: The ref to take the rules from, if one was named.
    """

    target: str
    state: StateHome
    home: Path | None
    started_on: str | None
    intent: str | None
    operator_email: str | None
    person: landing.Person
    record_problem: tuple[ExitCode, str] | None = None
    policy_ref: str | None = None


@dataclass(frozen=True, slots=True)
class Promoted:
    """What came of it."""

    commit: str
    decision: PromotionDecision
    updates: Sequence[TreeUpdate]


@dataclass(frozen=True, slots=True)
class Approved:
    """An approval that was entered."""

    seq: int
    target: str
    result: str
    endorsed_now: bool
    is_needed: bool


def bound_result(run: SettledRun) -> Entry:
    """Return the result that counts.

    Raises:
        IncompleteError: AG0077, the run has none.
        ConflictError: AG0079, a part of it cannot land.
    """
    bound = run.record.result
    if bound is None:
        raise IncompleteError(f"run {run.run} has no result", id="AG0077", hint=f"agentgov show {run.run}")
    if bound.body["problems"] is not None:
        raise ConflictError(
            f"the result of run {run.run} is not whole: some of its changes cannot land", id="AG0079",
            hint=(f"agentgov show {run.run}", f"agentgov apply {run.run}        take it by hand instead"),
        )  # fmt: skip
    return bound


def approve(
    work: Workplace,
    run: SettledRun,
    request: PromoteRequest,
    key: PersonKey,
    message: str | None,
    *,
    own: bool,
) -> Approved:
    """Sign off exactly this result for a branch, and enter it.

    Args:
        work: What to work with.
        run: The run.
        request: What it would be promoted as.
        key: The person's key.
        message: Why, in their words.
        own: The key is the one that this clone's own settings name.

    Raises:
        AgentgovError: There is nothing to approve, no such branch, or ssh-keygen cannot sign.
        UntrustedSignerError: AG0423, the key was revoked.
    """
    bound = bound_result(run)
    head = _demand_branch(work, request.target)
    endorsed = own and people.endorse(work, request.state, key)
    adopted = find_policy(work.repo, request.state, bound.body["base"], request.policy_ref, target=head)
    saved = _sealed_head(work)
    now = work.clock.now_us()
    approval = Approval(
        run=run.run,
        target=request.target,
        base=bound.body["base"],
        head=head,
        result=bound.body["result"],
        delta=bound.body["delta"],
        policy=adopted.digest,
        log=(saved.origin, saved.size, saved.root.hex()),
        git_version=work.repo.git().text("version").removeprefix("git version ")[:64],
        merge_settings=landing.MERGE_SETTINGS,
        given_us=now,
        expires_us=now + DEFAULT_LIFETIME_US,
    )
    envelope = sign_statement(key, PAYLOAD_TYPE, approval.to_payload())
    people.demand_standing(work.repo, request.state, head, envelope)
    words = None if not message else work.payloads.put(run.run, "args", "message", message.encode())
    seq = run.enter([Draft("approval.given", run.run, {"envelope": envelope.to_body(), "message": words})])
    run.save()
    protected = protected_targets(work.repo, adopted, request.started_on)
    return Approved(
        seq, request.target, bound.body["result"], endorsed, is_protected(request.target, protected)
    )


def promote(work: Workplace, run: SettledRun, request: PromoteRequest) -> Promoted:
    """Land the result on a branch, if everything that the branch demands holds.

    Raises:
        ApprovalMissingError: AG0110, an approval is missing.
        PolicyDeniedError: AG0081, the rules forbid a changed path.
        BrokenRecordError: AG0082, the record does not verify.
        IncompleteError: AG0082, the record is not complete; AG0077, there is no result.
        UsageError: AG0080, there is no such branch; AG0085, it has all of it already.
        ConflictError: AG0114 the branch is gone or moved, AG0115 it does not merge, AG0079 not all can land.
    """
    bound = bound_result(run)
    _demand_branch(work, request.target)
    close_open_landings(work, run)
    asked = landing.LandingRequest(
        run=run.run,
        target=request.target,
        base=bound.body["base"],
        result_tree=bound.body["result"],
        subject=request.intent or "",
        person=request.person,
        now_us=work.clock.now_us(),
    )

    def export(oids: Sequence[str]) -> None:
        export_to_repo(work.repo, work.store, oids, exclude=[bound.body["base"]])

    with tempfile.TemporaryDirectory(dir=open_private_dir(work.repo.layout.run_dir(run.run))) as scratch:
        would = landing.prepare_landing(work.repo, asked, Path(scratch), export)
    if would.delta == _NOTHING:
        raise UsageError(
            f"nothing to land: {_short(request.target)} has all of this result already", id="AG0085",
            hint=f"git log --grep 'Agent-Run: {run.run}' {_short(request.target)}",
        )  # fmt: skip
    adopted = find_policy(work.repo, request.state, bound.body["base"], request.policy_ref, target=would.old)
    facts = _facts(work, run, request, adopted, bound, would)
    decision = decide_promotion(facts)
    if not decision.allowed:
        raise _refusal(run, request, facts, decision, would)
    journal = StreamJournal(
        work.stream,
        work.payloads,
        run.run,
        policy=adopted.digest,
        tier=decision.tier,
        approvals=decision.used,
        self_approved=decision.self_approved,
    )
    commit = landing.land(work.repo, would, asked, journal, self_approved=decision.self_approved)
    updates = update_work_trees(work.repo, request.target, would.old, commit)
    run.save()
    return Promoted(commit, decision, updates)


def _demand_branch(work: Workplace, target: str) -> str:
    head = work.repo.ref(target)
    if head is None:
        raise UsageError(f"there is no branch {_short(target)}", id="AG0080", hint="--into BRANCH")
    return head


def close_open_landings(work: Workplace, run: SettledRun) -> None:
    """Enter what became of a landing that a crash interrupted."""
    for attempt in run.record.promotions:
        if attempt.outcome is None:
            _close(work, run.record, attempt)


def _close(work: Workplace, record: RunRecord, attempt: Promotion) -> None:
    body = attempt.intent.body
    target = work.payloads.get(record.run, body["target"])
    journal = StreamJournal(
        work.stream,
        work.payloads,
        record.run,
        policy=body["policy"],
        tier=body["tier"],
        approvals=body["approvals"],
        self_approved=body["self_approved"],
    )
    if target is None:
        journal.failed("target-unknown")
        return
    name = target.value.decode("utf-8", "surrogateescape")
    commit = recover_landing(work.repo, name, body["old"], body["head"], journal)
    if commit is not None and work.repo.ref(name) == commit:
        # The crash may have come before the user's own tree followed.
        update_work_trees(work.repo, name, body["old"], commit)


def _facts(
    work: Workplace,
    run: SettledRun,
    request: PromoteRequest,
    adopted: AdoptedPolicy,
    bound: Entry,
    would: landing.Landing,
) -> PromotionFacts:
    changes = landing.changed_paths(work.repo.git(), would.old, would.tree)
    trusted = TrustedPersons(
        people.read_trust(work.repo, would.old) or "",
        operator_key(work.repo, request.state),
        people.own_public_keys(work.repo, request.home),
        people.read_people(work.repo, request.state, would.old),
    )
    operators = {request.operator_email} if request.operator_email else set()
    agents = set() if run.record.start is None else {str(run.record.start.body["agent"])}
    return PromotionFacts(
        run=run.run,
        target=request.target,
        protected=protected_targets(work.repo, adopted, request.started_on),
        base=would.base,
        result=would.result_tree,
        delta=bound.body["delta"],
        landing_tree=would.tree,
        landing_delta=would.delta,
        base_is_head=would.base_is_head,
        tier=tier_of(changes),
        review=adopted.review,
        approvals=trusted.approvals(run.record.approvals, work.stream.origin),
        operators=frozenset(operators | {trusted.person_of(name) for name in operators}),
        agents=frozenset(agents | {trusted.person_of(name) for name in agents}),
        policy=adopted.digest,
        now_us=work.clock.now_us(),
        policy_problem=_judge(work, run, request, adopted, changes),
        record_problem=None if request.record_problem is None else request.record_problem[1],
        log=work.stream.origin,
    )


def _judge(
    work: Workplace,
    run: SettledRun,
    request: PromoteRequest,
    adopted: AdoptedPolicy,
    changes: Sequence[ChangedPath],
) -> str | None:
    """Ask the rules about every path that would change on the branch; None when none of them is denied.

    A rule that asks is answered here: a person promotes.
    """
    places = Places.of(
        run.root,
        home=request.home,
        git_dirs=[work.repo.git_dir, work.repo.common_dir],
        state_home=request.state.root,
    )
    written = tuple(_full(run, change.path) for change in changes if change.new_mode != "000000")
    deleted = tuple(_full(run, change.path) for change in changes if change.new_mode == "000000")
    call = ToolCall(
        "promote", "write", "promote", None, None, None, run.root, {}, writes=written, deletes=deleted
    )
    # What lands is checked out elsewhere too, also where `.AGENTGOV.toml` is `.agentgov.toml`.
    for folded in (places.fold_case, True):
        verdict = adopted.judge(replace(places, fold_case=folded)).decide(call)
        if verdict.decision == "deny":
            return f"{', '.join(verdict.rules) or 'policy'}: {verdict.reason} ({verdict.where})"
    return None


def _full(run: SettledRun, path: bytes) -> str:
    return str(run.root / path.decode("utf-8", "surrogateescape"))


def _refusal(
    run: SettledRun,
    request: PromoteRequest,
    facts: PromotionFacts,
    decision: PromotionDecision,
    would: landing.Landing,
) -> AgentgovError:
    name = _short(request.target)
    told = [
        f"run       {run.run}  tier {decision.tier}; merges cleanly into {name} {would.old[:7]}",
        *(f"ok        {line}" for line in decision.passed),
        *(f"missing   {line}" for line in decision.missing),
        *(f"not       {line}" for line in decision.rejected),
    ]
    message = f"{name} was not moved: {decision.missing[0]}"
    if request.record_problem is not None:
        kind = BrokenRecordError if request.record_problem[0] is ExitCode.BROKEN else IncompleteError
        return kind(message, id="AG0082", facts=told, hint="agentgov verify --explain")
    if facts.policy_problem is not None:
        return PolicyDeniedError(
            message, id="AG0081", facts=told,
            hint=f"agentgov apply {run.run}        a person may take these changes by hand",
        )  # fmt: skip
    own_counts = facts.review is None or facts.review.solo
    who = "yours counts, marked self-approved" if own_counts else "a reviewer runs this, with their own key"
    hints = [f"agentgov approve {run.run} --into {name} -m 'why'        {who}"]
    if not own_counts:
        hints.append(
            "you work alone? [review] solo = true on the branch; every such merge is marked self-approved"
        )
    return ApprovalMissingError(message, id="AG0110", facts=told, hint=hints)


def _sealed_head(work: Workplace) -> Checkpoint:
    saved = work.stream.seal() or work.stream.checkpoint()
    if saved is None:
        raise IncompleteError("this record has no signed head yet", id="AG0084", hint="agentgov verify")
    return saved


def _short(target: str) -> str:
    return printable(target.removeprefix("refs/heads/"), limit=100)
