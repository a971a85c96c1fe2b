"""Nothing from outside reaches a terminal as a control; every name has exactly one form."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.errors import BrokenRecordError
from agentgov.text import decode_name, encode_name, printable


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("plain ~ text", "plain ~ text"),
        ("grün 日本 🎉", "grün 日本 🎉"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b[2J\x1b[1;1Hclear", "clear"),
        ("\x9b31mred", "red"),
        ("\x1b]0;title\x07after", "after"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("\x9d0;title\x9cafter", "after"),
        ("\x1bPdevice\x1b\\after", "after"),
        ("\x1b_apc\x1b\\after", "after"),
        ("\x1b(0lqk", "lqk"),
        ("\x1bcreset", "reset"),
        ("\x1b]52;c;unfinished", ""),
        ("\x1b]0;open\nnext line", "\\nnext line"),
        ("\x1b", "\\x1b"),
        ("\x1b[", ""),
        ("a\rb\nc\td", "a\\rb\\nc\\td"),
        ("bell\x07 nul\x00 del\x7f c1\x85", "bell\\x07 nul\\x00 del\\x7f c1\\x85"),
        ("\u202eevil\u202c \u2066x\u2069", "\\u202eevil\\u202c \\u2066x\\u2069"),
        ("a\u200bb\ufeffc\u00add", "a\\u200bb\\ufeffc\\xadd"),
        ("a\u2028b\u2029", "a\\u2028b\\u2029"),
        ("tag\U000e0041", "tag\\U000e0041"),
        ("x\ufe0f\u3164\u115f", "x\\ufe0f\\u3164\\u115f"),
        ("\ud800 \udcff", "\\ud800 \\xff"),
        (b"ok \xff\xc3\xa4", "ok \\xffä"),
        (b"\xc2\x9b31mred", "red"),
    ],
)
def test_controls_become_harmless(raw: str | bytes, shown: str) -> None:
    assert printable(raw, strip=True) == shown


def test_what_a_person_judges_is_shown_whole() -> None:
    # A shell runs what stands between the escape and its end.
    assert printable("true \x1b]0;rm -rf x;\x07") == "true \\x1b]0;rm -rf x;\\x07"
    assert printable("a\x1b[31mb\x9b0m") == "a\\x1b[31mb\\x9b0m"


def test_newlines_and_tabs_are_kept_on_request_but_not_returns() -> None:
    assert printable("a\n\tb\r\n", newlines=True) == "a\n\tb\\r\n"


def test_a_limit_cuts_with_dots() -> None:
    assert printable("abcdefgh", limit=8) == "abcdefgh"
    assert printable("abcdefgh", limit=6) == "abc..."
    assert printable("abcdefgh", limit=2) == ".."
    assert printable("\x1b[31mabc", limit=3, strip=True) == "abc"


@given(st.text(st.characters(codec=None)) | st.binary())
def test_no_text_survives_as_a_control(raw: str | bytes) -> None:
    shown = printable(raw)
    assert all(unicodedata.category(char)[0] != "C" for char in shown)
    shown.encode("utf-8")
    assert printable(shown) == shown


@given(st.text(alphabet="\x1b\x9b\x9d[]();:0123456789mHJ\\\x07\x9cPX^_ abc\n", max_size=40))
def test_no_nesting_of_sequences_leaves_one(raw: str) -> None:
    shown = printable(raw, newlines=True)
    assert not set(shown) & set("\x1b\x9b\x9d\x9c\x07")


@given(st.binary())
def test_names_come_back_exactly(name: bytes) -> None:
    assert decode_name(encode_name(name)) == name


def test_text_names_stay_text_and_others_are_base64() -> None:
    assert encode_name("ä/b".encode()) == "ä/b"
    assert encode_name(b"\xff") == {"b64": "/w=="}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        7,
        b"bytes",
        "\ud800",
        [],
        {},
        {"b64": 1},
        {"b64": "/w"},
        {"b64": "/x=="},
        {"b64": "/w==\n"},
        {"b64": "/w==", "x": 1},
        {"b64": "YQ=="},
        {"b64": ""},
        {"B64": "/w=="},
        {"b64": "ä"},
    ],
)
def test_a_name_in_another_form_is_AG0003(raw: object) -> None:
    with pytest.raises(BrokenRecordError) as raised:
        decode_name(raw)
    assert raised.value.id == "AG0003"
