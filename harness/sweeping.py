"""Processes below a process, and ending all of them.

Rules kept here:

- Standard library only: the supervisor runs without site-packages and loads this file by its folder.
- A signal reaches exactly the process that was looked at, never a later one that got its number.
- Descendants are found by walking /proc; without it (macOS) none are found, and callers fall back to the
  group.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time

PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER, PR_GET_CHILD_SUBREAPER = 1, 4, 36, 37
IS_LINUX = sys.platform.startswith("linux")
KILL_WAIT_SECONDS = 10.0
_libc = ctypes.CDLL(None, use_errno=True)


def prctl(option: int, value: int) -> bool:
    """Set a process option (prctl(2)); False where the system has none or refuses."""
    if not IS_LINUX:
        return False
    return bool(_libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) == 0)


def is_subreaper() -> bool:
    """Whether orphans below this process become its children."""
    value = ctypes.c_int(0)
    return (
        IS_LINUX
        and _libc.prctl(PR_GET_CHILD_SUBREAPER, ctypes.byref(value), 0, 0, 0) == 0
        and value.value == 1
    )


class Proc:
    """One process as ``/proc/PID/stat`` shows it (proc(5)); `born` tells it from a later one with its id."""

    __slots__ = ("born", "group", "name", "parent", "pid", "state")

    def __init__(self, raw: bytes) -> None:
        # The name may hold spaces and parentheses: the fields that can be relied on follow the last ")".
        head, _, tail = raw.rpartition(b") ")
        pid, _, self.name = head.partition(b" (")
        fields = tail.split(b" ")
        self.pid = int(pid)
        self.state = fields[0].decode()
        self.parent = int(fields[1])
        self.group = int(fields[2])
        self.born = int(fields[19])


def read_proc(pid: int) -> Proc | None:
    """Read one process; None when there is none (any more)."""
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            return Proc(file.read())
    except (OSError, ValueError, IndexError):
        return None


def descendants(ancestor: int) -> list[Proc]:
    """List the living (not zombie) processes below `ancestor`; empty where there is no /proc."""
    try:
        with os.scandir("/proc") as entries:
            pids = [int(entry.name) for entry in entries if entry.name.isdigit()]
    except OSError:
        return []
    found = [proc for proc in map(read_proc, pids) if proc is not None]
    children: dict[int, list[Proc]] = {}
    for proc in found:
        children.setdefault(proc.parent, []).append(proc)
    below, todo = [], [ancestor]
    while todo:
        for proc in children.pop(todo.pop(), ()):
            todo.append(proc.pid)
            if proc.state not in "ZX":
                below.append(proc)
    return below


def send(proc: Proc, number: int) -> None:
    """Send a signal to exactly this process, never to a later one that got its number."""
    try:
        handle = os.pidfd_open(proc.pid)
    except ProcessLookupError:
        return
    except (OSError, AttributeError):
        handle = -1
    try:
        now = read_proc(proc.pid)
        if now is None or now.born != proc.born:
            return
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if handle < 0:
                os.kill(proc.pid, number)
            else:
                signal.pidfd_send_signal(handle, number)
    finally:
        if handle >= 0:
            os.close(handle)


def reap() -> None:
    """Collect the dead children of this process."""
    with contextlib.suppress(ChildProcessError):
        while os.waitpid(-1, os.WNOHANG)[0]:
            pass


class Sweep:
    """Ends everything below a process: stopped first, so that nothing forks away, then killed."""

    def __init__(self, ancestor: int, spared: frozenset[int] = frozenset()) -> None:
        self._ancestor = ancestor
        self._spared = spared
        self.seen: set[tuple[int, int]] = set()

    def living(self) -> list[Proc]:
        """The descendants that are still there."""
        found = [proc for proc in descendants(self._ancestor) if proc.pid not in self._spared]
        self.seen.update((proc.pid, proc.born) for proc in found)
        return found

    def tell(self, number: int) -> None:
        """Send one signal to each living descendant."""
        for proc in self.living():
            send(proc, number)

    def kill(self, wait_seconds: float = KILL_WAIT_SECONDS) -> int:
        """Freeze, kill, and wait until nothing is left. Collects no exit status: a zombie counts as gone.

        Returns:
            How many are left after `wait_seconds`: such as a process in an uninterruptible wait.
        """
        deadline = time.monotonic() + wait_seconds
        stopped: set[tuple[int, int]] = set()
        while time.monotonic() < deadline and (
            fresh := [proc for proc in self.living() if (proc.pid, proc.born) not in stopped]
        ):
            for proc in fresh:
                send(proc, signal.SIGSTOP)
                stopped.add((proc.pid, proc.born))
        while left := self.living():
            if time.monotonic() > deadline:
                return len(left)
            for proc in left:
                send(proc, signal.SIGKILL)
            time.sleep(0.002)
        return 0
