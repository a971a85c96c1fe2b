"""Stand-ins for what a recorder works with: a list for the record, settable trees for the workspace."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentgov.calls import Decision, ToolCall, Verdict
from agentgov.clock import Clock, SystemClock
from agentgov.harness import wire
from agentgov.harness.attribution import Writer, writer_of
from agentgov.harness.capture.claude import ClaudeCapture
from agentgov.harness.clients import listen
from agentgov.harness.recorder import Recorder
from agentgov.harness.session import Session, Tools
from agentgov.harness.surroundings import Options
from agentgov.ids import RunId, is_token
from agentgov.ledger.bodies import check_body
from agentgov.ledger.entry import Draft, Entry, SignedEntry

RUN = RunId("7kq2f")
DIGEST = "d" * 64


def tree(number: int) -> str:
    """A made-up tree id."""
    return f"{number:040x}"


@dataclass
class FakeSnapshot:
    tree: str
    how: str = "incremental"
    skipped: Sequence[Any] = ()


@dataclass
class FakeSnapshots:
    """A workspace whose tree a test sets."""

    now: str = tree(1)
    taken: int = 0

    def take(self, full: bool = False) -> FakeSnapshot:
        self.taken += 1
        return FakeSnapshot(self.now, "full" if full else "incremental")


@dataclass(frozen=True)
class FakeChange:
    path: bytes
    hunks: Sequence[Sequence[int]] | None = ((0, 0, 1, 1),)
    old_mode: int | None = 0o100644
    new_mode: int | None = 0o100644


@dataclass
class FakePayloads:
    """Keeps payloads in a dictionary; `events` shows the order of what was made durable."""

    events: list[str]
    kept: dict[str, tuple[str, bytes]] = field(default_factory=dict)

    def put(self, run: RunId, cls: str, field: str, value: bytes) -> str:
        name = f"{len(self.kept) + 1:064x}"
        self.kept[name] = (field, value)
        return name

    def public_name(self, raw_name: str) -> str:
        return raw_name if is_token(raw_name) else "other"

    def sync(self) -> None:
        self.events.append("sync")


class Rig:
    """A session with stand-ins."""

    def __init__(self, decisions: Mapping[str, Decision] | None = None) -> None:
        self.events: list[str] = []
        self.drafts: list[Draft] = []
        self.batches: list[int] = []
        self.snapshots = FakeSnapshots()
        self.payloads = FakePayloads(self.events)
        self.decisions = dict(decisions or {})
        self.append_error: Exception | None = None
        self.tools = Tools(
            append=self._append,
            snapshots=self.snapshots,
            payloads=self.payloads,
            judge=self._judge,
            describe=lambda old, new: [FakeChange(b"f" + new[-2:].encode())],
            encode=self._encode,
            writer_of=self._writer_of,
            clock=SystemClock(),
            shadow=lambda tree, message, ts: self.events.append("shadow"),
        )
        self.session = Session(RUN, tree(1), self.tools)

    def _append(self, drafts: Sequence[Draft]) -> list[SignedEntry]:
        if self.append_error is not None:
            raise self.append_error
        for draft in drafts:
            check_body(draft.kind, draft.run, draft.body)
        self.drafts.extend(drafts)
        self.batches.append(len(drafts))
        self.events.append("append")
        log = "agentgov/" + "0" * 32
        entries = [Entry(1, "0" * 64, log, d.kind, 5, d.run, 0, d.body) for d in drafts]
        return [SignedEntry(entry, b"", b"") for entry in entries]

    def _judge(self, call: ToolCall) -> Verdict:
        decision = self.decisions.get(call.command or "", "allow")
        rules = () if decision == "allow" else ("keep-it",)
        return Verdict(decision, rules, DIGEST, "it would hurt", ".agentgov.toml:3", ())

    def _encode(
        self, changes: Sequence[Any], skipped: Sequence[Any], owners: Mapping[bytes, Sequence[int]]
    ) -> bytes:
        files = [{"path": c.path.decode(), "calls": list(owners[c.path])} for c in changes]
        return json.dumps(files).encode()

    def _writer_of(self, n: int, call: ToolCall) -> Writer:
        return writer_of(n, call, "/repo")

    def bodies(self, kind: str) -> list[dict[str, Any]]:
        return [draft.body for draft in self.drafts if draft.kind == kind]

    def kinds(self) -> list[str]:
        return [draft.kind for draft in self.drafts]


def hook_input(
    event: str, call_id: str = "t1", command: str = "true", agent_id: str | None = None, **more: Any
) -> bytes:
    """A hook's input in Claude's form."""
    fields: dict[str, Any] = {"hook_event_name": event, "session_id": "s", "cwd": "/repo"}
    if event in ("PreToolUse", "PostToolUse", "PostToolUseFailure"):
        fields |= {"tool_name": "Bash", "tool_use_id": call_id, "tool_input": {"command": command}}
    if event == "PostToolUse":
        fields["tool_response"] = {"stdout": "out"}
    if agent_id is not None:
        fields |= {"agent_id": agent_id, "agent_type": "tester"}
    return json.dumps({**fields, **more}).encode()


class FakeAgent:
    """An agent that ends when a test says so, or when it is told to."""

    def __init__(self, supervisor_pid: int | None = None) -> None:
        self._ours, self._theirs = socket.socketpair()
        self.supervisor_pid = supervisor_pid if supervisor_pid is not None else os.getpid()
        self.terminated = threading.Event()

    @property
    def fd(self) -> int:
        return self._ours.fileno()

    def handle(self) -> bool:
        return bool(self._ours.recv(16))

    def signal(self, number: int) -> bool:
        return False

    def terminate(self) -> None:
        self.terminated.set()
        self.end()

    def end(self) -> None:
        self._theirs.send(b"x")

    def close(self) -> None:
        self._ours.close()
        self._theirs.close()


class FakeTold:
    """Remembers what a person would hear."""

    def __init__(self) -> None:
        self.warnings: list[str] = []
        self.asked: list[dict[str, Any]] = []
        self.denials: list[int] = []
        self.heard = threading.Event()

    def warning(self, text: str) -> None:
        self.warnings.append(text)

    def asks(self, ask: dict[str, Any]) -> None:
        self.asked.append(ask)
        self.heard.set()

    def denied(self, n: int, what: str, rules: Sequence[str], where: str) -> None:
        self.denials.append(n)


class FakeWatched:
    """A watcher that never has news, or that is a given descriptor."""

    def __init__(self, fd: int | None = None) -> None:
        self.fd = fd


class LiveRecorder:
    """A recorder on a real socket in a thread of its own."""

    def __init__(
        self,
        rig: Rig,
        path: Path,
        *,
        ask_seconds: float = 60,
        supervisor_pid: int | None = None,
        check_peers: bool = False,
        watch_fd: int | None = None,
        clock: Clock | None = None,
    ) -> None:
        self.rig, self.path, self.told = rig, path, FakeTold()
        self.agent = FakeAgent(supervisor_pid)
        self.seals = 0
        self.listener = listen(path)
        self.recorder = Recorder(
            rig.session,
            ClaudeCapture(),
            self.listener,
            self.agent,
            FakeWatched(watch_fd),
            self._seal,
            clock or SystemClock(),
            self.told,
            Options(ask_seconds=ask_seconds, intent="why", check_peers=check_peers),
        )
        self.thread = threading.Thread(target=self.recorder.serve)

    def _seal(self) -> None:
        self.seals += 1

    def __enter__(self) -> LiveRecorder:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.finish()

    def finish(self) -> None:
        if self.thread.is_alive():
            self.agent.end()
            self.thread.join()
        self.listener.close()

    def connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(str(self.path))
        return connection

    def send(self, event: str, raw: bytes, kind: str = "hook", agent: str = "claude") -> socket.socket:
        connection = self.connect()
        connection.sendall(wire.encode_request(wire.Request(kind, agent, event, raw)))
        return connection

    def ask(self, kind: str, payload: bytes = b"") -> tuple[int, bytes, bytes]:
        return receive(self.send("-", payload, kind, "-"))

    def hook(self, event: str, *args: Any, **more: Any) -> tuple[int, bytes, bytes]:
        return receive(self.send(event, hook_input(event, *args, **more)))


def receive(connection: socket.socket) -> tuple[int, bytes, bytes]:
    """Read a whole answer."""
    raw = b""
    while chunk := connection.recv(65536):
        raw += chunk
    connection.close()
    return wire.parse_answer(raw)
