"""The search index: what it finds is what a reading of the whole record finds, and it is only a cache."""

from __future__ import annotations

import contextlib
import json
import os
import re
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.cli.when import parse_when
from agentgov.clock import Clock, Random
from agentgov.errors import UsageError
from agentgov.git import Repository, discover
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft
from agentgov.ledger.history import fold
from agentgov.ledger.keys import Signer
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.reader import Reader
from agentgov.ledger.stream import Stream
from agentgov.report.runs import call_views, log_views
from agentgov.report.search import FoundCall, Query, find_calls, find_runs, literal_in
from agentgov.report.search_index import index_path, open_index, remove_index
from tests.conftest import MakeRepo
from tests.support.ledger import request as draft_request
from tests.support.ledgers import MACHINE, RUN, payload_store, prepare

EVERYTHING = Query(since_us=0, tool="*")


@pytest.fixture
def repo(make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random) -> Path:
    path = make_repo()
    prepare(path, state, clock, rng)
    return path


@pytest.fixture
def payloads(repo: Path, rng: Random) -> Iterator[PayloadStore]:
    store = payload_store(repo, rng)
    yield store
    store.close()


@pytest.fixture
def repository(repo: Path) -> Repository:
    return discover(repo)


def never(_: RunId) -> bool:
    return False


def calls(repository: Repository, payloads: PayloadStore, query: Query) -> list[FoundCall]:
    with open_index(repository, payloads) as index:
        return find_calls(index, query, None)


@contextmanager
def appending(repo: Path, state: StateHome, clock: Clock, rng: Random) -> Iterator[tuple[Stream, Signer]]:
    with Stream.open(discover(repo), state, clock=clock, random=rng, machine=MACHINE) as stream:
        yield stream, stream.log_signer()


def request(n: int, **changes: Any) -> Draft:
    return draft_request(n, RUN, **changes)


def said(payloads: PayloadStore, what: str, given: dict[str, Any]) -> str:
    value = {"v": 1, "tool": "Bash", "kind": "shell", "what": what, "input": given}
    digest = payloads.put(RUN, "args", "args", json.dumps(value).encode())
    payloads.sync()
    return digest


def test_runs_found_are_those_that_a_reading_of_the_whole_record_tells(
    repository: Repository, payloads: PayloadStore
) -> None:
    with Reader.of_clone(repository) or pytest.fail("no record") as reader:
        history = fold(reader.entries())
    with open_index(repository, payloads) as index:
        assert find_runs(index, Query(), None, never) == (log_views(history, payloads, never), 2)
        assert find_runs(index, Query(), 1, never) == (log_views(history, payloads, never)[:1], 2)


def test_calls_found_are_those_of_the_record_newest_first(
    repository: Repository, payloads: PayloadStore
) -> None:
    with Reader.of_clone(repository) or pytest.fail("no record") as reader:
        history = fold(reader.entries())
    expected = [
        (
            run.run,
            call.n,
            call.at_us,
            call.actor,
            call.tool,
            call.what,
            call.status,
            call.decision,
            call.took_us,
        )
        for run in reversed(list(history))
        for call in reversed(call_views(run, payloads))
    ]
    found = [
        (
            call.run,
            call.n,
            call.at_us,
            call.actor,
            call.tool,
            call.what,
            call.status,
            call.decision,
            call.took_us,
        )
        for call in calls(repository, payloads, EVERYTHING)
    ]
    assert found == expected
    assert len(found) > 3


def test_what_is_recorded_later_is_found_without_reading_the_rest_again(
    repo: Path, repository: Repository, payloads: PayloadStore, state: StateHome, clock: Clock, rng: Random
) -> None:
    before = len(calls(repository, payloads, EVERYTHING))
    with appending(repo, state, clock, rng) as (stream, signer):
        stream.append([Draft("run.drop", RUN, {})], signer)
    told: list[int] = []
    with open_index(repository, payloads, told.append) as index:
        assert len(find_calls(index, EVERYTHING, None)) == before
        (dropped,) = [run for run in find_runs(index, Query(), None, never)[0] if run.run == RUN]
    assert dropped.dropped


def test_a_denied_call_is_found_as_denied(repository: Repository, payloads: PayloadStore) -> None:
    found = calls(repository, payloads, Query(denied=True))
    assert found
    assert {call.status for call in found} == {"denied"}


def test_an_index_of_another_record_is_made_again(repository: Repository, payloads: PayloadStore) -> None:
    expected = calls(repository, payloads, EVERYTHING)
    with sqlite3.connect(index_path(repository.layout)) as index:
        index.execute("UPDATE call SET what = 'forged'")
        index.execute("UPDATE stream SET leaf = zeroblob(32)")
    assert calls(repository, payloads, EVERYTHING) == expected


