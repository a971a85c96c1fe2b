"""The bookkeeping of one live run: which calls are open, what changed under them, what is to be entered.

Rules kept here:
- The snapshots of a run form one sequence: each step's ``from`` is the step's ``tree`` before it.
- A change belongs to the calls that were open when it was seen; with none open it is ``change.unattributed``.
- Nothing is acknowledged before it is durable: payloads first, then the entries, in one append per batch.
- One snapshot serves all events of a batch: they had all happened when it was taken.
- A call that was denied, or that waits for an answer, is not open: it cannot have changed anything.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from agentgov.calls import ToolCall, Verdict
from agentgov.clock import Clock
from agentgov.harness.attribution import Writer
from agentgov.harness.capture.base import HookEvent
from agentgov.harness.messages import summary_of
from agentgov.harness.steps import Describe, Encode, LineTally, encode_changes
from agentgov.ids import RunId
from agentgov.ledger.entry import Draft, SignedEntry
from agentgov.ledger.payloads import PayloadClass

CHANGED_ARGUMENTS = b"agentgov: a hook changed this call after it was judged; what ran is "
MAX_TRANSCRIPTS = 1000
AnsweredBy = Literal["operator", "timeout", "run-ended"]
Status = Literal["ok", "error", "interrupted"]


class SnapshotLike(Protocol):
    """One snapshot of the workspace."""

    @property
    def tree(self) -> str:
        """Its tree in the private store."""

    @property
    def how(self) -> str:
        """Whether it was incremental or full."""

    @property
    def skipped(self) -> Sequence[Any]:
        """What could not be captured."""


class Snapshots(Protocol):
    """Takes snapshots of the workspace."""

    def take(self, full: bool = False) -> SnapshotLike:
        """Take one now."""


class Payloads(Protocol):
    """Keeps contents beside the record."""

    def put(self, run: RunId, cls: PayloadClass, field: str, value: bytes) -> str:
        """Keep a value; return its commitment."""

    def public_name(self, raw_name: str) -> str:
        """The name, if it may stand in an entry itself; else ``other``."""

    def sync(self) -> None:
        """Make what was put durable."""


@dataclass(frozen=True, slots=True)
class Tools:
    """What a session works with.

    Attributes:
        append: Appends drafts with this run's key; durable when it returns.
        snapshots: The workspace.
        payloads: The payload store.
        judge: Policy. Whatever it raises is a denial.
        describe: Changes between two trees.
        encode: The changes payload.
        writer_of: What an open call could change.
        clock: Time.
        shadow: Keeps a changing step in the shadow history: tree, message, time.
    """

    append: Callable[[Sequence[Draft]], Sequence[SignedEntry]]
    snapshots: Snapshots
    payloads: Payloads
    judge: Callable[[ToolCall], Verdict]
    describe: Describe
    encode: Encode
    writer_of: Callable[[int, ToolCall], Writer]
    clock: Clock
    shadow: Callable[[str, str, int], object]


@dataclass(slots=True)
class LiveCall:
    """A call that was announced in this run."""

    n: int
    actor: int
    call: ToolCall
    verdict: Verdict
    since: float
    writer: Writer
    spawned: bool = False


@dataclass(slots=True)
class Counts:
    """Figures of a run for its summary."""

    calls: int = 0
    ran: int = 0
    denied: int = 0
    unrecorded: int = 0
    entries: int = 0
    lines: LineTally = field(default_factory=LineTally)


@dataclass(frozen=True, slots=True)
class Denied:
    """A call that did not run."""

    n: int
    what: str
    rules: tuple[str, ...]
    where: str
    by: str


class Session:
    """One run's state between two batches of events.

    Args:
        run: The run.
        tree: The tree that ``run.start`` names.
        tools: What it works with.

    """

    def __init__(self, run: RunId, tree: str, tools: Tools) -> None:
        self.run = run
        self.tree = tree
        self.counts = Counts()
        self.denied: list[Denied] = []
        self.changed: list[tuple[int, ToolCall, Verdict]] = []
        self.skipped: Sequence[Any] = ()
        self.saw_hooks = False
        self.model: str | None = None
        self.transcripts: set[str] = set()
        self._tools = tools
        self._drafts: list[Draft] = []
        self._steps: list[tuple[int, str, str]] = []
        self._history: list[tuple[str, str, int]] = []
        self._seen: SnapshotLike | None = None
        self._open: dict[int, LiveCall] = {}
        self._waiting: dict[int, LiveCall] = {}
        self._numbers: dict[str, list[int]] = {}
        self._actors: dict[str, int] = {}
        self._last_n = 0

    @property
    def open_calls(self) -> Sequence[LiveCall]:
        """The calls that are running now."""
        return list(self._open.values())

    def was_announced(self, call_id: str) -> bool:
        """Tell whether a call's hook was heard before it ran."""
        return call_id in self._numbers

    def open_ids(self, actor_id: str | None) -> list[str]:
        """The agent's ids of an actor's running calls."""
        return [live.call.call_id for live in self._open.values() if live.call.actor_id == actor_id]

    def announce(self, event: HookEvent, call: ToolCall) -> LiveCall:
        """Enter a call that is about to run, judged; it is open if it may run at once."""
        actor = self.see_actor(event)
        seen = self._observe()
        self._last_n += 1
        n = self._last_n
        verdict = self._tools.judge(call)
        writer = self._tools.writer_of(n, call)
        live = LiveCall(n, actor, call, verdict, self._tools.clock.monotonic(), writer)
        body = {
            **self._step(seen, f"{n} {self._name(call.tool)} begins"),
            "n": n,
            "actor": actor,
            "tool": self._name(call.tool),
            "args": self._put("args", "args", self._args(event, live)),
            "verdict": {
                "decision": verdict.decision,
                "rules": [self._name(rule) for rule in verdict.rules],
                "policy": verdict.policy,
            },
        }
        self._draft("call.request", body)
        self.counts.calls += 1
        self._numbers.setdefault(call.call_id, []).append(n)
        if verdict.decision == "allow":
            self._open[n] = live
        elif verdict.decision == "ask":
            self._waiting[n] = live
        else:
            self._refuse(live, "policy")
        return live

    def settle_ask(self, n: int, *, allow: bool, by: AnsweredBy) -> LiveCall | None:
        """Enter the answer to a call that was held; None when it no longer waits."""
        live = self._waiting.pop(n, None)
        if live is None:
            return None
        if allow and not self._open:
            # Otherwise what changed while nothing ran would be laid at this call's door.
            self._observe()
        self._draft("call.answer", {"n": n, "answer": "allow" if allow else "deny", "by": by})
        if allow:
            live.since = self._tools.clock.monotonic()
            self._open[n] = live
        else:
            self._refuse(live, by)
        return live

    def finish(self, event: HookEvent, call: ToolCall) -> bool:
        """Enter a call's result; False when no such call is open (then only what changed is entered).

        Another hook may have changed the arguments after they were judged: what ran is then judged as well,
        stands before the output, and is noted in `changed`.
        """
        n = next((n for n in self._numbers.get(call.call_id, ()) if n in self._open), None)
        if n is None:
            self._observe()
            self.counts.unrecorded += 1
            return False
        live, output = self._open[n], event.output
        if (call.tool, call.input) != (live.call.tool, live.call.input):
            self.changed.append((n, call, self._tools.judge(call)))
            ran = _json({"tool": call.tool, "input": dict(call.input)})
            output = CHANGED_ARGUMENTS + ran + b"\n" + (output or b"")
        live.spawned = live.spawned or event.spawned_id is not None
        status: Status = "ok" if event.kind == "post" else "error"
        self.close(n, "interrupted" if event.interrupted else status, output)
        return True

    def close(self, n: int, status: Status, output: bytes | None = None) -> None:
        """Enter the result of an open call."""
        seen = self._observe()
        live = self._open[n]
        body = {
            **self._step(seen, f"{n} {self._name(live.call.tool)}"),
            "n": n,
            "status": status,
            "output": None if output is None else self._put("output", "output", output),
            "took_us": max(0, int((self._tools.clock.monotonic() - live.since) * 1_000_000)),
        }
        self._draft("call.result", body)
        del self._open[n]
        self._numbers[live.call.call_id].remove(n)
        self.counts.ran += 1

    def close_settled(self, call_ids: set[str]) -> None:
        """Close calls that have no result event: refused by the agent or its user, or aborted."""
        for live in self.open_calls:
            if live.call.call_id in call_ids:
                self.close(live.n, "interrupted")

    def see_actor(self, event: HookEvent) -> int:
        """Return an actor's number (0 is the main agent), entering a sub-agent when it is first seen."""
        self.saw_hooks = True
        self.model = event.model or self.model
        if event.transcript is not None and len(self.transcripts) < MAX_TRANSCRIPTS:
            self.transcripts.add(event.transcript)
        if event.actor_id is None:
            return 0
        if event.actor_id not in self._actors:
            number = len(self._actors) + 1
            self._actors[event.actor_id] = number
            who = {"v": 1, "id": event.actor_id, "type": event.actor_type, "session": event.session_id}
            self._draft(
                "actor.seen",
                {"actor": number, "parent": self._parent(), "who": self._put("args", "who", _json(who))},
            )
        return self._actors[event.actor_id]

    def look(self) -> bool:
        """Enter what changed while no call is open; True if something had."""
        before = self.tree
        self._observe()
        return self.tree != before

    def end(self, state: str, exit_code: int | None, ended: int) -> None:
        """Enter the run's end after a full look at the workspace; what is still open was interrupted."""
        for n in list(self._waiting):
            self.settle_ask(n, allow=False, by="run-ended")
        seen = self._observe(full=True)
        for n in list(self._open):
            self.close(n, "interrupted")
        body = {**self._step(seen, "end"), "state": state, "exit": exit_code, "ended": ended}
        self._draft("run.end", body)
        self.commit()

    def beat(self) -> None:
        """Enter a heartbeat."""
        self._draft("log.heartbeat", {})

    def commit(self) -> None:
        """Make the batch durable: payloads, then entries in one append. Nothing to do is nothing written."""
        self._seen = None
        if not self._drafts:
            return
        self._tools.payloads.sync()
        drafts, self._drafts = self._drafts, []
        steps, self._steps = self._steps, []
        signed = self._tools.append(drafts)
        self.counts.entries += len(drafts)
        self._history += [(tree, title, signed[at].entry.ts) for at, tree, title in steps]

    def keep_history(self) -> None:
        """Add the batch's steps to the shadow history; it can be rebuilt from the record at any time."""
        steps, self._history = self._history, []
        for tree, message, ts_us in steps:
            self._tools.shadow(tree, message, ts_us)

    def _observe(self, *, full: bool = False) -> SnapshotLike:
        """Return the batch's snapshot; with no call open a change is nobody's, and is entered first."""
        if self._seen is None or full:
            self._seen = self._tools.snapshots.take(full=full)
            self.skipped = self._seen.skipped
            if not self._open and self._seen.tree != self.tree:
                self._draft("change.unattributed", self._step(self._seen, "unattributed"))
        return self._seen

    def _step(self, seen: SnapshotLike, title: str) -> dict[str, Any]:
        previous, self.tree = self.tree, seen.tree
        changes = None
        if previous != self.tree:
            described = self._tools.describe(previous, self.tree)
            writers = [live.writer for live in self._open.values()]
            self.counts.lines.add(described, has_call=bool(writers))
            raw = encode_changes(described, seen.skipped, writers, self._tools.encode)
            changes = self._put("changes", "changes", raw)
            # The step's entry is the next draft.
            self._steps.append((len(self._drafts), self.tree, f"{self.run}:{title}"))
        return {
            "from": previous,
            "tree": self.tree,
            "how": seen.how,
            "open": sorted(self._open),
            "changes": changes,
        }

    def _refuse(self, live: LiveCall, by: str) -> None:
        self.counts.denied += 1
        self._numbers[live.call.call_id].remove(live.n)
        verdict = live.verdict
        self.denied.append(Denied(live.n, summary_of(live.call), verdict.rules, verdict.where, by))

    def _parent(self) -> int:
        """The actor whose call started the sub-agent, if only one can have."""
        starters = [live for live in self._open.values() if live.call.kind == "agent" and not live.spawned]
        actors = {live.actor for live in starters}
        if len(starters) == 1:
            starters[0].spawned = True
        return actors.pop() if len(actors) == 1 else 0

    def _args(self, event: HookEvent, live: LiveCall) -> bytes:
        call, verdict = live.call, live.verdict
        return _json(
            {
                "v": 1,
                "tool": call.tool,
                "kind": call.kind,
                "input": dict(call.input),
                "what": summary_of(call),
                "id": call.call_id,
                "cwd": str(call.cwd),
                "session": call.session_id,
                "model": event.model or self.model,
                "effects": list(verdict.effects),
                "reason": verdict.reason,
                "where": verdict.where,
            }
        )

    def _put(self, cls: PayloadClass, field_name: str, value: bytes) -> str:
        return self._tools.payloads.put(self.run, cls, field_name, value)

    def _name(self, raw_name: str) -> str:
        return self._tools.payloads.public_name(raw_name)

    def _draft(self, kind: str, body: Mapping[str, Any]) -> None:
        self._drafts.append(Draft(kind, self.run, dict(body)))


def _json(value: object) -> bytes:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    # A lone surrogate in an agent's JSON is legal there and has no UTF-8 form.
    return text.encode("utf-8", "backslashreplace")
