"""SIGKILL of the recorder: the agent ends, nothing acknowledged is lost, the next command closes the run."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from agentgov.clock import SystemClock
from agentgov.git import discover
from agentgov.harness import demo_agent, recovery
from agentgov.harness.capture.hook_client import ask
from agentgov.harness.recovery import recover
from agentgov.harness.state import dead_runs, is_alive, read_state
from agentgov.ids import RunId
from agentgov.layout import StateHome
from tests.conftest import MakeRepo
from tests.support.running import Record

ROOT = Path(__file__).parents[2]
DRIVER = """
import sys
from pathlib import Path
from agentgov.layout import StateHome
from tests.support.running import run
repo, state, *argv = sys.argv[1:]
run(Path(repo), StateHome(Path(state)), argv, agent="demo", workspace="in-place")
"""


def start(repo: Path, state: StateHome, script: str) -> subprocess.Popen[bytes]:
    """Start a recorder whose agent makes calls through its hooks."""
    agent = repo.parent / "agent.py"
    agent.write_text(
        f"import json, os, sys, time\nsys.path.insert(0, {str(Path(demo_agent.__file__).parent)!r})\n"
        "import demo_agent\nsettings = json.loads(open(sys.argv[-1]).read())\n"
        # A hook that nobody answers any more acknowledges nothing: this agent stops there.
        "hooks = demo_agent.run_hooks\n"
        "demo_agent.run_hooks = lambda *a: None if hooks(*a) is None else os._exit(3)\n"
        "def bash(command):\n"
        "    demo_agent.call(settings, {'tool': 'Bash', 'input': {'command': command}})\n" + script
    )
    command = [sys.executable, "-c", DRIVER, str(repo), str(state.root), sys.executable, str(agent)]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def wait_for(path: Path, recorder: subprocess.Popen[bytes]) -> str:
    """Wait until a file is there and whole."""
    while not (path.exists() and path.read_text().endswith("\n")):
        assert recorder.poll() is None, recorder.stderr and recorder.stderr.read().decode()
        time.sleep(0.01)
    return path.read_text()


def is_gone(pid: int) -> bool:
    try:
        return b") Z " in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return True


def close_dead(repo: Path, state: StateHome) -> tuple[list[RunId], Record]:
    """Do what the next command does."""
    record = Record(repo, state)
    with record.open() as stream:
        closed = recover(record.repo, state, stream, record.payloads, clock=SystemClock(), random=os.urandom)
    return closed, Record(repo, state)


@pytest.mark.parametrize("moment", ["idle", "in a call", "between changes"])
def test_a_killed_recorder_ends_the_agent_and_the_run_is_closed_as_interrupted(
    make_repo: MakeRepo, state: StateHome, moment: str
) -> None:
    repo = make_repo()
    pids = repo.parent / "pids"
    spawn = f"(setsid sleep 600 & echo $! > {pids}.tmp; mv {pids}.tmp {pids}); sleep 600"
    script = {
        "idle": f"bash('echo 1 > one')\nos.system({spawn!r})\n",
        "in a call": f"bash('echo 1 > one')\nbash({'echo 2 > two; ' + spawn!r})\n",
        "between changes": f"bash('echo 1 > one')\nopen('late', 'w').write('x')\nos.system({spawn!r})\n",
    }[moment]
    recorder = start(repo, state, script)
    leftover = int(wait_for(pids, recorder))
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate()
    while not is_gone(leftover):
        time.sleep(0.01)
    layout = discover(repo).layout
    while is_alive(layout, dead_runs(layout)[0] if dead_runs(layout) else RunId("00000")):
        time.sleep(0.01)
    closed, record = close_dead(repo, state)
    (run,) = record.runs
    assert closed == [run]
    seen = record.of(run)
    assert seen.state == "interrupted"
    record.assert_sequence(run)
    assert seen.calls[1].status == "ok"
    assert seen.end is not None
    assert seen.end.body["open"] == ([2] if moment == "in a call" else [])
    assert seen.end_tree is not None
    assert record.file(seen.end_tree, "one") == b"1\n"
    if moment == "in a call":
        assert record.file(seen.end_tree, "two") == b"2\n"
    if moment == "between changes":
        assert record.file(seen.end_tree, "late") == b"x"
    assert seen.result is not None
    assert record.kinds(run)[-3:] == ["key.lost", "run.end", "result.bind"]
    assert record.sealed_size == len(record.entries)
    assert read_state(layout, run) is None
    assert not state.sockets(run).exists()
    assert close_dead(repo, state)[0] == []


def test_what_was_acknowledged_before_the_kill_is_in_the_record(
    make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo()
    heard = repo.parent / "heard"
    # The agent notes each call whose hook answered; the kill comes at whatever moment it comes.
    script = (
        f"for n in range(10_000):\n    bash(f'echo {{n}} >> log')\n"
        f"    with open({str(heard)!r}, 'a') as f:\n        f.write(f'{{n}}\\n')\n"
    )
    recorder = start(repo, state, script)
    while not heard.exists() or heard.read_text().count("\n") < 5:
        assert recorder.poll() is None
        time.sleep(0.01)
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate()
    layout = discover(repo).layout
    while not dead_runs(layout):
        time.sleep(0.01)
    acknowledged = heard.read_text().count("\n")
    _, record = close_dead(repo, state)
    (seen,) = record.runs.values()
    record.assert_sequence(seen.run)
    assert sum(1 for call in seen.calls.values() if call.status == "ok") >= acknowledged
    assert seen.end_tree is not None
    assert record.file(seen.end_tree, "log") == (repo / "log").read_bytes()


def test_two_commands_that_recover_at_once_close_a_run_once(make_repo: MakeRepo, state: StateHome) -> None:
    repo = make_repo()
    ready = repo.parent / "ready"
    recorder = start(repo, state, f"bash('echo 1 > one')\nos.system('echo x > {ready}; sleep 600')\n")
    wait_for(ready, recorder)
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate()
    while not dead_runs(discover(repo).layout):
        time.sleep(0.01)
    closed: list[RunId] = []
    threads = [threading.Thread(target=lambda: closed.extend(close_dead(repo, state)[0])) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    record = Record(repo, state)
    assert closed == list(record.runs)
    kinds = [entry.kind for entry in record.entries]
    assert (kinds.count("run.end"), kinds.count("key.lost"), kinds.count("result.bind")) == (1, 1, 1)


@pytest.mark.parametrize("step", ["_end", "_bind", "_rebuild_history", "after"])
def test_a_recovery_that_is_cut_short_is_finished_by_the_next(
    make_repo: MakeRepo, state: StateHome, step: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo()
    ready = repo.parent / "ready"
    recorder = start(repo, state, f"bash('echo 1 > one')\nos.system('echo x > {ready}; sleep 600')\n")
    wait_for(ready, recorder)
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate()
    while not dead_runs(discover(repo).layout):
        time.sleep(0.01)

    class CutError(Exception):
        pass

    def cut(*_: object, **__: object) -> None:
        raise CutError

    with monkeypatch.context() as patch:
        patch.setattr(recovery, "clear" if step == "after" else step, cut)
        with pytest.raises(CutError):
            close_dead(repo, state)
    closed, record = close_dead(repo, state)
    assert len(closed) == 1
    kinds = [entry.kind for entry in record.entries]
    assert (kinds.count("run.end"), kinds.count("key.lost"), kinds.count("result.bind")) == (1, 1, 1)


def test_a_workspace_that_is_gone_does_not_keep_a_run_open(make_repo: MakeRepo, state: StateHome) -> None:
    import shutil

    repo = make_repo()
    ready = repo.parent / "ready"
    recorder = start(repo, state, f"bash('echo 1 > one')\nos.system('echo x > {ready}; sleep 600')\n")
    wait_for(ready, recorder)
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate()
    layout = discover(repo).layout
    while not dead_runs(layout):
        time.sleep(0.01)
    (run,) = dead_runs(layout)
    state_file = layout.run_dir(run) / "state.json"
    gone = repo.parent / "gone"
    shutil.copytree(repo, gone)
    state_file.write_text(state_file.read_text().replace(str(repo), str(gone)))
    shutil.rmtree(gone)
    _, record = close_dead(repo, state)
    seen = record.of(run)
    assert seen.end is not None
    assert seen.end.body["from"] == seen.end.body["tree"]


def test_a_ref_lock_that_the_dead_recorder_held_is_no_obstacle(make_repo: MakeRepo, state: StateHome) -> None:
    repo = make_repo()
    ready = repo.parent / "ready"
    recorder = start(repo, state, f"bash('echo 1 > one')\nos.system('echo x > {ready}; sleep 600')\n")
    wait_for(ready, recorder)
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate()
    layout = discover(repo).layout
    while not dead_runs(layout):
        time.sleep(0.01)
    (run,) = dead_runs(layout)
    (layout.store / f"refs/agentgov/snapshots/{run}.lock").touch()
    assert close_dead(repo, state)[0] == [run]


def test_a_dead_recorders_socket_answers_nobody(make_repo: MakeRepo, state: StateHome) -> None:
    repo = make_repo()
    ready = repo.parent / "ready"
    recorder = start(repo, state, f"os.system('echo x > {ready}; sleep 600')\n")
    wait_for(ready, recorder)
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate()
    layout = discover(repo).layout
    while not dead_runs(layout):
        time.sleep(0.01)
    with pytest.raises(ConnectionRefusedError):
        ask(str(state.sockets(dead_runs(layout)[0])), os.getpid(), "demo", "PreToolUse", b"{}")
