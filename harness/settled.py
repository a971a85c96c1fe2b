"""A run that is over, and what a person does with it next: look at its workspace, enter what they did.

Rules kept here:

- A run in progress is refused; a command that works on a run holds the run's own lock, so there is one.
- What a person changed after the run ended is entered as such before anything else is, so that the
  sequence of snapshots stays whole.
- A change that a crash interrupted is finished, or taken back, before a new one begins.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from agentgov.clock import Clock
from agentgov.errors import ConflictError, IncompleteError
from agentgov.files import open_private_dir
from agentgov.git import Repository
from agentgov.harness import finishing
from agentgov.harness.startup import read_settings
from agentgov.harness.state import RunLock
from agentgov.ids import RunId
from agentgov.ledger.entry import Draft
from agentgov.ledger.history import RunRecord
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.stream import Stream
from agentgov.rollback.changes import describe, to_payload
from agentgov.rollback.ignore import IgnoreRules
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.restore import recover
from agentgov.rollback.shadow import ShadowHistory
from agentgov.rollback.snapshot import Snapshot

_JOURNAL = "journal"


@dataclass(frozen=True, slots=True)
class Workplace:
    """What commands after a run work with.

    Attributes:
        repo: The user's repository.
        stream: Its record.
        payloads: Its payloads.
        store: Its snapshots.
        clock: Time.
    """

    repo: Repository
    stream: Stream
    payloads: PayloadStore
    store: ObjectStore
    clock: Clock


class SettledRun:
    """One run that is over. Made by `settle`, which holds its lock.

    Attributes:
        record: What the record says of it.
        root: The top of the tree it worked in; may be gone.
        in_place: Whether that is the user's own tree.
    """

    def __init__(self, work: Workplace, record: RunRecord, root: Path, *, in_place: bool) -> None:
        self.record = record
        self.root = root
        self.in_place = in_place
        self._work = work
        self._tree = str(record.last_tree)
        self._rules: IgnoreRules | None = None

    @property
    def run(self) -> RunId:
        """Its id."""
        return self.record.run

    @property
    def place(self) -> str:
        """`in-place` or `workspace`, as entries say it."""
        return "in-place" if self.in_place else "workspace"

    @property
    def tree(self) -> str:
        """The last snapshot of its sequence."""
        return self._tree

    @property
    def journal(self) -> Path:
        """Where a change of its tree is journalled."""
        return open_private_dir(self._work.repo.layout.run_dir(self.run)) / _JOURNAL

    @property
    def rules(self) -> IgnoreRules:
        """The ignore rules of its tree."""
        if self._rules is None:
            self._rules = IgnoreRules.pin(self.root, self._work.repo)
        return self._rules

    def demand_root(self) -> None:
        """Refuse to go on without the tree that the run worked in.

        Raises:
            IncompleteError: AG0070, when it is gone.
        """
        if not self.root.is_dir():
            raise IncompleteError(
                f"the workspace of run {self.run} is gone", id="AG0070", where=str(self.root),
                hint=f"agentgov diff {self.run}        what it changed is still in the record",
            )  # fmt: skip

    def look(self) -> Snapshot:
        """Take a full snapshot of what is there now; what the last snapshot holds counts as captured.

        Raises:
            AgentgovError: AG0156, when it cannot be read.
        """
        self.demand_root()
        settings = read_settings(self._work.repo).snapshots
        return finishing.look(self._work.store, self.root, self.rules, self._tree, settings)

    def enter_edits(self, seen: Snapshot) -> bool:
        """Enter what changed since the last snapshot, as nobody's call; True if something had."""
        if seen.tree == self._tree:
            return False
        self.enter(
            [Draft("change.unattributed", self.run, self.step(seen.tree, "edited after the run", seen))]
        )
        return True

    def step(self, tree: str, title: str, seen: Snapshot | None = None) -> dict[str, Any]:
        """Return the fields of a step to `tree`, and take it as the last one."""
        work, before = self._work, self._tree
        changes = None
        if tree != before:
            described = describe(work.store, before, tree)
            skipped = () if seen is None else seen.skipped
            changes = work.payloads.put(self.run, "changes", "changes", to_payload(described, skipped, {}))
            ShadowHistory(work.store, self.run).commit(tree, f"{self.run}:{title}", work.clock.now_us())
        self._tree = tree
        return {"from": before, "tree": tree, "how": "full", "open": [], "changes": changes}

    def enter(self, drafts: list[Draft]) -> int:
        """Append entries by this clone's own key; payloads first.

        Returns:
            The place of the last one.
        """
        self._work.payloads.sync()
        return self._work.stream.append(drafts, self._work.stream.log_signer())[-1].entry.seq

    def rebind(self) -> finishing.Bound | None:
        """Bind the result anew after the workspace changed; None when the start is not known."""
        start = self.record.start
        if start is None or self.record.start_tree is None:
            return None
        bound = finishing.bind(
            self._work.repo,
            self._work.store,
            self._work.payloads,
            self.run,
            base=start.body["base"],
            start_tree=self.record.start_tree,
            end_tree=self._tree,
            root=self.root,
            is_ignored=lambda path: self.rules.is_ignored(path, False),
        )
        self.enter([bound.draft])
        return bound

    def save(self) -> None:
        """Keep the payloads in the store and save the record into git."""
        self._work.payloads.fold(self.run)
        self._work.stream.seal()


@contextlib.contextmanager
def settle(
    work: Workplace, record: RunRecord, facts_root: str | None, catch_up: Callable[[], None] | None = None
) -> Iterator[SettledRun]:
    """Take a run that is over, for as long as the block lasts.

    Args:
        work: What to work with.
        record: The run.
        facts_root: The top of the tree it worked in, as its start says.
        catch_up: Takes into `record` what others entered until the lock was theirs no more; what they did
            would be done, or undone, a second time.

    Raises:
        ConflictError: AG0071, when it is still running, or another command works on it.
        IncompleteError: AG0072, when its start is not in this record.
        AgentgovError: AG0177, when an interrupted change can neither be finished nor taken back.
    """
    if record.start is None or facts_root is None:
        raise IncompleteError(f"the start of run {record.run} is not in this record", id="AG0072")
    if record.end is None:
        raise _busy(record.run)
    lock = RunLock(work.repo.layout, record.run)
    try:
        lock.acquire()
    except ConflictError as error:
        raise _busy(record.run) from error
    try:
        if catch_up is not None:
            catch_up()
        run = SettledRun(
            work, record, Path(facts_root), in_place=record.start.body["workspace"] == "in-place"
        )
        if run.root.is_dir():
            recover(run.journal)
        yield run
    finally:
        lock.release()


def _busy(run: RunId) -> ConflictError:
    return ConflictError(
        f"run {run} is still going on, or another command works on it", id="AG0071", hint="agentgov status"
    )
