"""A run of a record that this one continues: what a person does with it later holds, and calls never do."""

from __future__ import annotations

from typing import Any

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ids import RunId
from agentgov.ledger.entry import Entry
from agentgov.ledger.verify_rules import RunRules
from tests.support.ledger import HASH, NEXT_OID, OID, RUN

CONTINUES = {"leaf": HASH, "log": "agentgov/" + "0" * 32, "size": 4}


class Record:
    def __init__(self, continues: Any = CONTINUES) -> None:
        self.rules = RunRules()
        self.size = 0
        self.say("log.genesis", None, {"continues": continues, "object_format": "sha1", "public_key": HASH})

    def say(self, kind: str, run: RunId | None = RUN, body: dict[str, Any] | None = None) -> None:
        entry = Entry(self.size, "0" * 64, "agentgov/" + "1" * 32, kind, 1, run, 0, body or {})
        self.size += 1
        self.rules.check(entry)

    def refuses(self, kind: str, body: dict[str, Any] | None = None) -> None:
        with pytest.raises(BrokenRecordError) as caught:
            self.say(kind, RUN, body)
        assert caught.value.id in ("AG0271", "AG0272")


def step(before: str = OID, after: str = OID, **more: Any) -> dict[str, Any]:
    return {"from": before, "tree": after, "how": "full", "open": [], "changes": None, **more}


BIND: dict[str, Any] = {"tree": OID, "base": OID, "result": OID, "delta": HASH, "problems": None}


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("approval.given", {}),
        ("run.drop", {}),
        ("run.apply", {}),
        ("promote.done", {}),
        ("promote.failed", {}),
        ("payload.erased", {}),
        ("payload.pruned", {}),
        ("result.bind", BIND),
        ("change.unattributed", step(OID, NEXT_OID)),
        ("run.rollback", step(OID, NEXT_OID)),
        ("run.end", step()),
    ],
)
def test_what_follows_a_runs_end_may_stand_in_the_record_that_continues_its_own(
    kind: str, body: dict[str, Any]
) -> None:
    Record().say(kind, RUN, body)
    Record(continues=None).refuses(kind, body)


def test_such_a_run_has_one_sequence_of_files_and_ends_once() -> None:
    record = Record()
    record.say("approval.given")
    record.say("change.unattributed", RUN, step(OID, NEXT_OID))
    record.refuses("run.rollback", step(OID, NEXT_OID))
    record.say("run.rollback", RUN, step(NEXT_OID, OID))
    record.say("run.end", RUN, step())
    record.refuses("run.end", step())
    assert record.rules.open_runs() == []


def test_such_a_run_makes_no_calls_and_does_not_start_again() -> None:
    for first in ("approval.given", None):
        record = Record()
        if first is not None:
            record.say(first)
        record.refuses("call.request", step(n=1, actor=0))
        record.refuses("call.result", step(n=1))
        record.refuses("call.answer", {"n": 1})
    record = Record()
    record.say("run.drop")
    record.refuses("run.start", {"tree": OID})
    record.refuses("actor.seen", {"actor": 1, "parent": 0})


def test_it_counts_no_approval_of_the_earlier_record() -> None:
    record = Record()
    record.say("approval.given")
    record.refuses("promote.intent", {"approvals": [3]})
    record.say("promote.intent", RUN, {"approvals": [1]})
