"""Whether a repository itself holds an object in a pack, told without starting git.

Rules: a name is looked up in the packs' indexes as they lie there; an index of another form is passed over,
so the answer is "no", and the object is written again. Nothing is read through an alternate. What an index
says is not believed when content matters: whoever reads the object hashes it.

The form is gitformat-pack(5), version 2: eight bytes of header, 256 counts, then the sorted names.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path
from typing import Final, overload

_HEADER: Final = b"\xfftOc\x00\x00\x00\x02"
_COUNTS: Final = 8
_NAMES: Final = _COUNTS + 256 * 4


class PackedNames:
    """The names of the objects in a repository's own packs; packs that come and go are noticed.

    Args:
        objects: The folder of its objects.
        width: How many bytes a name has: 20 or 32.
    """

    def __init__(self, objects: Path, width: int) -> None:
        self._folder = objects / "pack"
        self._width = width
        self._seen: int | None = None
        self._indexes: list[_Names] = []

    def __contains__(self, oid: str) -> bool:
        try:
            changed = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return False
        if changed != self._seen:
            self._seen = changed
            found = (_read(path, self._width) for path in sorted(self._folder.glob("pack-*.idx")))
            self._indexes = [names for names in found if names is not None]
        name = bytes.fromhex(oid)
        return any(name in names for names in self._indexes)


class _Names(Sequence[bytes]):
    """Sorted names, side by side in one string of bytes."""

    def __init__(self, raw: bytes, width: int) -> None:
        self._raw = raw
        self._width = width

    def __len__(self) -> int:
        return len(self._raw) // self._width

    @overload
    def __getitem__(self, at: int) -> bytes: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[bytes]: ...
    def __getitem__(self, at: int | slice) -> bytes | Sequence[bytes]:
        if isinstance(at, slice):
            return [self[place] for place in range(*at.indices(len(self)))]
        if not 0 <= at < len(self):
            raise IndexError(at)
        return self._raw[at * self._width : (at + 1) * self._width]

    def __contains__(self, name: object) -> bool:
        if not isinstance(name, bytes):
            return False
        at = bisect_left(self, name)
        return at < len(self) and self[at] == name


def _read(path: Path, width: int) -> _Names | None:
    try:
        raw = path.read_bytes()
    except FileNotFoundError:
        # Merged or collected since the folder was listed.
        return None
    count = int.from_bytes(raw[_NAMES - 4 : _NAMES], "big")
    end = _NAMES + count * width
    if not raw.startswith(_HEADER) or len(raw) < end:
        return None
    return _Names(raw[_NAMES:end], width)
