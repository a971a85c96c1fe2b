"""An agent that edits the settings of the repository, so that a sync goes elsewhere than it shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GitRunner
from tests.e2e.conftest import Cli, write
from tests.support.syncing import remote, remote_refs, repo, stream_of

__all__ = ["remote", "repo"]


@pytest.fixture
def elsewhere(tmp_path: Path, remote: Path, repo: Path, git: GitRunner, agentgov: Cli) -> Path:
    """Somebody else's repository, after a person has agreed to send to the right one."""
    agentgov(repo, "sync", "--yes")
    path = tmp_path / "elsewhere.git"
    git(tmp_path, "clone", "-q", "--bare", remote, path)
    agentgov.play(repo, [write("b.txt", "two\n")], "--workspace", "in-place")
    return path


@pytest.mark.parametrize("variable", ["insteadOf", "pushInsteadOf"])
def test_an_address_is_rewritten_once_as_git_does_and_not_again(
    agentgov: Cli, repo: Path, remote: Path, elsewhere: Path, git: GitRunner, variable: str
) -> None:
    git(repo, "config", "remote.origin.url", "there:x")
    git(repo, "config", f"url.{remote}.insteadOf", "there:x")
    git(repo, "config", f"url.{elsewhere}.{variable}", remote)
    before = remote_refs(elsewhere, git)
    agentgov(repo, "sync")
    ref = f"refs/agentgov/ledger/{stream_of(repo)}"
    assert remote_refs(remote, git)[ref] == git(repo, "rev-parse", ref)
    assert remote_refs(elsewhere, git) == before


@pytest.mark.parametrize("variable", ["insteadOf", "pushInsteadOf"])
def test_a_rewriting_of_everything_leads_nowhere_else(
    agentgov: Cli, repo: Path, remote: Path, elsewhere: Path, git: GitRunner, variable: str
) -> None:
    git(repo, "config", f"url.{elsewhere}/.{variable}", "")
    before = remote_refs(elsewhere, git)
    agentgov(repo, "sync", code=None)
    assert remote_refs(elsewhere, git) == before


def test_a_remote_named_like_the_address_adds_nothing_to_it(
    agentgov: Cli, repo: Path, remote: Path, elsewhere: Path, git: GitRunner, tmp_path: Path
) -> None:
    owned = tmp_path / "owned"
    git(repo, "config", f"remote.{remote}.url", elsewhere)
    git(repo, "config", f"remote.{remote}.pushurl", elsewhere)
    git(repo, "config", f"remote.{remote}.vcs", "ext")
    git(repo, "config", f"remote.{remote}.fetch", "+refs/agentgov/ledger/*:refs/heads/*")
    git(repo, "config", f"remote.{remote}.receivepack", f"touch {owned}; git-receive-pack")
    git(repo, "config", f"remote.{remote}.uploadpack", f"touch {owned}; git-upload-pack")
    before, branches = remote_refs(elsewhere, git), git(repo, "branch", "--list")
    agentgov(repo, "sync")
    ref = f"refs/agentgov/ledger/{stream_of(repo)}"
    assert remote_refs(remote, git)[ref] == git(repo, "rev-parse", ref)
    assert remote_refs(elsewhere, git) == before
    assert git(repo, "branch", "--list") == branches
    assert not owned.exists()


def test_an_address_with_signs_of_settings_in_it_is_used_as_it_is(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, tmp_path: Path
) -> None:
    odd = remote.rename(tmp_path / "a=b.c #'\"; d.git")
    git(repo, "remote", "set-url", "origin", odd)
    agentgov(repo, "sync", "--yes")
    ref = f"refs/agentgov/ledger/{stream_of(repo)}"
    assert remote_refs(odd, git)[ref] == git(repo, "rev-parse", ref)
