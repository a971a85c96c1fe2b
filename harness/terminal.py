"""Who owns the user's terminal during a run, and the second line of defence for its modes.

Rules kept here:

- The agent gets the terminal (a process group of its own, in the foreground) only when both standard input
  and standard output are that terminal: in `agentgov run -- cmd | less` the pager must keep its keys.
- In a pipeline the agent shares this process's group: Ctrl-C, Ctrl-Z and reads from the terminal then work
  as they would without us.
- Modes are put back only while this job still is in the foreground: afterwards they are the shell's.
- Nothing here stops this process with SIGTTOU: it is blocked around each change.
"""

from __future__ import annotations

import contextlib
import os
import signal
import termios
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from agentgov.harness.foreground import Modes, foreground_group, get_modes, set_modes
from agentgov.harness.sweeping import read_proc

Ownership = Literal["foreground", "shared", "none"]


@contextlib.contextmanager
def unstoppable() -> Iterator[None]:
    """Let a background process change the terminal without being stopped for it (tcsetattr(3))."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTTOU])
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def is_controlling_terminal(fd: int) -> bool:
    """Whether `fd` is the terminal that controls this process's session."""
    return os.isatty(fd) and foreground_group(fd) >= 0


def plan_ownership(stdin: int = 0, stdout: int = 1) -> Ownership:
    """Decide who owns the terminal during the run.

    Returns:
        "foreground": the agent gets it, at once or as soon as this job is brought to the front. "shared": it
            stays in
        this process's group, because the terminal is only at one end of a pipeline. "none": there is no
        terminal to care for; the agent gets a group of its own.
    """
    ends = [is_controlling_terminal(fd) for fd in (stdin, stdout)]
    if all(ends):
        return "foreground"
    return "shared" if any(ends) else "none"


def is_interactive(stdin: int = 0, stdout: int = 1) -> bool:
    """Whether a person can work with a full-screen agent here."""
    return os.isatty(stdin) and os.isatty(stdout)


def is_orphaned_group() -> bool:
    """Whether nobody outside this process group could continue it once it is stopped (POSIX: orphaned group).

    The kernel does not stop such a group, so the caller must not wait for a SIGCONT.
    """
    group, session = os.getpgrp(), os.getsid(0)
    pid = os.getppid()
    try:
        while pid > 0 and os.getpgid(pid) == group:
            proc = read_proc(pid)
            if proc is None:
                return True
            pid = proc.parent
        return pid <= 0 or os.getsid(pid) != session
    except OSError:
        return True


@dataclass(slots=True)
class SavedTerminal:
    """The user's modes as they were before the run.

    The supervisor restores them in every ordinary case; this is for the case that the supervisor itself was
    killed.
    """

    fd: int
    modes: Modes | None
    group: int

    @classmethod
    def save(cls, fd: int = 0) -> SavedTerminal | None:
        """Remember the modes; None when there is no terminal."""
        if not is_controlling_terminal(fd):
            return None
        return cls(fd, get_modes(fd), os.getpgrp())

    def restore(self, *, agent_group: int) -> None:
        """Put modes and foreground group back if the agent's group still has the terminal."""
        if foreground_group(self.fd) not in (self.group, agent_group):
            return
        with unstoppable():
            set_modes(self.fd, self.modes)
            with contextlib.suppress(OSError, termios.error):
                os.tcsetpgrp(self.fd, self.group)
