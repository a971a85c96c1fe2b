"""A work tree reached through folder descriptors: nothing here follows a link, so nothing here leaves it.

Rules: every path is checked before use (no empty, `.` or `..` part, no part that git would read as `.git`)
and walked from the root part by part with O_NOFOLLOW, so that a folder swapped for a link is an error and
never a way out; a new name never replaces an existing one; a file is read with read(), never mapped, and
counts as changed when it changes while it is read.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

from agentgov.errors import ConflictError, DivergedError
from agentgov.git import hash_object
from agentgov.rollback.durable import syncfs
from agentgov.rollback.trees import FILE, FOLDER, LINK, PROGRAM, Node
from agentgov.text import printable

_OPEN_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ_SIZE_BYTES = 1 << 20
# File systems without hard links, or a kernel that protects them, answer with one of these.
_NO_HARD_LINKS = frozenset(
    {errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOTSUP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)
# git's own rule for HFS+ (utf8.c, next_hfs_char): code points that the file system ignores in names.
_HFS_IGNORED = dict.fromkeys([*range(0x200C, 0x2010), *range(0x202A, 0x202F), *range(0x206A, 0x2070), 0xFEFF])


def is_git_name(name: bytes) -> bool:
    """Whether some file system would take this name for `.git` (git's protectHFS and protectNTFS)."""
    text = name.decode("utf-8", "surrogateescape").translate(_HFS_IGNORED).casefold()
    stem = text.split(":", 1)[0].rstrip(" .")
    return stem in {".git", "git~1"}


def check_path(path: bytes) -> None:
    """Check that a path names something inside a work tree that is not git's own.

    Raises:
        ConflictError: AG0171, when it does not.
    """
    for name in path.split(b"/"):
        if name in (b"", b".", b"..") or b"\0" in name or is_git_name(name):
            raise ConflictError(
                "this path is not one that may be written", id="AG0171", where=printable(path)
            )


class WorkTree:
    """The folder `root` and what is below it. Use as a context manager.

    Args:
        root: The top folder; a link there is followed once, here.
        object_format: "sha1" or "sha256", for the ids of what is read.
    """

    def __init__(self, root: Path, object_format: str) -> None:
        self.root = root
        self._object_format = object_format
        self._root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        # The folder used last stays open: the paths of a plan are sorted, most share it with their neighbour.
        self._last: tuple[bytes, int] | None = None

    def __enter__(self) -> WorkTree:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptors back."""
        self._forget()
        os.close(self._root_fd)

    def lstat(self, path: bytes) -> os.stat_result | None:
        """The status of what stands at `path` itself; None when nothing does, or a folder above is none."""
        try:
            folder, name = self._at(path)
            return os.stat(name, dir_fd=folder, follow_symlinks=False)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                return None
            raise

    def node(self, path: bytes) -> Node | None:
        """What stands at `path`, read and hashed; any folder is a folder node without an id."""
        found = self.read(path)
        return None if found is None else found[0]

    def read(self, path: bytes) -> tuple[Node, bytes] | None:
        """What stands at `path` and its bytes (of a link: its target).

        Raises:
            DivergedError: AG0172, when the file changes while it is read.
        """
        status = self.lstat(path)
        if status is None:
            return None
        if stat.S_ISDIR(status.st_mode):
            return Node(FOLDER, ""), b""
        if not (stat.S_ISLNK(status.st_mode) or stat.S_ISREG(status.st_mode)):
            return Node(stat.S_IFMT(status.st_mode), ""), b""
        try:
            folder, name = self._at(path)
            if stat.S_ISLNK(status.st_mode):
                data, mode = os.readlink(name, dir_fd=folder), LINK
            else:
                data = self._read_file(folder, name, path)
                mode = PROGRAM if status.st_mode & stat.S_IXUSR else FILE
        except OSError as error:
            # Gone, or another kind of thing, since the lstat a moment ago.
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.EINVAL):
                raise _changing(path) from error
            raise
        return Node(mode, hash_object(b"blob", data, self._object_format)), data

    def list_folder(self, path: bytes) -> list[bytes]:
        """The names in a folder, sorted."""
        # pathlib has no folders by descriptor.
        return sorted(os.fsencode(name) for name in os.listdir(self._folder(path)))  # noqa: PTH208

    def create(
        self, path: bytes, node: Node, data: bytes, like: os.stat_result | None, *, durable: bool = True
    ) -> None:
        """Write a new file or link; an existing name is an error.

        Args:
            path: The new name.
            node: What it is to be; only its mode is read.
            data: The content, or the link's target.
            like: The file whose permissions and owner it takes over, but for the executable bit.
            durable: Whether the content is on disk when this returns; else `sync_all` must follow.
        """
        folder, name = self._at(path)
        if node.mode == LINK:
            os.symlink(data, name, dir_fd=folder)
            return
        # The kernel applies the umask to a new file's mode; reading the umask is not safe between threads.
        wanted = 0o777 if node.mode == PROGRAM else 0o666
        fd = os.open(
            name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, wanted, dir_fd=folder
        )
        try:
            if like is not None and stat.S_ISREG(like.st_mode):
                status = os.fstat(fd)
                if (status.st_uid, status.st_gid) != (like.st_uid, like.st_gid):
                    # Only root can give a file away; for others the new file is simply theirs.
                    with contextlib.suppress(PermissionError):
                        os.fchown(fd, like.st_uid, like.st_gid)
                os.fchmod(fd, permissions_like(like.st_mode, executable=node.mode == PROGRAM))
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            if durable:
                os.fsync(fd)
        finally:
            os.close(fd)

    def move_to_free(self, old: bytes, new: bytes) -> None:
        """Give what stands at `old` the name `new`, which must be free.

        A crash in between leaves both names on one file, or the old name alone.

        Raises:
            FileExistsError: When `new` is taken.
        """
        source, source_name = self._at(old)
        source = os.dup(source)
        try:
            target, target_name = self._at(new)
            try:
                # link() refuses an existing name; rename() would silently replace what was just saved there.
                os.link(source_name, target_name, src_dir_fd=source, dst_dir_fd=target, follow_symlinks=False)
            except OSError as error:
                if error.errno not in _NO_HARD_LINKS:
                    raise
                if self.lstat(new) is not None:
                    raise FileExistsError(errno.EEXIST, "exists", new) from error
                os.rename(source_name, target_name, src_dir_fd=source, dst_dir_fd=target)
                return
            os.unlink(source_name, dir_fd=source)
        finally:
            os.close(source)

    def is_same(self, one: bytes, other: bytes) -> bool:
        """Whether both names stand for one and the same file."""
        first, second = self.lstat(one), self.lstat(other)
        return first is not None and second is not None and os.path.samestat(first, second)

    def unlink(self, path: bytes) -> None:
        """Remove a file's or link's name."""
        folder, name = self._at(path)
        os.unlink(name, dir_fd=folder)

    def make_folder(self, path: bytes, mode: int | None = None) -> None:
        """Make a folder; its parent exists. Without a mode the umask decides."""
        folder, name = self._at(path)
        os.mkdir(name, 0o777, dir_fd=folder)
        if mode is not None:
            os.fchmod(self._folder(path), mode)

    def remove_folder(self, path: bytes) -> None:
        """Remove an empty folder."""
        folder, name = self._at(path)
        os.rmdir(name, dir_fd=folder)
        # A folder made later under the same name is another one.
        self._forget()

    def sync_folders(self, paths: Iterable[bytes]) -> None:
        """Make the names in folders durable; a folder that is gone needs none."""
        for path in sorted(paths):
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                os.fsync(self._folder(path))

    def sync_all(self, folders: Iterable[bytes]) -> bool:
        """Make all that was done in some folders durable at once; False when that cannot be done."""
        device = os.fstat(self._root_fd).st_dev
        for path in folders:
            # One call reaches one file system, and another one may be mounted below.
            with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                if os.fstat(self._folder(path)).st_dev != device:
                    return False
        return syncfs(os.fsencode(self.root))

    def _at(self, path: bytes) -> tuple[int, bytes]:
        """The open folder of a path, good until the next call, and the last part of its name."""
        check_path(path)
        folder, _, name = path.rpartition(b"/")
        return self._folder(folder), name

    def _folder(self, path: bytes) -> int:
        """An open folder; it belongs to this object and is closed by the next call for another one."""
        if not path:
            return self._root_fd
        if self._last is not None and self._last[0] == path:
            return self._last[1]
        check_path(path)
        fd = os.dup(self._root_fd)
        for name in path.split(b"/"):
            try:
                inner = os.open(name, _OPEN_FOLDER, dir_fd=fd)
            finally:
                os.close(fd)
            fd = inner
        self._forget()
        self._last = (path, fd)
        return fd

    def _forget(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            os.close(last[1])

    def _read_file(self, folder: int, name: bytes, path: bytes) -> bytes:
        # O_NONBLOCK: a FIFO put in the file's place must not hang us.
        fd = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
        try:
            before = os.fstat(fd)
            if not stat.S_ISREG(before.st_mode):
                raise _changing(path)
            parts = []
            while part := os.read(fd, _READ_SIZE_BYTES):
                parts.append(part)
            after = os.fstat(fd)
        finally:
            os.close(fd)
        data = b"".join(parts)
        if (before.st_mtime_ns, before.st_size) != (after.st_mtime_ns, after.st_size) or len(
            data
        ) != after.st_size:
            raise _changing(path)
        return data


def permissions_like(mode: int, *, executable: bool) -> int:
    """The permission bits of `mode`, with execution for whoever may read, or for nobody."""
    bits = stat.S_IMODE(mode) & 0o777
    if not executable:
        return bits & ~0o111
    return bits if bits & stat.S_IXUSR else bits | (bits & 0o444) >> 2


def _changing(path: bytes) -> DivergedError:
    return DivergedError("the file is being changed right now", id="AG0172", where=printable(path))
