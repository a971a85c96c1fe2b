"""What is past its time, and what the record says is gone: pure readings of entries."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.config import RetentionTable
from agentgov.ids import RunId
from agentgov.ledger.commitments import COMMITTED, Commitment, commitments_of, tombstones_of
from agentgov.ledger.entry import Draft, Entry
from agentgov.ledger.erasure import gone_by_record, tombstone
from agentgov.ledger.retention import DAY_US, cutoffs_at, cutoffs_of, find_due

RUN, OTHER = RunId("7kq2f"), RunId("5bd0a")
OLD, NEW = "agentgov/" + "0" * 32, "agentgov/" + "1" * 32
NOW = 1000 * DAY_US


def digest(n: int) -> str:
    return f"{n:064x}"


def entry(seq: int, kind: str, ts: int, log: str = NEW, run: RunId | None = RUN, **body: Any) -> Entry:
    return Entry(seq=seq, prev="0" * 64, log=log, kind=kind, ts=ts, run=run, key=0, body=body)


def output(seq: int, ts: int, n: int, log: str = NEW, run: RunId = RUN) -> Entry:
    return entry(seq, "call.result", ts, log, run, output=digest(n), changes=None, n=1)


def draft(seq: int, made: Draft, log: str = NEW) -> Entry:
    return entry(seq, made.kind, NOW, log, made.run, **made.body)


def test_every_commitment_of_the_format_is_known() -> None:
    page = (Path(__file__).parents[2] / "docs" / "format.md").read_text()
    said: dict[str, set[str]] = {}
    for kind, fields in re.findall(r"^\| `([a-z]+\.[a-z]+)` \|[^|]*\|[^|]*\| (.*?) \|$", page, re.M):
        names = set(re.findall(r"`(\w+): c\??`", fields)) | (
            {"changes"} if re.search(r"\bstep\b", fields) else set()
        )
        if names:
            said[kind] = names
    # A tombstone's commitment is another entry's.
    said["payload.erased"] -= {"commitment"}
    assert said == {kind: {key for key, _, _ in fields} for kind, fields in COMMITTED.items()}


def test_days_become_times_and_zero_is_for_ever() -> None:
    table = RetentionTable(args_days=1, output_days=0, patch_days=400, changes_days=0)
    assert cutoffs_of(table, NOW) == {"args": NOW - DAY_US, "patch": NOW - 400 * DAY_US}
    assert cutoffs_at(["output"], 3, NOW) == {"output": NOW - 3 * DAY_US}


def test_older_content_goes_and_younger_stays() -> None:
    entries = [output(5, 10, 1), output(6, 20, 2), output(7, 30, 3), output(8, 10, 4)]
    (due,) = find_due(lambda: entries, {"output": 30})
    # What follows a younger one waits for it: a number parts them, not a time.
    assert (due.run, due.cls, due.before, due.digests) == (RUN, "output", 7, (digest(1), digest(2)))
    assert find_due(lambda: entries, {"args": 30}) == []
    assert find_due(lambda: entries, {"output": 10}) == []


def test_what_is_kept_or_gone_already_is_not_due() -> None:
    entries = [output(5, 10, 1), output(6, 10, 2), output(7, 10, 3, run=OTHER)]
    (first,) = commitments_of(entries[0])
    entries.append(draft(8, tombstone(first, None)))
    due = find_due(lambda: entries, {"output": 30}, lambda run, cls: run == OTHER)
    assert [item.digests for item in due] == [(digest(2),)]
    entries.append(draft(9, due[0].tombstone("retention")))
    assert entries[-1].body == {"before": 7, "cause": "retention", "class": "output", "count": 1}
    assert find_due(lambda: entries, {"output": 30}, lambda run, cls: run == OTHER) == []
    assert gone_by_record(lambda: entries) == {RUN: {digest(1), digest(2)}}


def test_an_earlier_records_content_goes_whole_or_waits() -> None:
    earlier = [output(50, 10, 1, OLD), output(51, 20, 2, OLD)]
    later = [output(3, 40, 3)]
    assert find_due(lambda: [*earlier, *later], {"output": 15}) == []
    (due,) = find_due(lambda: [*earlier, *later], {"output": 30})
    assert (due.before, due.digests) == (1, (digest(1), digest(2)))
    stone = draft(9, due.tombstone("operator"))
    said = tombstones_of([*earlier, *later, stone])
    gone = [said.is_gone(item) for found in (*earlier, *later) for item in commitments_of(found)]
    assert gone == [True, True, False]


def test_a_tombstone_of_one_class_or_run_covers_no_other() -> None:
    entries = [output(5, 10, 1), output(6, 10, 2, run=OTHER), entry(7, "actor.seen", 10, who=digest(3))]
    body: dict[str, Any] = {"before": 8, "cause": "retention", "class": "output", "count": 1}
    entries.append(entry(8, "payload.pruned", NOW, **body))
    assert gone_by_record(lambda: entries) == {RUN: {digest(1)}}


def test_a_tombstone_names_what_the_entry_committed_to() -> None:
    item = Commitment(NEW, 5, 10, RUN, 1, "output", "output", digest(1))
    assert tombstone(item, digest(2)) == Draft(
        "payload.erased",
        RUN,
        {"commitment": digest(1), "entry": 5, "field": "output", "reason": digest(2)},
    )


@given(
    st.lists(st.tuples(st.integers(0, 100), st.sampled_from([RUN, OTHER])), max_size=30),
    st.integers(0, 100),
    st.integers(0, 100),
)
def test_what_is_due_is_old_and_what_stays_is_not_covered(
    times: list[tuple[int, RunId]], first: int, second: int
) -> None:
    entries = [output(seq, ts, seq, run=run) for seq, (ts, run) in enumerate(times, 1)]
    for cutoff in (first, second):
        due = find_due(lambda: entries, {"output": cutoff})
        before = gone_by_record(lambda: entries)
        for item in due:
            assert all(times[int(name, 16) - 1][0] < cutoff for name in item.digests)
            entries.append(draft(len(entries) + 1, item.tombstone("retention")))
        gone = gone_by_record(lambda: entries)
        for run in {item.run for item in due} | set(before):
            named = {name for item in due if item.run == run for name in item.digests}
            assert gone[run] == before.get(run, set()) | named
        assert find_due(lambda: entries, {"output": cutoff}) == []


@pytest.mark.parametrize("cls", ["args", "output", "patch", "changes"])
def test_every_class_has_its_days(cls: str) -> None:
    assert hasattr(RetentionTable(), f"{cls}_days")


def test_a_tombstone_covers_neither_another_run_nor_what_came_after_it() -> None:
    """A run's key could say that everything is gone, for ever and everywhere."""
    mine, theirs, later = output(1, 0, 1), output(2, 0, 2, run=OTHER), output(9, 0, 3)
    erased: dict[str, Any] = {"commitment": digest(2), "entry": 2, "field": "output", "reason": None}
    pruned: dict[str, Any] = {"before": 2**40, "cause": "retention", "class": "output", "count": 9}
    entries = [
        mine,
        theirs,
        entry(3, "payload.erased", NOW, **erased),
        entry(4, "payload.pruned", NOW, **pruned),
        later,
    ]
    assert gone_by_record(lambda: entries) == {RUN: {digest(1)}}
