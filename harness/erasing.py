"""Erasing what was recorded, one payload or all that is past its time: what it means, before and after.

Rules kept here:

- What is to go is named from the record, never from what happens to lie on disk.
- Nothing is said to be gone from where nobody looked: what was sent elsewhere and what files hold is named.
- How long content is kept comes from the protected configuration, as policy does: an agent that edits a
  settings file must not shorten the life of the evidence.
- What a run that goes on, or a copy that still exists, needs to be found again is not pruned.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from agentgov.config import RetentionTable
from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.gates.adoption import find_policy
from agentgov.git import Repository
from agentgov.harness.copies import Copies, find_copies
from agentgov.harness.state import is_alive
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger import erasure
from agentgov.ledger.commitments import Commitment, Tombstones, commitments_of, tombstones_of
from agentgov.ledger.entry import Entry
from agentgov.ledger.history import History, RunRecord
from agentgov.ledger.payload_erase import Removed
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.reader import read_continued
from agentgov.ledger.retention import Due, find_due
from agentgov.ledger.stream import Stream
from agentgov.ledger.sync_log import pushed
from agentgov.report.facts import start_facts
from agentgov.rollback.objects import ObjectStore


@dataclass(frozen=True, slots=True)
class Target:
    """A payload that is to be erased.

    Attributes:
        item: What the record says of it.
        size_bytes: Its size; None when this clone does not have it.
        tombstone: The number of the entry that says already that it is gone.
    """

    item: Commitment
    size_bytes: int | None
    tombstone: int | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What an erasure would do.

    Attributes:
        run: The run.
        targets: The payloads.
        sent: Where payloads of these classes of this run were sent, and when.
        copies: The files of snapshots that share lines with them.
        merges: The commits whose message has the run's intent, where that is to go.
    """

    run: RunId
    targets: Sequence[Target]
    sent: Sequence[tuple[str, int]]
    copies: Copies
    merges: Sequence[str]


def entries_of(repo: Repository) -> Iterator[Entry]:
    """The entries of this clone's record and of those it continues, the oldest first."""
    return (signed.entry for signed in read_continued(repo))


def plan_erasure(
    repo: Repository,
    state: StateHome,
    payloads: PayloadStore,
    record: RunRecord,
    *,
    calls: tuple[int, int] | None,
    fields: Collection[str] | None,
) -> Plan:
    """Find what an erasure would take, and where else it lies.

    Args:
        repo: The user's repository.
        state: The user's state folder.
        payloads: Its payloads.
        record: The run.
        calls: The first and the last call; the whole run when None.
        fields: The payloads' fields; all when None.

    Raises:
        BrokenRecordError, IncompleteError: When the record cannot be read.
    """
    said: Tombstones = tombstones_of(entries_of(repo))
    targets: list[Target] = []
    values: list[bytes] = []
    for entry in entries_of(repo):
        if entry.run != record.run:
            continue
        for item in commitments_of(entry):
            is_named = calls is None or (item.n is not None and calls[0] <= item.n <= calls[1])
            if not is_named or (fields is not None and item.field not in fields):
                continue
            tombstone = said.erased.get((item.run, item.digest))
            value = _value(payloads, item)
            if tombstone is None and value is None and said.is_gone(item):
                continue
            targets.append(
                Target(
                    item, None if value is None else len(value), None if tombstone is None else tombstone.seq
                )
            )
            values += [] if value is None else [value]
    classes = sorted({target.item.cls for target in targets})
    sent = [place for cls in classes for place in pushed(state, record.run, cls)]
    store = ObjectStore(repo.layout.store, repo.objects_dir, repo.object_format)
    try:
        copies = find_copies(store, record, values)
    finally:
        store.close()
    tells = any(target.item.field == "intent" for target in targets)
    merges = [landing.commit for landing in record.promotions if tells and landing.commit is not None]
    return Plan(record.run, targets, sorted(set(sent), key=lambda place: place[1]), copies, merges)


def _value(payloads: PayloadStore, item: Commitment) -> bytes | None:
    try:
        payload = payloads.get(item.run, item.digest)
    except (BrokenRecordError, IncompleteError):
        # It is destroyed all the same, by its commitment.
        return b""
    return None if payload is None else payload.value


def erase(repo: Repository, stream: Stream, payloads: PayloadStore, plan: Plan, reason: str) -> Removed:
    """Enter the tombstones, then destroy the payloads; see `ledger.erasure.erase`."""
    new = [target.item for target in plan.targets if target.tombstone is None]
    why = (
        payloads.put(plan.run, "args", "reason", reason.encode("utf-8", "backslashreplace")) if new else None
    )
    return erasure.erase(
        repo.layout,
        stream,
        payloads,
        [erasure.tombstone(item, why) for item in new],
        {plan.run: [target.item.digest for target in plan.targets]},
        lambda: _forget_index(repo),
    )


def finish(repo: Repository, payloads: PayloadStore) -> None:
    """Finish an erasure that a crash cut short, if there is one."""
    erasure.finish(repo.layout, payloads, lambda: entries_of(repo), lambda: _forget_index(repo))


def _forget_index(repo: Repository) -> None:
    # Imported here: nearly every command looks for an unfinished erasure, and few need the index.
    from agentgov.report.search_index import remove_index

    remove_index(repo.layout)


def retention_of(repo: Repository, state: StateHome) -> RetentionTable:
    """Return how long content is kept, as the protected configuration says.

    Raises:
        ConfigError: AG0020 or AG0103, when that configuration is wrong.
    """
    return find_policy(repo, state, repo.require_head_commit()).settings.retention


def find_prunable(
    repo: Repository, payloads: PayloadStore, history: History, cutoffs: dict[str, int]
) -> tuple[list[Due], list[RunId]]:
    """Return what is past its time, and the runs that keep something all the same.

    A run that goes on keeps all; one whose copy still exists keeps what leads to it.
    """
    kept: list[RunId] = []

    def keep(run: RunId, cls: str) -> bool:
        record = history.runs.get(run)
        is_kept = is_alive(repo.layout, run) or (
            cls == "args" and record is not None and _has_copy(record, payloads)
        )
        if is_kept and run not in kept:
            kept.append(run)
        return is_kept

    return find_due(lambda: entries_of(repo), cutoffs, keep), kept


def _has_copy(record: RunRecord, payloads: PayloadStore) -> bool:
    if record.start is None or record.dropped or record.start.body["workspace"] != "clone":
        return False
    root = start_facts(record, payloads).get("root")
    return isinstance(root, str) and Path(root).is_dir()


def prune(
    repo: Repository, stream: Stream, payloads: PayloadStore, due: Sequence[Due], cause: str
) -> Removed:
    """Enter what is pruned, then destroy it; `cause` is ``retention`` or ``operator``."""
    gone: dict[RunId, set[str]] = {}
    for item in due:
        gone.setdefault(item.run, set()).update(item.digests)
    return erasure.erase(
        repo.layout,
        stream,
        payloads,
        [item.tombstone(cause) for item in due],
        gone,
        lambda: _forget_index(repo),
    )
