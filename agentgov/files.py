"""Files that survive a crash, folders that nobody else reads, and the lock that is never replaced.

Rules: a file is replaced whole or not at all, and is on disk when the function returns; a lock is `flock` on
a file that is never renamed or removed, because a lock on a replaced file is held by nobody; a private folder
belongs to this user and is not a link; what agentgov keeps is read from regular files only, because whoever
may write beside them may put a link, a device or a FIFO that nobody writes to in their place.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import stat
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType

from agentgov.errors import AgentgovError, BrokenRecordError, ConflictError

MACHINE_ID_PATHS = (Path("/etc/machine-id"), Path("/var/lib/dbus/machine-id"))
MAX_OWN_FILE_BYTES = 2**30
_FIRST_WAIT_SECONDS = 0.001
_LONGEST_WAIT_SECONDS = 0.05


def fsync_dir(path: Path) -> None:
    """Make the names in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_atomic(path: Path, data: bytes, *, mode: int = 0o600) -> None:
    """Replace `path` by `data`: after a crash it is the old file or the new one, never a part.

    The data and the name are on disk when this returns.
    """
    with _temporary(path, mode) as (fd, temporary):
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]
        os.fsync(fd)
        temporary.replace(path)
    fsync_dir(path.parent)


@contextlib.contextmanager
def _temporary(path: Path, mode: int) -> Iterator[tuple[int, Path]]:
    """An open new file beside `path`; removed again when the body fails."""
    temporary = path.parent / f".{path.name}.{os.getpid()}.{os.urandom(6).hex()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, mode)
    try:
        os.fchmod(fd, mode)
        yield fd, temporary
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(fd)


def open_own_file(path: Path, *, max_bytes: int = MAX_OWN_FILE_BYTES) -> int:
    """Open a file of agentgov's own for reading, and return its descriptor.

    Raises:
        FileNotFoundError: There is none.
        OSError: It cannot be opened.
        BrokenRecordError: AG0021, when it is a link, a folder, a device, or larger than `max_bytes`.
    """
    try:
        # Without O_NONBLOCK, opening a FIFO would wait for a writer for ever.
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            raise _not_own(path) from error
        raise
    status = os.fstat(fd)
    if not stat.S_ISREG(status.st_mode) or status.st_size > max_bytes:
        os.close(fd)
        raise _not_own(path)
    return fd


def read_own_file(path: Path, *, max_bytes: int = MAX_OWN_FILE_BYTES) -> bytes:
    """Return the content of a file of agentgov's own; raises as `open_own_file`."""
    with os.fdopen(open_own_file(path, max_bytes=max_bytes), "rb") as file:
        return file.read()


def _not_own(path: Path) -> BrokenRecordError:
    return BrokenRecordError(
        "this must be a file that agentgov wrote, and is a link, a folder, a device, or far too large",
        id="AG0021",
        where=str(path),
        hint=f"ls -ld {path}",
    )


def open_private_dir(path: Path) -> Path:
    """Create `path` and its missing parents with mode 0700, and check that it is ours.

    Returns:
        `path`, for chaining.

    Raises:
        AgentgovError: AG0004, when it is a link, no folder, or another user's.
    """
    missing: list[Path] = []
    folder = path
    while not os.path.lexists(folder):
        missing.append(folder)
        folder = folder.parent
    for folder in reversed(missing):
        # Another process may have been quicker; the check below decides.
        with contextlib.suppress(FileExistsError):
            folder.mkdir(mode=0o700)
    check_private_dir(path)
    if stat.S_IMODE(path.lstat().st_mode) & 0o077:
        path.chmod(0o700)
    return path


def check_private_dir(path: Path) -> None:
    """Check that `path` is a folder of this user's, not a link to one.

    Raises:
        AgentgovError: AG0004, when it is not.
    """
    status = path.lstat()
    if not stat.S_ISDIR(status.st_mode) or status.st_uid != os.geteuid():
        raise AgentgovError(
            "this must be a folder of your own, and is a link, a file or another user's",
            id="AG0004",
            where=str(path),
            hint=f"ls -ld {path}",
        )


class FileLock:
    """An exclusive lock between processes and threads; the file stays where it is for ever.

    One object may be acquired again after it was released, but not twice at once.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    @property
    def held(self) -> bool:
        """Whether this object holds the lock now."""
        return self._fd is not None

    def acquire(self, timeout_seconds: float | None = None) -> None:
        """Take the lock; without a timeout wait for ever, with 0 do not wait.

        Raises:
            ConflictError: AG0005, when somebody else held it for the whole time.
        """
        if self._fd is not None:
            raise ConflictError(
                "this lock is already held by the same object", id="AG0005", where=str(self._path)
            )
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        try:
            self._wait(fd, timeout_seconds)
        except BaseException:
            os.close(fd)
            raise
        self._fd = fd

    def _wait(self, fd: int, timeout_seconds: float | None) -> None:
        if timeout_seconds is None:
            fcntl.flock(fd, fcntl.LOCK_EX)
            return
        deadline = time.monotonic() + timeout_seconds
        pause_seconds = _FIRST_WAIT_SECONDS
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                left_seconds = deadline - time.monotonic()
                if left_seconds <= 0:
                    raise ConflictError(
                        f"another process still holds the lock after {timeout_seconds:g} s",
                        id="AG0005",
                        where=str(self._path),
                        hint="wait for the other command to end, then try again",
                    ) from None
                time.sleep(min(pause_seconds, left_seconds))
                pause_seconds = min(2 * pause_seconds, _LONGEST_WAIT_SECONDS)
            else:
                return

    def release(self) -> None:
        """Give the lock back; nothing happens when it is not held."""
        fd, self._fd = self._fd, None
        if fd is not None:
            # An explicit unlock also frees it when a forked child still holds a copy of the descriptor.
            fcntl.flock(fd, fcntl.LOCK_UN)
            os.close(fd)

    def __enter__(self) -> FileLock:
        if self._fd is None:
            self.acquire()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()


@contextlib.contextmanager
def held_for_reading(path: Path) -> Iterator[None]:
    """Hold a lock while reading, also where nothing can be written; without its file there is no writer.

    Raises:
        OSError: The file cannot be opened.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except FileNotFoundError:
        yield
        return
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def machine_id(paths: Sequence[Path] = MACHINE_ID_PATHS) -> str:
    """Return 64 hex characters that differ between machines and do not tell which machine it is.

    The first readable file counts. Where there is none (a bare container), all such machines share one id:
    the device and inode of the repository then carry the binding alone.
    """
    for path in paths:
        try:
            raw_id = path.read_bytes().strip()
        except OSError:
            continue
        if raw_id:
            # machine-id(5): applications must not show the id itself, and hash it with their own name.
            return hashlib.sha256(b"agentgov/machine/v1\x00" + raw_id).hexdigest()
    return hashlib.sha256(b"agentgov/machine/v1\x00").hexdigest()
