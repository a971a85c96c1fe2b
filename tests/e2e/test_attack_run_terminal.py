"""An agent that leaves the terminal in a state that no person could work with."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.terminals import Shell

MINI = Path(__file__).parents[1] / "support" / "mini_recorder.py"


@pytest.fixture
def shell(tmp_path: Path) -> Iterator[Shell]:
    (tmp_path / "mini").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{MINI}" "$@"\n')
    (tmp_path / "mini").chmod(0o755)
    made = Shell(
        {
            "PATH": f"{tmp_path}:{os.environ['PATH']}",
            "HOME": os.environ["HOME"],
            "TERM": "xterm",
            "MINI_LOG": str(tmp_path / "log"),
            "LC_ALL": "C.UTF-8",
        },
        tmp_path,
    )
    yield made
    made.close()


@pytest.mark.parametrize("code", [0, 3])
def test_the_alternate_screen_and_the_mouse_are_left_after_an_ordinary_exit_too(
    shell: Shell, code: int
) -> None:
    shell.run(
        f"mini sh -c 'stty raw -echo; printf \"\\033[?1049h\\033[?1003h\"; exit {code}'; echo co''de=$?"
    )
    shell.expect(r"\x1b\[\?1003h")
    shell.expect(r"\x1b\[\?1047l")
    shell.expect(r"\x1b\[\?1003l")
    shell.expect(f"code={code}")
    assert "icanon" in shell.ask("stty -a").split()


def test_an_agent_that_closes_and_hangs_up_its_terminal_leaves_it_usable(shell: Shell) -> None:
    body = (
        "import fcntl, os, signal, termios; signal.signal(signal.SIGTTOU, signal.SIG_IGN); "
        "os.set_blocking(0, False); os.tcsetpgrp(0, os.getpgid(os.getppid())); "
        "modes = termios.tcgetattr(0); modes[3] = 0; termios.tcsetattr(0, termios.TCSANOW, modes); "
        "os.closerange(0, 99); os.kill(os.getpid(), signal.SIGSEGV)"
    )
    shell.run(f"mini '{sys.executable}' -I -c \"{body}\"; echo co''de=$?")
    shell.expect("code=139")
    assert {"icanon", "echo", "isig"} <= set(shell.ask("stty -a").split())
    shell.run("read x; echo go''t:$x")
    shell.type("typed\n")
    shell.expect("got:typed")
