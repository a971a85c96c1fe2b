"""`agentgov redact` killed at any moment: the next command finishes it, or nothing was begun."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from agentgov.git import Git
from tests.conftest import MakeRepo
from tests.e2e.conftest import Cli, agentgov, bash
from tests.support.traces import traces

__all__ = ["agentgov"]
CANARY = "canary-5e3f-that-must-go"


@pytest.mark.parametrize("after_ms", [150, 300, 450, 600])
def test_a_killed_erasure_is_finished_or_was_not_begun(
    agentgov: Cli,
    make_repo: MakeRepo,
    home: Path,
    after_ms: int,
) -> None:
    repo = make_repo(files={"a.txt": "one\n"})
    # Neither the command's arguments nor what is known of its effects hold what it prints.
    steps = [bash(f"echo {CANARY[::-1]} | rev"), bash("echo the-same-class-stays")]
    run = agentgov.play(repo, steps, "--workspace", "in-place")
    store = repo / ".git/agentgov/store.git"
    Git(store).run("repack", "-adq", "--write-midx", "--write-bitmap-index")
    command = ["redact", f"{run}:1", "--field", "output", "--reason", "x", "--yes"]
    process = subprocess.Popen(
        [sys.executable, "-m", "agentgov", *command], cwd=repo, stderr=subprocess.DEVNULL
    )
    time.sleep(after_ms / 1000)
    process.kill()
    process.wait()
    agentgov(repo, "log")
    agentgov(repo, "verify")
    was_entered = "erased on purpose" in agentgov(repo, "show", f"{run}:1").out
    assert bool(traces(CANARY, repo / ".git", home)) != was_entered
    assert "the-same-class-stays" in agentgov(repo, "show", f"{run}:2").out
    assert not (repo / ".git/agentgov/erasing").exists()
    Git(store).run("fsck", "--strict", "--full")