@pytest.mark.parametrize("content", [b"", b"garbage" * 999, b"SQLite format 3\x00" + bytes(5000)])
def test_a_damaged_index_is_made_again(
    repository: Repository, payloads: PayloadStore, content: bytes
) -> None:
    expected = calls(repository, payloads, EVERYTHING)
    index_path(repository.layout).write_bytes(content)
    assert calls(repository, payloads, EVERYTHING) == expected
    assert calls(repository, payloads, EVERYTHING) == expected


def test_an_index_of_another_form_is_made_again(repository: Repository, payloads: PayloadStore) -> None:
    expected = calls(repository, payloads, EVERYTHING)
    with sqlite3.connect(index_path(repository.layout)) as index:
        index.execute("UPDATE form SET form = 999")
        index.execute("DROP TABLE said")
    assert calls(repository, payloads, EVERYTHING) == expected


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo", "folder"])
def test_nothing_is_written_through_what_stands_in_the_place_of_the_index(
    repository: Repository, payloads: PayloadStore, tmp_path: Path, kind: str
) -> None:
    path, own = index_path(repository.layout), tmp_path / "own"
    own.write_bytes(b"mine")
    if kind == "link":
        path.symlink_to(own)
    elif kind == "hard link":
        path.hardlink_to(own)
    elif kind == "fifo":
        os.mkfifo(path)
    else:
        path.mkdir()
    assert calls(repository, payloads, EVERYTHING)
    assert own.read_bytes() == b"mine"


