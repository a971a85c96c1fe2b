"""Git's tree objects as bytes: parsed strictly, written in git's order. No I/O.

Rules: names are bytes and never empty, `.`, `..` or contain a slash or NUL; folders sort as if they ended in
a slash; what is not in this form is refused, never repaired.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from agentgov.errors import BrokenRecordError

MODE_DIR = 0o40000
MODE_FILE = 0o100644
MODE_EXEC = 0o100755
MODE_LINK = 0o120000
MODE_GITLINK = 0o160000

Tree = dict[bytes, tuple[int, str]]


class Delta(NamedTuple):
    """One leaf that differs between two trees; a leaf is a file, a link, a gitlink or an empty folder."""

    path: bytes
    old_mode: int | None
    old: str | None
    new_mode: int | None
    new: str | None


def digest_size(object_format: str) -> int:
    """Return the length in bytes of an object id."""
    return 32 if object_format == "sha256" else 20


def empty_tree(object_format: str) -> str:
    """Return the id of the tree without entries."""
    return hashlib.new(object_format, b"tree 0\0").hexdigest()


def encode_tree(entries: Iterable[tuple[int, bytes, str]]) -> bytes:
    """Return the bytes of a tree with these (mode, name, id) entries, in any order."""
    rows = [
        (name + b"/" if mode == MODE_DIR else name, b"%o %s\0" % (mode, name) + bytes.fromhex(oid))
        for mode, name, oid in entries
    ]
    rows.sort()
    return b"".join([row for _, row in rows])


def parse_tree(raw: bytes, object_format: str, where: str) -> Tree:
    """Return the entries of a tree object.

    Raises:
        BrokenRecordError: AG0150, when the bytes are not a well-formed tree.
    """
    size = digest_size(object_format)
    tree: Tree = {}
    at = 0
    try:
        while at < len(raw):
            space = raw.index(b" ", at)
            nul = raw.index(b"\0", space)
            name = raw[space + 1 : nul]
            oid = raw[nul + 1 : nul + 1 + size]
            mode = int(raw[at:space], 8)
            if len(oid) != size or not name or b"/" in name or name in (b".", b"..") or name in tree:
                raise ValueError
            tree[name] = (mode, oid.hex())
            at = nul + 1 + size
    except ValueError:
        raise BrokenRecordError("a tree object is malformed", id="AG0150", where=where) from None
    return tree


def merge_names(old: Tree, new: Tree) -> Iterator[bytes]:
    """Yield every name of two trees once, in byte order."""
    yield from sorted(old.keys() | new.keys())
