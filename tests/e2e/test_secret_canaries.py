"""Canaries: secrets planted wherever an agent or a person can put one, then looked for in all that is stored.

What the funnel cannot reach is in a set of its own, and tested to be that set and no more: the content and
the names of files, which snapshots hold as they are, and what is the user's own.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash, write
from tests.support.traces import Trace, traces

ENV = "canary-env-7Qm2zL9xT4"
DOTENV = "canary-dotenv-4Tx9Lz2mQ7"
HEX = "00c0ffee" * 5
PATTERN = "ghp_" + "cAn4Ry" * 6
ALL = (ENV, DOTENV, HEX, PATTERN)


@pytest.fixture
def state_dir(home: Path) -> Path:
    return home / ".local" / "state" / "agentgov"


@pytest.fixture
def repo(make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEPLOY_TOKEN", ENV)
    monkeypatch.setenv("SIGNING_SECRET", HEX)
    repo = make_repo(files={"a.txt": "one\n", ".gitignore": ".env\n", ".agentgov.toml": _RULES})
    (repo / ".env").write_text(f"API_TOKEN={DOTENV}\n")
    return repo


_RULES = """[[policy.rule]]
id = "no-rm"
effect = "deny"
programs = ["rm"]
reason = "kept"
"""


def _talk(secret: str) -> list[dict[str, object]]:
    """Calls that carry a secret in their arguments, their output, their errors, and their refusal."""
    return [
        bash(f"echo {secret}; : # {secret}"),
        bash(f"printf '%s' {secret} | base64"),
        bash(f"echo to-stderr {secret} >&2; exit 3"),
        bash(f"rm -rf /nowhere/{secret}"),
        bash(f"cat /nowhere/{secret}"),
        {"tool": "Unknown", "input": {"nested": [{"deep": f"x={secret}"}], "key": {secret: 1}}},
        bash(f"echo agent {secret}", agent=f"sub-{secret}"),
    ]


def test_secrets_that_pass_through_a_run_are_stored_nowhere(
    agentgov: Cli, repo: Path, state_dir: Path
) -> None:
    steps = [step for secret in ALL for step in _talk(secret)]
    intent = "deploy with " + " and ".join(ALL)
    run = agentgov.play(repo, steps, "--workspace", "in-place", "--intent", intent)
    agentgov(repo, "log", "--grep", ENV)
    agentgov(repo, "show", run, "--all")
    agentgov(repo, "verify")
    reason = "it was " + " ".join(ALL)
    agentgov(repo, "redact", f"{run}:2", "--field", "output", "--reason", reason, "--yes")
    for secret in ALL:
        found = traces(secret, repo / ".git", state_dir)
        assert found == [], secret
    shown = agentgov(repo, "show", f"{run}:1").out
    assert "[REDACTED:env:#" in shown


def test_a_secret_in_the_agents_command_and_in_its_failure_is_stored_nowhere(
    agentgov: Cli, repo: Path, state_dir: Path
) -> None:
    agentgov.shell(repo, f"echo {ENV} {PATTERN}; exit 7", "--workspace", "in-place", code=7)
    agentgov.shell(repo, f"kill -9 $$ # {ENV}", "--workspace", "in-place", code=None)
    agentgov(repo, "run", "--", f"no-such-program-{ENV}", code=127)
    for secret in (ENV, PATTERN):
        assert traces(secret, repo / ".git", state_dir) == []


KILL_THE_RECORDER = """
import os
above = int(open(f"/proc/{os.getppid()}/stat").read().rsplit(")", 1)[1].split()[1])
print(os.environ["DEPLOY_TOKEN"], flush=True)
os.kill(above, 9)
"""


def test_a_recorder_that_was_killed_leaves_no_secret(agentgov: Cli, repo: Path, state_dir: Path) -> None:
    command = [sys.executable, "-m", "agentgov", "run", "--workspace", "in-place", "--intent", ENV, "--"]
    agent = [sys.executable, "-c", KILL_THE_RECORDER, ENV]
    done = subprocess.run([*command, *agent], cwd=repo, capture_output=True, check=False)
    assert done.returncode == -9
    agentgov(repo, "log")
    assert traces(ENV, repo / ".git", state_dir) == []


def test_a_secret_in_a_branch_that_a_result_lands_on_is_only_in_gits_own_files(
    agentgov: Cli, repo: Path, state_dir: Path, git: GitRunner
) -> None:
    git(repo, "branch", f"topic-{ENV}")
    steps = [bash("echo two >> a.txt")]
    run = agentgov.play(repo, steps, "--intent", f"use {ENV}", "--workspace", "clone")
    agentgov(repo, "drop", run, "--yes")
    agentgov(repo, "promote", run, "--into", f"topic-{ENV}")
    found = traces(ENV, repo / ".git", state_dir)
    assert [trace for trace in found if trace.kind != "name"] == []
    assert {trace.where.relative_to(repo / ".git").parts[0] for trace in found} <= {"refs", "logs"}


@pytest.mark.parametrize("place", ["in-place", "clone"])
def test_what_files_hold_stays_in_files_and_nowhere_else(
    agentgov: Cli, repo: Path, state_dir: Path, git: GitRunner, place: str
) -> None:
    """Content and names of files are what a snapshot is: no funnel can change them and keep it a snapshot."""
    git(repo, "checkout", "-q", "-b", f"topic-{ENV}")
    steps = [
        write("config.py", f"token = '{ENV}'\n"),
        write(f"notes-{ENV}.txt", "x\n"),
        bash(f"ln -s {ENV} link; mkdir dir-{ENV}; echo {ENV} >> a.txt"),
    ]
    run = agentgov.play(repo, steps, "--workspace", place)
    agentgov(repo, "log", "--path", "config.py")
    agentgov(repo, "diff", run)
    if place == "clone":
        agentgov(repo, "apply", run)
    found = traces(ENV, repo / ".git", state_dir)
    allowed = {
        # The user's own: the branch, and what git says of it.
        "refs, logs and index of git": rf"{re.escape(str(repo))}/\.git/(HEAD|index|logs/.*|refs/heads/.*)",
        "the agent's copy, which is its own": rf"{re.escape(str(state_dir))}/workspaces/.*",
        "names of files, to see what changed": rf"{re.escape(str(state_dir))}/cache/snapshot-[0-9a-f]+",
    }
    left = [
        trace
        for trace in found
        if not _is_snapshot(trace)
        and not any(re.fullmatch(rule, str(trace.where)) for rule in allowed.values())
    ]
    assert left == []
    kinds = {trace.kind for trace in found if _is_snapshot(trace)}
    assert kinds == {"blob", "tree"}


def _is_snapshot(trace: Trace) -> bool:
    return trace.where.name in ("store.git", ".git") and trace.kind in ("blob", "tree")


def test_a_file_that_is_named_as_secret_and_not_tracked_is_in_no_snapshot(
    agentgov: Cli, repo: Path, state_dir: Path
) -> None:
    """`[snapshots] secret`: such a file's content is never stored."""
    agentgov.play(repo, [bash("echo x > b.txt")], "--workspace", "in-place")
    (repo / "server.key").write_text(ENV)
    agentgov.play(repo, [bash("echo y > b.txt")], "--workspace", "in-place")
    assert traces(ENV, repo / ".git", state_dir) == []
    assert traces(DOTENV, repo / ".git", state_dir) == []


