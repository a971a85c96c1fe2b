"""Names of runs and calls: what people may type, and nothing that has two spellings."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.clock import Random
from agentgov.errors import UsageError
from agentgov.ids import RUN_ALPHABET, RunRef, is_run_id, is_token, new_run_id, parse_run_id, parse_run_ref


def test_new_ids_are_run_ids_and_differ(rng: Random) -> None:
    ids = {new_run_id(rng) for _ in range(200)}
    assert len(ids) == 200
    assert all(is_run_id(id) for id in ids)


def test_every_character_of_the_alphabet_is_drawn_equally() -> None:
    every_byte = iter([*range(256), 0, 0, 0, 0])
    drawn = "".join(new_run_id(lambda size: bytes(next(every_byte) for _ in range(size))) for _ in range(52))
    assert {char: drawn[:256].count(char) for char in RUN_ALPHABET} == dict.fromkeys(RUN_ALPHABET, 8)


@pytest.mark.parametrize(
    "raw", ["", "7kq2", "7kq2ff", "7KQ2F", "7kq2i", "7kq2l", "7kq2o", "7kq2u", "7kq2\n", "../..", "7kq2٣"]
)
def test_what_is_not_a_run_id_is_AG0001(raw: str) -> None:
    assert not is_run_id(raw)
    with pytest.raises(UsageError) as raised:
        parse_run_id(raw)
    assert raised.value.id == "AG0001"


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        ("7kq2f", RunRef("7kq2f")),
        ("7k", RunRef("7k")),
        ("7kq2f:14", RunRef("7kq2f", 14)),
        ("7kq2f:0", RunRef("7kq2f", 0)),
        (":14", RunRef(None, 14)),
        (":start", RunRef(None, "start")),
        ("7kq2f:start", RunRef("7kq2f", "start")),
        (":end", RunRef(None, "end")),
        ("7kq2f:3..9", RunRef("7kq2f", 3, 9)),
        (":3..3", RunRef(None, 3, 3)),
    ],
)
def test_references_parse(raw: str, expected: RunRef) -> None:
    assert parse_run_ref(raw) == expected


@pytest.mark.parametrize(
    "raw",
    [
        "",
        ":",
        "7kq2f:",
        "7kq2fx",
        "x y",
        ":-1",
        ":+5",
        ":1_0",
        ":07",
        ": 7",
        ":٣",
        ":1e3",
        ":9..3",
        ":3..",
        ":..3",
        ":start..end",
        ":1..2..3",
        ":1:2",
        "--help",
        "7kq2f:1\n",
        ":9999999999",
    ],
)
def test_other_references_are_AG0002(raw: str) -> None:
    with pytest.raises(UsageError) as raised:
        parse_run_ref(raw)
    assert raised.value.id == "AG0002"


@given(st.text())
def test_any_text_is_a_reference_or_a_usage_error(raw: str) -> None:
    try:
        ref = parse_run_ref(raw)
    except UsageError:
        return
    point = "" if ref.point is None else f":{ref.point}" + ("" if ref.end is None else f"..{ref.end}")
    assert (ref.run or "") + point == raw


@pytest.mark.parametrize(
    "value", ["Bash", "mcp__x__y", "a", "a" * 64, "claude-opus-5", "org/repo:v1.2+x", "0"]
)
def test_names_are_tokens(value: str) -> None:
    assert is_token(value)


@pytest.mark.parametrize(
    "value", ["", "a" * 65, "-a", ".a", "a b", "a\n", "ä", "a\x1b", "a\\", "a@b", "{", '"']
)
def test_other_texts_are_no_tokens(value: str) -> None:
    assert not is_token(value)
