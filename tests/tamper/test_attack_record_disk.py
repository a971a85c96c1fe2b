"""A disk that takes no more: a clear error, nothing counted by half, and all well when there is room."""

from __future__ import annotations

import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from agentgov.errors import ExitCode
from agentgov.layout import StateHome
from tests.conftest import MakeRepo
from tests.support.running import Record, run, shell


def _agentgov(
    repo: Path, state: StateHome, *args: str, largest_file: int | None = None
) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if largest_file is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (largest_file, largest_file))

    return subprocess.run(
        [sys.executable, "-B", "-m", "agentgov", *args],
        cwd=repo,
        env={**os.environ, "AGENTGOV_HOME": str(state.root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        preexec_fn=limit,
    )


def _is_clear(done: subprocess.CompletedProcess[str]) -> bool:
    return "error[AG" in done.stderr and "Traceback" not in done.stderr and "hint:" not in done.stderr


@pytest.mark.parametrize("largest_file", [64, 1000])
def test_a_run_that_cannot_be_recorded_fails_as_one_and_leaves_no_half_of_it(
    largest_file: int, make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo()
    assert run(repo, state, shell("echo x > new")).exit_code == 0
    done = _agentgov(repo, state, "run", "--", "true", largest_file=largest_file)
    assert done.returncode == ExitCode.RUN_FAILED, done.stderr
    assert _is_clear(done), done.stderr
    assert _agentgov(repo, state, "log").returncode == ExitCode.OK
    assert _agentgov(repo, state, "verify").returncode == ExitCode.OK
    assert _agentgov(repo, state, "run", "--", "true").returncode == ExitCode.OK


@pytest.mark.parametrize("command", ["promote", "rollback"])
def test_a_command_that_cannot_be_recorded_can_be_given_again(
    command: str, make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo()
    assert run(repo, state, shell("echo x > new")).exit_code == 0
    (seen,) = Record(repo, state).runs
    more = {"rollback": ["--yes"], "promote": ["--into", "side"]}[command]
    subprocess.run(["git", "branch", "side"], cwd=repo, check=True)
    arguments = [command, f"{seen}:start" if command == "rollback" else seen, *more]
    done = _agentgov(repo, state, *arguments, largest_file=100)
    assert done.returncode != ExitCode.OK
    assert _is_clear(done), done.stderr
    assert _agentgov(repo, state, "verify").returncode == ExitCode.OK
    done = _agentgov(repo, state, *arguments)
    assert done.returncode == ExitCode.OK, done.stderr
    assert _agentgov(repo, state, "verify").returncode == ExitCode.OK
