"""Trees as values: look one path up, list what differs, build a tree from edits.

Rules: paths are bytes, relative, with b"/"; a folder stands in a tree by itself only when it is empty, so
that the tree of a snapshot names every folder; nothing here reads a work tree.
"""

from __future__ import annotations

import stat
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TypeAlias

from agentgov.errors import ConflictError
from agentgov.rollback.objects import ObjectStore
from agentgov.text import printable

FOLDER = 0o040000
FILE = 0o100644
PROGRAM = 0o100755
LINK = 0o120000
GITLINK = 0o160000

_WORDS = {FOLDER: "folder", FILE: "file", PROGRAM: "program", LINK: "link", GITLINK: "submodule"}


@dataclass(frozen=True, slots=True)
class Node:
    """What stands at a path: git's mode and an object id. A folder node is an empty folder."""

    mode: int
    oid: str

    @property
    def word(self) -> str:
        """What a person calls it."""
        return _WORDS.get(self.mode, "special file")

    @property
    def is_file(self) -> bool:
        """Whether it is a regular file, a program or not."""
        return stat.S_ISREG(self.mode)


NodeChange: TypeAlias = tuple[Node | None, Node | None]


def node_changes(store: ObjectStore, old: str, new: str) -> dict[bytes, NodeChange]:
    """What differs between two trees: files, links, submodules and empty folders, by path."""
    return {
        delta.path: (_node(delta.old_mode, delta.old), _node(delta.new_mode, delta.new))
        for delta in store.diff(old, new)
    }


def _node(mode: int | None, oid: str | None) -> Node | None:
    return Node(mode, oid) if mode is not None and oid is not None else None


def lookup(store: ObjectStore, tree: str, path: bytes) -> Node | None:
    """What stands at `path` in `tree`; any folder there is, empty or not, is a folder node."""
    node = Node(FOLDER, tree)
    for name in path.split(b"/"):
        if node.mode != FOLDER:
            return None
        entry = store.tree(node.oid).get(name)
        if entry is None:
            return None
        node = Node(*entry)
    return node


def parents(path: bytes) -> Iterable[bytes]:
    """The folders above a path, the nearest first, without the root."""
    while (cut := path.rfind(b"/")) > 0:
        path = path[:cut]
        yield path


def edit_tree(store: ObjectStore, tree: str | None, edits: Mapping[bytes, Node | None]) -> str:
    """Write `tree` with some paths set (a node) or removed (None); folders that end up empty are dropped.

    Args:
        store: Where the trees are read and written.
        tree: The tree to begin with; None for an empty one.
        edits: What to set and remove.

    Returns:
        The id of the new tree.

    Raises:
        ConflictError: AG0170, when a file and a folder would have the same name.
    """
    nested: dict[bytes, _Edit] = {}
    for path, node in edits.items():
        level = nested
        *folders, name = path.split(b"/")
        for folder in folders:
            level = level.setdefault(folder, _Edit()).inside
        level.setdefault(name, _Edit()).set(node)
    return _write(store, tree, nested, b"")[0]


class _Edit:
    """What happens to one name: the name itself is set or removed, or names below it are."""

    __slots__ = ("inside", "is_set", "node")

    def __init__(self) -> None:
        self.inside: dict[bytes, _Edit] = {}
        self.is_set = False
        self.node: Node | None = None

    def set(self, node: Node | None) -> None:
        self.is_set, self.node = True, node


def _write(
    store: ObjectStore, tree: str | None, edits: Mapping[bytes, _Edit], where: bytes
) -> tuple[str, bool]:
    """Write one level; also tell whether it is empty."""
    entries: dict[bytes, tuple[int, str]] = dict(store.tree(tree)) if tree is not None else {}
    for name, edit in edits.items():
        old = entries.pop(name, None)
        folder = old[1] if old is not None and old[0] == FOLDER else None
        leaf = old if folder is None else None
        if edit.is_set:
            leaf = (edit.node.mode, edit.node.oid) if edit.node is not None else None
        if folder is not None or _sets(edit.inside):
            oid, is_empty = _write(store, folder, edit.inside, where + name + b"/")
            if not is_empty:
                if leaf is not None and leaf[0] != FOLDER:
                    raise ConflictError(
                        "a file and a folder would have the same name",
                        id="AG0170",
                        where=printable(where + name),
                    )
                leaf = (FOLDER, oid)
        if leaf is not None:
            entries[name] = leaf
    oid = store.write_tree([(mode, name, entry) for name, (mode, entry) in entries.items()])
    return oid, not entries


def _sets(edits: Mapping[bytes, _Edit]) -> bool:
    """Whether anything is set below; removals alone make no folder."""
    return any(edit.node is not None or _sets(edit.inside) for edit in edits.values())
