"""``run`` with any command: files only."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from agentgov.errors import UsageError
from agentgov.harness.process import NotExecutableError, NotFoundError
from agentgov.harness.state import is_alive, read_state
from agentgov.layout import StateHome
from tests.conftest import MakeRepo
from tests.support.running import Heard, Record, run, shell


def test_changes_are_recorded_as_nobodys_and_the_run_ends_in_good_order(
    make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo(files={"a.txt": "one\n"})
    heard = Heard()
    outcome = run(
        repo, state, shell("echo two >> a.txt; echo new > b.txt"), heard, intent="try", workspace="in-place"
    )
    assert (outcome.exit_code, outcome.state, outcome.calls) == (0, "finished", 0)
    assert [(t.path, t.added, t.deleted) for t in outcome.files] == [(b"a.txt", 1, 0), (b"b.txt", 1, 0)]
    assert (outcome.lines_with_call, outcome.lines) == (0, 2)
    assert heard.lines[0] == "first use"
    record = Record(repo, state)
    kinds = record.kinds(outcome.info.run)
    assert kinds[:3] == ["key.delegate", "policy.adopted", "run.start"]
    assert kinds[-3:] == ["run.end", "result.bind", "key.end"]
    assert set(kinds[3:-3]) == {"key.rotate", "change.unattributed"}
    record.assert_sequence(outcome.info.run)
    assert record.file(outcome.tree, "b.txt") == b"new\n"
    assert record.sealed_size == len(record.entries)
    started = record.of(outcome.info.run).start
    assert started is not None
    assert record.payload(outcome.info.run, started.body["intent"]) == b"try"
    facts = json.loads(record.payload(outcome.info.run, started.body["start"]))
    assert facts["branch"] == "refs/heads/main"
    assert started.body["capture"]["hooks"] is False
    layout = record.repo.layout
    assert not is_alive(layout, outcome.info.run)
    assert read_state(layout, outcome.info.run) is None


def test_changes_while_it_runs_are_entered_before_its_end(make_repo: MakeRepo, state: StateHome) -> None:
    repo = make_repo()
    entered = repo.parent / "entered"
    # The command goes on only when its first change was seen in the record's own files.
    script = f"""
        echo one > one
        while [ ! -e {entered} ]; do
            grep -qs change.unattributed .git/agentgov/wal/* && touch {entered}; sleep 0.05
        done
        echo two > two
    """
    outcome = run(repo, state, shell(script), workspace="in-place")
    kinds = Record(repo, state).kinds(outcome.info.run)
    assert kinds.count("change.unattributed") >= 2


def test_a_copy_leaves_the_users_tree_alone_and_its_result_is_bound(
    make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo(files={"a.txt": "one\n"})
    outcome = run(repo, state, shell("echo two > a.txt; pwd"), workspace="clone")
    assert (repo / "a.txt").read_text() == "one\n"
    assert outcome.info.place == "clone"
    assert (outcome.info.root / "a.txt").read_text() == "two\n"
    record = Record(repo, state)
    bound = record.of(outcome.info.run).result
    assert bound is not None
    assert bound.body["tree"] == outcome.tree
    assert record.file(bound.body["result"], "a.txt") == b"two\n"


def test_the_agents_exit_code_is_passed_on(make_repo: MakeRepo, state: StateHome) -> None:
    assert run(make_repo(), state, shell("exit 7")).exit_code == 7


def test_a_signal_is_passed_on_as_128_and_its_number(make_repo: MakeRepo, state: StateHome) -> None:
    assert run(make_repo(), state, shell("kill -9 $$")).exit_code == 137


def test_what_the_agent_leaves_behind_is_ended_before_the_last_snapshot(
    make_repo: MakeRepo, state: StateHome
) -> None:
    repo = make_repo()
    script = "setsid sh -c 'while :; do date +%N > busy; done' & while [ ! -s busy ]; do :; done"
    outcome = run(repo, state, shell(script), workspace="in-place")
    assert outcome.ended >= 1
    record = Record(repo, state)
    assert record.file(outcome.tree, "busy") == (repo / "busy").read_bytes()
    end = record.of(outcome.info.run).end
    assert end is not None
    assert end.body["ended"] == outcome.ended


@pytest.mark.parametrize(("argv", "error"), [(["no-such-program"], NotFoundError), ([], UsageError)])
def test_a_command_that_is_not_there_leaves_nothing_behind(
    make_repo: MakeRepo, state: StateHome, argv: list[str], error: type[Exception]
) -> None:
    repo = make_repo()
    with pytest.raises(error):
        run(repo, state, argv)
    assert not (repo / ".git" / "agentgov").exists()


def test_a_file_that_cannot_be_executed_is_said_so(make_repo: MakeRepo, state: StateHome) -> None:
    repo = make_repo(files={"tool": "not a program\n"})
    with pytest.raises(NotExecutableError):
        run(repo, state, ["./tool"], workspace="in-place")
    record = Record(repo, state)
    (failed,) = record.runs.values()
    assert failed.state == "failed"


def test_settings_that_are_wrong_stop_the_run_before_it_begins(make_repo: MakeRepo, state: StateHome) -> None:
    repo = make_repo(files={".agentgov.toml": "[nonsense]\nx = 1\n"})
    with pytest.raises(Exception, match="nonsense"):
        run(repo, state, shell("touch ran"))
    assert not (repo / "ran").exists()


def test_a_run_without_hooks_names_the_program(make_repo: MakeRepo, state: StateHome) -> None:
    outcome = run(make_repo(), state, shell("true"))
    assert (outcome.info.agent, outcome.info.hooks) == ("sh", False)


def test_two_runs_one_after_the_other_share_one_record(make_repo: MakeRepo, state: StateHome) -> None:
    repo = make_repo()
    first = run(repo, state, shell("echo 1 > f"), workspace="in-place").info.run
    heard = Heard()
    second = run(repo, state, shell("echo 2 > f"), heard, workspace="in-place").info.run
    assert heard.lines == []
    record = Record(repo, state)
    assert list(record.runs) == [first, second]
    assert record.of(second).start_tree == record.of(first).end_tree


def test_a_secret_of_the_environment_is_not_kept(make_repo: MakeRepo, state: StateHome) -> None:
    import os

    repo = make_repo()
    env = {**os.environ, "MY_API_TOKEN": "tok_live_9f8e7d6c5b4a39281706"}
    outcome = run(repo, state, [*shell("true"), "tok_live_9f8e7d6c5b4a39281706"], env=env)
    record = Record(repo, state)
    started = record.of(outcome.info.run).start
    assert started is not None
    assert b"tok_live_9f8e" not in record.payload(outcome.info.run, started.body["start"])


def test_the_socket_is_gone_after_the_run(make_repo: MakeRepo, state: StateHome, tmp_path: Path) -> None:
    outcome = run(make_repo(), state, shell("true"))
    assert not state.sockets(outcome.info.run).exists()
