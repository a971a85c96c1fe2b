"""The quick way to read a line accepts nothing that the slow way refuses, and reads the same."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.ledger import canonical
from agentgov.ledger.bodies import KINDS
from agentgov.ledger.entry import Entry, decode_entry, match_entry
from agentgov.ledger.fields import Field
from agentgov.ledger.lines import form_of
from tests.unit.test_entry import BODIES, entry

KIND_NAMES = sorted(BODIES)
LINES = [entry(kind).line() for kind in KIND_NAMES]
_LISTED = [
    entry("call.result", body={**BODIES["call.result"], "open": [1, 2, 30]}),
    entry("promote.intent", body={**BODIES["promote.intent"], "approvals": [1, 5]}),
    entry("log.heartbeat", run=None),
]
_PIECES = st.sampled_from(
    [
        b"",
        b" ",
        b"null",
        b"0",
        b"-0",
        b"01",
        b"1e3",
        b"-1",
        b"true",
        b'"',
        b"\\u0041",
        b"\\n",
        b"\x7f",
        b"\xc3\xa9",
        b"[]",
        b"[1,1]",
        b"[2,1]",
        b"[1,2]",
        b",",
        b"9007199254740992",
        b"9007199254740991",
        b'"kind":"',
        b"a" * 64,
        b"1" * 40,
        b"1" * 41,
        b"A",
        b"log.heartbeat",
        b'"v":1',
        b"{}",
        b"}",
        b"99999999999999999",
    ]
)


def _agree(line: bytes) -> Entry | None:
    quick = match_entry(line)
    try:
        slow: Entry | None = decode_entry(line)
    except BrokenRecordError:
        slow = None
    if quick is not None:
        assert quick == slow
        assert quick.line() == line
        assert [type(value) for value in quick.body.values()] == [type(v) for v in slow.body.values()]
    return quick


@pytest.mark.parametrize("line", [*LINES, *(made.line() for made in _LISTED)])
def test_every_kind_is_read_the_quick_way(line: bytes) -> None:
    assert _agree(line) is not None


@given(st.sampled_from(LINES), st.data())
@settings(max_examples=1500, deadline=None)
def test_a_changed_line_is_read_the_same_by_both_or_by_the_slow_way_only(line: bytes, data: Any) -> None:
    first = data.draw(st.integers(0, len(line)))
    last = data.draw(st.integers(first, min(len(line), first + 70)))
    piece = data.draw(st.one_of(_PIECES, st.binary(max_size=4)))
    _agree(line[:first] + piece + line[last:])


@given(st.sampled_from(LINES), st.sampled_from(LINES), st.data())
@settings(max_examples=500, deadline=None)
def test_pieces_of_two_lines_are_read_the_same_by_both(one: bytes, other: bytes, data: Any) -> None:
    cut = data.draw(st.sampled_from([at for at in range(len(one)) if one[at : at + 1] in b'",:{}']))
    start = data.draw(st.sampled_from([at for at in range(len(other)) if other[at : at + 1] in b'",:{}']))
    _agree(one[:cut] + other[start:])


_VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(2**53) + 1, 2**53 - 1),
        st.sampled_from([-1, 0, 1, 2, 10**15 - 1, 10**15, 2**53 - 1]),
        st.text('\x00\n"\\ aA0/é\x7f', max_size=4),
        st.sampled_from(
            ["allow", "full", "a" * 64, "1" * 40, "1" * 64, "claude", "agentgov/" + "0" * 32, "e30="]
        ),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.sampled_from(["a", "leaf", "log", "size", "policy"]), inner, max_size=2),
    ),
    max_leaves=4,
)


@given(st.sampled_from(KIND_NAMES), st.data())
@settings(max_examples=1500, deadline=None)
def test_any_value_in_a_field_is_read_the_same_by_both(kind: str, data: Any) -> None:
    made = entry(kind)
    if made.body:
        name = data.draw(st.sampled_from(sorted(made.body)))
        made = dataclasses.replace(made, body={**made.body, name: data.draw(_VALUES)})
    try:
        line = made.line()
    except AgentgovError:
        return
    _agree(line)


@pytest.mark.parametrize("kind", KIND_NAMES)
def test_the_pattern_of_a_kind_takes_its_groups_apart(kind: str) -> None:
    form = form_of(kind)
    assert form.pattern.groups == len(KINDS[kind].fields) + 6
    assert form.names == tuple(sorted(KINDS[kind].fields))


@given(st.sampled_from([field for kind in KINDS.values() for field in kind.fields.values()]), _VALUES)
@settings(max_examples=1500, deadline=None)
def test_a_pattern_matches_no_value_that_its_check_refuses(field: Field, value: Any) -> None:
    import re

    try:
        text = canonical.encode(value).decode()
    except AgentgovError:
        return
    if re.fullmatch(field.pattern, text) and not text.startswith("["):
        assert field.check(value)
    assert (re.fullmatch(field.pattern, text) is None) == (re.fullmatch(field.group, text) is None)


def test_a_long_line_and_a_list_that_is_too_long_go_the_slow_way() -> None:
    body = BODIES["call.request"]
    rules = {**body["verdict"], "rules": ["r" * 64] * 960}
    assert _agree(entry("call.request", body={**body, "verdict": rules}).line()) is not None
    long = {**body["verdict"], "rules": ["r"] * 4097}
    line = canonical.encode(
        {
            "body": {**body, "verdict": long},
            **{
                name: getattr(entry("call.request"), name)
                for name in ("key", "kind", "log", "prev", "run", "seq")
            },
            "ts": 1,
            "v": 1,
        }
    )
    assert _agree(line) is None
