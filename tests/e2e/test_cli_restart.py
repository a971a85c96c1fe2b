"""A new beginning on the command line: after damage, in use, by whom, and over a kill."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.git import discover
from agentgov.harness.state import RunLock, RunState
from agentgov.ids import RunId
from agentgov.ledger import succession
from agentgov.ledger.keys import KeyFolder
from tests.conftest import MakeRepo
from tests.e2e.conftest import Cli
from tests.support.record_places import new_key, stream_of


@pytest.fixture
def repo(make_repo: MakeRepo, agentgov: Cli) -> Path:
    """A repository with one finished run."""
    made = make_repo(files={"a.txt": "one\n"})
    agentgov.shell(made, "echo two >> a.txt")
    return made


def test_restart_is_the_way_out_of_a_line_that_does_not_hold(repo: Path, agentgov: Cli) -> None:
    old = stream_of(repo)
    segment = sorted((repo / ".git/agentgov/wal").iterdir())[-1]
    segment.write_bytes(b"garbage\n")
    assert agentgov(repo, "verify", code=12)
    agentgov(repo, "ledger", "restart", code=2)
    said = agentgov(repo, "ledger", "restart", "--yes")
    assert f"continues  {old}" in said.out
    assert "could not be closed" in said.out
    agentgov(repo, "verify")
    assert (repo / ".git/agentgov/earlier" / old / segment.name).read_bytes() == b"garbage\n"
    agentgov.shell(repo, "echo on >> a.txt")
    assert len(agentgov(repo, "log", "--json").json["runs"]) == 2


def test_restart_ends_a_record_that_holds(repo: Path, agentgov: Cli) -> None:
    said = agentgov(repo, "ledger", "restart", "--yes", "--json").json
    assert (said["ended"], said["hindrance"], said["open_runs"]) == (True, None, [])
    report = agentgov(repo, "verify", "--all", "--json").json
    assert [record["broken_at"] for record in report["records"]] == [None, None]


@pytest.mark.parametrize("looking", [("log", "--json"), ("verify",), ("show",), ("status",)])
@pytest.mark.parametrize("step", ["bind", "_take_key"])
def test_a_restart_that_was_killed_is_finished_by_the_next_command(
    repo: Path, agentgov: Cli, monkeypatch: pytest.MonkeyPatch, looking: tuple[str, ...], step: str
) -> None:
    def die(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    old = stream_of(repo)
    with monkeypatch.context() as patch:
        patch.setattr(KeyFolder if step == "bind" else succession, step, die)
        agentgov(repo, "ledger", "restart", "--yes", code=130)
    agentgov(repo, *looking)
    assert stream_of(repo) != old
    assert not list((Path.home() / ".local/state/agentgov/keys").glob("*/successor"))


def test_restart_waits_for_a_run_to_end(repo: Path, agentgov: Cli) -> None:
    layout = discover(repo).layout
    run = RunId("7kq2f")
    with RunLock(layout, run) as lock:
        lock.publish(RunState(run, 4_194_305, "/nowhere", str(repo), "clone", "claude", 1))
        assert "AG0071" in agentgov(repo, "ledger", "restart", "--yes", code=15).err
    assert not (repo / ".git/agentgov/earlier").exists()


def test_an_agent_can_neither_restart_a_record_nor_witness_nor_forget(
    repo: Path, agentgov: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentgov.harness.state.run_above", lambda layout, pid: RunId("7kq2f"))
    key, _ = new_key(agentgov, repo)
    before = (repo / ".git/agentgov/stream").read_bytes()
    for command in (
        ("ledger", "restart", "--yes"),
        ("witness", "--key", str(key)),
        ("verify", "--forget"),
    ):
        assert "AG0314" in agentgov(repo, *command, code=10).err
    assert (repo / ".git/agentgov/stream").read_bytes() == before
    assert not (Path.home() / ".local/state/agentgov/pins/forgotten").exists()


def test_restart_where_nothing_was_recorded(make_repo: MakeRepo, agentgov: Cli) -> None:
    assert "AG0301" in agentgov(make_repo(), "ledger", "restart", "--yes", code=2).err
