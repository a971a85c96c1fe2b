"""The agent as the recorder sees it: start it under its supervisor, hear what becomes of it, end it.

Use::

    agent = AgentProcess.start(argv, cwd=cwd, env=env, ownership=plan_ownership())
    selector.register(agent.fd, EVENT_READ)
    agent.handle()                    # when `fd` is readable; True: it ended, see `agent.ended`
    agent.terminate(grace_seconds)    # SIGTERM, later everything is killed; the end is told as always
    agent.forward(signal.SIGINT)      # a signal this process got and the agent should have
    agent.close()                     # always, in a `finally`; idempotent

Rules kept here:

- The agent is a grandchild: its parent is the supervisor. This process becomes a reaper too, so that nothing
  escapes when the supervisor itself is killed; it then ends what is left and the run counts as failed.
- Exit codes are decided where `exec` failed: 127 not found, 126 not executable, 128 + n for a signal, as env
  does.
- Without /proc and prctl (macOS) only the agent's process group can be ended; `ENDS_ALL` says so.
"""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Literal

from agentgov.catfile import running_pids
from agentgov.errors import ExitCode, RunFailedError
from agentgov.harness import sweeping
from agentgov.harness.foreground import foreground_group
from agentgov.harness.sweeping import Sweep, prctl
from agentgov.harness.terminal import Ownership, SavedTerminal, is_orphaned_group
from agentgov.memory import core_limit

ENDS_ALL = sweeping.IS_LINUX
_START_TIMEOUT_SECONDS = 60.0
SUPERVISOR = Path(__file__).resolve().with_name("supervisor.py")


class NotFoundError(RunFailedError):
    """AG0032: there is no such command."""

    exit_code = ExitCode.NOT_FOUND


class NotExecutableError(RunFailedError):
    """AG0033: the command is there, and cannot be executed."""

    exit_code = ExitCode.NOT_EXECUTABLE


@dataclass(frozen=True, slots=True)
class AgentEvent:
    """What became of the agent.

    Attributes:
        kind: `stopped` (Ctrl-Z: the terminal is the user's again), `continued`, or `exited`.
        code: For `exited`: the exit code to pass on (128 + n for signal n).
        signal: The signal that stopped or ended it, 0 for none.
        ended: For `exited`: how many leftover processes were ended.
        left: For `exited`: how many could not be ended.
        lost: For `exited`: the supervisor was killed; the exit code is not the agent's own.
    """

    kind: Literal["stopped", "continued", "exited"]
    code: int = 0
    signal: int = 0
    ended: int = 0
    left: int = 0
    lost: bool = False


def find_program(program: str, env: Mapping[str, str], cwd: Path) -> Path | None:
    """Find what would be executed, as execvp(3) looks it up; None when nothing can be."""
    if "/" in program:
        places = [cwd / program]
    else:
        places = [cwd / folder / program for folder in env.get("PATH", os.defpath).split(":") if folder]
    for place in places if program else ():
        if os.access(place, os.X_OK) and place.is_file():
            return place
    return None


