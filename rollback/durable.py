"""Getting many small files onto the disk: one by one, or a whole file system at once.

Rules: a call returns only when the data is durable, or says that it could not do it this way.
"""

from __future__ import annotations

import ctypes
import os

_SYNC_FILE_RANGE_WRITE = 2


def fsync_path(path: bytes) -> None:
    """Flush one file or folder."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


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
