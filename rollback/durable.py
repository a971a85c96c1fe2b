"""Getting many small files onto the disk: one by one, or a whole file system at once.

Rules: a call returns only when the data is durable, or says that it could not do it this way. Temporary files
have a prefix that `git prune` removes in time, so a crash leaves no litter for ever.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Collection
from functools import cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

_SYNC_FILE_RANGE_WRITE = 2
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
_FLUSHES_AT_ONCE = 16


class TemporaryFiles:
    """Makes temporary files in one folder, some of them ahead of time.

    On a busy file system the creation of a file is the dearest part of writing it (ext4 passes over inodes
    that were freed in the last minutes): `fill` moves it to a moment when nobody waits.
    """

    def __init__(self, folder: bytes) -> None:
        self._folder = folder
        self._ready: list[tuple[int, bytes]] = []
        self._counter = 0
        self._pid = os.getpid()

    def take(self) -> tuple[int, bytes]:
        """Return a new, empty file as (descriptor, path); both belong to the caller."""
        return self._ready.pop() if self._ready else self._make()

    def fill(self, count: int) -> None:
        """Have `count` files ready."""
        while len(self._ready) < count:
            self._ready.append(self._make())

    def _make(self) -> tuple[int, bytes]:
        self._counter += 1
        path = b"%s/tmp_obj_%d_%d_%d" % (self._folder, self._pid, id(self), self._counter)
        return os.open(path, _NEW_FILE, 0o444), path

    def close(self) -> None:
        """Remove the files that were not taken."""
        while self._ready:
            fd, path = self._ready.pop()
            os.close(fd)
            os.unlink(path)  # noqa: PTH108 (a path in bytes)


def fsync_path(path: bytes) -> None:
    """Flush one file or folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def fsync_paths(paths: Collection[bytes]) -> None:
    """Flush some files or folders, all at once.

    A journaling file system makes one commit, and one flush of the disk's cache, of what several threads ask
    for at the same time; one after the other, each waits for its own.

    Raises:
        OSError: One of them could not be flushed; none is being flushed any more.
    """
    if len(paths) < 2:
        for path in paths:
            fsync_path(path)
        return
    pool = _flushers(os.getpid())
    errors = [future.exception() for future in [pool.submit(fsync_path, path) for path in paths]]
    for error in errors:
        if error is not None:
            raise error


@cache
def _flushers(pid: int) -> ThreadPoolExecutor:
    """Threads for one process: a fork does not inherit them."""
    from concurrent.futures import ThreadPoolExecutor

    return ThreadPoolExecutor(_FLUSHES_AT_ONCE, thread_name_prefix=f"flush-{pid}")


def _load_libc() -> ctypes.CDLL | None:
    try:
        return ctypes.CDLL(None, use_errno=True)
    except OSError:
        return None


_LIBC = _load_libc()


def syncfs(path: bytes) -> bool:
    """Flush the file system that holds `path` (syncfs(2)); False when the platform cannot."""
    call = getattr(_LIBC, "syncfs", None)
    if call is None:
        return False
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return bool(call(fd) == 0)
    finally:
        os.close(fd)


def start_writeback(fd: int) -> None:
    """Let the kernel begin to write a file (sync_file_range(2)); a hint, not a promise.

    Given early to every file of a batch, so that the first fsync's commit covers the others too.
    """
    call = getattr(_LIBC, "sync_file_range", None)
    if call is not None:
        call(fd, ctypes.c_int64(0), ctypes.c_int64(0), _SYNC_FILE_RANGE_WRITE)
