"""Views of a record: what payloads say, what is left without them, and nothing made up."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.clock import Clock, Random
from agentgov.errors import BrokenRecordError
from agentgov.git import discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.history import History, fold
from agentgov.ledger.reader import Reader
from agentgov.report.facts import PayloadReader, changed_files, payload_bytes, payload_object
from agentgov.report.runs import call_detail, call_views, file_json, log_views, run_view, total_files
from tests.conftest import MakeRepo
from tests.support.ledgers import OTHER, RUN, payload_store, prepare, tree


@dataclass
class Fake:
    """Payloads by digest."""

    values: dict[str, bytes] = field(default_factory=dict)

    def get(self, run: RunId, digest: str) -> Any:
        if digest == "broken":
            raise BrokenRecordError("not what was committed to", id="AG0240")
        raw = self.values.get(digest)
        return None if raw is None else type("Payload", (), {"value": raw})


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return make_repo()


@pytest.fixture
def history(repo: Path, state: StateHome, clock: Clock, rng: Random) -> History:
    prepared = prepare(repo, state, clock, rng)
    with Reader(discover(repo), prepared.stream_id) as reader:
        return fold(signed.entry for signed in reader.entries())


@pytest.fixture
def reader(repo: Path, history: History, rng: Random) -> PayloadReader:
    return payload_store(repo, rng)


def never(_: RunId) -> bool:
    return False


def test_the_log_is_newest_first_with_figures_from_the_record(
    history: History, reader: PayloadReader
) -> None:
    newest, oldest = log_views(history, reader, never)
    assert (newest.run, oldest.run) == (OTHER, RUN)
    assert (oldest.calls, oldest.ran, oldest.denied) == (4, 3, 1)
    assert (oldest.intent, oldest.agent, oldest.agent_version) == ("fix it", "claude", "2.1")
    assert (oldest.state, oldest.exit, oldest.result, oldest.landed) == ("finished", 0, tree(9), None)
    assert json.loads(json.dumps(oldest.to_json()))["run"] == RUN


def test_a_run_without_an_end_is_running_only_while_somebody_records_it(history: History) -> None:
    run = history.runs[RUN]
    run.end = None
    assert run_view(run, Fake(), lambda _: True).state == "running"
    assert run_view(run, Fake(), never).state == "OPEN"


def test_calls_say_who_asked_what_was_said_and_what_changed(history: History, reader: PayloadReader) -> None:
    run = history.runs[RUN]
    first, denied, asked, sub = call_views(run, reader)
    assert [call.status for call in (first, denied, asked, sub)] == ["ok", "denied", "ok", "ok"]
    assert (denied.denied_by, denied.answered, denied.took_us) == ("policy", False, None)
    assert (asked.decision, asked.answered, asked.denied_by) == ("ask", True, None)
    assert (first.actor, sub.actor) == ("main", "agent-1")
    # Calls 1 and 3 were open at the same time.
    assert first.shared
    assert not sub.shared
    detail = call_detail(run, run.calls[1], reader)
    assert detail["output"] == "done"
    assert (detail["from"], detail["tree"]) == (run.calls[1].from_tree, run.calls[1].tree_after)


def test_a_call_without_a_result_is_open_until_the_run_ends(history: History, reader: PayloadReader) -> None:
    run = history.runs[RUN]
    run.calls[4].result = None
    assert call_views(run, reader)[3].status == "interrupted"
    run.end = None
    assert call_views(run, reader)[3].status == "open"


def test_without_payloads_figures_are_unknown_and_nothing_raises(history: History) -> None:
    run = history.runs[RUN]
    view = run_view(run, Fake(), never)
    assert (view.intent, view.operator, view.model, view.files) == (None, None, None, None)
    assert (view.calls, view.denied) == (4, 1)
    views = call_views(run, Fake())
    assert [call.tool for call in views] == ["Bash"] * 4
    assert views[3].files is None
    assert total_files(run, Fake()) is None
    assert call_detail(run, run.calls[4], Fake())["output"] is None


def test_a_payload_that_is_not_the_one_recorded_counts_as_missing() -> None:
    assert payload_bytes(Fake(), RUN, "broken") is None
    assert payload_bytes(Fake(), RUN, None) is None


@given(st.binary())
def test_no_payload_makes_a_reader_fail(raw: bytes) -> None:
    fake = Fake({"x": raw})
    assert isinstance(payload_object(fake, RUN, "x"), dict)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(JSON, st.fixed_dictionaries({"path": JSON, "status": JSON, "hunks": JSON, "calls": JSON}))
def test_no_list_of_changes_makes_a_reader_fail(anything: Any, item: dict[str, Any]) -> None:
    for files in (anything, [anything], [item]):
        raw = json.dumps({"v": 1, "files": files}).encode()
        found = changed_files(history_run(), Fake({"x": raw}), "x")
        for file in found or ():
            json.dumps(file_json(file))


def history_run() -> Any:
    return type("Run", (), {"run": RUN})


def entry(path: str, old: str | None, new: str | None, hunks: Any = None) -> dict[str, Any]:
    status = "A" if old is None else "D" if new is None else "M"
    return {"path": path, "status": status, "hunks": hunks, "calls": [], "old_mode": old, "new_mode": new}


def test_links_folders_and_bits_are_told_apart() -> None:
    files = [
        entry("folder", None, "040000"),
        entry("link", "120000", None),
        entry("module", None, "160000"),
        entry("on", "100644", "100755", []),
        entry("off", "100755", "100644", []),
        entry("new", None, "100755", [[0, 0, 1, 2]]),
        entry("gone", "100755", None, [[1, 2, 0, 0]]),
    ]
    raw = json.dumps({"v": 1, "files": files}).encode()
    found = changed_files(history_run(), Fake({"x": raw}), "x")
    assert found is not None
    assert [(f.path.decode(), f.kind, f.executable) for f in found] == [
        ("folder", "folder", None),
        ("link", "link", None),
        ("module", "repository", None),
        ("on", "file", True),
        ("off", "file", False),
        ("new", "file", True),
        ("gone", "file", None),
    ]
    assert [(f.added, f.deleted, f.binary) for f in found][3:] == [
        (0, 0, False),
        (0, 0, False),
        (2, 0, False),
        (0, 2, False),
    ]
