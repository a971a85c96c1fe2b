"""Destroying payloads: overwritten where a writer may still append, taken out of the store, packs included.

Rules this module keeps:
    * The tombstone is in the record before anything here begins; everything here may be done again.
    * Order: loose records; then the branches, in one ref transaction; then the objects that held the records.
      A crash in between leaves bytes that the next call finds again by their commitments, not by its memory.
    * A record in a file is overwritten in place, salt and value alone: a live recorder goes on appending to
      that file, and whoever knows where the other records stand still finds them.
    * The fold lock is held throughout, so that nothing moves from a file into the store meanwhile.
    * What holds the same bytes and is not ours to touch is named, never passed over in silence.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from agentgov.files import FileLock, open_own_file, open_private_dir
from agentgov.git import CatFile, Git
from agentgov.ids import RunId
from agentgov.layout import Layout
from agentgov.ledger.object_removal import OwnObjects
from agentgov.ledger.payload_fold import REF_PREFIX, Dropped, FoldedPayloads
from agentgov.ledger.payload_records import ERASED, SUFFIX, is_erased_record, record_places


@dataclass(frozen=True, slots=True)
class Removed:
    """What came of destroying payloads.

    Attributes:
        digests: The payloads that were here and are gone now.
        kept: What still holds such bytes and was not touched, one line each.
    """

    digests: frozenset[str] = frozenset()
    kept: tuple[str, ...] = ()


def remove_payloads(
    layout: Layout, store: Path, folded: FoldedPayloads, gone: Mapping[RunId, Collection[str]]
) -> Removed:
    """Destroy the records of these commitments in loose files and in the store.

    Args:
        layout: Where the loose files lie.
        store: The private bare repository; need not exist.
        folded: The reader and writer of its payload branches.
        gone: The commitments, by run.

    Raises:
        AgentgovError: AG0285, when something could not be removed; AG0008, when git cannot.
        OSError: When the disk refuses.
    """
    digests = frozenset(digest for some in gone.values() for digest in some)
    if not digests:
        return Removed()
    open_private_dir(layout.payloads)
    with FileLock(layout.payloads / "fold.lock"):
        found: set[str] = set()
        for run, some in gone.items():
            for path in _loose_files(layout.payloads / run):
                found |= _overwrite(path, frozenset(some))
        kept: list[str] = []
        if (store / "HEAD").is_file():
            dropped = folded.drop(gone)
            found |= dropped.digests
            _remove_reflogs(store, gone)
            kept = _remove_objects(store, folded.object_format, digests, dropped)
            kept += _borrowed(store, layout, folded.object_format, dropped.blobs)
    return Removed(frozenset(found), tuple(kept))


def _loose_files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except FileNotFoundError:
        return []


def _overwrite(path: Path, digests: frozenset[str]) -> set[str]:
    """Overwrite salt and value of these records in a file; its size and all other records stay."""
    found: set[str] = set()
    try:
        fd = open_own_file(path)
    except FileNotFoundError:
        return found
    with os.fdopen(fd, "rb") as file:
        data = file.read()
    places = [(digest, at, length) for digest, at, length in record_places(data) if digest in digests]
    if not places:
        return found
    # O_APPEND would move each write to the end.
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        for digest, at, length in places:
            line = data[at : at + length]
            if not is_erased_record(line):
                found.add(digest)
            start = len(b"\t".join(line.split(b"\t", 3)[:3])) + 1
            _write_at(fd, ERASED * (length - start), at + start)
        os.fdatasync(fd)
    finally:
        os.close(fd)
    return found


def _write_at(fd: int, data: bytes, at: int) -> None:
    done = 0
    while done < len(data):
        done += os.pwrite(fd, data[done:], at + done)


def _remove_reflogs(store: Path, runs: Collection[RunId]) -> None:
    # None are kept by default, but a user's `core.logAllRefUpdates = always` makes git keep them.
    for run in runs:
        folder = store / "logs" / REF_PREFIX / run
        if folder.is_dir():
            shutil.rmtree(folder)


def _remove_objects(store: Path, object_format: str, digests: frozenset[str], dropped: Dropped) -> list[str]:
    own = OwnObjects(store, object_format)
    own.remove_unfinished([digest.encode() for digest in sorted(digests)])
    reachable = own.reachable()
    victims = dropped.objects - reachable
    kept = [
        f"object {oid} in {store.name}: a file of a snapshot, or another ref, leads to it"
        for oid in sorted(dropped.blobs & reachable)
    ]
    # A fold that was cut short, or an erasure, leaves a blob that no branch names.
    for oid, data in own.unreachable_blobs(reachable):
        if data is None:
            kept.append(f"object {oid} in {store.name}: it is damaged and cannot be read")
        elif any(digest in digests for digest, _, _ in record_places(data)):
            victims.add(oid)
    own.remove(victims)
    return kept


def _borrowed(store: Path, layout: Layout, object_format: str, blobs: Collection[str]) -> list[str]:
    """Name the blobs that are still there because the user's repository has them too."""
    if not blobs:
        return []
    own = OwnObjects(store, object_format)
    here = set(own.loose()).union(*own.packs().values())
    with CatFile(Git(store)) as reader:
        return [
            f"object {oid} in {layout.common_dir / 'objects'}: the repository holds a copy of its own"
            for oid in sorted(blobs)
            if oid not in here and reader.info(oid) is not None
        ]
