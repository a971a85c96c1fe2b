"""What every command starts from: the repository it stands in, this person's state folder, the clock.

Rules kept here:

- This is the one place that reads the environment and the home folder; below, they are arguments.
- Opening the record first finishes what a killed recorder left open, and says so on stderr.
- A command that only reads never creates a record: a repository without one gets a clear error.
- What a session opened is given back when its command lets go of it.
"""

from __future__ import annotations

import os
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Final

from agentgov.clock import Clock, Random, SystemClock
from agentgov.errors import AgentgovError, PolicyDeniedError, UsageError
from agentgov.git import Repository, discover
from agentgov.ids import RunId, RunRef, parse_run_ref
from agentgov.layout import Layout, StateHome

if TYPE_CHECKING:
    from agentgov.harness.settled import SettledRun, Workplace
    from agentgov.ledger.history import History, RunRecord
    from agentgov.ledger.payloads import PayloadStore
    from agentgov.ledger.stream import Stream

# An auditor's clone has no record of its own, and a plain one no records at all.
FETCH_HINT: Final = "to look at those of others: git fetch origin 'refs/agentgov/*:refs/agentgov/*'"


def state_home(env: Mapping[str, str]) -> StateHome:
    """The folder outside every repository for keys, pins and workspaces.

    `AGENTGOV_HOME`, else `$XDG_STATE_HOME/agentgov`, else `~/.local/state/agentgov`.

    Raises:
        UsageError: `HOME` is not set and nothing else names a folder.
    """
    runtime = env.get("XDG_RUNTIME_DIR")
    runtime_dir = Path(runtime) if runtime and Path(runtime).is_absolute() else None
    chosen = env.get("AGENTGOV_HOME")
    if chosen:
        return StateHome(Path(chosen).absolute(), runtime_dir=runtime_dir)
    base = env.get("XDG_STATE_HOME")
    if base and Path(base).is_absolute():
        return StateHome(Path(base) / "agentgov", runtime_dir=runtime_dir)
    home = env.get("HOME")
    if not home:
        raise UsageError(
            "there is no home folder to keep keys in",
            id="AG0300",
            hint="set HOME, or AGENTGOV_HOME to a private folder of yours",
        )
    return StateHome(Path(home) / ".local" / "state" / "agentgov", runtime_dir=runtime_dir)


