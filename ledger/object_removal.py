"""Taking objects out of the private store for good, loose and packed ones.

Rules this module keeps:
    * Only what this store holds itself is touched: what it borrows from the user's repository is not ours.
    * What a ref of the store still reaches is never removed; it is returned instead.
    * A pack that holds one of the objects is written again without it, and is durable before the old one
      goes. What else would lead to the old pack (multi-pack-index, commit-graph) goes with it.
    * Whoever removes or packs objects of the store holds the payloads' fold lock: an unfinished pack that
      lies there then is what a crash left.
    * Nobody is believed: what was to be removed is looked for again afterwards.
"""

from __future__ import annotations

import re
import shutil
import zlib
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.files import fsync_dir
from agentgov.git import CatFile, Git

_is_fan = re.compile(r"[0-9a-f]{2}").fullmatch
_is_rest = re.compile(r"[0-9a-f]{38}|[0-9a-f]{62}").fullmatch
_READ_BYTES: Final = 64 * 1024
_INDEX_V2: Final = b"\xfftOc\0\0\0\2"
_FANOUT_END: Final = 8 + 256 * 4
_STALE_LISTS: Final = (
    "pack/multi-pack-index",
    "pack/multi-pack-index.d",
    "info/commit-graph",
    "info/commit-graphs",
)


class OwnObjects:
    """The objects that a bare repository holds itself, without those of its alternates.

    Args:
        store: The bare repository.
        object_format: ``sha1`` or ``sha256``.
    """

    def __init__(self, store: Path, object_format: str) -> None:
        self._store = store
        self._objects = store / "objects"
        self._git = Git(store)
        self._format = object_format

    def loose(self) -> dict[str, Path]:
        """Return every loose object and its file."""
        return {
            fan.name + path.name: path
            for fan in self._fans()
            for path in fan.iterdir()
            if _is_rest(path.name) is not None
        }

    def packs(self) -> dict[Path, frozenset[str]]:
        """Return every pack, by its index, and the objects in it."""
        found: dict[Path, frozenset[str]] = {}
        for index in sorted((self._objects / "pack").glob("pack-*.idx")):
            found[index] = _names_in(index, 32 if self._format == "sha256" else 20)
        return found

    def reachable(self) -> frozenset[str]:
        """Return every object that a ref of the store leads to, borrowed ones too."""
        listed = self._git.text("rev-list", "--objects", "--no-object-names", "--missing=allow-any", "--all")
        return frozenset(listed.split())

    def unreachable_blobs(self, reachable: Collection[str]) -> Iterator[tuple[str, bytes | None]]:
        """Return every blob held here that no ref leads to, and its content; None when it is damaged."""
        own = set(self.loose()).union(*self.packs().values())
        with CatFile(self._git) as reader:
            for oid in sorted(own.difference(reachable)):
                try:
                    kind, data = reader.read(oid)
                except BrokenRecordError:
                    yield oid, None
                    continue
                if kind == "blob":
                    yield oid, data

    def remove(self, oids: Collection[str]) -> None:
        """Remove these objects; what is not here is passed over.

        Raises:
            AgentgovError: AG0285, when one of them is still here afterwards.
            OSError: When the disk refuses.
        """
        victims = frozenset(oids)
        folders: set[Path] = set()
        for oid, path in self.loose().items():
            if oid in victims:
                path.unlink(missing_ok=True)
                folders.add(path.parent)
        for index, held in self.packs().items():
            if held & victims:
                self._rewrite(index, sorted(held - victims))
                folders.add(index.parent)
        for folder in folders:
            fsync_dir(folder)
        left = victims.intersection(set(self.loose()).union(*self.packs().values()))
        if left:
            raise AgentgovError(
                f"{len(left)} objects that were to be erased are still in the store",
                id="AG0285",
                where=str(self._store),
                hint="run the same command again; it finishes what is left",
            )

    def remove_unfinished(self, markers: Collection[bytes]) -> int:
        """Remove what a crash left half written: any unfinished pack, and objects that hold a marker.

        Returns:
            How many files went.
        """
        stale = [path for path in (self._objects / "pack").glob("tmp_*") if path.is_file()]
        for folder in (self._objects, *self._fans()):
            stale += [
                path
                for path in folder.iterdir()
                if path.is_file() and _is_rest(path.name) is None and _holds(path, markers)
            ]
        for path in stale:
            path.unlink(missing_ok=True)
        return len(stale)

    def _fans(self) -> Iterator[Path]:
        return (path for path in self._objects.iterdir() if _is_fan(path.name) and path.is_dir())

    def _rewrite(self, index: Path, kept: list[str]) -> None:
        if kept:
            # Never thin and never against an object that is not in it: the new pack stands alone.
            self._git.run(
                "pack-objects",
                "-q",
                index.parent / "pack",
                input="".join(f"{oid}\n" for oid in kept).encode(),
            )
            fsync_dir(index.parent)
        for name in _STALE_LISTS:
            path = self._objects / name
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink(missing_ok=True)
        # The index first: a reader takes a pack for what its index says.
        for path in (index, *sorted(index.parent.glob(f"{index.stem}.*"))):
            path.unlink(missing_ok=True)


def _names_in(index: Path, width: int) -> frozenset[str]:
    """Return the names in a pack's index (gitformat-pack, version 2), whose checksum is left to git.

    Raises:
        BrokenRecordError: AG0286, when it is no such index.
    """
    raw = index.read_bytes()
    count = int.from_bytes(raw[_FANOUT_END - 4 : _FANOUT_END], "big")
    end = _FANOUT_END + count * width
    if not raw.startswith(_INDEX_V2) or len(raw) < end:
        raise BrokenRecordError("the index of a pack cannot be read", id="AG0286", where=str(index))
    return frozenset(raw[at : at + width].hex() for at in range(_FANOUT_END, end, width))


def _holds(path: Path, markers: Collection[bytes]) -> bool:
    """Whether a loose object that may be cut short, or a plain file, holds one of these."""
    longest = max(map(len, markers), default=0)
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        return False
    if any(marker in raw for marker in markers):
        return True
    inflater = zlib.decompressobj()
    seen = b""
    try:
        for at in range(0, len(raw), _READ_BYTES):
            seen = seen[-longest:] + inflater.decompress(raw[at : at + _READ_BYTES])
            if any(marker in seen for marker in markers):
                return True
    except zlib.error:
        return False
    return False
