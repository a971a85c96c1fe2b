"""Reading one file of a tree that somebody else is writing to.

Rules: relative to an open folder, never through a link; never blocking (FIFOs, leases); with read(), never
mmap; a file that changes while it is read is read again, a few times, and then said to be changing.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Container, Iterator
from typing import NamedTuple

from agentgov.rollback.nodes import signature
from agentgov.rollback.objects import ObjectStore

_TRIES = 3
_STREAM_FROM = 16 << 20
_CHUNK = 4 << 20
_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Captured(NamedTuple):
    """The stored content of a file or link.

    Attributes:
        st: The stat it was read under.
        oid: The blob.
        stable: False when it changed during every try: the content is then one that it passed through.
    """

    st: os.stat_result
    oid: str
    stable: bool


def capture(
    folder_fd: int, name: bytes, st: os.stat_result, store: ObjectStore, known: Container[str]
) -> Captured | None:
    """Store the content of a regular file or a link.

    Args:
        folder_fd: The open folder.
        name: The file's name in it.
        st: Its lstat of a moment ago.
        store: Where the blob goes.
        known: Ids that need no copy.

    Returns:
        The capture, or None when it is neither file nor link any longer.

    Raises:
        OSError: It is gone, or cannot be read.
    """
    for attempt in range(_TRIES):
        last = attempt == _TRIES - 1
        if stat.S_ISLNK(st.st_mode):
            target = _read_link(folder_fd, name)
            after = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
            if target is not None and (last or signature(after) == signature(st)):
                return Captured(st, store.write(b"blob", target, known), signature(after) == signature(st))
            st = after
        elif stat.S_ISREG(st.st_mode):
            done = _capture_file(folder_fd, name, store, known, last)
            if done is not None:
                return done
            st = os.stat(name, dir_fd=folder_fd, follow_symlinks=False)
        else:
            return None
    return None


def _read_link(folder_fd: int, name: bytes) -> bytes | None:
    try:
        return os.readlink(name, dir_fd=folder_fd)
    except OSError as error:
        # No link any more (readlink(2)): the caller looks again.
        if error.errno != errno.EINVAL:
            raise
        return None


def _capture_file(
    folder_fd: int, name: bytes, store: ObjectStore, known: Container[str], last: bool
) -> Captured | None:
    try:
        fd = os.open(name, _FLAGS, dir_fd=folder_fd)
    except OSError as error:
        # A link or a special file in its place, if only for a moment: the caller looks again.
        is_there = stat.S_ISREG(os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode)
        if is_there and error.errno not in (errno.ELOOP, errno.ENXIO):
            raise
        return None
    try:
        before = os.fstat(fd)
        if not stat.S_ISREG(before.st_mode):
            return None
        if before.st_size >= _STREAM_FROM:
            oid = store.write_stream(_chunks(fd, before.st_size), before.st_size, known)
            stable = oid is not None and signature(os.fstat(fd)) == signature(before)
            return Captured(before, oid, stable) if oid is not None and (stable or last) else None
        data = _read_all(fd, before.st_size)
        stable = len(data) == before.st_size and signature(os.fstat(fd)) == signature(before)
        if not stable and not last:
            return None
        return Captured(before, store.write(b"blob", data, known), stable)
    finally:
        os.close(fd)


def _read_all(fd: int, size_bytes: int) -> bytes:
    # One byte more than expected: the end is seen in the same call, and so is growth.
    data = os.read(fd, size_bytes + 1)
    if len(data) == size_bytes:
        return data
    parts = [data]
    while parts[-1] and sum(map(len, parts)) <= _STREAM_FROM:
        parts.append(os.read(fd, _CHUNK))
    return b"".join(parts)


def _chunks(fd: int, size_bytes: int) -> Iterator[bytes]:
    left = size_bytes
    while left > 0:
        chunk = os.read(fd, min(left, _CHUNK))
        if not chunk:
            return
        left -= len(chunk)
        yield chunk
