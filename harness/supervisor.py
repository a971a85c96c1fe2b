"""The process between the recorder and the agent: it starts the agent, and nothing of the agent outlives it.

Run as ``python -I -S supervisor.py FD [WORD...]`` with one end of a socket pair to the recorder; the words
are for others to read. Rules kept here:

- Standard library only, and of this package only the two files beside it: it must start without
  site-packages and keep going when the recorder is gone.
- It is the reaper of everything the agent leaves behind (``PR_SET_CHILD_SUBREAPER``), so a daemon that
  forked twice or started a session of its own still is a descendant, and is ended.
- The recorder's death (end of file on the socket) ends every descendant at once; the agent's exit ends the
  leftover ones, politely first.
- The terminal's modes and foreground group are those of before whenever the agent does not run, and terminal
  settings are not touched once somebody else has taken the terminal back.
- Signals from the terminal are ignored here: the recorder and the agent decide what they mean.

Recorder to supervisor: ``<argc> <envc> <foreground> <own group>``, then argv and the environment, each
NUL-ended; after that the lines ``resume <orphan>``, ``signal <number>``, ``terminate <grace in ms>``.
Supervisor to recorder: lines ``failed <errno>``, ``started <pid>``, ``stopped <signal>``, ``continued``,
``exited <code> <signal> <ended> <left>``.
"""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import select
import signal
import socket
import sys
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING or __package__:
    from agentgov.harness.foreground import Terminal
    from agentgov.harness.sweeping import (
        IS_LINUX,
        PR_SET_CHILD_SUBREAPER,
        PR_SET_DUMPABLE,
        PR_SET_PDEATHSIG,
        Sweep,
        descendants,
        prctl,
        reap,
    )
else:
    # Run as a file, isolated: the folder is named for these two imports only.
    sys.path.insert(0, os.path.dirname(__file__))  # noqa: PTH120 - pathlib costs more than the rest
    from foreground import Terminal
    from sweeping import (
        IS_LINUX,
        PR_SET_CHILD_SUBREAPER,
        PR_SET_DUMPABLE,
        PR_SET_PDEATHSIG,
        Sweep,
        descendants,
        prctl,
        reap,
    )

    del sys.path[0]

SETTLE_SECONDS = 0.25
TERM_GRACE_SECONDS = 2.0
_TERMINAL = (signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU)
_QUIET = (*_TERMINAL, signal.SIGTERM, signal.SIGHUP)
_DEFAULTS = (*_TERMINAL, signal.SIGTERM, signal.SIGCHLD, signal.SIGCONT, signal.SIGPIPE, signal.SIGXFSZ)


class Plan:
    """What to start: the recorder's first message."""

    def __init__(self, parts: list[bytes], head: list[int]) -> None:
        argc, _, foreground, own_group, self.core_limit = head
        self.argv = parts[:argc]
        self.env = dict(pair.partition(b"=")[::2] for pair in parts[argc:])
        self.foreground, self.own_group = foreground == 1, own_group == 1
        self.keeps_hangup_ignored = False


class Link:
    """The line protocol to the recorder."""

    def __init__(self, channel: socket.socket) -> None:
        self.channel = channel
        self._buffer = b""

    def read_plan(self) -> Plan | None:
        """Read the first message; None when the recorder died before it was sent."""
        while b"\n" not in self._buffer:
            if not self._more():
                return None
        head, _, self._buffer = self._buffer.partition(b"\n")
        numbers = [int(number) for number in head.split(b" ")]
        while self._buffer.count(b"\x00") < numbers[0] + numbers[1]:
            if not self._more():
                return None
        *parts, self._buffer = self._buffer.split(b"\x00", numbers[0] + numbers[1])
        return Plan(parts, numbers)

    def _more(self) -> bool:
        try:
            chunk = self.channel.recv(1 << 16)
        except OSError:
            return False
        self._buffer += chunk
        return bool(chunk)

    def read_lines(self) -> list[list[bytes]] | None:
        """Read what is there; None when the recorder is gone."""
        alive = self._more()
        *lines, self._buffer = self._buffer.split(b"\n")
        return [line.split(b" ") for line in lines] if alive else None

    def tell(self, *words: object) -> None:
        """Send one line; a recorder that is gone is noticed when reading."""
        with contextlib.suppress(OSError):
            self.channel.sendall(" ".join(map(str, words)).encode() + b"\n")


def execute(plan: Plan) -> int:
    """Replace this process by the agent's command, looked up as execvp(3) does; the errno when that fails."""
    program = plan.argv[0]
    path = plan.env.get(b"PATH", os.defpath.encode())
    places = (
        [program] if b"/" in program else [folder + b"/" + program for folder in path.split(b":") if folder]
    )
    worst = errno.ENOENT
    for place in places if program else ():
        try:
            os.execve(place, plan.argv, plan.env)  # noqa: S606
        except OSError as error:
            if error.errno == errno.ENOEXEC:
                # A script without "#!": execvp(3) hands it to the shell.
                with contextlib.suppress(OSError):
                    os.execve("/bin/sh", [b"/bin/sh", place, *plan.argv[1:]], plan.env)  # noqa: S606
            if error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error.errno or errno.EACCES
    return worst


