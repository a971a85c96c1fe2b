"""Real pseudo-terminals for tests: a program, or an interactive shell, with somebody typing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time
from collections.abc import Callable
from pathlib import Path

WAIT_SECONDS = 60.0


def wait_until(what: Callable[[], bool], why: str) -> None:
    deadline = time.monotonic() + WAIT_SECONDS
    while not what():
        if time.monotonic() > deadline:
            raise AssertionError(f"waited in vain until {why}")
        time.sleep(0.02)


def is_running(pid: int) -> bool:
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False
    return raw.rpartition(b") ")[2][:1] not in b"ZX"


class Screen:
    """A program on a terminal of its own, as leader of a session."""

    def __init__(self, argv: list[str], env: dict[str, str], cwd: Path) -> None:
        self.seen = b""
        self._from = 0
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            try:
                os.chdir(cwd)
                os.execvpe(argv[0], argv, env)
            finally:
                os._exit(99)
        self.resize(24, 80)

    def resize(self, rows: int, columns: int) -> None:
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def type(self, text: str) -> None:
        os.write(self.fd, text.encode())

    def _read(self, seconds: float) -> bool:
        if not select.select([self.fd], [], [], seconds)[0]:
            return True
        try:
            chunk = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += chunk
        return bool(chunk)

    def expect(self, pattern: str) -> re.Match[bytes]:
        """Wait for the next match in the output."""
        deadline = time.monotonic() + WAIT_SECONDS
        alive = True
        while True:
            found = re.compile(pattern.encode()).search(self.seen, self._from)
            if found:
                self._from = found.end()
                return found
            if not alive or time.monotonic() > deadline:
                raise AssertionError(f"{pattern!r} did not come; since then: {self.seen[self._from :]!r}")
            alive = self._read(0.1)

    def wait(self) -> int:
        """Wait for the program's end; its exit status as the shell would show it."""
        deadline = time.monotonic() + WAIT_SECONDS
        while time.monotonic() < deadline:
            self._read(0.05)
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.pid = 0
                return os.waitstatus_to_exitcode(status)
        raise AssertionError("the program did not end")

    def close(self) -> None:
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


class Shell(Screen):
    """An interactive bash with job control."""

    def __init__(self, env: dict[str, str], cwd: Path) -> None:
        super().__init__(["bash", "--norc", "--noprofile", "-i"], {**env, "PS1": "PROMPT:"}, cwd)
        self.expect("PROMPT:")

    def run(self, command: str) -> None:
        self.type(command + "\n")

    def ask(self, command: str) -> str:
        """Run a command that ends, and return what it printed."""
        self.run(f"{command}; echo do''ne")
        self.expect(r"echo do''ne\r\n")
        start = self._from
        found = self.expect(r"done\r\n")
        return self.seen[start : found.start()].decode()
