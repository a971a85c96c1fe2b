"""Runs of a real command under the record, for tests: what was asked, what was told, what was entered."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentgov.clock import SystemClock
from agentgov.git import Repository, discover
from agentgov.harness.request import Deps, RunInfo, RunOutcome, RunRequest
from agentgov.harness.run import run_agent
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.entry import Entry
from agentgov.ledger.history import RunRecord, fold
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.redaction import Redactor
from agentgov.ledger.stream import Stream
from agentgov.rollback.objects import ObjectStore


@dataclass
class Heard:
    """A reporter that remembers."""

    lines: list[str] = field(default_factory=list)
    infos: list[RunInfo] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    denials: list[int] = field(default_factory=list)
    outcome: RunOutcome | None = None

    def first_use(self, record: Path) -> None:
        self.lines.append("first use")

    def policy(self, source: str, digest: str, *, changed: bool) -> None:
        self.lines.append(f"policy {source} {changed}")

    def recovered(self, run: RunId) -> None:
        self.lines.append(f"recovered {run}")

    def started(self, info: RunInfo) -> None:
        self.infos.append(info)

    def warning(self, text: str) -> None:
        self.lines.append(text)

    def asks(self, ask: dict[str, Any]) -> None:
        self.asked.append(ask)

    def denied(self, n: int, what: str, rules: Sequence[str], where: str) -> None:
        self.denials.append(n)

    def finished(self, outcome: RunOutcome) -> None:
        self.outcome = outcome


def deps(state: StateHome) -> Deps:
    """The real clock and randomness with a test's state folder."""
    return Deps(state, SystemClock(), os.urandom)


def run(
    repo: Path,
    state: StateHome,
    argv: Sequence[str],
    heard: Heard | None = None,
    env: Mapping[str, str] | None = None,
    **more: Any,
) -> RunOutcome:
    """Run a command under the record."""
    request = RunRequest(
        start=repo,
        argv=argv,
        env=dict(os.environ if env is None else env),
        home=Path(os.environ["HOME"]),
        **more,
    )
    return run_agent(request, heard if heard is not None else Heard(), deps(state))


class Record:
    """What was entered in a repository, opened anew for reading."""

    def __init__(self, repo: Path, state: StateHome) -> None:
        self.repo: Repository = discover(repo)
        self.state = state
        with self.open() as stream:
            self.entries: list[Entry] = [signed.entry for signed in stream.entries()]
            self.sealed_size = stream.sealed_size
        self.runs = fold(self.entries).runs
        self.store = ObjectStore(self.repo.layout.store, self.repo.objects_dir, self.repo.object_format)
        self.payloads = PayloadStore(
            self.repo.layout, self.repo.layout.store, self.repo.object_format, Redactor(), os.urandom
        )

    def open(self) -> Stream:
        """Open the stream as a command would."""
        return Stream.open(self.repo, self.state, clock=SystemClock(), random=os.urandom, create=False)

    def of(self, run: RunId) -> RunRecord:
        """One run."""
        return self.runs[run]

    def kinds(self, run: RunId) -> list[str]:
        """The kinds of a run's entries, in order."""
        return [entry.kind for entry in self.entries if entry.run == run]

    def payload(self, run: RunId, digest: str | None) -> bytes:
        """A payload's bytes."""
        assert digest is not None
        found = self.payloads.get(run, digest)
        assert found is not None, "the payload is missing"
        return found.value

    def file(self, tree: str, path: str) -> bytes | None:
        """A file's content in a snapshot."""
        parts = path.encode().split(b"/")
        for part in parts[:-1]:
            tree = self.store.tree(tree)[part][1]
        entry = self.store.tree(tree).get(parts[-1])
        return None if entry is None else self.store.read(entry[1])[1]

    def assert_sequence(self, run: RunId) -> None:
        """The snapshots of a run form one sequence."""
        record = self.of(run)
        tree = record.start_tree
        for step in record.steps:
            assert step.from_tree == tree, step
            tree = step.tree


def shell(script: str) -> list[str]:
    """A command without hooks."""
    return ["sh", "-c", script]
