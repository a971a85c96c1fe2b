"""The terminal is passed through, and is the user's again whenever the agent does not run."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.terminals import Screen, Shell, is_running, wait_until

MINI = Path(__file__).parents[1] / "support" / "mini_recorder.py"


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "log"


@pytest.fixture
def env(log: Path, tmp_path: Path) -> dict[str, str]:
    (tmp_path / "mini").write_text(f'#!/bin/sh\nexec "{sys.executable}" "{MINI}" "$@"\n')
    (tmp_path / "mini").chmod(0o755)
    return {
        "PATH": f"{tmp_path}:{os.environ['PATH']}",
        "HOME": os.environ["HOME"],
        "TERM": "xterm",
        "MINI_LOG": str(log),
        "LC_ALL": "C.UTF-8",
    }


@pytest.fixture
def shell(env: dict[str, str], tmp_path: Path) -> Iterator[Shell]:
    made = Shell(env, tmp_path)
    yield made
    made.close()


def words(log: Path, first: str) -> list[str]:
    wait_until(lambda: log.exists() and f"{first} " in log.read_text(), f"the log says {first}")
    return next(line.split() for line in log.read_text().splitlines() if line.startswith(first))


def test_modes_the_agent_left_behind_are_undone_and_its_code_is_passed_on(shell: Shell) -> None:
    shell.run("mini sh -c 'stty raw -echo; exit 7'; echo code=$?")
    shell.expect("code=7")
    assert "icanon" in (modes := shell.ask("stty -a").split())
    assert "echo" in modes


def test_ctrl_c_is_the_agents(shell: Shell, log: Path) -> None:
    shell.run("mini sh -c 'trap \"echo GOT-IT; exit 3\" INT; echo REA''DY; while :; do sleep 0.1; done'")
    shell.expect("READY")
    shell.type("\x03")
    shell.expect("GOT-IT\r\n")
    # bash itself stops the list when its job was interrupted: only what comes back from the agent counts.
    assert words(log, "ended")[1] == "3"
    shell.ask("true")


def test_ctrl_z_gives_the_terminal_back_and_fg_returns_it(shell: Shell) -> None:
    shell.run("mini sh -c 'stty -echo; echo REA''DY; read x; echo \"re\"ad:$x; stty -a'; echo code=$?")
    shell.expect("READY\r\n")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.expect("PROMPT:")
    assert "echo" in shell.ask("stty -a").split()
    assert "Stopped" in shell.ask("jobs")
    shell.run("fg")
    shell.expect(r"mini sh -c.*\r\n")
    shell.type("abc\n")
    shell.expect("read:abc\r\n")
    shell.expect(r"-echo\s")
    shell.expect("PROMPT:")
    assert "echo" in shell.ask("stty -a").split()


def test_a_job_stopped_twice_can_go_on_in_the_background(shell: Shell, tmp_path: Path, log: Path) -> None:
    # Not dash: it starts programs by vfork, and no shell sees it as stopped when that happens in this moment.
    shell.run("mini bash -c 'echo REA''DY; while [ ! -e stop ]; do sleep 0.05; done; echo E''ND'")
    shell.expect("READY\r\n")
    group = int(words(log, "started")[3])
    for _ in range(2):
        shell.type("\x1a")
        shell.expect(r"Stopped.*\r\n")
        shell.run("fg")
        shell.expect(r"mini bash -c.*\r\n")
        # The agent, not only the job, must be in front before the next key.
        wait_until(lambda: os.tcgetpgrp(shell.fd) == group, "the agent has the terminal")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.run("bg")
    shell.expect("PROMPT:")
    assert "Running" in shell.ask("jobs")
    (tmp_path / "stop").touch()
    shell.expect("END\r\n")


def test_a_background_agent_that_reads_stops_and_goes_on_in_the_foreground(shell: Shell) -> None:
    shell.run("mini sh -c 'read x; echo \"go\"t:$x' &")
    shell.expect("PROMPT:")
    wait_until(lambda: "Stopped" in shell.ask("jobs"), "the job is stopped by its read")
    shell.run("fg")
    shell.expect(r"mini sh -c.*\r\n")
    shell.type("typed\n")
    shell.expect("got:typed\r\n")


def test_a_running_background_job_is_brought_to_the_front(shell: Shell, tmp_path: Path) -> None:
    shell.run("mini sh -c 'while [ ! -e go ]; do sleep 0.05; done; read x; echo \"go\"t:$x' &")
    shell.expect("PROMPT:")
    shell.run("fg")
    shell.expect(r"mini sh -c.*\r\n")
    (tmp_path / "go").touch()
    shell.type("typed\n")
    shell.expect("got:typed\r\n")


def test_a_resize_is_seen_by_the_agent(shell: Shell) -> None:
    shell.run("mini bash -c 'trap \"stty size\" WINCH; echo REA''DY; while :; do sleep 0.1; done'")
    shell.expect("READY\r\n")
    shell.resize(33, 111)
    shell.expect("33 111")
    shell.type("\x03")


def test_in_a_pipeline_the_agent_reads_the_terminal_and_the_pager_keeps_it(shell: Shell) -> None:
    shell.run("mini sh -c 'read x; echo \"go\"t:$x' | sh -c 'cat; read y </dev/tty; echo \"pa\"ger:$y'")
    shell.expect(r"pa.ger.*\r\n")
    shell.type("one\n")
    shell.expect("got:one")
    shell.type("two\n")
    shell.expect("pager:two")


def test_kill_9_of_the_recorder_ends_everything_and_restores_the_terminal(
    shell: Shell, log: Path, tmp_path: Path
) -> None:
    daemon = "setsid sh -c 'echo $$ > daemon; trap \"\" TERM HUP INT; while :; do sleep 1; done'"
    (tmp_path / "agent.sh").write_text(f"({daemon} &)\nstty raw -echo\necho READY\nsleep 1000\n")
    shell.run("mini sh agent.sh")
    shell.expect("READY")
    wait_until(
        lambda: (tmp_path / "daemon").exists() and (tmp_path / "daemon").read_text() != "", "it has a pid"
    )
    pids = [int(word) for word in words(log, "started")[1:4]]
    os.kill(pids[0], signal.SIGKILL)
    pids.append(int((tmp_path / "daemon").read_text()))
    wait_until(lambda: not any(map(is_running, pids)), f"{pids} are gone")
    shell.expect("PROMPT:")
    assert "icanon" in (modes := shell.ask("stty -a").split())
    assert "echo" in modes


def test_the_screen_is_left_when_the_agent_is_killed(shell: Shell, log: Path) -> None:
    shell.run("mini sh -c 'stty raw; echo REA''DY; sleep 1000'")
    shell.expect("READY")
    os.kill(int(words(log, "started")[3]), signal.SIGKILL)
    shell.expect(r"\x1b\[\?25h")
    shell.expect("PROMPT:")
    assert words(log, "ended")[1:3] == ["137", "9"]


def test_without_a_shell_ctrl_z_does_not_hang_the_run(env: dict[str, str], tmp_path: Path, log: Path) -> None:
    screen = Screen(
        ["mini", "bash", "-c", "trap 'echo GOES-ON; exit 5' CONT; echo READY; while :; do sleep 0.1; done"],
        env,
        tmp_path,
    )
    try:
        screen.expect("READY\r\n")
        screen.type("\x1a")
        screen.expect("GOES-ON")
        assert screen.wait() == 5
    finally:
        screen.close()


def test_a_hangup_ends_the_agent(env: dict[str, str], tmp_path: Path, log: Path) -> None:
    screen = Screen(["mini", "sh", "-c", "echo READY; sleep 1000"], env, tmp_path)
    screen.expect("READY\r\n")
    pids = [int(word) for word in words(log, "started")[1:4]]
    os.close(screen.fd)
    wait_until(lambda: not any(map(is_running, pids)), f"{pids} are gone")
    os.waitpid(screen.pid, 0)


def test_kill_9_of_a_stopped_recorder_ends_the_stopped_agent(shell: Shell, log: Path) -> None:
    shell.run("mini bash -c 'echo REA''DY; read x'")
    shell.expect("READY\r\n")
    shell.type("\x1a")
    shell.expect("Stopped")
    shell.expect("PROMPT:")
    pids = [int(word) for word in words(log, "started")[1:4]]
    os.kill(pids[0], signal.SIGKILL)
    wait_until(lambda: not any(map(is_running, pids)), f"{pids} are gone")
    assert "echo" in shell.ask("stty -a").split()


def test_kill_9_of_the_supervisor_restores_the_terminal(shell: Shell, log: Path) -> None:
    shell.run("mini sh -c 'stty raw -echo; echo REA''DY; sleep 1000'; echo code=$?")
    shell.expect("READY")
    pids = [int(word) for word in words(log, "started")[1:4]]
    os.kill(pids[1], signal.SIGKILL)
    shell.expect("code=137")
    assert not is_running(pids[2])
    modes = shell.ask("stty -a").split()
    assert "icanon" in modes
    assert "echo" in modes


def test_an_agent_that_stops_itself_gives_the_terminal_back(shell: Shell, tmp_path: Path) -> None:
    # As Claude does: the terminal's own signals are off, the key is read, and the program stops itself.
    (tmp_path / "agent.py").write_text(
        "import os, signal, termios\n"
        "modes = termios.tcgetattr(0)\n"
        "modes[3] &= ~(termios.ISIG | termios.ICANON)\n"
        "termios.tcsetattr(0, termios.TCSANOW, modes)\n"
        "os.write(1, b'READY\\n')\n"
        "os.write(1, b'key:%r\\n' % os.read(0, 1))\n"
        "os.kill(os.getpid(), signal.SIGSTOP)\n"
        "os.write(1, b'back:%d\\n' % (termios.tcgetattr(0)[3] & termios.ISIG))\n"
    )
    shell.run(f"mini '{sys.executable}' -I agent.py")
    shell.expect("READY\r\n")
    shell.type("\x1a")
    shell.expect(r"key:b'.x1a'")
    shell.expect("Stopped")
    shell.expect("PROMPT:")
    assert "isig" in shell.ask("stty -a").split()
    shell.run("fg")
    shell.expect("back:0\r\n")
    shell.expect("PROMPT:")
