"""Repositories that synchronise with a bare one; imported by the tests that need them."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.git import discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, write


@pytest.fixture
def remote(tmp_path: Path, git: GitRunner) -> Path:
    """An empty bare repository."""
    path = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", path)
    return path


@pytest.fixture
def repo(make_repo: MakeRepo, remote: Path, git: GitRunner, agentgov: Cli) -> Path:
    """A clone with one run, whose branch the remote has."""
    path = make_repo()
    git(path, "remote", "add", "origin", remote)
    git(path, "push", "-q", "origin", "main")
    git(path, "fetch", "-q", "origin")
    git(path, "remote", "set-head", "origin", "main")
    agentgov.play(path, [write("a.txt", "one\n")], "--workspace", "in-place")
    return path


def stream_of(repo: Path) -> str:
    return discover(repo).layout.stream_file.read_text().strip()


def home_state(home: Path) -> StateHome:
    return StateHome(home / ".local" / "state" / "agentgov")


def remote_refs(remote: Path, git: GitRunner) -> dict[str, str]:
    lines = git(remote, "for-each-ref", "--format=%(refname) %(objectname)").splitlines()
    return dict(line.split() for line in lines)


def run_of(repo: Path, agentgov: Cli) -> RunId:
    return RunId(agentgov(repo, "log", "--json").json["runs"][0]["run"])


@pytest.fixture
def other(repo: Path, remote: Path, tmp_path: Path, git: GitRunner, agentgov: Cli) -> Path:
    """A second clone, with a run of its own, both synchronised."""
    agentgov(repo, "sync", "--yes")
    path = tmp_path / "other"
    git(tmp_path, "clone", "-q", remote, path)
    agentgov.play(path, [write("c.txt", "three\n")], "--workspace", "in-place")
    agentgov(path, "sync", "--yes")
    return path
