"""An agent that points refs of the record at something else, so that the next sync carries it out."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.git import discover
from tests.conftest import GitRunner
from tests.e2e.conftest import Cli, write
from tests.support.syncing import remote, remote_refs, repo, run_of, stream_of

__all__ = ["remote", "repo"]


@pytest.fixture
def secret(repo: Path, git: GitRunner, agentgov: Cli) -> str:
    """A commit that nobody published, in a repository that is synchronised already."""
    agentgov(repo, "sync", "--yes")
    (repo / "unpublished.txt").write_text("not for others\n")
    git(repo, "add", "unpublished.txt")
    git(repo, "commit", "-q", "-m", "wip")
    return git(repo, "rev-parse", "HEAD")


@pytest.mark.parametrize(
    "ref",
    [
        f"refs/agentgov/ledger/{'0' * 32}",
        f"refs/agentgov/timestamp/{'0' * 32}",
        f"refs/agentgov/witness/{'0' * 32}/{'1' * 8}",
        "refs/agentgov/archive",
    ],
)
@pytest.mark.parametrize("kind", ["commit", "blob", "tree", "tag", "parent"])
def test_a_ref_that_leads_to_unpublished_files_stops_the_sync(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, secret: str, ref: str, kind: str
) -> None:
    oid = {"blob": f"{secret}:unpublished.txt", "tree": f"{secret}^{{tree}}"}.get(kind, secret)
    if kind == "tag":
        git(repo, "tag", "-a", "-m", "x", "entries", secret)
        oid = "refs/tags/entries"
    elif kind == "parent":
        flat = git(repo, "rev-parse", f"refs/agentgov/ledger/{stream_of(repo)}^{{tree}}")
        oid = git(repo, "commit-tree", flat, "-p", secret, "-m", "x")
    git(repo, "update-ref", ref, git(repo, "rev-parse", oid))
    before = remote_refs(remote, git)
    agentgov.play(repo, [write("b.txt", "two\n")], "--workspace", "in-place")
    said = agentgov(repo, "sync", code=12)
    assert "AG0496" in said.err
    assert ref in said.err
    assert remote_refs(remote, git) == before


@pytest.mark.parametrize("what", ["snapshot", "output", "symbolic"])
def test_content_of_another_kind_stops_the_sync(
    agentgov: Cli, repo: Path, remote: Path, git: GitRunner, what: str
) -> None:
    run, store = run_of(repo, agentgov), discover(repo).layout.store
    agentgov(repo, "sync", "--dry-run")
    payloads = f"refs/agentgov/payloads/{run}"
    agentgov(repo, "sync", code=2)
    if what == "snapshot":
        git(store, "update-ref", f"{payloads}/changes", git(repo, "rev-parse", "HEAD"))
    elif what == "output":
        git(store, "update-ref", f"{payloads}/changes", git(store, "rev-parse", f"{payloads}/output"))
    else:
        git(store, "symbolic-ref", f"{payloads}/changes", f"{payloads}/output")
    before = remote_refs(remote, git)
    said = agentgov(repo, "sync", "--yes", code=12)
    assert "AG0496" in said.err
    assert remote_refs(remote, git) == before
