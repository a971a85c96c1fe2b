"""What the record tells about runs: a pure fold over entries, for everything that reads.

Rules this module keeps:
    * No I/O and no checks: the entries are those of a record that the caller trusts or has verified.
    * It is tolerant: an open run, a call without an answer or a result, an entry about a run whose start is
      not among the entries all have their place and never raise.
    * Order is the order of entries; time is what the writer said.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from agentgov.errors import UsageError
from agentgov.ids import Point, RunId
from agentgov.ledger.entry import Entry, SignedEntry

RunState = Literal["open", "finished", "interrupted", "stopped", "failed"]
Decision = Literal["allow", "ask", "deny"]


@dataclass(slots=True)
class CallRecord:
    """A tool call.

    Attributes:
        n: Its number in the run, from 1.
        actor: Who made it; 0 is the main agent.
        tool: The tool's name, or ``other``.
        request: The entry that asked.
        decision: What policy said.
        from_tree: The snapshot before the request.
        answer: The entry with a person's answer to an ``ask``, if any.
        result: The entry with the outcome, if any.
    """

    n: int
    actor: int
    tool: str
    request: Entry
    decision: Decision
    from_tree: str
    answer: Entry | None = None
    result: Entry | None = None

    @property
    def allowed(self) -> bool | None:
        """Whether it was allowed to run; None while a person has not answered."""
        if self.decision != "ask":
            return self.decision == "allow"
        return None if self.answer is None else self.answer.body["answer"] == "allow"

    @property
    def status(self) -> Literal["ok", "error", "interrupted", "denied", "open"]:
        """How it ended, or why it has not."""
        if self.result is not None:
            status: Literal["ok", "error", "interrupted"] = self.result.body["status"]
            return status
        return "denied" if self.allowed is False else "open"

    @property
    def took_us(self) -> int | None:
        """How long it ran, in microseconds; None without a result."""
        return None if self.result is None else int(self.result.body["took_us"])

    @property
    def tree_after(self) -> str:
        """The snapshot at its result, or at its request when it has none."""
        return str((self.result or self.request).body["tree"])


@dataclass(frozen=True, slots=True)
class Step:
    """One snapshot in the run's sequence.

    Attributes:
        seq: The entry's place.
        kind: The entry's kind.
        from_tree: The snapshot before.
        tree: The snapshot.
        open: The calls that were open.
        changes: The commitment to the list of changes; None when there is none.
        n: The call whose entry this is, if it is a call's.
    """

    seq: int
    kind: str
    from_tree: str
    tree: str
    open: tuple[int, ...]
    changes: str | None
    n: int | None

    @property
    def owner(self) -> int | Literal["shared"] | None:
        """Whose the changes are: one call, ``shared`` among the open ones, or None when unattributed."""
        if self.kind in ("change.unattributed", "run.rollback") or not self.open:
            return None
        return self.open[0] if len(self.open) == 1 else "shared"


@dataclass(slots=True)
class Promotion:
    """An attempt to land a result, and how it ended: done, failed, or not known."""

    intent: Entry
    outcome: Entry | None = None

    @property
    def commit(self) -> str | None:
        """The commit that landed."""
        if self.outcome is None or self.outcome.kind != "promote.done":
            return None
        return str(self.outcome.body["commit"])


@dataclass(slots=True)
class RunRecord:
    """Everything recorded about one run.

    Attributes:
        run: Its id.
        first_seq: The place of the first entry that names it.
        start: ``run.start``; None when it is not among the entries.
        end: ``run.end``, once there is one.
        calls: Calls by number.
        steps: The sequence of snapshots after the start.
        actors: ``actor.seen`` by actor number.
        results: ``result.bind``, in order.
        approvals: ``approval.given``, in order.
        promotions: Attempts to land it.
        applies: ``run.apply``, in order.
        rollbacks: ``run.rollback``, in order.
        policies: ``policy.adopted`` within the run.
        erasures: ``payload.erased`` and ``payload.pruned``, in order.
        dropped: Whether its workspace was given up.
        last_ts: The time of its last entry.
    """

    run: RunId
    first_seq: int
    start: Entry | None = None
    end: Entry | None = None
    calls: dict[int, CallRecord] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    actors: dict[int, Entry] = field(default_factory=dict)
    results: list[Entry] = field(default_factory=list)
    approvals: list[Entry] = field(default_factory=list)
    promotions: list[Promotion] = field(default_factory=list)
    applies: list[Entry] = field(default_factory=list)
    rollbacks: list[Entry] = field(default_factory=list)
    policies: list[Entry] = field(default_factory=list)
    erasures: list[Entry] = field(default_factory=list)
    dropped: bool = False
    last_ts: int = 0

    @property
    def state(self) -> RunState:
        """How it ended; ``open`` when it has not."""
        if self.end is None:
            return "open"
        state: RunState = self.end.body["state"]
        return state

    @property
    def result(self) -> Entry | None:
        """The ``result.bind`` that counts: the last one."""
        return self.results[-1] if self.results else None

    @property
    def start_tree(self) -> str | None:
        """The snapshot at the start."""
        return None if self.start is None else str(self.start.body["tree"])

    @property
    def last_tree(self) -> str | None:
        """The last snapshot of the sequence."""
        return self.steps[-1].tree if self.steps else self.start_tree

    @property
    def end_tree(self) -> str | None:
        """The snapshot at the end of the run, or the last one so far; later steps are not in it."""
        if self.end is not None:
            return str(self.end.body["tree"])
        return self.last_tree

    @property
    def denied(self) -> list[CallRecord]:
        """The calls that were not allowed to run."""
        return [call for call in self.calls.values() if call.allowed is False]

    def tree_after(self, n: int) -> str:
        """Return the snapshot after call `n`.

        Raises:
            UsageError: AG0264, when the run has no such call.
        """
        call = self.calls.get(n)
        if call is None:
            raise UsageError(
                f"run {self.run} has no call {n}", id="AG0264", hint=f"agentgov show {self.run} --all"
            )
        return call.tree_after

    def tree_at(self, point: Point) -> str:
        """Return the snapshot at a call, the start or the end.

        Raises:
            UsageError: AG0264, when the run has no such call; AG0265, when its start is not in the record.
        """
        tree = self.start_tree if point == "start" else self.end_tree if point == "end" else None
        if isinstance(point, int):
            return self.tree_after(point)
        if tree is None:
            raise UsageError(f"the start of run {self.run} is not in this record", id="AG0265")
        return tree


@dataclass(slots=True)
class History:
    """Runs in the order in which they began, and policies adopted outside of them."""

    runs: dict[RunId, RunRecord] = field(default_factory=dict)
    policies: list[Entry] = field(default_factory=list)
    size: int = 0

    def __iter__(self) -> Iterator[RunRecord]:
        return iter(self.runs.values())

    def last_run(self) -> RunRecord | None:
        """Return the run that began last."""
        return next(reversed(self.runs.values()), None)

    def find_run(self, prefix: str) -> RunRecord:
        """Return the run whose id begins with `prefix`.

        Raises:
            UsageError: AG0266, when there is none; AG0267, when there are several.
        """
        whole = self.runs.get(RunId(prefix))
        if whole is not None:
            return whole
        found = [record for run, record in self.runs.items() if run.startswith(prefix)]
        if len(found) == 1:
            return found[0]
        if not found:
            raise UsageError(f"there is no run {prefix!a}", id="AG0266", hint="agentgov log --all")
        names = ", ".join(record.run for record in found[:5])
        raise UsageError(
            f"several runs begin with {prefix!a}: {names}", id="AG0267", hint="type one more letter"
        )


def fold(entries: Iterable[Entry | SignedEntry]) -> History:
    """Return the history that `entries`, in order, tell."""
    history = History()
    for item in entries:
        entry = item.entry if isinstance(item, SignedEntry) else item
        history.size = entry.seq + 1
        if entry.run is None:
            if entry.kind == "policy.adopted":
                history.policies.append(entry)
            continue
        record = history.runs.get(entry.run)
        if record is None:
            record = history.runs[entry.run] = RunRecord(entry.run, entry.seq)
        add_entry(record, entry)
    return history


def add_entry(record: RunRecord, entry: Entry) -> None:
    """Take one more entry of its run into `record`."""
    record.last_ts = entry.ts
    body = entry.body
    if entry.kind.startswith("call."):
        _add_call(record, entry)
    elif entry.kind == "run.start":
        record.start = record.start or entry
    elif entry.kind == "run.end":
        record.end = record.end or entry
    elif entry.kind == "run.drop":
        record.dropped = True
    elif entry.kind == "actor.seen":
        record.actors.setdefault(body["actor"], entry)
    elif entry.kind == "promote.intent":
        record.promotions.append(Promotion(entry))
    elif entry.kind in ("promote.done", "promote.failed"):
        if record.promotions and record.promotions[-1].outcome is None:
            record.promotions[-1].outcome = entry
    else:
        kept = {
            "result.bind": record.results,
            "approval.given": record.approvals,
            "run.apply": record.applies,
            "run.rollback": record.rollbacks,
            "policy.adopted": record.policies,
            "payload.erased": record.erasures,
            "payload.pruned": record.erasures,
        }.get(entry.kind)
        if kept is not None:
            kept.append(entry)
    if entry.kind != "run.start" and "from" in body:
        record.steps.append(_step(entry.seq, entry.kind, body))


def _add_call(record: RunRecord, entry: Entry) -> None:
    body = entry.body
    n: int = body["n"]
    if entry.kind == "call.request":
        record.calls.setdefault(
            n,
            CallRecord(n, body["actor"], body["tool"], entry, body["verdict"]["decision"], body["from"]),
        )
        return
    call = record.calls.get(n)
    if call is not None and entry.kind == "call.answer":
        call.answer = call.answer or entry
    elif call is not None:
        call.result = call.result or entry


def _step(seq: int, kind: str, body: dict[str, Any]) -> Step:
    return Step(seq, kind, body["from"], body["tree"], tuple(body["open"]), body["changes"], body.get("n"))
