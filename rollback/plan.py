"""What a rollback would do, decided before anything is touched.

Rules:
- Three trees decide: `last` (the last snapshot that the agent's run took), `current` (what is there now)
  and `target`. A path that the user changed after `last` is the user's: where the target equals `last`, the
  user's version is kept; where the target wants something else again, it is a conflict, and a plan with a
  conflict is never applied.
- What stands in the work tree and in no snapshot (ignored files, special files) is never overwritten or
  removed: where it is in the way of the target, that is a conflict too.
- Folders follow from the trees: one that the target does not have is removed when it is empty by then.
- `make_plan` is pure; `plan_rollback` only reads trees.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.trees import (
    FILE,
    FOLDER,
    GITLINK,
    LINK,
    PROGRAM,
    Node,
    NodeChange,
    lookup,
    node_changes,
    parents,
)
from agentgov.rollback.worktree import is_git_name
from agentgov.text import printable

Verb = Literal["create", "delete", "change", "mode", "replace"]
Reason = Literal["edited", "in-the-way", "unsupported"]
HasFolder = Callable[[bytes], bool]
InTheWay = Callable[[bytes, bool], bytes | None]

_APPLICABLE = frozenset({FILE, PROGRAM, LINK})
_SIGNS: Mapping[Verb, str] = {"create": "+", "delete": "-", "change": "~", "mode": "~", "replace": "~"}
_REASONS: Mapping[Reason, str] = {
    "edited": "you changed it since",
    "in-the-way": "stands in the way and is in no snapshot",
    "unsupported": "cannot be written here",
}


@dataclass(frozen=True, slots=True)
class Action:
    """One file or link that changes: what is there now and what will be; None for nothing."""

    path: bytes
    before: Node | None
    after: Node | None

    @property
    def verb(self) -> Verb:
        """What happens, in one word."""
        if self.before is None:
            return "create"
        if self.after is None:
            return "delete"
        if self.before.is_file != self.after.is_file:
            return "replace"
        return "mode" if self.before.oid == self.after.oid else "change"


@dataclass(frozen=True, slots=True)
class Conflict:
    """A path that cannot be brought to the target.

    Attributes:
        path: The path that the target wants changed.
        reason: Why it is not.
        what: What stands against it: the same path, or one above or below it.
        last: What the agent left there.
        current: What is there now.
        target: What the target has there.
    """

    path: bytes
    reason: Reason
    what: bytes
    last: Node | None = None
    current: Node | None = None
    target: Node | None = None


@dataclass(frozen=True, slots=True)
class Plan:
    """All that is needed to bring a work tree from one state to another.

    Attributes:
        before: The tree that the work tree must equal at the paths concerned.
        target: The tree that was asked for.
        actions: What changes, by path.
        removed_folders: Folders that the target does not have, the deepest first.
        new_folders: Folders that are missing now, the topmost first.
        kept: Paths that the user changed and that stay as they are.
        conflicts: Why the plan cannot be applied; empty when it can.
    """

    before: str
    target: str
    actions: tuple[Action, ...] = ()
    removed_folders: tuple[bytes, ...] = ()
    new_folders: tuple[bytes, ...] = ()
    kept: tuple[bytes, ...] = ()
    conflicts: tuple[Conflict, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether nothing would change."""
        return not (self.actions or self.removed_folders or self.new_folders)

    def lines(self) -> Iterator[str]:
        """The plan for a person: one line a path, safe to print."""
        for action in self.actions:
            extra = ""
            if action.verb == "mode" and action.after is not None:
                extra = "  executable" if action.after.mode == PROGRAM else "  not executable"
            elif action.verb == "replace" and action.before is not None and action.after is not None:
                extra = f"  {action.before.word} -> {action.after.word}"
            yield f"{_SIGNS[action.verb]} {printable(action.path)}{extra}"
        for folder in self.removed_folders:
            yield f"- {printable(folder)}/"
        for folder in self.new_folders:
            yield f"+ {printable(folder)}/"
        for path in self.kept:
            yield f"  {printable(path)}  kept: you changed it, and this does not touch it"
        for conflict in self.conflicts:
            other = f"{printable(conflict.what)} " if conflict.what != conflict.path else ""
            yield f"! {printable(conflict.path)}  {other}{_REASONS[conflict.reason]}"


def _nothing_in_the_way(path: bytes, folder: bool) -> bytes | None:
    return None


def plan_rollback(
    store: ObjectStore, current: str, target: str, last: str | None = None, in_the_way: InTheWay | None = None
) -> Plan:
    """Plan the way from `current` to `target`.

    Args:
        store: Where the trees are.
        current: The tree of what is there now (a fresh snapshot).
        target: The tree to go back to.
        last: The last snapshot of the run; what changed after it is the user's. None: `current`.
        in_the_way: Tells what stands on disk at a path, above it or (for a file) below it, and not in
            `current`; see `restore.uncaptured`.

    Returns:
        The plan; look at its conflicts before it is applied.
    """
    edits = node_changes(store, last, current) if last is not None and last != current else {}
    return make_plan(
        current,
        target,
        node_changes(store, current, target),
        {path: change[0] for path, change in edits.items()},
        lambda path: _is_folder(lookup(store, current, path)),
        lambda path: _is_folder(lookup(store, target, path)),
        in_the_way or _nothing_in_the_way,
    )