def test_the_redaction_can_be_switched_off_on_the_protected_branch_alone(
    agentgov: Cli, repo: Path, state_dir: Path, git: GitRunner
) -> None:
    (repo / ".agentgov.toml").write_text("[record]\nredact_env = false\n")
    agentgov.play(repo, [bash(f"echo {ENV}")], "--workspace", "in-place")
    assert traces(ENV, repo / ".git", state_dir) == []
    git(repo, "commit", "-q", "-a", "-m", "store what the environment holds")
    agentgov.play(repo, [bash(f"echo {ENV}")], "--workspace", "in-place")
    assert traces(ENV, repo / ".git", state_dir)


def test_an_agents_settings_do_not_outlive_its_run(
    agentgov: Cli, repo: Path, state_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user's own settings may hold keys, and are written down for the agent with hooks added."""
    claude = tmp_path / "bin" / "claude"
    claude.parent.mkdir()
    seen = tmp_path / "seen"
    claude.write_text(
        '#!/bin/sh\n[ "$1" = --version ] && { echo "2.1.329 (Claude Code)"; exit; }\n'
        f'while [ $# -gt 0 ]; do [ "$1" = --settings ] && cat "$2" > {seen}; shift; done\n'
    )
    claude.chmod(0o755)
    settings = json.dumps({"env": {"UPSTREAM": ENV}})
    agentgov(
        repo,
        "run",
        "--workspace",
        "in-place",
        "--",
        str(claude),
        "-p",
        "x",
        "--settings",
        settings,
        code=None,
    )
    assert ENV in seen.read_text()
    assert traces(ENV, repo / ".git", state_dir) == []