@dataclass
class Session:
    """One command's view of one repository."""

    repo: Repository
    state: StateHome
    cwd: Path
    env: Mapping[str, str]
    clock: Clock = field(default_factory=SystemClock)
    random: Random = os.urandom

    @classmethod
    def here(cls, *, bare_ok: bool = False) -> Session:
        """The session for the current folder.

        Args:
            bare_ok: Go on in a repository without a work tree, such as an auditor's mirror.

        Raises:
            AgentgovError: there is no repository here, or git refuses it.
        """
        cwd = Path.cwd()
        return cls(discover(cwd, bare_ok=bare_ok), state_home(os.environ), cwd, dict(os.environ))

    @property
    def layout(self) -> Layout:
        """Where this clone's record lies."""
        return self.repo.layout

    @cached_property
    def stream(self) -> Stream:
        """This clone's record, opened without creating one; runs left by a killed recorder are closed.

        Raises:
            UsageError: nothing was ever recorded here.
            BrokenRecordError: the record was tampered with.
        """
        from agentgov.harness.recovery import recover
        from agentgov.ledger.stream import Stream

        self.demand_record()
        stream = Stream.open(self.repo, self.state, clock=self.clock, random=self.random, create=False)
        weakref.finalize(self, stream.close)
        for run in recover(
            self.repo, self.state, stream, self.payloads, clock=self.clock, random=self.random
        ):
            from agentgov.cli.screen import notes

            notes().line(
                f"agentgov {run}: its recorder was killed; closed as interrupted, what was recorded is kept"
            )
        return stream

    @property
    def is_bound(self) -> bool:
        """Whether the record was begun by this very clone; one that was moved or copied here only reads."""
        from agentgov.files import machine_id
        from agentgov.ledger.keys import KeyFolder

        return KeyFolder.of(self.state.keys, self.repo.common_dir, machine_id()).stream() is not None

    @property
    def is_recorded(self) -> bool:
        """Whether this clone has, or is known to have had, a record."""
        return self.layout.stream_file.exists() or self.is_bound

    def demand_record(self) -> None:
        """Refuse to go on where nothing was ever recorded.

        Raises:
            UsageError: AG0301, when that is so.
        """
        if not self.is_recorded:
            raise UsageError(
                "nothing is recorded in this repository yet",
                id="AG0301",
                hint=("agentgov run -- AGENT...        a first look: agentgov demo", FETCH_HINT),
            )

    @cached_property
    def payloads(self) -> PayloadStore:
        """What the calls carried: arguments, output, changes."""
        from agentgov.harness.secrets import dotenv_secrets
        from agentgov.ledger.payloads import PayloadStore
        from agentgov.ledger.redaction import Redactor

        redactor = Redactor(self.env, dotenv_secrets(self.repo))
        payloads = PayloadStore(
            self.layout, self.layout.store, self.repo.object_format, redactor, self.random
        )
        weakref.finalize(self, payloads.close)
        return payloads

    @cached_property
    def history(self) -> History:
        """Every run of this record and of those it continues, folded from their entries."""
        from agentgov.ledger.history import fold
        from agentgov.ledger.reader import read_continued

        self.close_dead_runs()
        return fold(read_continued(self.repo))

    def close_dead_runs(self) -> None:
        """Close what a killed recorder or an erasure left open; say what became of a record that is gone."""
        from agentgov.harness.state import dead_runs
        from agentgov.ledger.erasure import is_unfinished
        from agentgov.ledger.succession import resume

        resume(self.repo, self.state, clock=self.clock)
        is_left = not self.layout.stream_file.exists() or dead_runs(self.layout) or is_unfinished(self.layout)
        if is_left and self.is_bound:
            _ = self.stream

    @cached_property
    def recorded_history(self) -> History:
        """The same as it lies there: nothing a killed recorder left open is closed; empty if unreadable."""
        from agentgov.errors import BrokenRecordError
        from agentgov.ledger.history import History, fold
        from agentgov.ledger.reader import Reader

        try:
            with Reader.of_clone(self.repo) or nullcontext() as reader:
                return History() if reader is None else fold(reader.entries())
        except BrokenRecordError:
            return History()

    def is_live(self, run: RunId) -> bool:
        """Whether a recorder serves this run now."""
        from agentgov.harness.state import is_alive

        return is_alive(self.layout, run)

    def find_run(self, prefix: str | None) -> RunRecord:
        """The run that `prefix` names; the last run of this work tree when None.

        Raises:
            UsageError: no run, or more than one, has that prefix.
        """
        if prefix is not None:
            return self.history.find_run(prefix)
        runs = list(self.history.runs.values())
        if not runs:
            raise UsageError(
                "there is no run in this repository yet", id="AG0302", hint="agentgov run -- AGENT..."
            )
        for run in reversed(runs):
            if self._started_here(run):
                return run
        return runs[-1]

    def _started_here(self, run: RunRecord) -> bool:
        from agentgov.report.facts import start_facts

        work_tree = self.repo.work_tree
        return work_tree is not None and start_facts(run, self.payloads).get("work_tree") == str(work_tree)

    @contextmanager
    def settled(self, record: RunRecord) -> Iterator[tuple[Workplace, SettledRun]]:
        """A run that is over, and what commands after it work with; nobody else works on it meanwhile.

        Raises:
            PolicyDeniedError: AG0314, an agent asks.
            ConflictError: AG0071, it is still going on.
        """
        self.demand_person()
        from agentgov.harness.settled import Workplace, settle
        from agentgov.report.facts import start_facts
        from agentgov.rollback.objects import ObjectStore

        store = ObjectStore(self.layout.store, self.repo.objects_dir, self.repo.object_format)
        store.ensure()
        try:
            work = Workplace(self.repo, self.stream, self.payloads, store, self.clock)
            root = start_facts(record, self.payloads).get("root")
            with settle(work, record, root if isinstance(root, str) else None, self._catch_up) as run:
                yield work, run
        finally:
            store.close()

    def _catch_up(self) -> None:
        """Take in what others entered since the record was read."""
        from agentgov.ledger.history import add_entry

        for signed in self.stream.entries(self.history.size):
            self.history.size = signed.entry.seq + 1
            run = self.history.runs.get(signed.entry.run) if signed.entry.run is not None else None
            if run is not None:
                add_entry(run, signed.entry)

    def demand_person(self) -> None:
        """Refuse an agent what is a person's to do: to take, take back, approve or land a run."""
        from agentgov.harness.state import run_above

        run = run_above(self.layout, os.getpid())
        if run is not None:
            raise PolicyDeniedError(
                f"this is for a person to do, and it was asked for from inside run {run}",
                id="AG0314",
                hint="run it in a terminal of your own",
            )

    def resolve(self, raw: str | None) -> tuple[RunRecord, RunRef]:
        """Read `RUN`, `RUN:N`, `:N`, `RUN:A..B` or nothing.

        Raises:
            UsageError: it is none of these, or names no run.
        """
        ref = parse_run_ref(raw) if raw else RunRef(None, None, None)
        return self.find_run(ref.run), ref


def confirm(question: str, *, yes: bool) -> None:
    """Ask before something changes; without a terminal, `--yes` must have been said.

    Raises:
        UsageError: there is no terminal to ask on.
        AgentgovError: the answer was no.
    """
    import sys

    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(
            "this needs a yes, and there is no terminal to ask on", id="AG0303", hint="add --yes"
        )
    sys.stderr.write(f"{question} [y/N] ")
    sys.stderr.flush()
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise AgentgovError("not done: the answer was no; nothing was changed", id="AG0304")