def test_a_record_that_cannot_be_written_beside_is_searched_all_the_same(
    repository: Repository, payloads: PayloadStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> sqlite3.Connection:
        raise PermissionError("read-only")

    monkeypatch.setattr("agentgov.report.search_index._connect", refuse)
    assert calls(repository, payloads, EVERYTHING)
    assert not index_path(repository.layout).exists()


def test_the_index_is_for_this_user_only(repository: Repository, payloads: PayloadStore) -> None:
    calls(repository, payloads, EVERYTHING)
    assert index_path(repository.layout).stat().st_mode & 0o777 == 0o600
    remove_index(repository.layout)
    assert not [path for path in repository.layout.root.iterdir() if path.name.startswith("search")]


@pytest.mark.parametrize(
    ("query", "found"),
    [
        (Query(text="npm install"), {1}),
        (Query(text="NPM install"), set()),
        (Query(text="Left-Pad"), {1}),
        (Query(text="left-pad"), {1}),
        (Query(text="left-pad", tool="bash"), {1}),
        (Query(text="left-pad", tool="Edit"), set()),
        (Query(text="50%"), {2}),
        (Query(text="5_%"), set()),
        (Query(text="_%"), set()),
        (Query(text="ü"), {2}),
        (Query(text='say "hi"'), {2}),
        (Query(text="é%_'\"\\"), set()),
        (Query(pattern=r"npm\s+install"), {1}),
        (Query(pattern="npm i.*pad"), {1}),
        (Query(pattern="colou?r"), {2}),
        (Query(pattern="^Bash npm"), {1}),
        (Query(text="pad", since_us=2**60), set()),
        (Query(text="pad", until_us=0), set()),
        (Query(text="pad", agent="claude"), {1}),
        (Query(text="pad", agent="codex"), set()),
        (Query(text="pad", intent="FIX"), {1}),
        (Query(text="pad", intent="%"), set()),
    ],
)
def test_a_search_finds_what_holds_all_of_it(
    repo: Path,
    repository: Repository,
    payloads: PayloadStore,
    state: StateHome,
    clock: Clock,
    rng: Random,
    query: Query,
    found: set[int],
) -> None:
    first = said(payloads, "npm install Left-Pad", {"command": "npm install Left-Pad"})
    second = said(payloads, 'say "hi" to the color ü', {"command": "50% off"})
    with appending(repo, state, clock, rng) as (stream, _):
        stream.append([request(101, args=first), request(102, args=second)], stream.delegate(RUN))
    assert {call.n - 100 for call in calls(repository, payloads, query)} == found


def test_a_call_is_found_by_what_it_changed(repository: Repository, payloads: PayloadStore) -> None:
    with open_index(repository, payloads) as index:
        paths = [
            bytes(path) for (path,) in index.execute("SELECT DISTINCT path FROM change WHERE n IS NOT NULL")
        ]
    assert paths
    name = os.fsdecode(paths[0])
    found = calls(repository, payloads, Query(path=name))
    assert found
    assert found == calls(repository, payloads, Query(path=f"./{name}"))
    assert calls(repository, payloads, Query(path=name[:-1] + "?")) == found
    assert not calls(repository, payloads, Query(path=f"{name}x"))


def test_a_pattern_that_is_none_is_refused(repository: Repository, payloads: PayloadStore) -> None:
    with pytest.raises(UsageError) as error:
        calls(repository, payloads, Query(pattern="a(b"))
    assert error.value.id == "AG0346"


def test_an_erased_text_leaves_the_index(
    repo: Path, repository: Repository, payloads: PayloadStore, state: StateHome, clock: Clock, rng: Random
) -> None:
    secret = said(payloads, "login --password canary-phrase", {})
    erased = False

    class Reading:
        def get(self, run: RunId, digest: str) -> Any:
            return None if erased and digest == secret else payloads.get(run, digest)

    with appending(repo, state, clock, rng) as (stream, _):
        (entry,) = stream.append([request(101, args=secret)], stream.delegate(RUN))
    with open_index(repository, Reading()) as index:
        assert find_calls(index, Query(text="canary-phrase"), None)
    assert b"canary-phrase" in index_path(repository.layout).read_bytes()
    body = {"commitment": secret, "entry": entry.entry.seq, "field": "args", "reason": None}
    with appending(repo, state, clock, rng) as (stream, signer):
        stream.append([Draft("payload.erased", RUN, body)], signer)
    erased = True
    with open_index(repository, Reading()) as index:
        assert not find_calls(index, Query(text="canary-phrase"), None)
        assert find_calls(index, EVERYTHING, None)
    assert b"canary" not in index_path(repository.layout).read_bytes()


@given(st.text(alphabet="abc.*+?^$ ", max_size=12), st.text(alphabet="abc ", max_size=12))
def test_the_literal_of_a_pattern_stands_in_all_that_it_matches(pattern: str, text: str) -> None:
    try:
        matches = re.search(pattern, text) is not None
    except re.error:
        return
    if matches:
        assert literal_in(pattern) in text


NOON = int(datetime(2026, 11, 20, 12, tzinfo=UTC).timestamp() * 1e6)


@pytest.mark.parametrize(
    ("raw", "ago_seconds"),
    [
        ("now", 0),
        ("3h", 3 * 3600),
        ("2 days ago", 172_800),
        ("90 min", 5400),
        ("1w", 604_800),
        ("today", 12 * 3600),
        ("yesterday", 36 * 3600),
        ("2026-11-20", 12 * 3600),
        ("2026-11-20T11:59", 60),
        ("2026-11-20 13:00+01:00", 0),
    ],
)
def test_a_moment_is_read_as_a_person_types_it(raw: str, ago_seconds: int) -> None:
    assert parse_when(raw, NOON, UTC) == NOON - ago_seconds * 1_000_000


@pytest.mark.parametrize("raw", ["", "soon", "2026-13-40", "3 fortnights", "-3h", "99999999999999999h"])
def test_what_is_no_moment_is_refused(raw: str) -> None:
    with pytest.raises(UsageError) as error:
        parse_when(raw, NOON, UTC)
    assert error.value.id == "AG0347"


@pytest.mark.parametrize(
    "planted",
    [
        "CREATE TRIGGER evil AFTER INSERT ON call BEGIN DELETE FROM run; END",
        "CREATE VIEW extra AS SELECT 1",
        "DROP TABLE run;"
        "CREATE VIEW run AS WITH RECURSIVE n AS (SELECT 1 UNION ALL SELECT 1 FROM n) SELECT 1 FROM n",
        "DROP TABLE words",
        "UPDATE stream SET size = 'x'",
    ],
)
def test_what_is_planted_in_the_index_answers_nothing(
    repository: Repository, payloads: PayloadStore, planted: str
) -> None:
    with open_index(repository, payloads) as index:
        expected = (
            find_runs(index, Query(), None, lambda run: False),
            find_calls(index, Query(tool="*"), None),
        )
    with contextlib.closing(sqlite3.connect(index_path(repository.layout))) as other:
        other.executescript(planted)
    with open_index(repository, payloads) as index:
        assert find_runs(index, Query(), None, lambda run: False) == expected[0]
        assert find_calls(index, Query(tool="*"), None) == expected[1]
        assert not index.execute(
            "SELECT name FROM sqlite_master WHERE type IN ('trigger', 'view')"
        ).fetchall()


def test_a_very_long_text_is_looked_for_like_any_other(
    repository: Repository, payloads: PayloadStore
) -> None:
    for text in ("x" * 2**20, "%" * 60_000, "\\" * 60_000):
        with open_index(repository, payloads) as index:
            assert find_calls(index, Query(text=text), None) == []
            assert find_runs(index, Query(intent=text), None, lambda run: False) == ([], 0)
