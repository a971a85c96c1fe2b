"""On a terminal: a question before something changes, colours, and the same harmless text."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.conftest import MakeRepo
from tests.e2e.conftest import Cli, bash, write
from tests.support.terminals import Screen


@contextmanager
def terminal(cwd: Path, *args: str) -> Iterator[Screen]:
    env = {**os.environ, "TERM": "xterm-256color"}
    screen = Screen([sys.executable, "-m", "agentgov", *args], env, cwd)
    try:
        yield screen
    finally:
        screen.close()


@pytest.mark.parametrize(("typed", "code"), [("y\n", 0), ("n\n", 1), ("\n", 1), ("\x04", 1)])
def test_a_rollback_shows_its_plan_and_asks(
    agentgov: Cli, make_repo: MakeRepo, typed: str, code: int
) -> None:
    repo = make_repo(files={"a.txt": "one\n"})
    agentgov.play(repo, [bash("echo two >> a.txt")], "--workspace", "in-place")
    with terminal(repo, "rollback", ":start") as screen:
        screen.expect(r"~ a\.txt")
        screen.expect(r"\[y/N\] ")
        screen.type(typed)
        assert screen.wait() == code
    assert (repo / "a.txt").read_text() == ("one\n" if code == 0 else "one\ntwo\n")


def test_drop_asks_too(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo()
    said = agentgov(repo, "run", "--json", "--", "true").summary
    with terminal(repo, "drop") as screen:
        screen.expect(r"\[y/N\] ")
        screen.type("n\n")
        assert screen.wait() == 1
    assert Path(said["workspace"]).is_dir()


def test_colours_come_from_us_alone(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo()
    agentgov.play(repo, [write("x", "\x1b[35mmagenta\x1b]0;title\x07\n"), bash("rm -rf /etc")])
    for args in (["diff"], ["show"], ["log"]):
        with terminal(repo, *args) as screen:
            screen.expect({"diff": "title", "show": "DENIED", "log": "finished"}[args[0]])
            assert screen.wait() == 0
            seen = screen.seen
        assert b"\x1b[" in seen
        assert b"\x1b[35m" not in seen
        assert b"\x1b]0;" not in seen
        assert b"\x07" not in seen
