"""An agent that would have itself trusted, others revoked, or keys of its own taken for a person's."""

from __future__ import annotations

import sys

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli

FOR_PERSONS = (
    "keys new --no-passphrase --file made",
    "keys trust mallory@example.org --key mallory.pub",
    "keys import mallory.pub --for mallory@example.org",
    "keys rotate",
    "keys rotate --person --key mallory",
    "keys revoke alice@example.org",
)


def test_an_agent_changes_nobodys_keys(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AGENTGOV_WITNESS_KEY", "PRIVATE+KEY+ci+00000000+BAAA")
    repo = make_repo()
    agent = f"{sys.executable} -m agentgov"
    lines = ["ssh-keygen -q -t ed25519 -N '' -f mallory", "env > environment"]
    lines += [f"{agent} {command} 2> err{n}; echo $? > code{n}" for n, command in enumerate(FOR_PERSONS)]
    agentgov.shell(repo, "; ".join(lines), "--workspace", "in-place")
    for number, command in enumerate(FOR_PERSONS):
        assert (repo / f"code{number}").read_text() == "10\n", command
        assert "AG0314" in (repo / f"err{number}").read_text()
    assert not (repo / "made").exists()
    assert "agentgov/keys" not in git(repo, "branch", "--list", "--all")
    seen = (repo / "environment").read_text()
    assert "AGENTGOV_RUN=" in seen
    assert "AGENTGOV_WITNESS_KEY" not in seen
