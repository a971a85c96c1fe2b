"""Bring a run's result into the user's own work tree, uncommitted, without losing anything of theirs.

Rules:
- Each file is merged three-way: the base's version, what stands in the work tree, the result. When one file
  cannot be merged, nothing at all is written, and all that cannot are listed.
- What stood there is saved in the store first (`saved`), as is what will stand there (`written`): undoing
  is the way from `written` to `saved`, refused where a file changed since.
- The user's index, HEAD and stash are not touched; a file that a checkout gives CRLF gets CRLF, so that a
  clean checkout stays clean but for the result.
- The change is journalled: see `restore`.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from agentgov.clock import Random
from agentgov.git import Repository
from agentgov.rollback.attributes import Conversion, read_conversions
from agentgov.rollback.merging import merge_bytes
from agentgov.rollback.moves import Outcome, is_folder
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.plan import Conflict, Plan, make_plan
from agentgov.rollback.restore import apply_plan, uncaptured
from agentgov.rollback.trees import FOLDER, LINK, Node, NodeChange, edit_tree, lookup, node_changes
from agentgov.rollback.worktree import WorkTree, is_git_name

Found = tuple[Node, bytes]


@dataclass(frozen=True, slots=True)
class Application:
    """What bringing a result into a work tree would do.

    Attributes:
        plan: The plan; with conflicts it is refused.
        saved: A tree of what stands now at the paths that would change, and of nothing else.
        written: A tree of what would stand there.
    """

    plan: Plan
    saved: str
    written: str


def plan_application(
    repo: Repository, store: ObjectStore, root: Path, base_tree: str, result_tree: str, scratch: Path
) -> Application:
    """Plan to bring what differs between two trees into a work tree; writes to the store only.

    Args:
        repo: The user's repository.
        store: Where the trees are and what stands in the work tree is saved. The caller must put `saved` and
            `written` under a ref to keep them.
        root: The user's work tree.
        base_tree: The tree that the run started from.
        result_tree: The run's result.
        scratch: An existing private folder for temporary files.
    """
    changes = node_changes(store, base_tree, result_tree)
    conversions = read_conversions(repo, store, base_tree, changes, scratch)
    trusts_mode = repo.config_bool("core.fileMode", True)
    saved: dict[bytes, Node | None] = {}
    written: dict[bytes, Node | None] = {}
    conflicts: list[Conflict] = []
    with WorkTree(root, store.object_format) as tree, store.batch():
        for path, (base, result) in sorted(changes.items()):
            found = tree.read(path)
            if found is not None and found[0].mode == FOLDER:
                # Files in it are paths of their own; what else is in it stands in the way: the plan finds it.
                found = None
            merge = _Merge(store, conversions[path], base, result, found, scratch, trusts_mode)
            now = found[0] if found is not None else None
            if not merge.is_possible:
                conflicts.append(Conflict(path, "edited", path, base, now, result))
            elif merge.after != now:
                if found is not None:
                    store.write(b"blob", found[1])
                saved[path], written[path] = now, merge.after
        old, new = edit_tree(store, None, saved), edit_tree(store, None, written)
    with WorkTree(root, store.object_format) as tree:
        plan = _plan(tree, store, old, new)
    if conflicts:
        plan = Plan(old, new, plan.actions, conflicts=(*plan.conflicts, *conflicts))
    return Application(plan, old, new)


def plan_undo(store: ObjectStore, root: Path, saved: str, written: str) -> Plan:
    """Plan the way back from an applied result; a file that changed since makes applying it fail.

    Args:
        store: Where both trees are.
        root: The user's work tree.
        saved: The `saved` of the application.
        written: The `written` of the application.
    """
    with WorkTree(root, store.object_format) as tree:
        return _plan(tree, store, written, saved)


def apply_result(
    root: Path,
    store: ObjectStore,
    application: Application,
    journal_path: Path,
    *,
    random: Random = os.urandom,
) -> Outcome:
    """Do what was planned; arguments and errors are those of `restore.apply_plan`."""
    return apply_plan(root, store, application.plan, journal_path, random=random)


def _plan(tree: WorkTree, store: ObjectStore, old: str, new: str) -> Plan:
    """Plan between two trees that hold only what changes; all else in the work tree stays."""
    changes = node_changes(store, old, new)
    stays = _staying(tree, changes)

    def is_folder_then(path: bytes) -> bool:
        node = lookup(store, new, path)
        if node is not None:
            return node.mode == FOLDER
        return is_folder(tree, path) and stays(path)

    return make_plan(
        old,
        new,
        changes,
        {},
        lambda path: is_folder(tree, path),
        is_folder_then,
        uncaptured(tree, store, old),
    )


def _staying(tree: WorkTree, changes: dict[bytes, NodeChange]) -> Callable[[bytes], bool]:
    """Make the question whether a folder still holds something when the changes are done."""

    def stays(folder: bytes) -> bool:
        for name in tree.list_folder(folder):
            path = folder + b"/" + name
            if is_git_name(name):
                return True
            if path in changes and changes[path][1] is None:
                continue
            if not is_folder(tree, path) or stays(path):
                return True
        return False

    return stays


class _Merge:
    """One path's three-way merge: whether it is possible, and what stands there afterwards."""

    def __init__(
        self,
        store: ObjectStore,
        conversion: Conversion,
        base: Node | None,
        result: Node | None,
        found: Found | None,
        scratch: Path,
        trusts_mode: bool,
    ) -> None:
        self._store = store
        self._conversion = conversion
        self._base = base
        self._result = result
        self._found = found
        self._scratch = scratch
        self._trusts_mode = trusts_mode
        self.is_possible = True
        self.after: Node | None = None
        self._decide()

    def _decide(self) -> None:
        found, result = self._found, self._result
        now = found[0] if found is not None else None
        if self._stands(result):
            self.after = self._with_mode(now)
        elif self._stands(self._base):
            self.after = self._checked_out(result)
        elif found is not None and found[0].is_file and _is_file(self._base) and _is_file(result):
            self._merge(found)
        else:
            self.is_possible = False

    def _merge(self, found: Found) -> None:
        base, result = self._blob(self._base), self._blob(self._result)
        merged = merge_bytes(self._conversion.to_git(found[1], base), base, result, self._scratch)
        if merged is None or self._conversion.refusal(merged) is not None:
            self.is_possible = False
            return
        data = self._conversion.to_work_tree(merged)
        self.after = self._with_mode(Node(found[0].mode, self._store.write(b"blob", data)))

    def _stands(self, node: Node | None) -> bool:
        """Whether the work tree has this version, but for the mode."""
        if node is None or self._found is None:
            return node is None and self._found is None
        now, data = self._found
        if not (node.is_file and now.is_file):
            return now == node
        wanted = self._blob(node)
        return (
            data == self._conversion.to_work_tree(wanted) or self._conversion.to_git(data, wanted) == wanted
        )

    def _checked_out(self, node: Node | None) -> Node | None:
        """What a checkout of this version writes."""
        if node is None or node.mode == LINK:
            return node
        data = self._conversion.to_work_tree(self._blob(node))
        return self._with_mode(Node(node.mode, self._store.write(b"blob", data)))

    def _with_mode(self, after: Node | None) -> Node | None:
        """Take over the result's mode where the result changed it; else keep the user's."""
        result, base = self._result, self._base
        if after is None or not after.is_file or result is None or not result.is_file:
            return after
        now = self._found[0] if self._found is not None and self._found[0].is_file else None
        unchanged = base is not None and base.mode == result.mode
        keeps = now is not None and (unchanged or not self._trusts_mode)
        return Node(now.mode if now is not None and keeps else result.mode, after.oid)

    def _blob(self, node: Node | None) -> bytes:
        return self._store.blob(node.oid) if node is not None else b""


def _is_file(node: Node | None) -> bool:
    return node is not None and node.is_file
