"""The history that a record tells."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.clock import Clock, Random
from agentgov.errors import UsageError
from agentgov.git import discover
from agentgov.layout import StateHome
from agentgov.ledger.entry import Entry
from agentgov.ledger.history import History, fold
from agentgov.ledger.reader import Reader
from tests.conftest import MakeRepo
from tests.support.ledgers import OTHER, RUN, prepare, tree


@pytest.fixture
def entries(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> list[Entry]:
    prepared = prepare(make_repo(), state, clock, rng)
    with Reader(discover(Path(prepared.repo)), prepared.stream_id) as reader:
        return [signed.entry for signed in reader.entries()]


@pytest.fixture
def history(entries: list[Entry]) -> History:
    return fold(entries)


def test_runs_come_in_the_order_in_which_they_began(history: History, entries: list[Entry]) -> None:
    assert [record.run for record in history] == [RUN, OTHER]
    assert history.size == len(entries)
    last = history.last_run()
    assert last is not None
    assert last.run == OTHER


def test_calls_carry_verdict_answer_result_and_trees(history: History) -> None:
    calls = history.runs[RUN].calls
    assert list(calls) == [1, 2, 3, 4]
    assert [call.status for call in calls.values()] == ["ok", "denied", "ok", "ok"]
    assert [call.allowed for call in calls.values()] == [True, False, True, True]
    assert (calls[3].decision, calls[3].answer is not None) == ("ask", True)
    assert calls[4].actor == 1
    assert calls[1].took_us == 5
    assert calls[2].took_us is None


def test_trees_are_found_by_point(history: History) -> None:
    record = history.runs[RUN]
    assert record.tree_at("start") == tree(1)
    assert record.tree_at("end") == tree(5)
    assert [record.tree_at(n) for n in (1, 2, 3, 4)] == [tree(3), tree(1), tree(3), tree(4)]
    with pytest.raises(UsageError) as caught:
        record.tree_at(9)
    assert caught.value.id == "AG0264"


def test_steps_have_an_owner(history: History) -> None:
    changing = [step for step in history.runs[RUN].steps if step.changes is not None]
    assert [(step.kind, step.owner) for step in changing] == [
        ("call.request", 1),
        ("call.result", "shared"),
        ("call.result", 4),
        ("change.unattributed", None),
    ]


def test_a_run_is_found_by_a_prefix(history: History) -> None:
    assert history.find_run("7k").run == RUN
    with pytest.raises(UsageError) as caught:
        history.find_run("zz")
    assert caught.value.id == "AG0266"
    with pytest.raises(UsageError) as caught:
        history.find_run("")
    assert caught.value.id == "AG0267"


def test_every_prefix_of_a_record_has_a_history(entries: list[Entry]) -> None:
    for size in range(len(entries) + 1):
        history = fold(entries[:size])
        for record in history:
            assert record.state in ("open", "finished")
            assert all(call.status for call in record.calls.values())


def test_every_suffix_of_a_record_has_a_history(entries: list[Entry]) -> None:
    for size in range(len(entries)):
        for record in fold(entries[size:]):
            if record.start is None and record.run == OTHER:
                assert record.start_tree is None
    cut = fold(entry for entry in entries if entry.kind != "run.start")
    with pytest.raises(UsageError) as caught:
        cut.runs[RUN].tree_at("start")
    assert caught.value.id == "AG0265"


def test_the_result_that_counts_is_the_last_one(history: History) -> None:
    result = history.runs[RUN].result
    assert result is not None
    assert result.body["tree"] == tree(5)
    assert history.runs[OTHER].result is None
