"""A small real record, made through the stream, and the same record in memory, to be tampered with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentgov.clock import Clock, Random
from agentgov.git import Git, discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft, SignedEntry
from agentgov.ledger.keys import Signer
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.redaction import Redactor
from agentgov.ledger.seal import Seal, SealStore
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.stream import Stream
from agentgov.ledger.verify_source import RawTail, Trust, local_trust, read_tail

MACHINE = "0" * 64
RUN, OTHER = RunId("7kq2f"), RunId("5bd0a")
POLICY = "d" * 64


def tree(number: int) -> str:
    """A made-up tree id."""
    return f"{number:040x}"


def changes_of(lines: int, calls: Sequence[int] = ()) -> bytes:
    """A list of changes that adds `lines` lines to one file."""
    file = {"path": "a.txt", "status": "M", "hunks": [[1, 0, 1, lines]], "calls": list(calls)}
    return json.dumps({"v": 1, "files": [file], "skipped": []}).encode()


class Writer:
    """Writes entries of one run, with payloads, as a recorder would."""

    def __init__(self, stream: Stream, payloads: PayloadStore, run: RunId, base: str) -> None:
        self.stream, self.payloads, self.run, self.base = stream, payloads, run, base
        self.tree = tree(1)
        self.open: list[int] = []
        self.n = 0
        self.signer: Signer = stream.delegate(run)

    def say(self, kind: str, **body: Any) -> SignedEntry:
        return self.stream.append([Draft(kind, self.run, body)], self.signer)[0]

    def put(self, cls: Any, name: str, value: bytes = b"{}") -> str:
        return self.payloads.put(self.run, cls, name, value)

    def step(self, to: int | None = None, *, lines: int = 1) -> dict[str, Any]:
        before, self.tree = self.tree, self.tree if to is None else tree(to)
        changes = (
            None if before == self.tree else self.put("changes", "changes", changes_of(lines, self.open[:1]))
        )
        return {
            "from": before,
            "tree": self.tree,
            "how": "full",
            "open": sorted(self.open),
            "changes": changes,
        }

    def start(self) -> SignedEntry:
        capture = {"hooks": True, "gateway": "off", "files": "watch", "ledger": "open", "keys": "open"}
        return self.say(
            "run.start",
            agent="claude",
            agent_version="2.1",
            base=self.base,
            capture={**capture, "sandbox": "none"},
            how="full",
            intent=self.put("changes", "intent", b"fix it"),
            policy=POLICY,
            start=self.put("args", "start"),
            tree=self.tree,
            workspace="in-place",
        )

    def request(self, decision: str = "allow", to: int | None = None, actor: int = 0) -> SignedEntry:
        self.n += 1
        verdict = {"decision": decision, "rules": [], "policy": POLICY}
        args = self.put("args", "args", b'{"command": "ls"}')
        entry = self.say(
            "call.request", n=self.n, actor=actor, tool="Bash", args=args, verdict=verdict, **self.step(to)
        )
        if decision == "allow":
            self.open.append(self.n)
        return entry

    def answer(self, n: int, answer: str = "allow") -> SignedEntry:
        if answer == "allow":
            self.open.append(n)
        return self.say("call.answer", n=n, answer=answer, by="operator")

    def result(self, n: int, to: int | None = None, lines: int = 1) -> SignedEntry:
        output = self.put("output", "output", b"done")
        entry = self.say(
            "call.result", n=n, status="ok", output=output, took_us=5, **self.step(to, lines=lines)
        )
        self.open.remove(n)
        return entry

    def end(self, to: int | None = None) -> SignedEntry:
        entry = self.say("run.end", state="finished", exit=0, ended=0, **self.step(to))
        self.open.clear()
        return entry


@dataclass
class Prepared:
    """A repository with a record, what this machine knows about it, and where it all lies."""

    repo: Path
    state: StateHome
    trust: Trust
    stream_id: str
    base: str
    old_key: PrivateKey

    def memory(self) -> MemorySource:
        """Read the record into memory."""
        repository = discover(self.repo)
        store = SealStore(Git(repository.common_dir), self.stream_id, repository.object_format)
        try:
            seals = list(store.oldest_first(store.newest()))
        finally:
            store.close()
        return MemorySource(self.stream_id, seals, read_tail(repository.layout.wal))


@dataclass
class MemorySource:
    """A record in memory; tests change it as they like."""

    stream: str
    seals_: list[Seal]
    tail_: RawTail = field(default_factory=lambda: RawTail([]))

    def stream_id(self) -> str | None:
        return self.stream

    def tail(self) -> RawTail:
        return self.tail_

    def seals(self) -> Iterator[Seal]:
        yield from self.seals_


def payload_store(repo: Path, random: Random) -> PayloadStore:
    """The payload store of a repository."""
    repository = discover(repo)
    return PayloadStore(
        repository.layout, repository.layout.store, repository.object_format, Redactor(), random
    )


def prepare(repo: Path, state: StateHome, clock: Clock, random: Random) -> Prepared:
    """Record two runs: one sealed whole, and promoted; one over a seal, ended in the unsealed tail."""
    repository = discover(repo)
    base = repository.require_head_commit()
    payloads = payload_store(repo, random)
    with Stream.open(repository, state, clock=clock, random=random, machine=MACHINE) as stream:
        first = Writer(stream, payloads, RUN, base)
        first.start()
        first.request()
        first.request("deny")
        first.request("ask", 2)
        first.answer(3)
        first.result(1, 3, lines=3)
        first.result(3)
        first.say("actor.seen", actor=1, parent=0, who=first.put("args", "who"))
        first.request(actor=1)
        first.result(4, 4)
        first.say("change.unattributed", **first.step(5))
        first.end()
        stream.end_key(first.signer)
        stream.seal()
        log = stream.log_signer()
        delta = hashlib.sha256(b"delta").hexdigest()
        bind = {"base": base, "delta": delta, "problems": None, "result": tree(9), "tree": tree(5)}
        stream.append([Draft("result.bind", RUN, bind)], log)
        second = Writer(stream, payloads, OTHER, base)
        second.start()
        second.request()
        old_key = second.signer.memento()[0]
        stream.seal()
        second.result(1, 6)
        second.request("deny")
        second.end()
        stream.end_key(second.signer)
        payloads.close()
        stream_id = stream.stream_id
    trust = local_trust(repository, state, machine=MACHINE)
    return Prepared(repo, state, trust, stream_id, base, old_key)
