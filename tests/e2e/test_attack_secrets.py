"""Secrets in places that no call shows: names, versions, branches, garbage, what a crash leaves."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash
from tests.support.traces import traces

ENV = "canary-env-7Qm2zL9xT4"
PATTERN = "ghp_" + "cAn4Ry" * 6


@pytest.fixture
def state_dir(home: Path) -> Path:
    return home / ".local" / "state" / "agentgov"


@pytest.fixture
def repo(make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DEPLOY_TOKEN", ENV)
    return make_repo(files={"a.txt": "one\n"})


@pytest.mark.parametrize("secret", [ENV, PATTERN])
def test_a_tool_that_is_named_after_a_secret_is_in_no_entry(
    agentgov: Cli, repo: Path, state_dir: Path, secret: str
) -> None:
    steps = [
        {"tool": secret, "input": {"x": 1}},
        {"tool": f"mcp:{secret}", "input": {secret: [secret]}},
        {"tool": "Bash", "input": {"command": "echo x", "description": secret, "cwd": f"/{secret}"}},
        {"tool": "Task", "input": {"subagent_type": secret, "prompt": secret}},
        {"tool": "WebFetch", "input": {"url": f"https://x:{secret}@host/{secret}?q={secret}"}},
        bash(f"head -c 5000000 /dev/zero | tr '\\0' ' '; echo {secret}"),
        bash(f"printf '%65530s {secret} %65530s' x y"),
        bash(f"echo {secret} >/nowhere/{secret} 2>&1; exit 9"),
    ]
    if secret == ENV:
        # In what form a pattern is not looked for: docs/erasure.md.
        steps += [bash(f"(printf '%40s{secret}%70s' x y) | base64"), bash(f"echo mcp__{secret}__get")]
    run = agentgov.play(repo, steps, "--workspace", "in-place")
    agentgov(repo, "log", "--grep", secret)
    agentgov(repo, "show", run, "--all")
    agentgov(repo, "verify")
    assert traces(secret, repo / ".git", state_dir) == []
    shown = agentgov(repo, "show", f"{run}:1", "--json")
    assert secret not in shown.out


def test_an_agent_that_is_named_after_a_secret_is_in_no_entry(
    agentgov: Cli, repo: Path, state_dir: Path, tmp_path: Path
) -> None:
    agent = tmp_path / "bin" / PATTERN
    agent.parent.mkdir()
    agent.write_text(f"#!/bin/sh\necho {ENV}\nexit 0\n")
    agent.chmod(0o755)
    agentgov(repo, "run", "--workspace", "in-place", "--", str(agent), ENV)
    agentgov(repo, "log")
    for secret in (ENV, PATTERN):
        assert traces(secret, repo / ".git", state_dir) == []


def test_garbage_that_a_hook_sends_is_stored_redacted_or_not_at_all(
    agentgov: Cli, repo: Path, state_dir: Path
) -> None:
    """The agent's own client, called by the agent with what no agent would send."""
    junk = [
        json.dumps({"hook_event_name": "PreToolUse", "tool_name": ENV, "tool_input": ENV}),
        json.dumps({"hook_event_name": ENV, "session_id": ENV}),
        f"{{{ENV}",
        json.dumps({"hook_event_name": "PostToolUse", "tool_use_id": ENV, "tool_response": {ENV: ENV}}),
        json.dumps({"hook_event_name": "SessionStart", "model": ENV, "session_id": ENV, "cwd": f"/{ENV}"}),
        json.dumps({"hook_event_name": "PermissionRequest", "message": ENV}),
        json.dumps({"hook_event_name": "SubagentStart", "agent_id": ENV, "agent_type": ENV}),
    ]
    sender = repo.parent / "sender.py"
    sender.write_text(
        "import json, os, subprocess, sys\n"
        "argv = open(f'/proc/{os.getppid()}/cmdline', 'rb').read().split(b'\\0')\n"
        "settings = json.load(open(argv[argv.index(b'--settings') + 1]))\n"
        "hook = settings['hooks']['PreToolUse'][0]['hooks'][0]['command']\n"
        f"for text in {junk!r}:\n"
        "    subprocess.run(['sh', '-c', hook], input=text.encode(), capture_output=True)\n"
        "open('sent', 'w').close()\n"
    )
    command = f"exec {sys.executable} {sender}"
    agentgov.play(repo, [bash(command), bash("echo after")], "--workspace", "in-place", code=None)
    agentgov(repo, "log")
    assert (repo / "sent").exists()
    assert traces(ENV, repo / ".git", state_dir) == []


def test_what_persons_type_is_stored_redacted(agentgov: Cli, repo: Path, state_dir: Path) -> None:
    run = agentgov.play(repo, [bash("echo two >> a.txt")], "--intent", ENV, "--workspace", "clone")
    agentgov(repo, "redact", f"{run}:1", "--field", "output", "--reason", f"it was {ENV}", "--yes")
    agentgov(repo, "prune", "--older-than", "1d", "--yes")
    agentgov(repo, "log", "--grep", ENV, "--json")
    agentgov(repo, "log", "--intent", ENV)
    agentgov(repo, "show", ENV, code=None)
    agentgov(repo, "promote", run, "--into", f"topic-{ENV}", code=None)
    agentgov(repo, "approve", run, "--message", ENV, code=None)
    agentgov(repo, "ledger", "restart", "--reason", ENV, code=None)
    found = [trace for trace in traces(ENV, repo / ".git", state_dir) if trace.kind != "name"]
    assert found == []


def test_a_recorder_that_fails_leaves_no_secret_in_logs_or_core_files(
    agentgov: Cli, repo: Path, state_dir: Path, tmp_path: Path
) -> None:
    """A full disk, and a signal that dumps core, while a value waits in memory."""
    script = f"import os,signal;print('{ENV}',flush=True);os.kill(os.getppid(), signal.SIGABRT)"
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "agentgov",
            "run",
            "--workspace",
            "in-place",
            "--",
            sys.executable,
            "-c",
            script,
        ],
        cwd=repo,
        capture_output=True,
        check=False,
        env={**os.environ, "TMPDIR": str(tmp_path)},
    )
    assert done.returncode
    agentgov(repo, "log")
    assert traces(ENV, repo / ".git", state_dir, tmp_path / "tmp") == []
    cores = [path for path in repo.rglob("*") if re.match(r"core(\.|$)", path.name)]
    assert cores == []


def test_a_branch_that_is_named_after_a_secret_is_named_nowhere_but_in_git(
    agentgov: Cli, repo: Path, state_dir: Path, git: GitRunner
) -> None:
    git(repo, "checkout", "-q", "-b", f"topic-{ENV}")
    agentgov.play(repo, [bash("echo x")], "--workspace", "clone")
    found = [str(trace.where) for trace in traces(ENV, repo / ".git", state_dir)]
    assert [
        where for where in found if not re.search(r"/\.git/(HEAD|logs|refs/heads)|/workspaces/", where)
    ] == []
