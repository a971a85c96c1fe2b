"""A disk that fails, a process that dies, a power cut: at the step of one's choice.

A step is a system call that this program makes on its files, or a whole git command.
"""

from __future__ import annotations

import errno
import fcntl
import os
import random
import stat
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

from agentgov.gitcall import Git

CHANGES = (
    "write",
    "pwrite",
    "fdatasync",
    "fsync",
    "ftruncate",
    "open",
    "replace",
    "rename",
    "unlink",
    "mkdir",
)
READS = ("pread", "lseek", "listdir", "fstat", "lstat")
PAGE_BYTES = 4096


class Crash(BaseException):
    """The process is gone: from here on none of its steps happens."""


@dataclass
class Faults:
    """Counts steps; from the chosen one on every step crashes, or that one alone fails.

    Attributes:
        at: Which step, from 1.
        crash: Whether the process is gone from there on.
        after: Whether the chosen step happens, a write by half, before the crash.
        code: What the disk says when the chosen step alone fails.
        count: How many steps there were.
    """

    at: int
    crash: bool
    after: bool = False
    code: int = errno.ENOSPC
    count: int = 0

    def wrap(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def step(*args: Any, **options: Any) -> Any:
            self.count += 1
            if self.count < self.at or (self.count > self.at and not self.crash):
                return real(*args, **options)
            if self.count == self.at and self.after:
                if name in ("write", "pwrite"):
                    args = (args[0], bytes(args[1])[: (len(args[1]) + 1) // 2], *args[2:])
                real(*args, **options)
            if self.crash:
                raise Crash
            raise OSError(self.code, os.strerror(self.code))

        return step


@contextmanager
def faults(
    at: int, *, crash: bool, after: bool = False, code: int = errno.ENOSPC, reads: bool = False
) -> Iterator[Faults]:
    """Let the steps within count, and the chosen one fail."""
    made = Faults(at, crash=crash, after=after, code=code)
    with pytest.MonkeyPatch.context() as patch:
        for name in CHANGES + (READS if reads else ()):
            patch.setattr(os, name, made.wrap(name, getattr(os, name)))
        flock, lock = fcntl.flock, made.wrap("flock", fcntl.flock)
        # Giving a lock back cannot fail, and happens in any case when the process is gone.
        patch.setattr(fcntl, "flock", lambda fd, how: (lock if how & fcntl.LOCK_EX else flock)(fd, how))
        patch.setattr(Git, "run", made.wrap("git", Git.run))
        yield made


@contextmanager
def short_writes(most_bytes: int) -> Iterator[None]:
    """Let every write take only so much at once, as a file system may."""
    write, pwrite = os.write, os.pwrite
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:most_bytes])))
        patch.setattr(os, "pwrite", lambda fd, data, place: pwrite(fd, bytes(data[:most_bytes]), place))
        yield


def in_child(work: Callable[[], None]) -> int:
    """Run something in a process of its own; return its exit code, below 0 for a signal."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


class Disk:
    """What a power cut leaves of some folders: what was synced, and of the rest whatever the disk likes.

    A file's content is safe up to its last sync; of later writes each page may be there or not, and the size
    be the old or the new one. A name is safe once its folder was synced; each later change may be there or
    not. What git writes counts as safe when its command has ended, because it is told to sync.
    """

    def __init__(self, *folders: Path) -> None:
        self._folders = folders
        self._content: dict[int, bytes] = {}
        # Held open: the number of an inode that is gone would be given to a new file.
        self._held: dict[int, IO[bytes]] = {}
        self._names: dict[Path, dict[str, int]] = {}

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Take notice of every sync within; what is there now is safe."""
        for folder in self._all_folders():
            self._save_folder(folder)
            for name in self._names[folder]:
                self._save_file(folder / name)
        real = {name: getattr(os, name) for name in ("fsync", "fdatasync")}

        def sync(name: str) -> Callable[[int], None]:
            def synced(fd: int) -> None:
                real[name](fd)
                path = Path(f"/proc/self/fd/{fd}")
                if stat.S_ISDIR(path.stat().st_mode):
                    self._save_folder(path.resolve())
                else:
                    self._save_file(path)

            return synced

        with pytest.MonkeyPatch.context() as patch:
            for name in real:
                patch.setattr(os, name, sync(name))
            yield

    def cut(self, rng: random.Random) -> None:
        """Make the folders what the disk holds when the power comes back."""
        for file in self._held.values():
            file.close()
        for folder in self._all_folders():
            now = _files_in(folder)
            safe = self._names.get(folder, {})
            for name in sorted(now.keys() | safe.keys()):
                kept = rng.choice((now.get(name), safe.get(name)))
                here = (folder / name).read_bytes() if name in now else b""
                if name in now:
                    (folder / name).unlink()
                if kept is not None:
                    there = here if kept == now.get(name) else self._content[kept]
                    (folder / name).write_bytes(_mixed(self._content.get(kept, b""), there, rng))
                    (folder / name).chmod(0o600)

    def _all_folders(self) -> list[Path]:
        found = []
        for root in self._folders:
            if root.is_dir():
                found += [Path(folder).resolve() for folder, _, _ in os.walk(root)]
        return found

    def _save_folder(self, folder: Path) -> None:
        self._names[folder] = _files_in(folder)

    def _save_file(self, path: Path) -> None:
        inode = path.stat().st_ino
        self._content[inode] = path.read_bytes()
        if inode not in self._held:
            self._held[inode] = path.open("rb")


def _files_in(folder: Path) -> dict[str, int]:
    return {path.name: path.stat().st_ino for path in folder.iterdir() if path.is_file()}


def _mixed(safe: bytes, new: bytes, rng: random.Random) -> bytes:
    """Content between the last sync and now: pages of both, and one of the two sizes."""
    if safe == new:
        return safe
    size = rng.choice((len(safe), len(new)))
    out = bytearray(size)
    for place in range(0, size, PAGE_BYTES):
        source = rng.choice((safe, new))
        page = source[place : place + PAGE_BYTES][: size - place]
        out[place : place + len(page)] = page
    return bytes(out)
