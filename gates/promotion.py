"""Whether a result may land on a branch: a pure decision over facts that others gathered.

Rules kept here:
- Only protected targets need approvals; everywhere the record must verify, the rules agree and the result be
  whole.
- Persons are counted, not keys. Agents never count. The operator counts only where there is no [review] table
  or it says `solo`,
  is shown as self-approved, and never carries a high tier alone.
- An approval by a key that was revoked counts below the place where it was frozen, and nowhere else.
- An approval holds for one change in one record: same target, same delta digest, same rules, not expired;
  where the target still is at the approved base, the same result tree as well. Above medium it
  holds for that very result tree only.
"""

from __future__ import annotations

import fnmatch
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from agentgov.config import ReviewTable
from agentgov.gates.review import GivenApproval, Principal
from agentgov.gates.tiers import TIERS, Tier
from agentgov.ids import RunId

HIGH_TIERS: frozenset[Tier] = frozenset({"high", "critical"})


@dataclass(frozen=True)
class PromotionFacts:
    """Everything the decision rests on.

    Attributes:
        target: the branch, as refs/heads/...
        protected: full names or globs of the branches that need approvals.
        base: the commit that the run began at.
        result: the result tree that was bound to the run.
        landing_tree: the tree that would land, after the merge with the target.
        landing_delta: the digest of the change from the target's head to it.
        base_is_head: the target still is at the base.
        operators: names of the principals who started the run.
        agents: names that belong to agents.
        policy: the digest of the rules that hold now.
        policy_problem: why the rules do not agree with this landing, or None.
        record_problem: why the record does not verify, or None.
        result_problems: what could not be bound.
        log: the record's origin; None when approvals of any record count.
    """

    run: RunId
    target: str
    protected: Sequence[str]
    base: str
    result: str
    delta: str
    landing_tree: str
    landing_delta: str
    base_is_head: bool
    tier: Tier
    review: ReviewTable | None
    approvals: Sequence[GivenApproval]
    operators: frozenset[str]
    agents: frozenset[str]
    policy: str
    now_us: int
    policy_problem: str | None = None
    record_problem: str | None = None
    result_problems: tuple[str, ...] = ()
    log: str | None = None


@dataclass(frozen=True)
class PromotionDecision:
    """The answer.

    Attributes:
        allowed: it may land.
        is_protected: the target needs approvals.
        missing: what is missing or wrong, for people; empty exactly when allowed.
        passed: what was checked and holds.
        rejected: approvals that do not count, each with the reason.
        needed: how many approvals the target needs.
        counted: the principals that count.
        used: the record's numbers of the approvals that count.
        self_approved: only the operator approved.
        blocked: something other than approvals is in the way.
    """

    allowed: bool
    is_protected: bool
    tier: Tier
    missing: tuple[str, ...]
    passed: tuple[str, ...]
    rejected: tuple[str, ...]
    needed: int
    counted: tuple[str, ...]
    used: tuple[int, ...]
    self_approved: bool
    blocked: bool


def is_protected(target: str, protected: Iterable[str]) -> bool:
    """True when a branch needs approvals; names compare without case, as some file systems do."""
    return any(fnmatch.fnmatchcase(target.casefold(), pattern.casefold()) for pattern in protected)


def decide_promotion(facts: PromotionFacts) -> PromotionDecision:
    """Decides whether a result may land. Pure: no clock, no files."""
    missing, passed = _conditions(facts)
    blocked = bool(missing)
    protected = is_protected(facts.target, facts.protected)
    counted: dict[str, bool] = {}
    left: set[str] = set()
    used: list[int] = []
    rejected: list[str] = []
    for given in facts.approvals:
        reason = _stale(given, facts)
        if reason is not None:
            rejected.append(f"{_names(given)}: {reason}")
            continue
        for principal in given.principals:
            own = principal.is_operator_key or principal.name in facts.operators
            refusal = _refusal(principal, own, facts)
            if refusal is not None:
                rejected.append(f"{principal.name}: {refusal}")
                continue
            counted[principal.name] = counted.get(principal.name, False) or own
            if principal.standing == "since left":
                left.add(principal.name)
            if given.seq is not None and given.seq not in used:
                used.append(given.seq)
    needed = 0 if not protected else 1 if facts.review is None else facts.review.required
    self_approved = protected and bool(counted) and all(counted.values())
    if len(counted) < needed:
        missing.append(f"{needed - len(counted)} of {needed} approval{'' if needed == 1 else 's'} missing")
    elif self_approved and facts.tier in HIGH_TIERS:
        missing.append(
            f"an approval by another person: a change of tier {facts.tier} is never self-approved alone"
        )
    elif protected:
        gone = f" ({', '.join(sorted(left))}: since left)" if left else ""
        passed.append(f"approvals {len(counted)} of {needed}{gone}")
    return PromotionDecision(
        allowed=not missing,
        is_protected=protected,
        tier=facts.tier,
        missing=tuple(missing),
        passed=tuple(passed),
        rejected=tuple(rejected),
        needed=needed,
        counted=tuple(counted),
        used=tuple(sorted(used)),
        self_approved=self_approved,
        blocked=blocked,
    )


def _conditions(facts: PromotionFacts) -> tuple[list[str], list[str]]:
    missing: list[str] = []
    passed: list[str] = []
    for name, problem in (("record", facts.record_problem), ("rules", facts.policy_problem)):
        if problem is None:
            passed.append(name)
        else:
            missing.append(f"{name}: {problem}")
    missing += [f"result: {problem}" for problem in facts.result_problems]
    if facts.base_is_head and (facts.landing_tree != facts.result or facts.landing_delta != facts.delta):
        missing.append("result: what would land is not what the run is bound to")
    return missing, passed


def _stale(given: GivenApproval, facts: PromotionFacts) -> str | None:
    """Why an approval does not hold for this landing, or None."""
    approval = given.approval
    if approval.run != facts.run:
        return "it is for another run"
    if facts.log is not None and approval.log[0] != facts.log:
        return "it was given in another record"
    if approval.target != facts.target:
        return "it is for another branch"
    if not approval.given_us < approval.expires_us or facts.now_us >= approval.expires_us:
        return "it has expired"
    if approval.base != facts.base or approval.result != facts.result or approval.delta != facts.delta:
        return "the result is not what was approved"
    if approval.delta != facts.landing_delta:
        return "the branch moved in a way that touches this change"
    if approval.policy != facts.policy:
        return "it was given under other rules"
    moved = approval.result != facts.landing_tree
    if moved and TIERS.index(facts.tier) > TIERS.index("medium"):
        return f"the branch moved, and a change of tier {facts.tier} is approved for one result only"
    return None


def _refusal(principal: Principal, own: bool, facts: PromotionFacts) -> str | None:
    if principal.standing == "revoked":
        return "their key was revoked before this approval, as far as the record can show"
    if principal.name in facts.agents:
        return "an agent cannot approve"
    if own and facts.review is not None and not facts.review.solo:
        return "you started this run, so yours cannot count"
    return None


def _names(given: GivenApproval) -> str:
    return ", ".join(principal.name for principal in given.principals)
