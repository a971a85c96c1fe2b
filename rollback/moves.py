"""The moves of a journalled change: forward, back, and on from wherever a crash left it.

Rules:
- Contents are written before any name changes; then only names move, and every move has an exact reverse,
  so from every state in between both directions are open.
- A new name never replaces an existing one, and what was set aside is compared with the plan once more: a
  file that changed since then stops the change, which is taken back, and the file is as it was.
- Old contents are removed last, and only if they still are what the snapshot holds.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from agentgov.errors import AgentgovError, ConflictError, DivergedError
from agentgov.rollback.journal import Journal, Phase, Step, remove_journal, set_phase, write_journal
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.trees import Node, parents
from agentgov.rollback.worktree import WorkTree
from agentgov.text import printable

# More files or folders than this are made durable by one call instead of one each.
_SYNC_ALL_FROM = 24
_STAYS = frozenset({errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.EBUSY})


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a change.

    Attributes:
        state: "done", or "undone" when recovery had to take it back.
        before: The tree that was there.
        target: The tree that was asked for.
        changed: How many files and links changed.
        left: Folders that the target does not have and that are not empty.
        edited: Paths that somebody else changed at the same time; their version stands.
        saved: Temporary names that hold somebody else's content and were left there.
    """

    state: Literal["done", "undone"]
    before: str
    target: str
    changed: int
    left: tuple[bytes, ...] = ()
    edited: tuple[bytes, ...] = ()
    saved: tuple[bytes, ...] = ()