class AgentProcess:
    """A started agent. Not thread-safe: one thread owns it."""

    def __init__(
        self,
        child: subprocess.Popen[bytes],
        channel: socket.socket,
        ownership: Ownership,
        saved: SavedTerminal | None,
    ) -> None:
        self._child = child
        self._channel = channel
        self._ownership = ownership
        self._saved = saved
        self._buffer = b""
        self._over = False
        self._closed = False
        self._was_subreaper = sweeping.is_subreaper()
        self.pid = 0
        self.ended: AgentEvent | None = None

    @classmethod
    def start(
        cls,
        argv: Sequence[str | bytes],
        *,
        cwd: Path,
        env: Mapping[str, str],
        ownership: Ownership,
        marks: Sequence[str] = (),
    ) -> AgentProcess:
        """Start the supervisor, and the agent under it.

        Args:
            argv: The command; looked up in `env`'s PATH.
            cwd: Where it starts.
            env: Its whole environment.
            ownership: See `terminal.plan_ownership`.
            marks: Words on the supervisor's command line, where the agent cannot change them (`state.marks`).

        Raises:
            NotFoundError: AG0032, exit 127.
            NotExecutableError: AG0033, exit 126.
            RunFailedError: AG0034, when the supervisor could not be started.
        """
        ours, theirs = socket.socketpair()
        saved = SavedTerminal.save() if ownership == "foreground" else None
        command = [sys.executable, "-I", "-S", str(SUPERVISOR), str(theirs.fileno()), *marks]
        try:
            child = subprocess.Popen(command, cwd=cwd, pass_fds=[theirs.fileno()])
        except OSError as error:
            ours.close()
            raise RunFailedError(
                f"the agent's supervisor could not be started: {error.strerror}", id="AG0034", where=str(cwd)
            ) from error
        finally:
            theirs.close()
        agent = cls(child, ours, ownership, saved)
        try:
            prctl(sweeping.PR_SET_CHILD_SUBREAPER, 1)
            agent._send_plan(argv, env)
            agent._wait_for_start(argv)
        except BaseException:
            agent.close()
            raise
        return agent

    def _send_plan(self, argv: Sequence[str | bytes], env: Mapping[str, str]) -> None:
        parts = [os.fsencode(word) for word in argv]
        parts += [os.fsencode(key) + b"=" + os.fsencode(value) for key, value in env.items()]
        if any(b"\x00" in part for part in parts):
            raise RunFailedError("the command or its environment holds a NUL byte", id="AG0034")
        flags = f"{int(self._ownership == 'foreground')} {int(self._ownership != 'shared')} {core_limit()}"
        head = f"{len(argv)} {len(env)} {flags}\n".encode()
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._channel.sendall(head + b"".join(part + b"\x00" for part in parts))

    def _wait_for_start(self, argv: Sequence[str | bytes]) -> None:
        self._channel.settimeout(_START_TIMEOUT_SECONDS)
        while b"\n" not in self._buffer:
            try:
                # Byte by byte: what follows the line must stay where a selector sees it.
                chunk = self._channel.recv(1)
            except OSError:
                chunk = b""
            if not chunk:
                raise RunFailedError("the agent's supervisor did not start the agent", id="AG0034")
            self._buffer += chunk
        self._channel.setblocking(False)
        line, _, self._buffer = self._buffer.partition(b"\n")
        word, _, number = line.partition(b" ")
        if word == b"started":
            self.pid = int(number)
            return
        name, reason = os.fsdecode(argv[0]), os.strerror(int(number))
        if int(number) == errno.ENOENT:
            raise NotFoundError(f"{name}: {reason}", id="AG0032", hint=f"command -v {name}")
        raise NotExecutableError(f"{name}: {reason}", id="AG0033")

    @property
    def fd(self) -> int:
        """Readable when `poll_events` has something to tell."""
        return self._channel.fileno()

    @property
    def supervisor_pid(self) -> int:
        """The ancestor of everything the agent starts."""
        return self._child.pid

    def poll_events(self) -> list[AgentEvent]:
        """Return what happened since the last call; never blocks while the supervisor lives.

        When the supervisor was killed, everything it left is ended first, and `exited` says `lost`.
        """
        if self._over:
            return []
        alive = True
        try:
            while chunk := self._channel.recv(4096):
                self._buffer += chunk
            alive = False
        except BlockingIOError:
            pass
        except OSError:
            alive = False
        *lines, self._buffer = self._buffer.split(b"\n")
        events = [self._parse(line) for line in lines]
        if any(event.kind == "exited" for event in events):
            self._over = True
        elif not alive:
            events.append(self._supervisor_died())
        return events

    def _parse(self, line: bytes) -> AgentEvent:
        word, *numbers = line.split(b" ")
        if word == b"exited":
            code, by_signal, ended, left = map(int, numbers)
            return AgentEvent("exited", code, by_signal, ended, left)
        if word == b"stopped":
            return AgentEvent("stopped", signal=int(numbers[0]))
        return AgentEvent("continued")

    def _supervisor_died(self) -> AgentEvent:
        self._over = True
        self._child.wait()
        # By number, never by name or group: a process of the agent's can have any.
        sweep = Sweep(os.getpid(), running_pids())
        left = sweep.kill() if ENDS_ALL else self._kill_group()
        if self._saved is not None:
            self._saved.restore(agent_group=self.pid)
        return AgentEvent("exited", 128 + signal.SIGKILL, signal.SIGKILL, len(sweep.seen), left, lost=True)

    def _kill_group(self) -> int:
        with contextlib.suppress(OSError):
            os.killpg(self.pid, signal.SIGKILL)
        return 0

    def handle(self) -> bool:
        """Take in the news, and follow the user's Ctrl-Z; True once the agent has ended (see `ended`).

        For a loop that holds no lock when it calls this.
        """
        for event in self.poll_events():
            if event.kind == "stopped":
                self.suspend()
            elif event.kind == "exited":
                self.ended = event
        return self.ended is not None

    def suspend(self) -> None:
        """After `stopped`: stop this job as the shell expects, and let the agent go on when it is continued.

        Call it when no lock is held: this process does not run in between. Where nobody could continue the
        job, or there is no terminal to give back, it returns at once.
        """
        if self._ownership != "foreground":
            return
        if self._saved is not None and foreground_group(self._saved.fd) == self.pid:
            # The user was quicker: the job is in front again, and the agent has been continued.
            return
        orphaned = is_orphaned_group() or signal.getsignal(signal.SIGTSTP) == signal.SIG_IGN
        if not orphaned:
            before = signal.getsignal(signal.SIGTSTP)
            in_main = threading.current_thread() is threading.main_thread()
            if in_main:
                signal.signal(signal.SIGTSTP, signal.SIG_DFL)
            # The whole group, as Ctrl-Z would: the shell waits for all of the job's processes.
            os.kill(0, signal.SIGTSTP)
            if in_main and before is not None:
                signal.signal(signal.SIGTSTP, before)
        self._tell(f"resume {int(orphaned)}")

    def signal(self, number: int) -> None:
        """Send a signal to the agent's process group (to the agent alone where it shares ours)."""
        self._tell(f"signal {int(number)}")

    def forward(self, number: int) -> None:
        """Pass on a signal that this process received.

        In a shared group the terminal already gave SIGINT and SIGQUIT to the agent: it is not told twice.
        """
        if self._ownership == "shared" and number in (signal.SIGINT, signal.SIGQUIT):
            return
        self.signal(number)

    def terminate(self, grace_seconds: float = 5.0) -> None:
        """Ask the agent to end; after the grace everything below the supervisor is killed."""
        self.wake_supervisor()
        self._tell(f"terminate {int(grace_seconds * 1000)}")

    def wake_supervisor(self) -> None:
        """Let a stopped supervisor go on: nothing but SIGSTOP stops it, and the agent can send that."""
        with contextlib.suppress(OSError):
            self._child.send_signal(signal.SIGCONT)

    def has_stopped_supervisor(self) -> bool:
        """Tell, once for each time, that the supervisor was stopped; it never stops by itself."""
        try:
            told = os.waitid(os.P_PID, self._child.pid, os.WSTOPPED | os.WNOHANG)
        except ChildProcessError:
            return False
        return told is not None

    def _tell(self, line: str) -> None:
        # A supervisor that is gone is noticed, and dealt with, by poll_events.
        with contextlib.suppress(OSError):
            self._channel.sendall(line.encode() + b"\n")

    def close(self) -> None:
        """Hang up and wait: the supervisor ends what still runs and restores the terminal. Idempotent."""
        if self._closed:
            return
        self._closed = True
        self._channel.close()
        self._child.wait()
        if not self._over and self._saved is not None:
            self._saved.restore(agent_group=self.pid)
        if not self._was_subreaper:
            prctl(sweeping.PR_SET_CHILD_SUBREAPER, 0)

    def __enter__(self) -> AgentProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
