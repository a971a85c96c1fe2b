"""The snapshot's tree held in memory: one node per folder, so that only changed folders are written again.

A file's record is packed bytes (a few hundred thousand of them must stay small): the lstat it was read under,
a flag that says the stat may be older than the content ("racy"), and the object id.
"""

from __future__ import annotations

import os
import stat
import struct
from collections.abc import Container, Iterator

from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.treeform import MODE_EXEC, MODE_FILE, MODE_LINK

_SIGNATURE = struct.Struct("<qqqQI")
SIGNATURE_SIZE = _SIGNATURE.size
_RACY_AT = SIGNATURE_SIZE
_OID_AT = SIGNATURE_SIZE + 1
_MODE = struct.Struct("<I")
_MODE_AT = SIGNATURE_SIZE - 4
_INODE = struct.Struct("<Q")
_INODE_AT = SIGNATURE_SIZE - 12

# Times of a file system that counts in whole (even) seconds, and of one that ticks with the kernel.
_COARSE_NS = 2_000_000_000
_FINE_NS = 20_000_000

_TREE_MODES = {MODE_FILE: b"100644 ", MODE_EXEC: b"100755 ", MODE_LINK: b"120000 "}


def signature(st: os.stat_result) -> bytes:
    """Return what must be equal for a file to count as unread-since."""
    return _SIGNATURE.pack(st.st_mtime_ns, st.st_ctime_ns, st.st_size, st.st_ino, st.st_mode)


def make_record(st: os.stat_result, oid: str, read_ns: int) -> bytes:
    """Return the record of a file read at `read_ns` (the wall clock before the read)."""
    return signature(st) + (b"\1" if _is_racy(st, read_ns) else b"\0") + bytes.fromhex(oid)


def _is_racy(st: os.stat_result, read_ns: int) -> bool:
    """Whether the file could change once more without a change of its times."""
    newest = max(st.st_mtime_ns, st.st_ctime_ns)
    coarse = st.st_mtime_ns % 1_000_000_000 == 0 and st.st_ctime_ns % 1_000_000_000 == 0
    return newest + (_COARSE_NS if coarse else _FINE_NS) >= read_ns


def is_racy(record: bytes) -> bool:
    """Return whether the record cannot be trusted by its stat alone."""
    return record[_RACY_AT] != 0


def record_oid(record: bytes) -> str:
    """Return the object id in a record."""
    return record[_OID_AT:].hex()


def record_inode(record: bytes) -> int:
    """Return the inode a record was read from."""
    inode: int = _INODE.unpack_from(record, _INODE_AT)[0]
    return inode


def record_mode(record: bytes) -> int:
    """Return git's mode of a record."""
    return git_mode(_MODE.unpack_from(record, _MODE_AT)[0])


def git_mode(st_mode: int) -> int:
    """Return git's mode for a regular file or a link."""
    if stat.S_ISLNK(st_mode):
        return MODE_LINK
    return MODE_EXEC if st_mode & stat.S_IXUSR else MODE_FILE


def same_entry(old: bytes | None, new: bytes) -> bool:
    """Return whether two records give the same tree entry."""
    return old is not None and old[_OID_AT:] == new[_OID_AT:] and record_mode(old) == record_mode(new)


class DirNode:
    """A folder: records of its files, nodes of its folders, and its tree's id unless it changed.

    Attributes:
        files: Name -> record.
        dirs: Name -> node.
        oid: The tree's id; None when it must be written.
        ignored: The folder is ignored and only holds what is tracked.
    """

    __slots__ = ("dirs", "files", "ignored", "oid")

    def __init__(self, *, ignored: bool = False) -> None:
        self.files: dict[bytes, bytes] = {}
        self.dirs: dict[bytes, DirNode] = {}
        self.oid: str | None = None
        self.ignored = ignored

    def find(self, path: bytes) -> list[DirNode] | None:
        """Return the nodes from this one down to `path` (b"" is this one), or None."""
        chain = [self]
        if path:
            for name in path.split(b"/"):
                child = chain[-1].dirs.get(name)
                if child is None:
                    return None
                chain.append(child)
        return chain

    def encode(self) -> bytes:
        """Return the bytes of the folder's tree; its folders must have their ids."""
        rows = [
            (name, _TREE_MODES[record_mode(record)] + name + b"\0" + record[_OID_AT:])
            for name, record in self.files.items()
        ]
        for name, child in self.dirs.items():
            if child.oid is None:
                raise ValueError("a folder below is not written yet")
            rows.append((name + b"/", b"40000 " + name + b"\0" + bytes.fromhex(child.oid)))
        rows.sort()
        return b"".join([row for _, row in rows])

    def write(self, store: ObjectStore, known: Container[str]) -> str:
        """Write the trees that changed, deepest first, and return this folder's id."""
        if self.oid is None:
            for child in self.dirs.values():
                if child.oid is None:
                    child.write(store, known)
            self.oid = store.write(b"tree", self.encode(), known)
        return self.oid

    def walk(self, path: bytes = b"") -> Iterator[tuple[bytes, DirNode]]:
        """Yield (path, node) of this folder and all below."""
        yield path, self
        for name, child in self.dirs.items():
            yield from child.walk(path + b"/" + name if path else name)