class Change:
    """One journalled change, at any point of its way."""

    def __init__(self, tree: WorkTree, journal: Journal, journal_path: Path) -> None:
        self._tree = tree
        self._journal = journal
        self._path = journal_path
        self._edited: dict[bytes, None] = {}
        self._saved: dict[bytes, None] = {}

    def outcome(self, state: Literal["done", "undone"]) -> Outcome:
        """What to tell the caller."""
        journal = self._journal
        return Outcome(
            state,
            journal.before,
            journal.target,
            len(journal.steps) if state == "done" else 0,
            tuple(folder for folder, _ in journal.removed_folders if is_folder(self._tree, folder))
            if state == "done"
            else (),
            tuple(self._edited),
            tuple(self._saved),
        )

    def resume(self, phase: Phase) -> Outcome:
        """Go on from the phase that the journal names, after a crash."""
        if phase in ("staging", "undone"):
            self._discard()
            return self.outcome("undone")
        if phase == "placed":
            self._finish()
            return self.outcome("done")
        try:
            self.go()
        except ConflictError as error:
            if error.id != "AG0175":
                raise
            return self.outcome("undone")
        return self.outcome("done")

    def stage(self, store: ObjectStore) -> None:
        """Write the journal and all new contents; on an error nothing has changed."""
        try:
            write_journal(self._path, self._journal)
        except OSError as error:
            # It may have its name already, and only the sync of the folder failed.
            with contextlib.suppress(OSError):
                self._path.unlink()
            raise not_done(self._tree.root, error) from error
        try:
            folders = {step.fresh.rpartition(b"/")[0] for step in self._journal.steps if step.fresh}
            joined = len(self._journal.steps) > _SYNC_ALL_FROM
            self._write_contents(store, durable=not joined)
            if joined and not self._tree.sync_all(folders):
                self._discard_contents()
                self._write_contents(store, durable=True)
            self._sync(folders)
            set_phase(self._path, "staged")
        except (OSError, AgentgovError) as error:
            try:
                self._discard()
            except OSError as second:
                raise half_way(self._tree.root, second) from error
            raise not_done(self._tree.root, error) from error

    def go(self) -> None:
        """Go forward to the new state, or back to the old one."""
        try:
            self._forward()
            self._sync(self._journal.folders)
            set_phase(self._path, "placed")
        except (OSError, AgentgovError) as error:
            try:
                self._back()
                self._sync(self._journal.folders)
                set_phase(self._path, "undone")
                self._discard()
            except (OSError, AgentgovError) as second:
                raise half_way(self._tree.root, second) from error
            raise not_done(self._tree.root, error) from error
        try:
            self._finish()
        except OSError as error:
            raise half_way(self._tree.root, error) from error

    def _forward(self) -> None:
        journal = self._journal
        for step in journal.steps:
            if step.after is None:
                self._set_aside(step)
        needed = {step.path for step in journal.steps if step.after is not None}
        for folder, _ in journal.removed_folders:
            try:
                self._tree.remove_folder(folder)
            except OSError as error:
                if error.errno not in _STAYS or (folder in needed and is_folder(self._tree, folder)):
                    raise
        for folder in journal.new_folders:
            if not is_folder(self._tree, folder):
                self._tree.make_folder(folder)
        for step in journal.steps:
            if step.after is not None:
                if step.before is not None:
                    self._set_aside(step)
                self._place(step)

    def _set_aside(self, step: Step) -> None:
        tree = self._tree
        if tree.lstat(step.aside) is None:
            try:
                tree.move_to_free(step.path, step.aside)
            except FileNotFoundError as error:
                raise _changed(step.path) from error
        elif tree.is_same(step.path, step.aside):
            tree.unlink(step.path)
        if tree.node(step.aside) != step.before:
            raise _changed(step.path)

    def _place(self, step: Step) -> None:
        tree = self._tree
        if tree.lstat(step.fresh) is None:
            return
        if tree.is_same(step.fresh, step.path):
            tree.unlink(step.fresh)
            return
        try:
            tree.move_to_free(step.fresh, step.path)
        except FileExistsError as error:
            raise _changed(step.path) from error

    def _back(self) -> None:
        journal = self._journal
        for step in reversed(journal.steps):
            if step.after is not None:
                self._take_back(step)
                self._put_back(step)
        for folder in reversed(journal.new_folders):
            try:
                self._tree.remove_folder(folder)
            except OSError as error:
                if error.errno not in _STAYS:
                    raise
        for folder, mode in reversed(journal.removed_folders):
            with contextlib.suppress(FileExistsError):
                self._tree.make_folder(folder, mode)
        for step in reversed(journal.steps):
            if step.after is None:
                self._put_back(step)

    def _take_back(self, step: Step) -> None:
        """Give the new content its temporary name again."""
        tree = self._tree
        if tree.lstat(step.fresh) is not None:
            if tree.is_same(step.fresh, step.path):
                tree.unlink(step.path)
            return
        if tree.lstat(step.path) is None:
            return
        tree.move_to_free(step.path, step.fresh)
        if not self._is(step.fresh, step.after):
            tree.move_to_free(step.fresh, step.path)
            self._edited[step.path] = None

    def _put_back(self, step: Step) -> None:
        """Give the old content its own name again."""
        tree = self._tree
        if not step.aside or tree.lstat(step.aside) is None:
            return
        if tree.is_same(step.path, step.aside):
            tree.unlink(step.aside)
            return
        for folder in reversed(list(parents(step.path))):
            # Somebody removed it meanwhile; the old state had it.
            if tree.lstat(folder) is None:
                tree.make_folder(folder)
        try:
            tree.move_to_free(step.aside, step.path)
        except FileExistsError:
            self._edited[step.path] = None
            self._saved[step.aside] = None

    def _finish(self) -> None:
        """Look at the new state, then remove the old contents."""
        for step in self._journal.steps:
            stands = self._tree.lstat(step.path) is not None
            if (step.after is not None and not self._is(step.path, step.after)) or (
                step.after is None and stands and not is_folder(self._tree, step.path)
            ):
                self._edited[step.path] = None
        for step in self._journal.steps:
            if not step.aside or self._tree.lstat(step.aside) is None:
                continue
            # A program that had the file open may have written to it until now.
            if self._is(step.aside, step.before):
                self._tree.unlink(step.aside)
            else:
                self._saved[step.aside] = None
        self._close()

    def _write_contents(self, store: ObjectStore, *, durable: bool) -> None:
        for step in self._journal.steps:
            if step.after is not None:
                data = store.blob(step.after.oid)
                self._tree.create(step.fresh, step.after, data, self._tree.lstat(step.path), durable=durable)

    def _discard(self) -> None:
        """Remove the new contents; the old state stands."""
        self._discard_contents()
        self._close()

    def _discard_contents(self) -> None:
        for step in self._journal.steps:
            if step.fresh:
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    self._tree.unlink(step.fresh)

    def _close(self) -> None:
        names = [name for step in self._journal.steps for name in (step.fresh, step.aside) if name]
        self._sync({name.rpartition(b"/")[0] for name in names})
        remove_journal(self._path)

    def _sync(self, folders: set[bytes]) -> None:
        if not (len(folders) > _SYNC_ALL_FROM and self._tree.sync_all(folders)):
            self._tree.sync_folders(folders)

    def _is(self, path: bytes, node: Node | None) -> bool:
        try:
            return self._tree.node(path) == node
        except DivergedError:
            return False


def is_folder(tree: WorkTree, path: bytes) -> bool:
    """Whether a folder stands at `path`, not a link to one."""
    status = tree.lstat(path)
    return status is not None and stat.S_ISDIR(status.st_mode)


def _changed(path: bytes) -> ConflictError:
    return ConflictError(
        "it was changed by somebody else at the same moment", id="AG0178", where=printable(path)
    )


def _reason(error: Exception) -> str:
    if isinstance(error, OSError):
        name = error.filename
        where = f"{printable(name)}: " if isinstance(name, (str, bytes)) else ""
        return f"{where}{os.strerror(error.errno)}" if error.errno else f"{where}{error}"
    return str(error)


def not_done(root: Path, error: Exception) -> ConflictError:
    """The error for a change that was not begun, or was taken back."""
    return ConflictError(
        f"it could not be done, and everything is as it was: {_reason(error)}", id="AG0175", where=str(root)
    )


def half_way(root: Path, error: Exception) -> AgentgovError:
    """The error for a change that could go neither forward nor back."""
    return AgentgovError(
        f"it stopped half way: {_reason(error)}; nothing is lost, and the next command goes on",
        id="AG0177",
        where=str(root),
    )
