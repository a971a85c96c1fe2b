r"""The agent's process in the recorder's loop, and the signals this process gets meanwhile.

Rules kept here:
- Ctrl-C and Ctrl-\ are for the agent to decide about; a termination or a hangup ends the run in good order.
- A supervisor that somebody stopped goes on at once: an agent could hang its own end with it.
- Handlers do nothing but wake the loop: no lock is ever held by a handler.
"""

from __future__ import annotations

import contextlib
import signal
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass

from agentgov.harness.process import AgentProcess

_TO_THE_AGENT = (signal.SIGINT, signal.SIGQUIT)
_TO_STOP = (signal.SIGTERM, signal.SIGHUP)


@dataclass
class Job:
    """The agent's process as the recorder wants it.

    Attributes:
        process: The process.
        code: Its exit code, once it has ended.
        ended: How many left-over processes were ended with it.
        left: How many could not be.
        lost: Its supervisor was killed; the exit code is not its own.
    """

    process: AgentProcess
    code: int = 0
    ended: int = 0
    left: int = 0
    lost: bool = False

    @property
    def supervisor_pid(self) -> int:
        """The ancestor of everything the agent starts."""
        return self.process.supervisor_pid

    @property
    def fd(self) -> int:
        """Readable when there is news."""
        return self.process.fd

    def handle(self) -> bool:
        """Take in the news; True once the agent has ended."""
        for event in self.process.poll_events():
            if event.kind == "stopped":
                self.process.suspend()
            elif event.kind == "exited":
                self.code, self.ended, self.left = event.code, event.ended, event.left
                self.lost = event.lost
                return True
        return False

    def terminate(self) -> None:
        """Ask the agent to end."""
        self.process.terminate()

    def signal(self, number: int) -> bool:
        """Pass a signal on; False when it means that the run is to end."""
        if number in _TO_THE_AGENT:
            self.process.forward(number)
            return True
        if number == signal.SIGCHLD:
            if self.process.has_stopped_supervisor():
                self.process.wake_supervisor()
            return True
        return number not in _TO_STOP


@contextlib.contextmanager
def signal_numbers() -> Iterator[int | None]:
    """A descriptor on which each signal's number arrives; None outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield None
        return
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    # What is ignored stays so: under nohup a hangup does not end the run.
    heard = [n for n in (*_TO_THE_AGENT, *_TO_STOP, signal.SIGCHLD) if signal.getsignal(n) != signal.SIG_IGN]
    before = {number: signal.signal(number, lambda *_: None) for number in heard}
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    try:
        yield ours.fileno()
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before.items():
            signal.signal(number, handler)
        ours.close()
        theirs.close()
