"""What an agent could change to have its calls go unrecorded: looked at for as long as the run lasts.

Rules kept here:
- It is noticed, not prevented: all of this belongs to the same user. The run then fails, and the agent is
  ended.
- A look costs an lstat per file; a file is read again only when its lstat differs.
- Files are read without following links or waiting for anybody.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

from agentgov.errors import BrokenRecordError
from agentgov.files import read_own_file

Guard = Callable[[], str | None]
_MAX_BYTES = 16 * 1024 * 1024


def lstat_key(path: Path) -> tuple[int, ...] | None:
    """Return what differs when a file was replaced or written to; None when there is none."""
    try:
        status = path.lstat()
    except (OSError, ValueError):
        return None
    # Not ctime: a chmod of the whole tree is no reason to end a run.
    return status.st_dev, status.st_ino, status.st_mode & 0o170000, status.st_size, status.st_mtime_ns


def read_quietly(path: Path) -> bytes | None:
    """Return a file's content; None when it cannot be had."""
    try:
        return read_own_file(path, max_bytes=_MAX_BYTES)
    except (OSError, BrokenRecordError):
        return None


class Unchanged:
    """Guards files whose content must stay what it was when this was made."""

    def __init__(self, paths: Iterable[Path]) -> None:
        self._files = {path: (lstat_key(path), read_quietly(path)) for path in paths}

    def __call__(self) -> str | None:
        """Say what changed."""
        for path, (key, content) in self._files.items():
            now = lstat_key(path)
            if now == key:
                continue
            if content is None or read_quietly(path) != content:
                return f"{path.name}, which the agent's hooks need, was changed or removed"
            self._files[path] = (now, content)
        return None


class SameSocket:
    """Guards the name of a socket: whoever has it hears the agent's hooks."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._before = self._look()

    def _look(self) -> tuple[int, int] | None:
        try:
            status = os.lstat(self._path)
        except OSError:
            return None
        return status.st_dev, status.st_ino

    def __call__(self) -> str | None:
        """Say that it was replaced or removed."""
        return None if self._look() == self._before else "the recorder's socket was replaced or removed"


def first_problem(guards: Iterable[Guard]) -> str | None:
    """Return what the first guard that has something to say says."""
    return next((said for guard in guards if (said := guard()) is not None), None)
