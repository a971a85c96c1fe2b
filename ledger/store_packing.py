"""Packing the private store, so that snapshots and payloads do not lie there as thousands of loose objects.

Rules this module keeps:
    * Every loose object is packed, whether a ref reaches it or not: what is garbage is not decided here.
    * A loose object goes only after the pack that holds it was checked and is on disk with its index; a crash
      leaves objects twice, never not at all.
    * The payloads' fold lock is held throughout: nobody erases meanwhile, and nobody else packs.
    * What is borrowed from the user's repository is not touched. Large objects stay as they are: to pack them
      costs more than it saves.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from agentgov.errors import ConflictError
from agentgov.files import FileLock
from agentgov.git import Git, ObjectFormat
from agentgov.ledger.packing import PackMerger

LOOSE_OBJECTS: Final = 2048
PACKED_AT_ONCE: Final = 20_000
LARGE_BYTES: Final = 8 * 2**20
_FANS: Final = 256
_is_fan = re.compile(r"[0-9a-f]{2}").fullmatch
_is_rest = re.compile(r"[0-9a-f]{38}|[0-9a-f]{62}").fullmatch


def pack_store(store: Path, lock: Path, object_format: ObjectFormat, *, at_least: int = LOOSE_OBJECTS) -> int:
    """Pack the loose objects of the private store, if they have become many and nobody works on it.

    Args:
        store: The private bare repository.
        lock: The payloads' fold lock.
        object_format: How it names objects.
        at_least: How many loose objects are too many; they are estimated from a few folders, as git does.

    Returns:
        How many objects are loose no more.

    Raises:
        AgentgovError: AG0008 or AG0491, when git cannot pack; everything is still there.
        OSError: The disk refuses.
    """
    objects = store / "objects"
    if not objects.is_dir() or _estimate(objects) < at_least:
        return 0
    held = FileLock(lock)
    try:
        held.acquire(timeout_seconds=0)
    except ConflictError:
        # Somebody folds or erases: the next one finds them as many.
        return 0
    try:
        loose = _loose_objects(objects)
        if loose:
            merger = PackMerger(Git(store), store, object_format)
            merger.add([merger.pack(loose)])
            for oid in loose:
                (objects / oid[:2] / oid[2:]).unlink(missing_ok=True)
        return len(loose)
    finally:
        held.release()


def _estimate(objects: Path) -> int:
    # Ids are evenly spread: four folders of 256 tell enough, and cost nothing.
    sample = [objects / fan for fan in ("17", "42", "9a", "e0")]
    found = sum(1 for folder in sample if folder.is_dir() for _ in folder.iterdir())
    return found * _FANS // len(sample)


def _loose_objects(objects: Path) -> list[str]:
    """Return the names of loose objects that are worth packing, at most so many."""
    found: list[str] = []
    for folder in sorted(path for path in objects.iterdir() if _is_fan(path.name) and path.is_dir()):
        for path in sorted(folder.iterdir()):
            if _is_rest(path.name) and path.stat().st_size < LARGE_BYTES:
                found.append(folder.name + path.name)
                if len(found) >= PACKED_AT_ONCE:
                    return found
    return found
