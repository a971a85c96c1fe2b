"""Canonical JSON: one spelling, and nothing but a BrokenRecordError for any other bytes."""

from __future__ import annotations

from typing import Any

import pytest

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.ledger import canonical


@pytest.mark.parametrize(
    ("value", "printed"),
    [
        ({}, b"{}"),
        ({"b": 1, "a": [True, False, None]}, b'{"a":[true,false,null],"b":1}'),
        ({"a_1": 'x"\\/\n\t\r\b\f\x01\x7f'}, b'{"a_1":"x\\"\\\\/\\n\\t\\r\\b\\f\\u0001\x7f"}'),
        (-(2**53) + 1, b"-9007199254740991"),
        ([], b"[]"),
        ("", b'""'),
    ],
)
def test_values_are_printed_as_rfc_8785_says_and_read_back(value: Any, printed: bytes) -> None:
    assert canonical.encode(value) == printed
    assert canonical.decode(printed) == value


@pytest.mark.parametrize(
    "value",
    [
        1.0,
        float("nan"),
        2**53,
        -(2**53),
        "é",
        "\ud800",
        {"A": 1},
        {"": 1},
        {"1a": 1},
        {1: 1},
        {"a": {1}},
        b"x",
        [[[[[[[[[[[[[[[[[0]]]]]]]]]]]]]]]]],
        "x" * canonical.MAX_BYTES,
    ],
)
def test_values_without_a_canonical_form_are_refused(value: Any) -> None:
    with pytest.raises(AgentgovError) as error:
        canonical.encode(value)
    assert error.value.id == "AG0201"


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b" {}",
        b"{} ",
        b"{}\n",
        b'{"a":1,"a":1}',
        b'{"b":1,"a":1}',
        b'{"a": 1}',
        b'{"a":1.0}',
        b'{"a":1e3}',
        b'{"a":-0}',
        b'{"a":01}',
        b'{"a":+1}',
        b'{"a":NaN}',
        b'{"a":Infinity}',
        b'{"a":9007199254740992}',
        b'{"a":' + b"9" * 5000 + b"}",
        b'{"a":"\\u0041"}',
        b'{"a":"\\/"}',
        b'{"a":"\\u000A"}',
        '{"a":"é"}'.encode(),
        b'{"a":"\\u00e9"}',
        b'{"a":"\\ud800"}',
        b'{"A":1}',
        b"\xef\xbb\xbf{}",
        b"{\x00}",
        b"\x00{\x00}",
        b"[" * 60_000,
        b'{"a":' * 10_000,
        b"[" * 17 + b"]" * 17,
        b'"' + b"x" * canonical.MAX_BYTES + b'"',
        b"\xff\xfe",
    ],
)
def test_other_spellings_are_refused(raw: bytes) -> None:
    with pytest.raises(BrokenRecordError) as error:
        canonical.decode(raw)
    assert error.value.id == "AG0200"


def test_depth_counts_what_lies_around_it() -> None:
    value: Any = 0
    for _ in range(canonical.MAX_DEPTH):
        value = [value]
    assert canonical.decode(canonical.encode(value)) == value
    with pytest.raises(AgentgovError):
        canonical.encode(value, depth=1)
