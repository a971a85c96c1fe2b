"""Bring a work tree from one state to another: whole or not at all, also after a crash.

Rules:
- Order: every path concerned is compared with the plan; journal; all new contents are written under temporary
  names beside their targets and synced (a full disk or an unwritable folder ends here, with nothing changed);
  then only names change (see `moves`), and the result is read back.
- `recover` goes forward after a crash, and back when it cannot.
- Untouched files are not opened for writing, and keep their times, owners, permissions and links.
- git's folder, index, HEAD and stash are out of reach: such paths are refused.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections.abc import Iterable
from pathlib import Path

from agentgov.clock import Random
from agentgov.errors import ConflictError, DivergedError, IncompleteError
from agentgov.files import FileLock
from agentgov.rollback.journal import Journal, Step, read_journal
from agentgov.rollback.moves import Change, Outcome, half_way, is_folder, not_done
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.plan import Action, InTheWay, Plan
from agentgov.rollback.trees import FOLDER, lookup, parents
from agentgov.rollback.worktree import WorkTree, is_git_name
from agentgov.text import printable

__all__ = ["Outcome", "apply_plan", "recover", "uncaptured"]

_TOKEN_BYTES = 6


def apply_plan(
    root: Path, store: ObjectStore, plan: Plan, journal_path: Path, *, random: Random = os.urandom
) -> Outcome:
    """Apply a plan without conflicts.

    Args:
        root: The work tree.
        store: Where the new contents come from; it must hold the old ones too.
        plan: What to do.
        journal_path: Where the journal is kept; outside the work tree's own files.
        random: For the temporary names.

    Returns:
        What was done; the state is always "done".

    Raises:
        ConflictError: AG0174 the plan has conflicts, AG0182 an earlier change is unfinished, AG0175 it could
            not be done and the old state stands, AG0005 another process is at it.
        DivergedError: AG0176, when the work tree is not what the plan was made for; nothing was changed.
        AgentgovError: AG0177, when it stopped half way; `recover` goes on.
    """
    if plan.conflicts:
        raise ConflictError(
            f"in conflict: {_some(conflict.path for conflict in plan.conflicts)}",
            id="AG0174",
            where=str(root),
        )
    with _locked(journal_path), WorkTree(root, store.object_format) as tree:
        if os.path.lexists(journal_path):
            raise ConflictError(
                "an earlier change is unfinished: recover it first", id="AG0182", where=str(root)
            )
        try:
            journal = _prepare(tree, store, plan, random(_TOKEN_BYTES).hex())
        except OSError as error:
            raise not_done(root, error) from error
        change = Change(tree, journal, journal_path)
        if not plan.is_empty:
            change.stage(store)
            change.go()
        return change.outcome("done")


def recover(journal_path: Path) -> Outcome | None:
    """Finish, or take back, what a crash interrupted.

    Returns:
        None when there is no journal.

    Raises:
        AgentgovError: As `apply_plan`; the journal stays when it could do neither.
        IncompleteError: AG0179, when the work tree is not there.
    """
    if not os.path.lexists(journal_path):
        return None
    with _locked(journal_path):
        found = read_journal(journal_path)
        if found is None:
            return None
        phase, journal = found
        if not journal.root.is_dir():
            raise IncompleteError(
                "a change of this work tree was interrupted, and the work tree is gone",
                id="AG0179",
                where=str(journal.root),
                hint=f"rm {shlex.quote(str(journal_path))}        if it is gone for good",
            )
        try:
            with WorkTree(journal.root, journal.object_format) as tree:
                return Change(tree, journal, journal_path).resume(phase)
        except OSError as error:
            raise half_way(journal.root, error) from error


def uncaptured(tree: WorkTree, store: ObjectStore, current: str) -> InTheWay:
    """Make the look-up that `plan_rollback` asks what stands in the way on disk and in no snapshot.

    Args:
        tree: The work tree, open as long as the look-up is used.
        store: Where the tree is.
        current: The tree of what is there now.
    """

    def is_captured(path: bytes) -> bool:
        node = lookup(store, current, path)
        return node is not None and node.mode != FOLDER

    def inside(folder: bytes) -> bytes | None:
        if lookup(store, current, folder) is None:
            return folder
        for name in tree.list_folder(folder):
            path = folder + b"/" + name
            if is_git_name(name):
                return path
            status = tree.lstat(path)
            if status is not None and stat.S_ISDIR(status.st_mode):
                found = inside(path)
                if found is not None:
                    return found
            elif status is not None and not is_captured(path):
                return path
        return None

    def look(path: bytes, folder: bool) -> bytes | None:
        for above in reversed(list(parents(path))):
            status = tree.lstat(above)
            if status is None:
                return None
            if not stat.S_ISDIR(status.st_mode):
                return None if is_captured(above) else above
        status = tree.lstat(path)
        if status is None:
            return None
        if stat.S_ISDIR(status.st_mode):
            return None if folder else inside(path)
        return None if is_captured(path) else path

    return look


def _prepare(tree: WorkTree, store: ObjectStore, plan: Plan, token: str) -> Journal:
    """Compare the work tree with the plan and name everything that will be needed."""
    moving = {*plan.removed_folders, *plan.new_folders}
    steps = []
    for number, action in enumerate(plan.actions):
        now = tree.node(action.path)
        if now != action.before and not (action.before is None and now is not None and now.mode == FOLDER):
            raise DivergedError(
                "the file changed after the plan was made; nothing was changed",
                id="AG0176",
                where=printable(action.path),
                hint="run the same command again: it starts from what is there now",
            )
        steps.append(_step(action, moving, f".agentgov-{token}-{number:x}"))
    removed = []
    for folder in plan.removed_folders:
        status = tree.lstat(folder)
        if status is not None and stat.S_ISDIR(status.st_mode):
            removed.append((folder, stat.S_IMODE(status.st_mode)))
    # A folder that is there already (only ignored files in it) is not ours to remove if we have to go back.
    new = [folder for folder in plan.new_folders if not is_folder(tree, folder)]
    return Journal(
        tree.root.absolute(),
        store.object_format,
        plan.before,
        plan.target,
        tuple(steps),
        tuple(removed),
        tuple(new),
    )


def _step(action: Action, moving: set[bytes], name: str) -> Step:
    # Temporary names lie in the nearest folder that is there before, during and after.
    folder = next((folder for folder in parents(action.path) if folder not in moving), b"")
    prefix = (folder + b"/" if folder else b"") + name.encode("ascii")
    return Step(
        action.path,
        action.before,
        action.after,
        prefix + b".new" if action.after is not None else b"",
        prefix + b".old" if action.before is not None else b"",
    )


def _locked(journal_path: Path) -> FileLock:
    lock = FileLock(journal_path.with_name(journal_path.name + ".lock"))
    lock.acquire(timeout_seconds=0)
    return lock


def _some(paths: Iterable[bytes], limit: int = 5) -> str:
    names = [printable(path) for path in paths]
    return ", ".join(names[:limit]) + (", ..." if len(names) > limit else "")
