"""Errors of the file system, said plainly: a full disk and a read-only folder are not a broken record."""

from __future__ import annotations

import contextlib
import errno
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from agentgov.errors import AgentgovError

_HINTS: Final = {
    errno.ENOSPC: "df -h .",
    errno.EDQUOT: "quota -s",
    errno.EROFS: "mount | grep ' ro'",
    errno.EACCES: "ls -ld .git .git/agentgov",
    errno.EPERM: "ls -ld .git .git/agentgov",
}


@contextlib.contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn an `OSError` into an error of ours.

    Raises:
        AgentgovError: AG0226, when the file system refuses; nothing was recorded then.
    """
    try:
        yield
    except OSError as error:
        reason = error.strerror or type(error).__name__
        raise AgentgovError(
            f"the record cannot be read or written: {reason}",
            id="AG0226",
            where=str(error.filename or path),
            hint=_HINTS.get(error.errno or 0, ()),
        ) from error
