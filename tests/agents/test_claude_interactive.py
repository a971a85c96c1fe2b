"""The real Claude Code on a terminal of its own (a pseudo-terminal), under the record."""

from __future__ import annotations

import fcntl
import json
import os
import pty
import select
import struct
import sys
import termios
import time
from pathlib import Path

import pytest

from agentgov.layout import StateHome
from tests.agents.test_claude import ALLOW, CLAUDE, agent_env, bash
from tests.conftest import MakeRepo
from tests.model_server import ModelServer, Turn
from tests.support.running import Record

pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CLAUDE is None, reason="claude is not installed (make test-agents installs it)"),
]
ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from pathlib import Path
from agentgov.harness.terminal import plan_ownership
from agentgov.layout import StateHome
from tests.support.running import run
repo, state, *argv = sys.argv[1:]
outcome = run(Path(repo), StateHome(Path(state)), argv, interactive=True, ownership=plan_ownership())
print("OUTCOME", outcome.exit_code, outcome.state, outcome.calls, outcome.info.place, flush=True)
"""


class Screen:
    """A terminal with somebody at it."""

    def __init__(self, fd: int) -> None:
        self.fd = fd
        self.seen = b""

    def wait_for(self, text: bytes, seconds: float = 40) -> None:
        deadline = time.monotonic() + seconds
        while text not in self.seen.replace(b"\x1b[1C", b" "):
            if time.monotonic() > deadline:
                raise AssertionError(f"{text!r} did not come: {self.seen[-3000:]!r}")
            if select.select([self.fd], [], [], 0.2)[0]:
                try:
                    self.seen += os.read(self.fd, 65536)
                except OSError:
                    raise AssertionError(f"the terminal is gone: {self.seen[-3000:]!r}") from None

    def type(self, text: bytes) -> None:
        os.write(self.fd, text)


def test_an_interactive_session_works_in_place_and_gives_the_terminal_back(
    make_repo: MakeRepo, state: StateHome, home: Path
) -> None:
    repo = make_repo(files={"a.txt": "one\n"})
    config = home / "claude" / ".claude.json"
    config.parent.mkdir()
    trusted = {"hasTrustDialogAccepted": True, "hasCompletedProjectOnboarding": True}
    config.write_text(
        json.dumps(
            {
                "hasCompletedOnboarding": True,
                "theme": "dark",
                "customApiKeyResponses": {"approved": ["sk-ant-test"], "rejected": []},
                "projects": {str(repo): trusted},
            }
        )
    )
    turns = [Turn(calls=[bash("echo typed > typed.txt")]), Turn("ALLDONEHERE")]
    with ModelServer({"KEYMAIN": turns}) as server:
        pid, fd = pty.fork()
        if pid == 0:
            try:
                os.chdir(ROOT)
                env = agent_env(home, server, TERM="xterm-256color")
                argv = ["claude", "--settings", json.dumps(ALLOW)]
                command = [sys.executable, "-c", DRIVER, str(repo), str(state.root), *argv]
                os.execve(sys.executable, command, env)
            finally:
                os._exit(99)
        fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        modes = termios.tcgetattr(fd)
        screen = Screen(fd)
        screen.wait_for(b"/effort")
        time.sleep(1)
        screen.type(b"KEYMAIN go")
        screen.wait_for(b"KEYMAIN", 20)
        screen.type(b"\r")
        screen.wait_for(b"ALLDONEHERE")
        screen.type(b"/exit")
        time.sleep(0.5)
        screen.type(b"\r")
        screen.wait_for(b"OUTCOME 0 finished 1 in-place")
        after = termios.tcgetattr(fd)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        os.close(fd)
    assert after[:4] == modes[:4]
    (seen,) = Record(repo, state).runs.values()
    assert [call.status for call in seen.calls.values()] == ["ok"]
    assert (repo / "typed.txt").read_text() == "typed\n"
