"""The user's terminal while the agent has it: modes, descriptor flags, foreground group.

Rules kept here:

- Standard library only: the supervisor runs without site-packages and loads this file by its folder.
- Nothing is touched once somebody else (the user's shell) has the terminal in front.
- The caller has SIGTTOU ignored or blocked: otherwise a background process is stopped by these calls.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import termios

# Leave the alternate screen, show the cursor, end mouse, focus, paste and keyboard reports, plain text.
_LEAVE_SCREEN = (
    b"\x1b[?1047l\x1b[?25h\x1b[?1000l\x1b[?1002l\x1b[?1003l\x1b[?1006l\x1b[?1004l\x1b[?2004l"
    b"\x1b[<u\x1b[?1l\x1b>\x1b[0m"
)
Modes = list[int | list[bytes | int]]


def get_modes(tty: int) -> Modes | None:
    """The terminal's modes, None when the terminal is gone."""
    with contextlib.suppress(OSError, termios.error):
        return termios.tcgetattr(tty)
    return None


def set_modes(tty: int, modes: Modes | None) -> None:
    """Put modes back at once (waiting for the output to drain could wait for ever)."""
    if modes is not None:
        with contextlib.suppress(OSError, termios.error):
            termios.tcsetattr(tty, termios.TCSANOW, modes)


def foreground_group(tty: int) -> int:
    """The terminal's foreground group, -1 when it cannot be told."""
    with contextlib.suppress(OSError):
        return os.tcgetpgrp(tty)
    return -1


class Terminal:
    """The user's terminal while an agent of its own process group has it."""

    def __init__(self, tty: int, *, has_screen: bool) -> None:
        self.tty = tty
        self.has_screen = has_screen
        self.own_group = os.getpgrp()
        self.agent_group = -1
        self.user_modes = get_modes(tty)
        self.agent_modes: Modes | None = None
        # node leaves O_NONBLOCK on the shared descriptors; the user's shell would then read EAGAIN.
        self.flags = [(fd, fcntl.fcntl(fd, fcntl.F_GETFL)) for fd in (0, 1, 2) if os.isatty(fd)]

    def is_ours(self) -> bool:
        """Whether the user's shell has this job in the foreground."""
        return foreground_group(self.tty) in (self.own_group, self.agent_group)

    def waits_for_agent(self) -> bool:
        """Whether this job is in front, but the agent has not been given the terminal."""
        return foreground_group(self.tty) == self.own_group

    def give(self) -> None:
        """Hand the terminal to the agent, with the modes it had before it stopped."""
        set_modes(self.tty, self.agent_modes)
        with contextlib.suppress(OSError):
            os.tcsetpgrp(self.tty, self.agent_group)

    def restore_modes(self, *, leave_screen: bool) -> None:
        """Put the user's modes back, unless the shell has taken the terminal already."""
        if not self.is_ours():
            return
        self.agent_modes = get_modes(self.tty)
        if leave_screen and self.has_screen and self.user_modes != self.agent_modes:
            with contextlib.suppress(OSError):
                os.write(self.tty, _LEAVE_SCREEN)
        set_modes(self.tty, self.user_modes)
        for fd, flags in self.flags:
            with contextlib.suppress(OSError):
                fcntl.fcntl(fd, fcntl.F_SETFL, flags)

    def take_group(self) -> None:
        """Make this job's own group the foreground again, unless the shell is."""
        if self.is_ours():
            with contextlib.suppress(OSError):
                os.tcsetpgrp(self.tty, self.own_group)
