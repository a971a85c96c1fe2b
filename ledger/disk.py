"""Errors of the file system, said plainly: a full disk and a read-only folder are not a broken record."""

from __future__ import annotations

import errno
from pathlib import Path
from types import TracebackType
from typing import Final

from agentgov.errors import AgentgovError

_HINTS: Final = {
    errno.ENOSPC: "df -h .",
    errno.EDQUOT: "quota -s",
    errno.EFBIG: "ulimit -f",
    errno.EROFS: "mount | grep ' ro'",
    errno.EACCES: "ls -ld .git .git/agentgov",
    errno.EPERM: "ls -ld .git .git/agentgov",
}


class DiskErrors:
    """A context in which an `OSError` becomes an error of ours; nothing was recorded then.

    Args:
        path: What is named where the error names no file.

    Raises:
        AgentgovError: AG0226, when the file system refuses.
    """

    __slots__ = ("_path",)

    def __init__(self, path: Path) -> None:
        self._path = path

    def __enter__(self) -> None:
        pass

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, OSError):
            reason = error.strerror or type(error).__name__
            raise AgentgovError(
                f"the record cannot be read or written: {reason}",
                id="AG0226",
                where=str(error.filename or self._path),
                hint=_HINTS.get(error.errno or 0, ()),
            ) from error
