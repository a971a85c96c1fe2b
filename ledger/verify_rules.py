"""What the entries of one run must say together.

Rules this module keeps; each failure is a BrokenRecordError AG0271 (snapshots) or AG0272 (calls):
    * A run starts once, before anything is called in it, and ends once; nothing is called after its end.
    * Snapshots form one sequence: each step's `from` is the tree before it.
    * A step names exactly the calls that were open: asked for, allowed, and without a result yet. A request
      does not name its own call, a result does.
    * Calls are numbered 1, 2, 3 ...; each has at most one answer, only if policy asked, and at most one
      result.
    * A call that was denied, or asked about and never allowed, has no result.
    * In a record that continues another one, a run of that one may go on after its end: what a person does
      with it later. Its first step here says which files it begins with.
    * Approvals that a promotion counts are entries before it; a promotion is open when it is closed.

Memory is bounded by the runs and the calls that are open.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.ids import RunId
from agentgov.ledger.bodies import STEPS
from agentgov.ledger.entry import Entry

BEFORE_START: Final = frozenset(
    {"key.delegate", "key.rotate", "key.end", "key.lost", "policy.adopted", "log.heartbeat"}
)
"""What may name a run that has not started."""

AFTER_END: Final = frozenset(
    {"approval.given", "change.unattributed", "payload.erased", "payload.pruned", "promote.done"}
    | {"promote.failed", "promote.intent", "result.bind", "run.apply", "run.drop", "run.end", "run.rollback"}
)
"""What may name a run that started in the record which this one continues."""

_UNKNOWN: Final = ""


@dataclass(slots=True)
class RunProgress:
    """Where one run stands.

    Attributes:
        first_seq: The place of its first entry.
        tree: The last snapshot; None before the start.
        end_tree: The snapshot at its end; None while it is open.
        open: Calls that may be running.
        waiting: Calls that a person is asked about.
        calls: How many calls there were.
        actors: Actors known so far.
        approvals: Places of approvals.
        promoting: Whether a promotion has begun and not ended.
        carried: Whether it started in the record that this one continues.
    """

    first_seq: int
    tree: str | None = None
    end_tree: str | None = None
    open: set[int] = field(default_factory=set)
    waiting: set[int] = field(default_factory=set)
    calls: int = 0
    actors: set[int] = field(default_factory=lambda: {0})
    approvals: set[int] = field(default_factory=set)
    promoting: bool = False
    carried: bool = False
    denied: set[int] = field(default_factory=set)

    @property
    def is_open(self) -> bool:
        """Whether it started and has not ended."""
        return self.tree is not None and self.end_tree is None


class RunRules:
    """Checks entries in order; one object for a whole record.

    Attributes:
        runs: Where each run stands.
        follows: Whether the record continues an earlier one.
    """

    def __init__(self) -> None:
        self.runs: dict[RunId, RunProgress] = {}
        self.follows = False

    def open_runs(self) -> list[RunId]:
        """Return the runs that started and have not ended."""
        return [run for run, progress in self.runs.items() if progress.is_open]

    def check(self, entry: Entry) -> None:
        """Check one entry that belongs to a run, and take over what it says.

        Raises:
            BrokenRecordError: AG0271, when a snapshot does not follow; AG0272, when a call or a state cannot
                be.
        """
        if entry.run is None:
            if entry.kind == "log.genesis":
                self.follows = entry.body["continues"] is not None
            return
        run = self.runs.setdefault(entry.run, RunProgress(entry.seq))
        kind = entry.kind
        if kind == "run.start":
            if run.tree is not None or run.carried:
                raise _impossible(entry, "this run has started before")
            run.tree = entry.body["tree"]
            return
        if run.tree is None and not run.carried:
            if kind in BEFORE_START:
                return
            if not self.follows or kind not in AFTER_END:
                raise _impossible(entry, "this run has not started")
            run.carried, run.end_tree = True, _UNKNOWN
        if run.carried and kind not in AFTER_END and kind not in BEFORE_START:
            raise _impossible(entry, "this run belongs to the record before, and makes no more calls")
        if kind.startswith("call."):
            self._check_call(entry, run)
        if kind in STEPS:
            _check_step(entry, run)
        _take(entry, run)

    def _check_call(self, entry: Entry, run: RunProgress) -> None:
        n = entry.body["n"]
        if run.end_tree is not None:
            raise _impossible(entry, "a call after the end of its run")
        if entry.kind == "call.request":
            if n != run.calls + 1:
                raise _impossible(entry, f"call {n} follows call {run.calls}")
            if entry.body["actor"] not in run.actors:
                raise _impossible(entry, "a call by an agent that was not introduced")
        elif not 1 <= n <= run.calls:
            raise _impossible(entry, "there is no such call")
        elif entry.kind == "call.answer":
            if n not in run.waiting:
                raise _impossible(entry, "an answer to a question that was not open")
        elif n in run.denied:
            raise _impossible(entry, "denied call has a result")
        elif n in run.waiting:
            raise _impossible(entry, "a call that waited for an answer has a result")
        elif n not in run.open:
            raise _impossible(entry, "this call has a result already")


def _check_step(entry: Entry, run: RunProgress) -> None:
    if entry.body["from"] != run.tree and not (run.carried and run.tree is None):
        raise BrokenRecordError(
            "the files before it are not those after the step before it",
            id="AG0271",
            where=f"entry {entry.seq}",
        )
    if entry.body["open"] != sorted(run.open):
        raise _impossible(entry, "it names other calls as running than the entries before it")


def _take(entry: Entry, run: RunProgress) -> None:
    """Take over what an entry that holds says about its run."""
    kind, body = entry.kind, entry.body
    if kind in STEPS:
        run.tree = body["tree"]
    if kind == "call.request":
        run.calls = body["n"]
        decision = body["verdict"]["decision"]
        {"allow": run.open, "ask": run.waiting, "deny": run.denied}[decision].add(run.calls)
    elif kind == "call.answer":
        run.waiting.remove(body["n"])
        (run.open if body["answer"] == "allow" else run.denied).add(body["n"])
    elif kind == "call.result":
        run.open.remove(body["n"])
    elif kind == "actor.seen":
        if body["actor"] in run.actors or body["parent"] not in run.actors:
            raise _impossible(entry, "an agent is introduced twice, or by one that is not known")
        run.actors.add(body["actor"])
    elif kind == "run.end":
        if run.end_tree is not None and run.end_tree != _UNKNOWN:
            raise _impossible(entry, "this run has ended before")
        run.end_tree = body["tree"]
        for finished in (run.open, run.waiting, run.denied, run.actors):
            finished.clear()
    elif kind == "result.bind":
        if run.carried and run.tree is None:
            run.tree = body["tree"]
        if body["tree"] not in (run.tree, run.end_tree):
            raise BrokenRecordError(
                "a result is bound to files that are not the run's", id="AG0271", where=f"entry {entry.seq}"
            )
    elif kind == "approval.given":
        run.approvals.add(entry.seq)
    elif kind == "promote.intent":
        if run.promoting:
            raise _impossible(entry, "two promotions at once")
        if not run.approvals.issuperset(body["approvals"]):
            raise _impossible(entry, "it counts approvals that are not in the record of this run")
        run.promoting = True
    elif kind in ("promote.done", "promote.failed"):
        if not run.promoting and not run.carried:
            raise _impossible(entry, "a promotion ends that has not begun")
        run.promoting = False


def _impossible(entry: Entry, what: str) -> BrokenRecordError:
    return BrokenRecordError(what, id="AG0272", where=f"entry {entry.seq}")