def make_plan(
    before: str,
    target: str,
    changes: Mapping[bytes, NodeChange],
    edits: Mapping[bytes, Node | None],
    is_folder_now: HasFolder,
    is_folder_then: HasFolder,
    in_the_way: InTheWay = _nothing_in_the_way,
) -> Plan:
    """Decide on actions and conflicts; pure.

    Args:
        before: The current tree's id, for the record.
        target: The target tree's id, for the record.
        changes: Per path what is there now and what the target has.
        edits: The paths that the user changed since the run's last snapshot, with what they were then.
        is_folder_now: Whether a path is a folder in the current tree.
        is_folder_then: Whether it is one in the target.
        in_the_way: As for `plan_rollback`.
    """
    actions: list[Action] = []
    conflicts: list[Conflict] = []
    kept: dict[bytes, Node | None] = {}
    folders: set[bytes] = set()
    for path, (now, then) in sorted(changes.items()):
        if path in edits:
            if then == edits[path]:
                kept[path] = now
            elif not _is_folder_or_nothing(now) or not _is_folder_or_nothing(then):
                conflicts.append(Conflict(path, "edited", path, edits[path], now, then))
            else:
                folders.add(path)
            continue
        if any(node is not None and node.mode == GITLINK for node in (now, then)) or _is_gits(path):
            conflicts.append(Conflict(path, "unsupported", path, now, now, then))
            continue
        if _is_folder(now) or _is_folder(then):
            folders.add(path)
        file_now, file_then = _file(now), _file(then)
        if file_now is None and file_then is None:
            continue
        if any(node is not None and node.mode not in _APPLICABLE for node in (file_now, file_then)):
            conflicts.append(Conflict(path, "unsupported", path, now, now, then))
            continue
        actions.append(Action(path, file_now, file_then))
    for path in [*folders, *(action.path for action in actions)]:
        folders.update(parents(path))
    kept_folders = {folder for path, node in kept.items() if node is not None for folder in parents(path)}
    kept_folders.update(path for path, node in kept.items() if _is_folder(node))
    new_folders = sorted(path for path in folders if is_folder_then(path) and not is_folder_now(path))
    removed = sorted(
        (
            path
            for path in folders
            if is_folder_now(path) and not is_folder_then(path) and path not in kept_folders
        ),
        reverse=True,
    )
    conflicts += _collisions(actions, new_folders, kept, kept_folders)
    conflicts += _obstacles(actions, new_folders, in_the_way)
    return Plan(
        before,
        target,
        tuple(actions),
        tuple(removed),
        tuple(new_folders),
        tuple(path for path, node in kept.items() if _file(node) or _file(edits[path])),
        tuple(sorted(conflicts, key=lambda conflict: conflict.path)),
    )


def _collisions(
    actions: list[Action],
    new_folders: list[bytes],
    kept: Mapping[bytes, Node | None],
    kept_folders: set[bytes],
) -> Iterator[Conflict]:
    """A file wanted where the user has a folder, or a folder wanted where the user has a file."""
    kept_files = {path: node for path, node in kept.items() if _file(node) is not None}
    for action in actions:
        if action.after is not None and action.path in kept_folders:
            yield Conflict(action.path, "edited", action.path, None, action.before, action.after)
    wanted = {action.path for action in actions if action.after is not None} | set(new_folders)
    for path in sorted(wanted):
        for folder in (path, *parents(path)):
            if folder in kept_files:
                yield Conflict(path, "edited", folder, None, kept_files[folder], None)


def _obstacles(actions: list[Action], new_folders: list[bytes], in_the_way: InTheWay) -> Iterator[Conflict]:
    """What is on disk, in no snapshot, and where the target wants something."""
    for action in actions:
        # Where a file is already, restoring compares it with the snapshot at the last moment.
        if action.after is not None and action.before is None:
            what = in_the_way(action.path, False)
            if what is not None:
                yield Conflict(action.path, "in-the-way", what, None, None, action.after)
    for folder in new_folders:
        what = in_the_way(folder, True)
        if what is not None:
            yield Conflict(folder, "in-the-way", what)


def _is_folder(node: Node | None) -> bool:
    return node is not None and node.mode == FOLDER


def _file(node: Node | None) -> Node | None:
    return None if _is_folder(node) else node


def _is_folder_or_nothing(node: Node | None) -> bool:
    return _file(node) is None


def _is_gits(path: bytes) -> bool:
    return any(is_git_name(name) for name in path.split(b"/"))