def start_agent(plan: Plan, terminal: Terminal | None, supervisor: int) -> tuple[int, int]:
    """Fork and execute.

    Returns:
        The agent's process id and 0, or 0 and the errno of the failed execution.
    """
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        failure = errno.EACCES
        try:
            # The second line: only the direct child gets it, when the supervisor itself is killed.
            prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
            if os.getppid() != supervisor:
                os._exit(125)
            if plan.own_group:
                os.setpgid(0, 0)
            if terminal is not None and terminal.agent_group == 0:
                terminal.agent_group = os.getpgrp()
                terminal.give()
            for number in _DEFAULTS:
                signal.signal(number, signal.SIG_DFL)
            if not plan.keeps_hangup_ignored:
                signal.signal(signal.SIGHUP, signal.SIG_DFL)
            signal.pthread_sigmask(signal.SIG_SETMASK, [])
            with contextlib.suppress(ValueError, OSError):
                # The recorder leaves no core file; whether the agent does is for its user to say.
                limits = (plan.core_limit, resource.getrlimit(resource.RLIMIT_CORE)[1])
                resource.setrlimit(resource.RLIMIT_CORE, limits)
            failure = execute(plan)
        finally:
            os.write(writer, str(failure).encode())
            os._exit(127)
    os.close(writer)
    if plan.own_group:
        # Both sides do it: whoever is first, neither acts on a group that is not there yet.
        with contextlib.suppress(OSError):
            os.setpgid(pid, pid)
    with os.fdopen(reader, "rb") as file:
        raw_failure = file.read()
    if raw_failure:
        os.waitpid(pid, 0)
        return 0, int(raw_failure)
    return pid, 0


