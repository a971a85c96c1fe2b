"""Attacks on what ends an agent's processes: on the supervisor, the recorder, the list of who is below."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentgov.clock import SystemClock
from agentgov.harness.recovery import recover
from agentgov.layout import StateHome
from tests.conftest import MakeRepo
from tests.support.running import Heard, Record, run

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="needs /proc")
HEAD = """
import ctypes, os, signal, sys, time
out = sys.argv[1]
supervisor = os.getppid()
recorder = int(open(f"/proc/{supervisor}/stat").read().rpartition(")")[2].split()[1])
def said(pid):
    with open(out + ".tmp", "w") as file:
        file.write(str(pid))
    os.rename(out + ".tmp", out)
def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.01)
def detach(body):
    if os.fork() == 0:
        if os.fork() == 0:
            body()
            said(os.getpid())
            time.sleep(600)
        os._exit(0)
    os.wait()
    wait_for(out)
"""


def is_running(pid: int) -> bool:
    try:
        return b") Z" not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


def agent(repo: Path, body: str) -> list[str]:
    path = repo.parent / "agent.py"
    path.write_text(HEAD + body)
    return [sys.executable, "-I", str(path), str(repo.parent / "pid")]


def wait_until_gone(*pids: int) -> None:
    deadline = time.monotonic() + 60
    while any(map(is_running, pids)):
        assert time.monotonic() < deadline, f"one of {pids} still runs"
        time.sleep(0.02)


def test_a_process_that_calls_itself_git_is_ended_with_the_rest(
    make_repo: MakeRepo, state: StateHome
) -> None:
    # It joins the recorder's own group under the name of the recorder's own children, then the supervisor
    # dies.
    repo = make_repo()
    body = """
def hide():
    os.setpgid(0, os.getpgid(recorder))
    ctypes.CDLL(None).prctl(15, b"git", 0, 0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
detach(hide)
os.kill(supervisor, signal.SIGKILL)
time.sleep(600)
"""
    outcome = run(repo, state, agent(repo, body), workspace="in-place")
    assert (outcome.exit_code, outcome.state) == (125, "failed")
    wait_until_gone(int((repo.parent / "pid").read_text()))


def test_an_agent_cannot_outlast_its_end_by_stopping_the_supervisor(
    make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo()
    body = "detach(os.setsid)\nos.kill(supervisor, signal.SIGSTOP)\nos._exit(3)\n"
    outcome = run(repo, state, agent(repo, body), workspace="in-place")
    assert (outcome.exit_code, outcome.state, outcome.ended) == (3, "finished", 1)
    wait_until_gone(int((repo.parent / "pid").read_text()))


@pytest.mark.parametrize("first", ["supervisor", "recorder"])
def test_stopping_one_and_killing_the_other_ends_everything(
    make_repo: MakeRepo, state: StateHome, first: str
) -> None:
    repo = make_repo()
    order = {
        # The recorder would wake the supervisor: it must not get the time.
        "supervisor": "os.kill(recorder, signal.SIGSTOP)\nos.kill(supervisor, signal.SIGSTOP)\n"
        "os.kill(recorder, signal.SIGKILL)\n",
        "recorder": "os.kill(recorder, signal.SIGSTOP)\nos.kill(recorder, signal.SIGKILL)\n",
    }[first]
    command = agent(repo, f"detach(os.setsid)\n{order}time.sleep(600)\n")
    script = repo.parent / "recorder.py"
    script.write_text(
        "import json, sys\nfrom pathlib import Path\nfrom agentgov.layout import StateHome\n"
        "from tests.support.running import run\n"
        "repo, state, command = sys.argv[1:]\n"
        "run(Path(repo), StateHome(Path(state)), json.loads(command), workspace='in-place')\n"
    )
    done = subprocess.run(
        [sys.executable, str(script), str(repo), str(state.root), json.dumps(command)],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        check=False,
        timeout=120,
    )
    assert done.returncode == -signal.SIGKILL
    wait_until_gone(int((repo.parent / "pid").read_text()))
    record = Record(repo, state)
    with record.open() as stream:
        closed = recover(record.repo, state, stream, record.payloads, clock=SystemClock(), random=os.urandom)
    (found,) = closed
    assert Record(repo, state).of(found).state == "interrupted"


def test_a_run_that_failed_is_not_taken_for_one_whose_recorder_was_killed(
    make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo()
    body = "os.kill(supervisor, signal.SIGKILL)\ntime.sleep(600)\n"
    assert run(repo, state, agent(repo, body), workspace="in-place").state == "failed"
    heard = Heard()
    run(repo, state, ["true"], heard, workspace="in-place")
    assert not any("recovered" in line for line in heard.lines)


def test_an_agent_that_removes_what_tells_of_its_run_still_is_no_person(
    make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo()
    before = run(repo, state, ["sh", "-c", "echo x > x"], workspace="clone")
    codes = repo.parent / "codes"
    attempt = f'"{sys.executable}" -m agentgov drop {before.info.run} --yes; echo $? >> {codes}\n'
    script = f"cd {repo}; rm .git/agentgov/runs/*/state.json; unset AGENTGOV_RUN\n{attempt}"
    script += f"(setsid sh -c '{attempt}' &) ; while [ $(wc -l < {codes}) -lt 2 ]; do sleep 0.1; done"
    env = {**os.environ, "AGENTGOV_HOME": str(state.root)}
    run(repo, state, ["sh", "-c", script], env=env, workspace="in-place")
    assert codes.read_text() == "10\n10\n"
    assert before.info.root.exists()
