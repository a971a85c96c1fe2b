"""Attacks on the end of the record: what is not saved yet is cut off, with all that names its run."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from agentgov.errors import ExitCode
from agentgov.git import discover
from agentgov.layout import StateHome
from tests.conftest import GitRunner, MakeRepo
from tests.support.running import Record, run, shell


def _start(repo: Path, state: StateHome, *args: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "agentgov", *args],
        cwd=repo,
        env={**os.environ, "AGENTGOV_HOME": str(state.root)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def _wait_for(path: Path) -> None:
    for _ in range(3000):
        if path.exists():
            return
        time.sleep(0.01)
    raise AssertionError(f"{path} never came")


def test_a_run_cannot_be_cut_off_without_a_trace(
    make_repo: MakeRepo, state: StateHome, tmp_path: Path
) -> None:
    repo, there = make_repo(), tmp_path / "there"
    recorder = _start(repo, state, "run", "--", "sh", "-c", f"echo x > new; touch {there}; sleep 60")
    _wait_for(there)
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate(timeout=30)
    layout = discover(repo).layout
    max(layout.wal.iterdir()).write_bytes(b"")
    for folder in layout.runs.iterdir():
        if folder.is_dir():
            (folder / "state.json").unlink(missing_ok=True)
    verify = _start(repo, state, "verify")
    said, _ = verify.communicate(timeout=60)
    assert verify.returncode == ExitCode.INCOMPLETE, said
    assert said.startswith("OPEN: run ")


def test_a_recorder_that_is_taken_for_dead_enters_nothing_behind_the_end(
    make_repo: MakeRepo, state: StateHome, tmp_path: Path
) -> None:
    repo, there, go = make_repo(), tmp_path / "there", tmp_path / "go"
    script = f"echo x > new; touch {there}; until [ -e {go} ]; do sleep 0.05; done; echo y > more; sleep 60"
    recorder = _start(repo, state, "run", "--", "sh", "-c", script)
    _wait_for(there)
    (alive,) = discover(repo).layout.runs.glob("*/alive")
    alive.unlink()
    assert _start(repo, state, "log").wait(timeout=60) == 0
    go.touch()
    said, _ = recorder.communicate(timeout=60)
    assert recorder.returncode == ExitCode.RUN_FAILED, said
    verify = _start(repo, state, "verify")
    said, _ = verify.communicate(timeout=60)
    assert verify.returncode == ExitCode.OK, said


def test_a_run_whose_record_cannot_be_saved_has_failed(
    make_repo: MakeRepo, git: GitRunner, state: StateHome, tmp_path: Path
) -> None:
    repo, there, go = make_repo(), tmp_path / "there", tmp_path / "go"
    script = f"touch {there}; until [ -e {go} ]; do sleep 0.05; done"
    recorder = _start(repo, state, "run", "--", "sh", "-c", script)
    _wait_for(there)
    ref = git(repo, "for-each-ref", "--format=%(refname)", "refs/agentgov/ledger")
    git(repo, "update-ref", "-d", ref)
    go.touch()
    said, _ = recorder.communicate(timeout=60)
    assert recorder.returncode == ExitCode.RUN_FAILED, said
    assert _start(repo, state, "verify").wait(timeout=60) == ExitCode.BROKEN


def test_a_forged_state_of_a_run_brings_nothing_into_the_record(
    make_repo: MakeRepo, state: StateHome, tmp_path: Path
) -> None:
    repo, there, secret = make_repo(), tmp_path / "there", tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("not to be recorded")
    recorder = _start(repo, state, "run", "--", "sh", "-c", f"echo x > new; touch {there}; sleep 60")
    _wait_for(there)
    recorder.send_signal(signal.SIGKILL)
    recorder.communicate(timeout=30)
    (file,) = discover(repo).layout.runs.glob("*/state.json")
    file.write_text(json.dumps({**json.loads(file.read_text()), "workspace": str(secret)}))
    said, _ = _start(repo, state, "log").communicate(timeout=60)
    assert "its recorder was killed" in said
    record = Record(repo, state)
    (seen,) = record.runs.values()
    assert seen.end_tree is not None
    assert record.file(seen.end_tree, "key") is None
    assert record.file(seen.end_tree, "new") == b"x\n"


def test_a_forged_state_of_a_run_that_ended_is_not_repeated(make_repo: MakeRepo, state: StateHome) -> None:
    repo = make_repo()
    ended = run(repo, state, shell("true")).info.run
    file = discover(repo).layout.run_dir(ended) / "state.json"
    file.write_text(json.dumps(_any_state(ended)))
    record = Record(repo, state)
    before = len(record.entries)
    said, _ = _start(repo, state, "log").communicate(timeout=60)
    assert "was killed" not in said
    assert len(Record(repo, state).entries) == before


def _any_state(run: str) -> dict[str, object]:
    return {
        "v": 1,
        "run": run,
        "pid": 1,
        "socket": "/nonexistent",
        "workspace": "/",
        "place": "clone",
        "agent": "sh",
        "started_us": 1,
    }
