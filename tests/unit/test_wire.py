"""The protocol on the recorder's socket."""

from __future__ import annotations

import pytest

from agentgov.harness import wire


def test_a_request_survives_the_round_trip_in_any_pieces() -> None:
    request = wire.Request("hook", "claude", "PreToolUse", b"a\nb\x00c")
    raw = wire.encode_request(request)
    assert [wire.parse_request(raw[:end]) for end in range(len(raw))] == [None] * len(raw)
    assert wire.parse_request(raw) == request


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\n",
        b"AG1 hook claude PreToolUse 01\nx",
        b"AG1 hook claude PreToolUse +1\nx",
        b"AG1 hook claude PreToolUse 1_0\n",
        b"AG1 hook claude  1\nx",
        b"AG1 shout claude Pre 1\nx",
        b"AG1 hook claude Pre 1\nxy",
        b"AG1 hook claude Pre 999999999\n",
        b"AG1 " + b"a" * 300,
        b"X",
    ],
)
def test_what_is_not_a_request_is_refused(raw: bytes) -> None:
    with pytest.raises(wire.BrokenRequestError):
        wire.parse_request(raw)


def test_an_answer_survives_the_round_trip() -> None:
    assert wire.parse_answer(wire.encode_answer(2, b"a\nb", b"c")) == (2, b"a\nb", b"c")


@pytest.mark.parametrize("raw", [b"", b"0 0\n", b"0 1 0\n", b"0 0 0\nx", b"-1 0 0\n", b"a 0 0\n"])
def test_a_broken_answer_is_refused(raw: bytes) -> None:
    with pytest.raises(wire.BrokenRequestError):
        wire.parse_answer(raw)
