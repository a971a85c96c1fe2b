"""Keeping other processes of the same user out of this one's memory, where private keys lie.

Rules kept here:

- A process that is not dumpable (prctl(2), PR_SET_DUMPABLE) cannot be attached to, its `/proc/PID/mem` and
  `environ` cannot be read by the same user, and it leaves no core file. A core limit of 0 says the last also
  where there is no prctl, as on macOS. Root is not kept out.
- It is done before a key is read or made, and never taken back.
- A program started from here is dumpable again. The soft core limit is inherited; `core_limit` is what it
  was, for the agent, whose limits are the user's affair.
"""

from __future__ import annotations

import contextlib
import ctypes
import resource
import sys
from typing import Final

PR_GET_DUMPABLE: Final = 3
PR_SET_DUMPABLE: Final = 4
_before: int | None = None
_is_guarded = False


def guard_memory() -> bool:
    """Close this process's memory to others of the same user, once.

    Returns:
        Whether the system holds to it; False where there is no prctl, or it refuses.
    """
    global _before, _is_guarded
    if _before is None:
        _before, hard = resource.getrlimit(resource.RLIMIT_CORE)
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, hard))
    if not _is_guarded and sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None, use_errno=True)
        _is_guarded = bool(libc.prctl(PR_SET_DUMPABLE, ctypes.c_ulong(0), 0, 0, 0) == 0)
    return _is_guarded


def core_limit() -> int:
    """Return the soft core limit that this process was started with; -1 is no limit."""
    return resource.getrlimit(resource.RLIMIT_CORE)[0] if _before is None else _before
