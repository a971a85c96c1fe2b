"""Entries and bodies: exact fields, exact types, one spelling."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.ledger import canonical
from agentgov.ledger.bodies import KINDS, STEPS, check_body
from agentgov.ledger.chain import NO_LEAF, leaf_hash, verify_link
from agentgov.ledger.entry import Entry, parse_entry
from tests.support.ledger import COMMITMENT, HASH, NEXT_OID, OID, RUN, request, result

LOG = "agentgov/" + "0" * 32
ENVELOPE = {"payload": "e30=", "payload_type": "application/x", "signatures": [{"keyid": "k", "sig": "AAAA"}]}
STEP: dict[str, Any] = {"changes": None, "from": OID, "how": "full", "open": [], "tree": OID}
CHANGED = {**STEP, "changes": COMMITMENT, "tree": NEXT_OID}
CAPTURE = {
    "files": "watch",
    "gateway": "off",
    "hooks": True,
    "keys": "open",
    "ledger": "open",
    "sandbox": "none",
}
BODIES: dict[str, dict[str, Any]] = {
    "log.genesis": {"continues": None, "object_format": "sha1", "public_key": HASH},
    "log.recovered": {"sha256": HASH, "torn_bytes": 1},
    "log.heartbeat": {},
    "key.delegate": {"public_key": HASH, "purpose": "run"},
    "key.rotate": {"public_key": HASH},
    "key.end": {},
    "key.lost": {"lost": 1},
    "stream.endorse": {"envelope": ENVELOPE},
    "policy.adopted": {"digest": HASH, "source": "built-in", "text": COMMITMENT},
    "run.start": {
        "agent": "claude",
        "agent_version": "2.1.329",
        "base": OID,
        "capture": CAPTURE,
        "how": "full",
        "intent": None,
        "policy": HASH,
        "start": COMMITMENT,
        "tree": OID,
        "workspace": "clone",
    },
    "actor.seen": {"actor": 1, "parent": 0, "who": COMMITMENT},
    "call.request": request(1).body,
    "call.answer": {"answer": "deny", "by": "timeout", "n": 1},
    "call.result": result(1).body,
    "change.unattributed": CHANGED,
    "run.end": {**CHANGED, "ended": 0, "exit": -9, "state": "finished"},
    "result.bind": {"base": OID, "delta": HASH, "problems": None, "result": OID, "tree": OID},
    "run.rollback": {**CHANGED, "place": "workspace", "target": OID, "to": -1},
    "run.apply": {"place": "in-place", "result": OID, "saved": OID},
    "run.drop": {},
    "approval.given": {"envelope": ENVELOPE, "message": None},
    "promote.intent": {
        "approvals": [4],
        "base": OID,
        "delta": HASH,
        "head": OID,
        "old": OID,
        "policy": HASH,
        "result": OID,
        "self_approved": True,
        "target": COMMITMENT,
        "tier": "low",
    },
    "promote.done": {"commit": OID},
    "promote.failed": {"reason": "moved"},
    "log.end": {"next": {"log": LOG, "public_key": HASH}, "reason": "rotated"},
    "pin.forgotten": {"log": LOG, "root": HASH, "size": 3},
    "payload.erased": {"commitment": COMMITMENT, "entry": 4, "field": "output", "reason": None},
    "payload.pruned": {"before": 9, "cause": "retention", "class": "output", "count": 2},
}


def entry(kind: str, **changes: Any) -> Entry:
    rules = KINDS[kind]
    seq = 0 if kind == "log.genesis" else 7
    made = Entry(
        seq=seq,
        prev=NO_LEAF.hex(),
        log=LOG,
        kind=kind,
        ts=1,
        run=None if rules.run == "null" else RUN,
        key=0,
        body=BODIES[kind],
    )
    return dataclasses.replace(made, **changes)


def test_every_kind_has_an_example_here() -> None:
    assert BODIES.keys() == KINDS.keys()
    assert {"call.request", "call.result", "change.unattributed", "run.end", "run.rollback"} == STEPS


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_an_entry_is_read_back_as_it_was_written(kind: str) -> None:
    made = entry(kind)
    assert parse_entry(made.line()) == made
    assert canonical.encode(canonical.decode(made.line())) == made.line()


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_a_body_with_a_field_too_many_too_few_or_ill_typed_is_refused(kind: str) -> None:
    run = None if KINDS[kind].run == "null" else RUN
    body = BODIES[kind]
    bad = [{**body, "extra": 1}]
    for name in body:
        bad.append({key: value for key, value in body.items() if key != name})
        bad += [{**body, name: wrong} for wrong in (1.5, "not this", [1, 1], {"a": 1}, -7)]
    for raw_body in bad:
        if raw_body.get("exit") == -7 or (raw_body.get("payload_type") == "not this"):
            continue
        with pytest.raises(BrokenRecordError) as error:
            check_body(kind, run, raw_body)
        assert error.value.id == "AG0203"


@pytest.mark.parametrize("kind", sorted(BODIES))
def test_a_run_is_named_where_it_must_be_and_nowhere_else(kind: str) -> None:
    allowed = KINDS[kind].run
    for run in (None, RUN):
        if allowed in ("any", "null" if run is None else "set"):
            check_body(kind, run, BODIES[kind])
        else:
            with pytest.raises(BrokenRecordError):
                check_body(kind, run, BODIES[kind])


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("call.request", request(1, tree=NEXT_OID).body),
        ("call.request", request(1, changes=COMMITMENT).body),
        ("call.request", request(1, tree=NEXT_OID, changes=COMMITMENT).body),
        ("call.request", request(3, open=[2, 1]).body),
        ("call.request", request(3, open=[1, 1]).body),
        ("call.request", request(3, open=[0]).body),
        ("call.request", request(3, open=[True]).body),
        ("call.request", request(0).body),
        ("call.request", request(1, tool="rm -rf").body),
        ("call.request", request(1, tool="x" * 65).body),
        ("call.request", {**request(1).body, "from": OID.upper().replace("1", "A")}),
        ("call.result", result(2, open=[1]).body),
        ("call.result", result(2, status="fine").body),
        ("change.unattributed", STEP),
        ("change.unattributed", {**CHANGED, "open": [1]}),
        ("run.rollback", {**CHANGED, "open": [1], "place": "workspace", "target": OID, "to": 3}),
        ("run.rollback", {**CHANGED, "place": "workspace", "target": OID, "to": -2}),
        ("stream.endorse", {"envelope": {**ENVELOPE, "signatures": []}}),
        ("stream.endorse", {"envelope": {**ENVELOPE, "payload": "e3="}}),
        ("log.unknown", {}),
    ],
)
def test_a_body_that_contradicts_itself_is_refused(kind: str, body: dict[str, Any]) -> None:
    run = None if kind.startswith(("log.", "stream.")) else RUN
    with pytest.raises(BrokenRecordError) as error:
        check_body(kind, run, body)
    assert error.value.id == "AG0203"


@pytest.mark.parametrize(
    "changes",
    [
        {"v": 2},
        {"v": True},
        {"seq": -1},
        {"seq": 0},
        {"seq": True},
        {"key": 7},
        {"key": -1},
        {"ts": -1},
        {"ts": "1"},
        {"log": "other/" + "0" * 32},
        {"log": LOG + "\n"},
        {"prev": "0" * 63},
        {"prev": "A" * 64},
        {"run": "7KQ2F"},
        {"run": 7},
        {"kind": "log.genesis"},
        {"kind": 1},
        {"body": []},
        {"more": 1},
    ],
)
def test_a_line_that_is_not_an_entry_is_refused(changes: dict[str, Any]) -> None:
    value = canonical.decode(entry("call.request").line())
    assert isinstance(value, dict)
    with pytest.raises(BrokenRecordError) as error:
        parse_entry(canonical.encode({**value, **changes}))
    assert error.value.id in ("AG0202", "AG0203")


def test_a_link_to_another_entry_or_another_place_is_refused() -> None:
    first = entry("log.genesis")
    second = entry("log.heartbeat", seq=1, prev=leaf_hash(first.line()).hex())
    verify_link(leaf_hash(first.line()), second, seq=1)
    with pytest.raises(BrokenRecordError, match="does not follow"):
        verify_link(NO_LEAF, second)
    with pytest.raises(BrokenRecordError, match="numbered 1"):
        verify_link(leaf_hash(first.line()), second, seq=2)
