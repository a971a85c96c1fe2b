"""The file system compared with the tree in memory: all of it, one folder, or single names.

Rules:
- Every step down is an open relative to the parent's descriptor without following links, so a folder that is
  swapped for a link never leads outside the root.
- A file is read again when its lstat differs, when it was named as changed, or when its record is racy.
- Tracked files are always captured. Others are unless the pinned rules ignore them, their name is secret, or
  they are too large. Nothing that some file system takes for `.git` is captured, at any depth.
- What cannot be read keeps its last captured content and is noted.
- A change of a file with several names is looked for under all of them: the kernel reports one.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable, Container, Iterable
from contextlib import suppress
from pathlib import Path

from agentgov.rollback.ignore import IgnoreRules
from agentgov.rollback.leftout import Reason, SecretNames, Skip
from agentgov.rollback.nodes import DirNode, is_racy, make_record, record_inode, same_entry, signature
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.reading import capture
from agentgov.rollback.statcache import Seed
from agentgov.rollback.watch import Watcher
from agentgov.rollback.worktree import is_git_name

# Each level costs an open descriptor and a Python frame or two.
MAX_DEPTH = 200
_FOLDER_FLAGS = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_REPLACED = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP)
_REFUSED = (errno.EACCES, errno.EPERM)


def _is_git_name(name: bytes) -> bool:
    # Plain names are the rule: only what could be a spelling of it is looked at closely.
    return (name[:1] in (b".", b"g", b"G") or not name.isascii()) and is_git_name(name)


class Scanner:
    """Keeps `tree` equal to the files below `root`.

    Args:
        root: The workspace.
        store: Where contents go.
        rules: The pinned ignore rules.
        tracked: Paths that are always captured.
        known: Ids of objects that need no copy.
        secrets: Names that are left out.
        max_file_bytes: Larger untracked files are left out.
        watcher: Is told of every folder that is entered.
        now_ns: The wall clock, compared with the files' times.
        never: (device, inode) of folders that are not entered, such as the store itself.

    Attributes:
        tree: The root's node.
        root_fd: The open root.
        doubt: Something moved underneath: only a full scan is right now.
    """

    def __init__(
        self,
        root: Path,
        store: ObjectStore,
        rules: IgnoreRules,
        *,
        tracked: Iterable[bytes],
        known: Container[str],
        secrets: SecretNames,
        max_file_bytes: int,
        watcher: Watcher | None,
        now_ns: Callable[[], int],
        never: Container[tuple[int, int]] = (),
    ) -> None:
        self.tree = DirNode()
        self.doubt = False
        self._root = root
        self.root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._store = store
        self._rules = rules
        self._known = known
        self._secrets = secrets
        self._max_file_bytes = max_file_bytes
        self._watcher = watcher
        self._now_ns = now_ns
        self._never = never
        self._seed: Seed = {}
        self._notes: dict[bytes, dict[bytes, Skip]] = {}
        self._visited: set[bytes] = set()
        # Inode -> the captured names of files with several links; and those to look at under every name.
        self._links: dict[int, set[bytes]] = {}
        self._linked: set[int] = set()
        self._is_full = False
        self._tracked: dict[bytes, set[bytes]] = {}
        self._tracked_folders: set[bytes] = set()
        for path in tracked:
            folder, _, name = path.rpartition(b"/")
            names = self._tracked.get(folder)
            if names is None:
                names = self._tracked[folder] = set()
                while folder and folder not in self._tracked_folders:
                    self._tracked_folders.add(folder)
                    folder = folder.rpartition(b"/")[0]
            names.add(name)

    def full(self, seed: Seed | None = None) -> None:
        """Compare everything.

        Args:
            seed: Records of an earlier run, trusted where the lstat is the same and the object is present.

        Raises:
            OSError: The root cannot be read.
        """
        now, held = self._root.stat(), os.fstat(self.root_fd)
        if (now.st_dev, now.st_ino) != (held.st_dev, held.st_ino):
            fd = os.open(self._root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            os.close(self.root_fd)
            self.root_fd = fd
        self.doubt = False
        self._seed = seed or {}
        self._visited = set()
        self._links = {}
        self._is_full = True
        try:
            if self._scan(self.tree, self.root_fd, b""):
                self.tree.oid = None
        finally:
            self._seed = {}
            self._is_full = False
        if self._watcher is not None:
            self._watcher.retain(self._visited)

    def forget(self) -> None:
        """Drop everything known: the next `full` reads every file."""
        self.tree = DirNode()
        self._notes = {}
        self.doubt = True

    def apply(self, changes: dict[bytes, set[bytes]]) -> None:
        """Compare the names that changed: folder -> names."""
        self._linked = set()
        self._apply(changes)
        if self._linked:
            self._apply(self._other_names(changes))

    def _apply(self, changes: dict[bytes, set[bytes]]) -> None:
        # Parents first: a folder that was replaced as a whole is then settled before its own names.
        for folder in sorted(changes):
            chain = self.tree.find(folder)
            if chain is None:
                continue
            fd = self._open(folder)
            if fd is None:
                # Gone or replaced since: its parent's event says so, in this batch or in the next.
                continue
            try:
                changed = False
                for name in changes[folder]:
                    changed |= self._named(chain[-1], fd, folder, name)
            finally:
                os.close(fd)
            if changed:
                for node in chain:
                    node.oid = None

    def _other_names(self, named: dict[bytes, set[bytes]]) -> dict[bytes, set[bytes]]:
        """Return the captured names, other than those just looked at, of files with several links."""
        unknown = self._linked - self._links.keys()
        if unknown:
            for inode in unknown:
                self._links[inode] = set()
            for folder, node in self.tree.walk():
                for name, record in node.files.items():
                    if record_inode(record) in unknown:
                        self._links[record_inode(record)].add(folder + b"/" + name if folder else name)
        others: dict[bytes, set[bytes]] = {}
        for inode in self._linked:
            for path in self._links[inode]:
                folder, _, name = path.rpartition(b"/")
                if name not in named.get(folder, ()):
                    others.setdefault(folder, set()).add(name)
        return others

    def skips(self) -> tuple[Skip, ...]:
        """Return what is left out, sorted by path."""
        return tuple(sorted(skip for notes in self._notes.values() for skip in notes.values()))

    def close(self) -> None:
        """Release the root."""
        if self.root_fd >= 0:
            os.close(self.root_fd)
            self.root_fd = -1

    def _open(self, folder: bytes) -> int | None:
        fd = os.open(b".", _FOLDER_FLAGS, dir_fd=self.root_fd)
        for name in folder.split(b"/") if folder else ():
            try:
                below = os.open(name, _FOLDER_FLAGS, dir_fd=fd)
            except OSError as error:
                if error.errno not in _REPLACED + _REFUSED:
                    raise
                return None
            finally:
                os.close(fd)
            fd = below
        return fd

    def _scan(self, node: DirNode, fd: int, folder: bytes) -> bool:
        """Compare a folder and all below; return whether its tree changed."""
        self._visited.add(folder)
        if self._watcher is not None:
            self._watcher.add(folder, fd)
        self._notes.pop(folder, None)
        with os.scandir(fd) as listing:
            entries = list(listing)
        changed = False
        seen: set[bytes] = set()
        for entry in entries:
            name = os.fsencode(entry.name)
            if _is_git_name(name):
                self._note_git_name(folder, name)
                continue
            try:
                st = entry.stat(follow_symlinks=False)
            except FileNotFoundError:
                continue
            except PermissionError:
                self._note(folder, name, "unreadable", None)
                seen.add(name)
                continue
            seen.add(name)
            changed |= self._compare(node, fd, folder, name, st, named=False)
        for name in (node.files.keys() | node.dirs.keys()) - seen:
            changed |= self._remove(node, folder, name)
        return changed

    def _named(self, node: DirNode, fd: int, folder: bytes, name: bytes) -> bool:
        notes = self._notes.get(folder)
        if notes is not None:
            notes.pop(name, None)
        if _is_git_name(name):
            with suppress(FileNotFoundError):
                os.stat(name, dir_fd=fd, follow_symlinks=False)
                self._note_git_name(folder, name)
            return False
        try:
            st = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            return self._remove(node, folder, name)
        except PermissionError:
            self._note(folder, name, "unreadable", None)
            return False
        return self._compare(node, fd, folder, name, st, named=True)

    def _compare(
        self, node: DirNode, fd: int, folder: bytes, name: bytes, st: os.stat_result, *, named: bool
    ) -> bool:
        if stat.S_ISDIR(st.st_mode):
            replaced = node.files.pop(name, None) is not None
            return self._folder(node, fd, folder, name, st) or replaced
        replaced = name in node.dirs and self._drop(node, folder, name)
        return self._file(node, fd, folder, name, st, named) or replaced

    def _folder(self, node: DirNode, fd: int, folder: bytes, name: bytes, st: os.stat_result) -> bool:
        path = folder + b"/" + name if folder else name
        child = node.dirs.get(name)
        # A tracked folder is a submodule: its files are captured as if it were a plain folder.
        ignored = (
            child.ignored
            if child
            else (
                name not in self._tracked.get(folder, ())
                and (node.ignored or self._rules.matches(folder, name, True))
            )
        )
        if child is None:
            if (ignored and path not in self._tracked_folders) or (st.st_dev, st.st_ino) in self._never:
                return False
            if path.count(b"/") >= MAX_DEPTH:
                self._note(folder, name, "too-deep", None)
                return False
        try:
            child_fd = os.open(name, _FOLDER_FLAGS, dir_fd=fd)
        except OSError as error:
            if error.errno in _REFUSED:
                self._note(folder, name, "unreadable", None)
                return False
            if error.errno not in _REPLACED:
                raise
            self.doubt = True
            return child is not None and self._drop(node, folder, name)
        try:
            if child is None:
                fresh = DirNode(ignored=ignored)
                self._scan(fresh, child_fd, path)
                node.dirs[name] = fresh
                return True
            if self._scan(child, child_fd, path):
                child.oid = None
                return True
            return False
        finally:
            os.close(child_fd)

    def _file(
        self, node: DirNode, fd: int, folder: bytes, name: bytes, st: os.stat_result, named: bool
    ) -> bool:
        record = node.files.get(name)
        if st.st_nlink > 1:
            self._note_links(folder, name, st.st_ino)
        if record is not None and not named and record.startswith(signature(st)) and not is_racy(record):
            return False
        tracked = name in self._tracked.get(folder, ())
        if record is None and not tracked:
            path = folder + b"/" + name if folder else name
            if self._secrets.holds(path, name):
                self._note(folder, name, "secret", st.st_size)
                return False
            if node.ignored or self._rules.matches(folder, name, False):
                return False
        regular = stat.S_ISREG(st.st_mode)
        if not regular and not stat.S_ISLNK(st.st_mode):
            self._note(folder, name, "special", None)
            return self._remove(node, folder, name)
        if regular and st.st_size > self._max_file_bytes and not tracked:
            self._note(folder, name, "too-large", st.st_size)
            return self._remove(node, folder, name)
        new = self._seeded(folder, name, st) if record is None else None
        if new is None:
            new = self._read(node, fd, folder, name, st)
        if new is None:
            return False
        node.files[name] = new
        return not same_entry(record, new)

    def _seeded(self, folder: bytes, name: bytes, st: os.stat_result) -> bytes | None:
        record = self._seed.get(folder, {}).get(name)
        if record is None or not record.startswith(signature(st)) or is_racy(record):
            return None
        oid = record[len(signature(st)) + 1 :].hex()
        return record if oid in self._known or self._store.holds(oid) else None

    def _read(self, node: DirNode, fd: int, folder: bytes, name: bytes, st: os.stat_result) -> bytes | None:
        """Return a new record, or None when the old one, if any, has to stay."""
        before_ns = self._now_ns()
        try:
            captured = capture(fd, name, st, self._store, self._known)
        except OSError as error:
            if error.errno in (*_REFUSED, errno.EAGAIN, errno.EIO):
                self._note(folder, name, "unreadable", st.st_size)
            elif error.errno in _REPLACED:
                # Its event is on its way; without events the next full scan sees it.
                self.doubt = True
            else:
                raise
            return None
        if captured is None or not captured.stable:
            self._note(folder, name, "changing", st.st_size)
        if captured is None:
            self.doubt = True
            return None
        return make_record(captured.st, captured.oid, before_ns if captured.stable else 0)

    def _remove(self, node: DirNode, folder: bytes, name: bytes) -> bool:
        record = node.files.pop(name, None)
        if record is not None and record_inode(record) in self._links:
            # It may have been written through this name before the name went.
            self._linked.add(record_inode(record))
        return (name in node.dirs and self._drop(node, folder, name)) or record is not None

    def _note_links(self, folder: bytes, name: bytes, inode: int) -> None:
        self._linked.add(inode)
        if self._is_full or inode in self._links:
            self._links.setdefault(inode, set()).add(folder + b"/" + name if folder else name)

    def _drop(self, node: DirNode, folder: bytes, name: bytes) -> bool:
        gone = node.dirs.pop(name)
        if self._links:
            inodes = {record_inode(r) for _, below in gone.walk() for r in below.files.values()}
            self._linked |= inodes & self._links.keys()
        path = folder + b"/" + name if folder else name
        prefix = path + b"/"
        for noted in [n for n in self._notes if n == path or n.startswith(prefix)]:
            del self._notes[noted]
        if self._watcher is not None:
            self._watcher.forget(path)
        return True

    def _note(self, folder: bytes, name: bytes, reason: Reason, size: int | None) -> None:
        path = folder + b"/" + name if folder else name
        self._notes.setdefault(folder, {})[name] = Skip(path, reason, size)

    def _note_git_name(self, folder: bytes, name: bytes) -> None:
        # ".git" itself is what everybody expects to be left out; ".GIT" or "git~1" is not.
        if name != b".git":
            self._note(folder, name, "git-name", None)
