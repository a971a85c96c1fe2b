"""Erasing on purpose: the signed tombstone first, then the bytes, and nothing is left half done.

Rules this module keeps:
    * Order: a mark on disk; the tombstones, durable and sealed; the payloads with their salts; the mark goes.
      After a crash at any point the next command finds the mark, and finishes what the record says is gone.
    * The mark is a hint and nothing more: only what a tombstone of the record names is ever destroyed, so
      nobody can have payloads destroyed by writing a file.
    * One process erases at a time.
    * The entries that committed to a payload stay as they are: the record still verifies, and shows the gap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from agentgov.errors import ConflictError
from agentgov.files import FileLock, fsync_dir, open_private_dir, write_atomic
from agentgov.ids import RunId
from agentgov.layout import Layout
from agentgov.ledger.commitments import Commitment, commitments_of, tombstones_of
from agentgov.ledger.entry import Draft, Entry
from agentgov.ledger.payload_erase import Removed
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.stream import Stream

_MARK: Final = "erasing"
_LOCK: Final = "erase.lock"
_DRAFTS_AT_ONCE: Final = 256
_WAIT_SECONDS: Final = 60.0

Gone = Mapping[RunId, Collection[str]]


def is_unfinished(layout: Layout) -> bool:
    """Whether an erasure was begun and its end is not known; cheap."""
    return _mark(layout).exists()


def tombstone(item: Commitment, reason: str | None) -> Draft:
    """Return the entry that says that one payload is gone.

    Args:
        item: The payload.
        reason: The commitment to why, or None.
    """
    body = {"commitment": item.digest, "entry": item.seq, "field": item.field, "reason": reason}
    return Draft("payload.erased", item.run, body)


def erase(
    layout: Layout,
    stream: Stream,
    payloads: PayloadStore,
    tombstones: Sequence[Draft],
    gone: Gone,
    forget: Callable[[], None],
) -> Removed:
    """Enter the tombstones, then destroy what they name.

    Args:
        layout: Where this clone's record lies.
        stream: The record.
        payloads: Its payloads.
        tombstones: ``payload.erased`` or ``payload.pruned``; none when they are in the record already.
        gone: The commitments that the tombstones name, by run.
        forget: Removes what was derived from payloads and can be made again.

    Raises:
        ConflictError: AG0005, when another process has been erasing for a minute.
        AgentgovError: When the record refuses the tombstones, then nothing is destroyed; AG0285 when
            something could not be destroyed, then the next command tries again.
    """
    open_private_dir(layout.root)
    lock = FileLock(layout.root / _LOCK)
    lock.acquire(timeout_seconds=_WAIT_SECONDS)
    try:
        with _marked(layout):
            # The reasons are payloads too: an entry never commits to what is not on disk.
            payloads.sync()
            for at in range(0, len(tombstones), _DRAFTS_AT_ONCE):
                stream.append(tombstones[at : at + _DRAFTS_AT_ONCE], stream.log_signer())
            if tombstones:
                stream.seal()
            removed = payloads.erase(gone)
            forget()
            return removed
    finally:
        lock.release()


def finish(
    layout: Layout,
    payloads: PayloadStore,
    entries: Callable[[], Iterable[Entry]],
    forget: Callable[[], None],
) -> Removed | None:
    """Destroy what the record says is gone and a crash left; None when there is nothing to finish.

    Args:
        layout: Where this clone's record lies.
        payloads: Its payloads.
        entries: Gives the entries of the record and of those it continues, the oldest first; called twice.
        forget: Removes what was derived from payloads and can be made again.

    Raises:
        AgentgovError: AG0285, when something could not be destroyed.
        BrokenRecordError, IncompleteError: When the record cannot be read.
    """
    if not is_unfinished(layout):
        return None
    lock = FileLock(layout.root / _LOCK)
    try:
        lock.acquire(timeout_seconds=0)
    except ConflictError:
        # Whoever erases now finishes it.
        return None
    try:
        with _marked(layout):
            removed = payloads.erase(gone_by_record(entries))
            forget()
            return removed
    finally:
        lock.release()


def gone_by_record(entries: Callable[[], Iterable[Entry]]) -> dict[RunId, set[str]]:
    """Return the commitments of every payload that tombstones say is gone, by run."""
    said = tombstones_of(entries())
    gone: dict[RunId, set[str]] = {}
    for entry in entries():
        for item in commitments_of(entry):
            if said.is_gone(item):
                gone.setdefault(item.run, set()).add(item.digest)
    return gone


def _mark(layout: Layout) -> Path:
    return layout.root / _MARK


@contextmanager
def _marked(layout: Layout) -> Iterator[None]:
    """Leave the mark behind when the body does not come to its end."""
    write_atomic(_mark(layout), b"")
    yield
    _mark(layout).unlink(missing_ok=True)
    fsync_dir(layout.root)
