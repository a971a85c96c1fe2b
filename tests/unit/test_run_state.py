"""A run is alive exactly while its recorder holds the lock."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentgov.errors import BrokenRecordError, ConflictError
from agentgov.harness import state as runs
from agentgov.harness.state import RunLock, RunState
from agentgov.ids import RunId
from agentgov.layout import Layout

RUN = RunId("7kq2f")


def make_state(run: RunId = RUN, started_us: int = 5) -> RunState:
    return RunState(run, 12, "/s/x.sock", "/w", "clone", "claude", started_us)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    made = Layout(tmp_path / ".git")
    made.common_dir.mkdir()
    made.create()
    return made


def test_a_run_is_live_while_its_lock_is_held_and_gone_when_it_finished(layout: Layout) -> None:
    assert runs.live_runs(layout) == []
    lock = RunLock(layout, RUN)
    lock.acquire()
    lock.publish(make_state())
    assert runs.is_alive(layout, RUN)
    assert runs.live_runs(layout) == [make_state()]
    assert runs.dead_runs(layout) == []
    with pytest.raises(ConflictError) as held:
        runs.forget(layout, RUN)
    assert held.value.id == "AG0039"
    lock.finish()
    assert runs.live_runs(layout) == []
    assert runs.dead_runs(layout) == []
    assert runs.read_state(layout, RUN) is None
    runs.forget(layout, RUN)
    assert not layout.run_dir(RUN).exists()


def test_a_killed_recorder_leaves_a_dead_run(layout: Layout) -> None:
    code = (
        "import sys, time; from pathlib import Path; from agentgov.layout import Layout\n"
        "from agentgov.harness.state import RunLock, RunState\n"
        f"lock = RunLock(Layout(Path(sys.argv[1])), '{RUN}'); lock.acquire()\n"
        f"lock.publish(RunState('{RUN}', 1, 's', 'w', 'clone', 'a', 5))\n"
        "print('up', flush=True); time.sleep(600)\n"
    )
    recorder = subprocess.Popen(
        [sys.executable, "-c", code, str(layout.common_dir)], stdout=subprocess.PIPE, text=True
    )
    assert recorder.stdout is not None
    assert recorder.stdout.readline() == "up\n"
    assert [state.run for state in runs.live_runs(layout)] == [RUN]
    os.kill(recorder.pid, signal.SIGKILL)
    recorder.wait()
    recorder.stdout.close()
    assert runs.live_runs(layout) == []
    assert runs.dead_runs(layout) == [RUN]
    runs.clear(layout, RUN)
    assert runs.dead_runs(layout) == []


def test_a_run_has_one_recorder(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    with RunLock(layout, RUN):
        second = RunLock(layout, RUN)
        monkeypatch.setattr("time.monotonic", iter(range(0, 1000, 10)).__next__)
        with pytest.raises(ConflictError) as caught:
            second.acquire()
        assert caught.value.id == "AG0039"


def test_live_runs_are_listed_oldest_first_and_strange_folders_are_passed_over(layout: Layout) -> None:
    other = RunId("abcde")
    locks = [RunLock(layout, RUN), RunLock(layout, other)]
    for lock, state in zip(locks, (make_state(RUN, 9), make_state(other, 3)), strict=True):
        lock.acquire()
        lock.publish(state)
    (layout.runs / "not a run").mkdir()
    (layout.runs / "not a run" / "state.json").write_text("{}")
    assert [state.run for state in runs.live_runs(layout)] == [other, RUN]


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"[]",
        b"\xff",
        b"{}",
        make_state().encode().replace(b"12", b'"12"'),
        make_state().encode().replace(b"clone", b"moon"),
        make_state().encode().replace(b'"v": 1', b'"v": 2'),
        make_state().encode().replace(b'"v": 1', b'"v": 1, "more": 1'),
        make_state().encode().replace(b"7kq2f", b"7kq2!"),
    ],
)
def test_a_damaged_state_is_reported(raw: bytes) -> None:
    with pytest.raises(BrokenRecordError) as caught:
        RunState.parse(raw, "x")
    assert caught.value.id == "AG0038"


def test_a_state_reads_back_as_written_and_names_its_own_run(layout: Layout) -> None:
    assert RunState.parse(make_state().encode(), "x") == make_state()
    assert json.loads(make_state().encode())["v"] == 1
    other = layout.run_dir(RunId("abcde"))
    other.mkdir()
    (other / "state.json").write_bytes(make_state().encode())
    with pytest.raises(BrokenRecordError):
        runs.read_state(layout, RunId("abcde"))


@pytest.mark.parametrize("end", ["finished", "recovered"])
def test_what_was_written_for_the_agent_goes_with_the_run(layout: Layout, tmp_path: Path, end: str) -> None:
    lock = RunLock(layout, RUN)
    lock.acquire()
    lock.publish(make_state())
    (runs.agent_dir(layout, RUN) / "settings.json").write_text("a key")
    if end == "finished":
        lock.finish()
    else:
        lock.release()
        runs.clear(layout, RUN)
    assert not (layout.run_dir(RUN) / "agent").exists()


def test_a_link_in_its_place_is_not_followed(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "file").write_text("x")
    layout.run_dir(RUN).mkdir()
    (layout.run_dir(RUN) / "agent").symlink_to(tmp_path / "mine")
    runs.clear(layout, RUN)
    assert (tmp_path / "mine" / "file").exists()
    assert not (layout.run_dir(RUN) / "agent").is_symlink()
