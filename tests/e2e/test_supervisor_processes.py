"""The agent's exit code comes through, and no process of the agent outlives the run, however it ends."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentgov.errors import ExitCode, RunFailedError
from agentgov.harness.process import (
    AgentEvent,
    AgentProcess,
    NotExecutableError,
    NotFoundError,
    find_program,
)
from tests.support.terminals import WAIT_SECONDS, is_running, wait_until

MINI = Path(__file__).parents[1] / "support" / "mini_recorder.py"
STUBBORN = "trap '' TERM HUP INT; echo $$ > NAME; while :; do sleep 1; done"


def start(tmp_path: Path, *argv: str | bytes, env: dict[str, str] | None = None) -> AgentProcess:
    env = {"PATH": os.environ["PATH"]} if env is None else env
    return AgentProcess.start(argv, cwd=tmp_path, env=env, ownership="none")


def end(agent: AgentProcess) -> AgentEvent:
    with agent:
        while not agent.handle():
            assert select.select([agent.fd], [], [], WAIT_SECONDS)[0]
        assert agent.ended is not None
        return agent.ended


def read_pid(path: Path) -> int:
    wait_until(lambda: path.exists() and path.read_text().endswith("\n"), f"{path.name} is written")
    return int(path.read_text())


@pytest.mark.parametrize(
    ("script", "code", "number"),
    [("exit 0", 0, 0), ("exit 7", 7, 0), ("kill -TERM $$", 143, 15), ("kill -KILL $$", 137, 9)],
)
def test_the_exit_code_is_the_agents(tmp_path: Path, script: str, code: int, number: int) -> None:
    ended = end(start(tmp_path, "sh", "-c", script))
    assert (ended.code, ended.signal, ended.ended, ended.left, ended.lost) == (code, number, 0, 0, False)


def test_not_found_is_127_and_not_executable_126(tmp_path: Path) -> None:
    (tmp_path / "plain").write_text("x")
    (tmp_path / "plain").chmod(0o644)
    (tmp_path / "nowhere").write_text("#!/no/such/interpreter\n")
    (tmp_path / "nowhere").chmod(0o755)
    for name in ("no-such-agent", "./no-such-agent", "", "./nowhere", "./plain/x"):
        with pytest.raises(NotFoundError) as caught:
            start(tmp_path, name)
        assert int(caught.value.exit_code) == ExitCode.NOT_FOUND
    for name in ("./plain", "/"):
        with pytest.raises(NotExecutableError) as refused:
            start(tmp_path, name)
        assert int(refused.value.exit_code) == ExitCode.NOT_EXECUTABLE
    env = {"PATH": f"{tmp_path}/empty:{tmp_path}"}
    with pytest.raises(NotExecutableError):
        start(tmp_path, "plain", env=env)
    with pytest.raises(RunFailedError) as broken:
        start(tmp_path, "true", "a\x00b")
    assert broken.value.exit_code == ExitCode.RUN_FAILED


def test_a_script_without_an_interpreter_line_is_run_by_the_shell(tmp_path: Path) -> None:
    (tmp_path / "agent").write_text("exit $1\n")
    (tmp_path / "agent").chmod(0o755)
    assert end(start(tmp_path, "./agent", "9")).code == 9


def test_the_program_is_looked_up_in_the_environment_given(tmp_path: Path) -> None:
    tool = tmp_path / "bin" / "tool"
    tool.parent.mkdir()
    tool.write_text("#!/bin/sh\n")
    tool.chmod(0o755)
    assert find_program("tool", {"PATH": f"/nowhere:{tool.parent}"}, tmp_path) == tool
    assert find_program("bin/tool", {}, tmp_path) == tool
    assert find_program("tool", {"PATH": "/nowhere"}, tmp_path) is None
    assert find_program("", {"PATH": str(tool.parent)}, tmp_path) is None


def test_arguments_and_environment_arrive_byte_for_byte(tmp_path: Path) -> None:
    env = {"PATH": os.environ["PATH"], "ODD": "a=b\n\udcff ü", "EMPTY": "", "LANG": ""}
    code = "import os, sys; open('got', 'wb').write(b'|'.join(os.fsencode(a) for a in sys.argv[1:]))"
    assert end(start(tmp_path, sys.executable, "-I", "-c", code, b"\xff", "a b\n", "", env=env)).code == 0
    assert (tmp_path / "got").read_bytes() == b"\xff|a b\n|"
    assert end(start(tmp_path, "sh", "-c", "tr '\\0' '|' < /proc/$$/environ > env", env=env)).code == 0
    raw = (tmp_path / "env").read_bytes()
    assert sorted(raw.rstrip(b"|").split(b"|")) == sorted(
        os.fsencode(key) + b"=" + os.fsencode(value) for key, value in env.items()
    )


def test_signals_are_back_to_normal_and_no_descriptor_leaks(tmp_path: Path) -> None:
    script = "grep -E 'Sig(Ign|Blk)' /proc/self/status > signals; ls /proc/self/fd > fds"
    end(start(tmp_path, "sh", "-c", script))
    for line in (tmp_path / "signals").read_text().splitlines():
        name, raw_mask = line.split()
        # posix_spawn of the C library may leave those ignored that it keeps for itself (32 and 33).
        numbers = {number for number in signal.valid_signals() if int(raw_mask, 16) >> (number - 1) & 1}
        # SIGHUP stays ignored where it is for this process too (nohup).
        kept = {signal.SIGHUP} if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else set()
        assert numbers <= kept, name
    assert {int(word) for word in (tmp_path / "fds").read_text().split()} <= {0, 1, 2, 3}


def test_leftover_processes_are_ended_and_counted(tmp_path: Path) -> None:
    stubborn = STUBBORN.replace("NAME", "stubborn").replace("'", '"')
    script = f"(sleep 1000 &) ; (setsid sh -c '{stubborn}' &) ; "
    script += "while [ ! -s stubborn ]; do sleep 0.05; done; exit 4"
    ended = end(start(tmp_path, "sh", "-c", script))
    assert ended.code == 4
    assert ended.ended >= 2
    assert ended.left == 0
    assert not is_running(read_pid(tmp_path / "stubborn"))


def test_a_child_that_is_just_finishing_is_no_leftover(tmp_path: Path) -> None:
    ended = end(start(tmp_path, "sh", "-c", "(sleep 0.05; echo done > late) & exit 0"))
    assert ended.ended == 0
    assert (tmp_path / "late").read_text() == "done\n"


def test_terminate_asks_first_and_kills_what_does_not_listen(tmp_path: Path) -> None:
    agent = start(tmp_path, "sh", "-c", "trap 'exit 12' TERM; : > up; while :; do sleep 0.05; done")
    wait_until((tmp_path / "up").exists, "the agent is up")
    agent.terminate(grace_seconds=WAIT_SECONDS)
    assert end(agent).code == 12
    agent = start(tmp_path, "sh", "-c", STUBBORN.replace("NAME", "pid"))
    pid = read_pid(tmp_path / "pid")
    agent.terminate(grace_seconds=0.05)
    assert end(agent).signal == signal.SIGKILL
    assert not is_running(pid)


def test_a_forwarded_signal_reaches_the_agent(tmp_path: Path) -> None:
    agent = start(tmp_path, "sh", "-c", "trap 'exit 21' INT; : > up; while :; do sleep 0.05; done")
    wait_until((tmp_path / "up").exists, "the agent is up")
    agent.forward(signal.SIGINT)
    assert end(agent).code == 21


def test_closing_without_an_end_ends_everything(tmp_path: Path) -> None:
    agent = start(tmp_path, "sh", "-c", STUBBORN.replace("NAME", "pid"))
    pid = read_pid(tmp_path / "pid")
    agent.close()
    agent.close()
    assert not is_running(pid)


class Recorder:
    def __init__(self, tmp_path: Path, script: str) -> None:
        self.log = tmp_path / "log"
        env = {**os.environ, "MINI_LOG": str(self.log)}
        self.process = subprocess.Popen(
            [sys.executable, str(MINI), "sh", "-c", script], cwd=tmp_path, env=env, stdin=subprocess.DEVNULL
        )
        wait_until(lambda: self.log.exists() and self.log.read_text().endswith("\n"), "it started")
        _, _, supervisor, agent, _ = self.log.read_text().split()
        self.supervisor, self.agent = int(supervisor), int(agent)


def test_kill_9_of_the_recorder_ends_all_descendants_daemons_too(tmp_path: Path) -> None:
    quoted = STUBBORN.replace("'", '"')
    script = (
        f"(setsid sh -c '{quoted.replace('NAME', 'daemon')}' &); sh -c '{quoted.replace('NAME', 'child')}' & "
        "trap '' TERM; while :; do sleep 1; done"
    )
    recorder = Recorder(tmp_path, script)
    pids = [recorder.supervisor, recorder.agent, read_pid(tmp_path / "daemon"), read_pid(tmp_path / "child")]
    recorder.process.kill()
    recorder.process.wait()
    wait_until(lambda: not any(map(is_running, pids)), f"{pids} are gone")


def test_a_fork_storm_is_ended_when_the_recorder_dies(tmp_path: Path) -> None:
    # Each generation forks the next into a session of its own and exits: there is never a tree to hold on to.
    (tmp_path / "storm.py").write_text(
        "import os, time\n"
        "end = time.time() + 300\n"
        "while time.time() < end:\n"
        "    if os.fork():\n"
        "        os._exit(0)\n"
        "    os.setsid()\n"
        "    open('generation', 'w').write(f'{os.getpid()}\\n')\n"
    )
    recorder = Recorder(tmp_path, f"'{sys.executable}' storm.py & sleep 1000")
    wait_until((tmp_path / "generation").exists, "the storm blows")
    recorder.process.kill()
    recorder.process.wait()
    wait_until(lambda: not is_running(recorder.supervisor), "the supervisor is done")
    here = os.fsencode(tmp_path)

    def is_calm() -> bool:
        for entry in Path("/proc").iterdir():
            if entry.name.isdigit():
                try:
                    if os.fsencode((entry / "cwd").readlink()) == here:
                        return False
                except OSError:
                    continue
        return True

    wait_until(is_calm, "nothing works in the folder any more")


def test_kill_9_of_the_supervisor_ends_all_and_says_the_run_is_lost(tmp_path: Path) -> None:
    quoted = STUBBORN.replace("'", '"')
    script = f"(setsid sh -c '{quoted.replace('NAME', 'daemon')}' &); sleep 1000"
    recorder = Recorder(tmp_path, script)
    pids = [recorder.agent, read_pid(tmp_path / "daemon")]
    os.kill(recorder.supervisor, signal.SIGKILL)
    assert recorder.process.wait(WAIT_SECONDS) == 137
    assert recorder.log.read_text().splitlines()[-1].endswith("True")
    for pid in pids:
        assert not is_running(pid)


def test_sigterm_to_the_recorder_ends_the_agent(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path, "trap 'exit 33' TERM; : > up; while :; do sleep 0.05; done")
    wait_until((tmp_path / "up").exists, "the agent is up")
    recorder.process.terminate()
    assert recorder.process.wait(WAIT_SECONDS) == 33


def test_the_supervisor_needs_nothing_but_the_standard_library(tmp_path: Path) -> None:
    supervisor = Path(__file__).parents[2] / "harness" / "supervisor.py"
    code = (
        "import runpy, sys; sys.argv = ['supervisor.py', '0']\n"
        f"names = runpy.run_path({str(supervisor)!r}, run_name='probe')\n"
        "print('agentgov' in sys.modules, sorted(n for n in ('foreground', 'sweeping') if n in sys.modules))"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert done.stdout.split("\n")[0] == "False ['foreground', 'sweeping']"
