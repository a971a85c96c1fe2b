"""`log` as a search: which calls and runs it names, from the command line."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.cli.screen import WIDTH
from tests.conftest import MakeRepo
from tests.e2e.conftest import Cli, bash, demo, write


@pytest.fixture
def repo(agentgov: Cli, make_repo: MakeRepo) -> Path:
    """Two runs of the demonstration agent: one that writes, one that is denied."""
    path = make_repo(files={"a.txt": "one\n"})
    first = [write("new/b.txt", "b\n"), bash("echo two >> a.txt # Marker-One"), bash("ls", "helper")]
    assert agentgov(path, "run", "--intent", "write it", *demo(path, first)).code == 0
    second = [bash("rm -rf /etc"), bash("echo three >> a.txt")]
    agentgov(path, "run", "--intent", "break it", *demo(path, second))
    return path


def named(agentgov: Cli, repo: Path, *words: str) -> list[int]:
    """The calls that a search names, without their runs."""
    return [call["n"] for call in agentgov(repo, "log", *words, "--json").json["calls"]]


def test_calls_are_found_by_every_option(agentgov: Cli, repo: Path) -> None:
    assert named(agentgov, repo, "--grep", "marker-one") == [2]
    assert named(agentgov, repo, "--grep", "MARKER-one") == []
    assert named(agentgov, repo, "--grep", r"echo t\w+", "-E") == [2, 2]
    assert named(agentgov, repo, "--denied") == [1]
    assert named(agentgov, repo, "--tool", "Write") == [1]
    assert named(agentgov, repo, "--path", "a.txt") == [2, 2]
    assert named(agentgov, repo, "--path", "new/") == [1]
    assert named(agentgov, repo, "--tool", "*", "--agent", "helper") == [3]
    assert named(agentgov, repo, "--tool", "*", "--intent", "BREAK") == [2, 1]
    assert named(agentgov, repo, "--denied", "--since", "1h") == [1]
    assert named(agentgov, repo, "--denied", "--until", "yesterday") == []


def test_runs_are_narrowed_without_a_search_for_calls(agentgov: Cli, repo: Path) -> None:
    runs = agentgov(repo, "log", "--intent", "write", "--json").json["runs"]
    assert [(run["intent"], run["calls"]) for run in runs] == [("write it", 3)]
    assert agentgov(repo, "log", "--until", "2d", "--json").json["runs"] == []
    assert "no run fits" in agentgov(repo, "log", "--agent", "nobody").err


def test_the_calls_found_fit_the_screen_and_name_the_next_command(agentgov: Cli, repo: Path) -> None:
    said = agentgov(repo, "log", "--denied")
    header, row = said.out.splitlines()
    assert header.split() == ["CALL", "WHEN", "WHO", "TOOL", "WHAT", "VERDICT", "TOOK", "CHANGED"]
    assert "rm -rf /etc" in row
    assert "DENIED" in row
    assert max(map(len, said.out.splitlines())) <= WIDTH
    assert f"agentgov show {row.split()[0]}" in said.err
    assert "there are more" in agentgov(repo, "log", "--tool", "*", "-n", "1").err


def test_a_moment_or_a_pattern_that_is_none_is_a_usage_error(agentgov: Cli, repo: Path) -> None:
    assert "AG0347" in agentgov(repo, "log", "--since", "soon", code=2).err
    assert "AG0346" in agentgov(repo, "log", "--grep", "a(", "-E", code=2).err
