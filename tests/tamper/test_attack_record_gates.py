"""Attacks on what rests on the record: another name for a branch, and an agent that does a person's part."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from agentgov.errors import ConflictError, ExitCode, UsageError
from agentgov.gates.landing import branch_tip
from agentgov.git import discover
from agentgov.layout import StateHome
from tests.conftest import GitRunner, MakeRepo
from tests.support.running import Record, run, shell

RULES = '[protect]\nbranches = ["main"]\n[review]\nrequired = 1\n'


def _agentgov(repo: Path, state: StateHome, *args: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "agentgov", *args],
        cwd=repo,
        env={**os.environ, "AGENTGOV_HOME": str(state.root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_another_name_of_a_protected_branch_is_no_way_around_its_gates(
    make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo(files={"a.txt": "one\n", ".agentgov.toml": RULES})
    assert run(repo, state, shell("echo x > new.txt")).exit_code == 0
    git(repo, "symbolic-ref", "refs/heads/open", "refs/heads/main")
    before = git(repo, "rev-parse", "main")
    done = _agentgov(repo, state, "promote", "--into", "open")
    assert done.returncode == ExitCode.USAGE
    assert "AG0117" in done.stderr
    assert git(repo, "rev-parse", "main") == before
    assert _agentgov(repo, state, "promote").returncode == ExitCode.APPROVAL_MISSING


@pytest.mark.parametrize(
    "name", ["refs/tags/v1", "refs/remotes/origin/main", "refs/replace/x", "refs/notes/x"]
)
def test_only_a_branch_is_landed_on(name: str, make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    git(repo, "update-ref", name, "HEAD")
    with pytest.raises(UsageError) as caught:
        branch_tip(discover(repo), name)
    assert caught.value.id == "AG0117"


def test_a_tag_named_like_a_branch_is_not_taken_for_it(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    git(repo, "update-ref", "refs/tags/refs/heads/gone", "HEAD")
    git(repo, "update-ref", "refs/heads/refs/heads/gone", "HEAD")
    assert discover(repo).ref("refs/heads/gone") is None
    with pytest.raises(ConflictError) as caught:
        branch_tip(discover(repo), "refs/heads/gone")
    assert caught.value.id == "AG0114"


def test_a_folder_of_branches_is_no_branch(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    git(repo, "branch", "feature/one")
    with pytest.raises(ConflictError):
        branch_tip(discover(repo), "refs/heads/feature")


@pytest.mark.parametrize("command", ["approve", "promote", "apply", "drop", "rollback"])
def test_an_agent_cannot_do_a_persons_part_on_an_earlier_run(
    command: str, make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo()
    assert run(repo, state, shell("echo x > new.txt")).exit_code == 0
    (earlier,) = Record(repo, state).runs
    more = {"approve": ["-m", "mine"], "drop": ["--yes"], "rollback": ["--yes"]}.get(command, [])
    name = f"{earlier}:start" if command == "rollback" else earlier
    words = shlex.join([sys.executable, "-m", "agentgov", command, name, *more])
    script = f"cd {repo} && env -u AGENTGOV_RUN setsid {words}; test $? = {int(ExitCode.DENIED)}"
    before, kinds = git(repo, "rev-parse", "main"), Record(repo, state).kinds(earlier)
    env = {**os.environ, "AGENTGOV_HOME": str(state.root)}
    assert run(repo, state, shell(script), env=env).exit_code == 0
    assert git(repo, "rev-parse", "main") == before
    assert Record(repo, state).kinds(earlier) == kinds


def test_a_setting_that_names_another_default_branch_does_not_lift_the_targets_gates(
    make_repo: MakeRepo, git: GitRunner, state: StateHome
) -> None:
    repo = make_repo(files={"a.txt": "one\n"})
    assert run(repo, state, shell("echo x > new.txt")).exit_code == 0
    (repo / ".agentgov.toml").write_text('[protect]\nbranches = ["nothing"]\n')
    git(repo, "checkout", "-q", "-b", "weak")
    git(repo, "add", ".agentgov.toml")
    git(repo, "commit", "-q", "-m", "weak")
    git(repo, "checkout", "-q", "main")
    (repo / ".agentgov.toml").write_text(RULES)
    git(repo, "add", ".agentgov.toml")
    git(repo, "commit", "-q", "-m", "rules")
    before = git(repo, "rev-parse", "main")
    git(repo, "config", "init.defaultBranch", "weak")
    assert _agentgov(repo, state, "promote", "--into", "main").returncode == ExitCode.APPROVAL_MISSING
    git(repo, "config", "init.defaultBranch", "main")
    done = _agentgov(repo, state, "promote", "--into", "main", "--policy-ref", "weak")
    assert done.returncode == ExitCode.APPROVAL_MISSING
    git(repo, "remote", "add", "origin", "/nonexistent")
    git(repo, "update-ref", "refs/remotes/origin/weak", "weak")
    git(repo, "symbolic-ref", "refs/remotes/origin/HEAD", "refs/remotes/origin/weak")
    assert _agentgov(repo, state, "promote", "--into", "main").returncode == ExitCode.APPROVAL_MISSING
    assert git(repo, "rev-parse", "main") == before
