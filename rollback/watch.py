"""Which names changed below a folder: inotify(7), called through ctypes.

Rules:
- The queue is read by the caller when a snapshot is due: no thread, no debounce, no wait.
- A watch is set before its folder is listed, so that what appears in between is seen twice, never missed.
- When not everything can be watched (limits, overflow), it says so; it never pretends.

Not reported by the kernel: writes through a hard link from outside, stores into a mapping before it is
unmapped. A full reconcile finds them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import struct
import sys
from dataclasses import dataclass, field

_MODIFY, _ATTRIB, _CLOSE_WRITE = 0x2, 0x4, 0x8
_MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x40, 0x80, 0x100, 0x200
_Q_OVERFLOW, _IGNORED, _ISDIR = 0x4000, 0x8000, 0x40000000
_ONLYDIR, _DONT_FOLLOW, _EXCL_UNLINK = 0x01000000, 0x02000000, 0x04000000
_WANTED = _MODIFY | _ATTRIB | _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE
_EVENT = struct.Struct("iIII")
_BUFFER = 1 << 20


@dataclass(slots=True)
class Changes:
    """What one drain of the queue named.

    Attributes:
        names: Folder path -> names in it that changed; paths are relative, b"" is the root.
        overflow: Events were lost: only a full reconcile is right.
    """

    names: dict[bytes, set[bytes]] = field(default_factory=dict)
    overflow: bool = False


class Watcher:
    """Watches on folders that the scanner registers one by one.

    Attributes:
        fd: Readable when something changed (non-blocking).
        complete: Whether every folder given to `add` is watched.
    """

    def __init__(self, fd: int, libc: ctypes.CDLL) -> None:
        self.fd = fd
        self.complete = True
        self._libc = libc
        self._path_of: dict[int, bytes] = {}
        self._watch_of: dict[bytes, int] = {}

    @classmethod
    def open(cls) -> Watcher | None:
        """Return a watcher, or None where inotify does not exist or no instance is left."""
        if sys.platform != "linux":
            return None
        try:
            libc = ctypes.CDLL(None, use_errno=True)
            fd = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        except (OSError, AttributeError):
            return None
        return cls(fd, libc) if fd >= 0 else None

    def add(self, path: bytes, folder_fd: int) -> None:
        """Watch an open folder under the name `path`; again after a rename is right and cheap."""
        # Through the descriptor: a path could lead elsewhere by now if a parent was swapped for a link.
        target = b"/proc/self/fd/%d" % folder_fd
        watch = self._libc.inotify_add_watch(self.fd, target, _WANTED | _ONLYDIR | _EXCL_UNLINK)
        if watch < 0:
            # ENOSPC is the limit of watches; anything else too means that this folder is not seen.
            self.complete = False
            return
        old_watch = self._watch_of.get(path)
        if old_watch is not None and old_watch != watch:
            self._remove(old_watch)
        old_path = self._path_of.get(watch)
        if old_path is not None and old_path != path:
            self._watch_of.pop(old_path, None)
        self._path_of[watch] = path
        self._watch_of[path] = watch

    def forget(self, path: bytes) -> None:
        """Stop watching a folder that is gone, and everything below it."""
        below = path + b"/"
        for known in [p for p in self._watch_of if p == path or p.startswith(below)]:
            self._remove(self._watch_of[known])

    def retain(self, paths: set[bytes]) -> None:
        """Stop watching every folder that is not in `paths` (after a full scan)."""
        for known in self._watch_of.keys() - paths:
            self._remove(self._watch_of[known])

    def _remove(self, watch: int) -> None:
        path = self._path_of.pop(watch, None)
        if path is not None and self._watch_of.get(path) == watch:
            del self._watch_of[path]
        # EINVAL: the kernel dropped it with its folder.
        self._libc.inotify_rm_watch(self.fd, watch)

    def drain(self) -> Changes:
        """Read the whole queue without blocking."""
        changes = Changes()
        while True:
            try:
                raw = os.read(self.fd, _BUFFER)
            except BlockingIOError:
                return changes
            except InterruptedError:
                continue
            except OSError as error:
                if error.errno == errno.EINVAL:
                    changes.overflow = True
                    return changes
                raise
            self._collect(raw, changes)

    def _collect(self, raw: bytes, changes: Changes) -> None:
        at, names, size = 0, changes.names, _EVENT.size
        while at < len(raw):
            watch, mask, _, length = _EVENT.unpack_from(raw, at)
            at += size
            name = raw[at : at + length].rstrip(b"\0")
            at += length
            if mask & _Q_OVERFLOW:
                changes.overflow = True
                continue
            path = self._path_of.get(watch)
            if path is None:
                continue
            if mask & _IGNORED:
                del self._path_of[watch]
                if self._watch_of.get(path) == watch:
                    del self._watch_of[path]
            elif name:
                names.setdefault(path, set()).add(name)

    def close(self) -> None:
        """Release the descriptor and with it all watches."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