class Supervisor:
    """The loop: children, the recorder's lines, and deadlines."""

    def __init__(self, link: Link, plan: Plan) -> None:
        self.link = link
        self.plan = plan
        self.terminal: Terminal | None = None
        self.agent = 0
        self.stopped_by = 0
        self.kill_at: float | None = None
        self.wake, wake_writer = os.pipe()
        for fd in (self.wake, wake_writer):
            os.set_blocking(fd, False)
        signal.set_wakeup_fd(wake_writer, warn_on_full_buffer=False)
        for number in (signal.SIGCHLD, signal.SIGCONT):
            signal.signal(number, self._on_signal)
        self.came_to_front = False

    def _on_signal(self, number: int, frame: object) -> None:
        del frame
        if number == signal.SIGCONT:
            self.came_to_front = True

    def run(self) -> None:
        """Start the agent and stay until nothing of it is left."""
        if self.plan.foreground:
            with contextlib.suppress(OSError):
                tty = os.open("/dev/tty", os.O_RDWR | os.O_CLOEXEC | os.O_NOCTTY)
                self.terminal = Terminal(tty, has_screen=self.plan.env.get(b"TERM", b"dumb") != b"dumb")
        if self.terminal is not None and self.terminal.waits_for_agent():
            self.terminal.agent_group = 0
        self.agent, failure = start_agent(self.plan, self.terminal, os.getpid())
        if self.terminal is not None:
            self.terminal.agent_group = self.agent or -1
        if failure:
            if self.terminal is not None:
                # The group of the child that failed is gone; nobody else can have taken the terminal yet.
                with contextlib.suppress(OSError):
                    os.tcsetpgrp(self.terminal.tty, self.terminal.own_group)
            self.link.tell("failed", failure)
            return
        self.link.tell("started", self.agent)
        poller = select.poll()
        poller.register(self.wake, select.POLLIN)
        poller.register(self.link.channel, select.POLLIN)
        while True:
            wait_ms = (
                None if self.kill_at is None else max(0, int((self.kill_at - time.monotonic()) * 1000) + 1)
            )
            ready = {fd for fd, _ in poller.poll(wait_ms)}
            if self.wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self.wake, 4096)
            if self._children():
                return
            if self.link.channel.fileno() in ready:
                lines = self.link.read_lines()
                if lines is None:
                    self._recorder_died()
                    return
                for line in lines:
                    self._obey(line)
            if self.came_to_front:
                self.came_to_front = False
                self._after_continue()
            if self.kill_at is not None and time.monotonic() >= self.kill_at:
                self.kill_at = None
                self._kill_all()

    def _kill_all(self) -> int:
        if IS_LINUX:
            return Sweep(os.getpid()).kill()
        self._signal_agent(signal.SIGKILL)
        return 0

    def _signal_agent(self, number: int) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            if self.plan.own_group:
                os.killpg(self.agent, number)
            else:
                os.kill(self.agent, number)

    def _to_front(self) -> bool:
        """Give the agent the terminal if the user's shell has this job in front."""
        if self.terminal is None or not self.terminal.waits_for_agent():
            return False
        self.terminal.give()
        return True

    def _after_continue(self) -> None:
        """The shell continued this job: bring the agent to the front, unless the recorder will say so."""
        if self.stopped_by in (0, signal.SIGTTIN, signal.SIGTTOU) and self._to_front() and self.stopped_by:
            self.stopped_by = 0
            self._signal_agent(signal.SIGCONT)

    def _obey(self, line: list[bytes]) -> None:
        if line[0] == b"signal":
            self._signal_agent(int(line[1]))
        elif line[0] == b"terminate":
            self._signal_agent(signal.SIGTERM)
            self._signal_agent(signal.SIGCONT)
            self.kill_at = time.monotonic() + int(line[1]) / 1000
        elif line[0] == b"resume":
            in_front = self._to_front()
            if not in_front and line[1] == b"1" and self.stopped_by in (signal.SIGTTIN, signal.SIGTTOU):
                # Nobody could ever continue it: an orphaned group gets SIGHUP then (setpgid(2)).
                self._signal_agent(signal.SIGHUP)
            self.stopped_by = 0
            self._signal_agent(signal.SIGCONT)

    def _children(self) -> bool:
        """Look at every child that changed; True when the agent is gone and all is told."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED)
            except ChildProcessError:
                return False
            if pid == 0:
                return False
            if pid != self.agent:
                continue
            if os.WIFSTOPPED(status):
                self._agent_stopped(os.WSTOPSIG(status))
            elif os.WIFCONTINUED(status):
                self.stopped_by = 0
                self.link.tell("continued")
            else:
                self._agent_ended(status)
                return True

    def _agent_stopped(self, number: int) -> None:
        if number in (signal.SIGTTIN, signal.SIGTTOU) and self._to_front():
            # The shell brought a running background job to the front: it sends nothing then.
            self._signal_agent(signal.SIGCONT)
            return
        self.stopped_by = number
        if self.terminal is not None:
            self.terminal.restore_modes(leave_screen=False)
            self.terminal.take_group()
        self.link.tell("stopped", number)

    def _agent_ended(self, status: int) -> None:
        by_signal = os.WTERMSIG(status) if os.WIFSIGNALED(status) else 0
        code = 128 + by_signal if by_signal else os.WEXITSTATUS(status)
        if self.terminal is not None:
            # Who left other modes behind did not leave the screen either, whatever the exit code says.
            self.terminal.restore_modes(leave_screen=True)
            self.terminal.take_group()
        ended, left = self._end_leftovers()
        self.link.tell("exited", code, by_signal, ended, left)

    def _end_leftovers(self) -> tuple[int, int]:
        """End what the agent left behind; how many there were, and how many could not be ended."""
        if not IS_LINUX:
            self._signal_agent(signal.SIGTERM)
            return 0, 0
        sweep = Sweep(os.getpid())
        # A child that is just finishing its output is no leftover.
        if self._wait_for_none(SETTLE_SECONDS):
            return 0, 0
        for number in (signal.SIGTERM, signal.SIGCONT):
            sweep.tell(number)
        self._wait_for_none(TERM_GRACE_SECONDS)
        left = sweep.kill()
        return len(sweep.seen), left

    def _wait_for_none(self, seconds: float) -> bool:
        deadline = time.monotonic() + seconds
        while True:
            reap()
            if not descendants(os.getpid()):
                return True
            if time.monotonic() >= deadline or self._recorder_is_gone():
                return False
            time.sleep(0.01)

    def _recorder_is_gone(self) -> bool:
        with contextlib.suppress(OSError):
            return self.link.channel.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
        return False

    def _recorder_died(self) -> None:
        if self.terminal is not None:
            # At once, before the shell has the terminal back and sets modes of its own.
            self.terminal.restore_modes(leave_screen=True)
        self._kill_all()
        if self.terminal is not None:
            self.terminal.take_group()


def main(argv: list[str]) -> int:
    """Run the supervisor on the descriptor that the recorder left open for it."""
    # Under nohup the agent ignores it as well, as it would without us.
    hangup_ignored = signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    for number in _QUIET:
        signal.signal(number, signal.SIG_IGN)
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    # An agent could stop this process and then kill the recorder: its death lets this one go on.
    prctl(PR_SET_PDEATHSIG, signal.SIGCONT)
    # A process of the same user could otherwise read the agent's environment here, or take this one over.
    prctl(PR_SET_DUMPABLE, 0)
    link = Link(socket.socket(fileno=int(argv[1])))
    link.channel.set_inheritable(False)
    plan = link.read_plan()
    if plan is not None:
        plan.keeps_hangup_ignored = hangup_ignored
        Supervisor(link, plan).run()
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
