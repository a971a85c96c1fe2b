"""Properties of the redaction funnel."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from agentgov.ledger.redaction import Redactor

_SECRETS = [
    "ghp_" + "a1B2" * 9,
    "AKIA" + "Z7QJ4TLM2XWN5RPB",
    "hunter2-Really",
    "sk-ant-" + "api03-" + "Ab9_" * 20,
]
_PIECES = st.one_of(
    st.text(max_size=20),
    st.sampled_from(_SECRETS),
    st.sampled_from(
        [
            'password="',
            '"',
            "'",
            "\\",
            "token: ",
            "SECRET=",
            "\n",
            " ",
            "://a:",
            "@b",
            "eyJ",
            "sk-",
            "[REDACTED:env:#1]",
        ]
    ),
    st.text("0123456789abcdef", min_size=40, max_size=40),
)
_TEXTS = st.lists(_PIECES, max_size=12).map("".join)
_REDACTOR = Redactor({"DEPLOY_PASSWORD": "hunter2-Really"})


@given(_TEXTS)
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = _REDACTOR.redact_text(text)
    assert _REDACTOR.redact_text(once) == once


@given(_TEXTS, st.booleans())
def test_json_stays_json(text: str, ascii_only: bool) -> None:
    raw = json.dumps({"tool_input": {"command": text}, "n": 1}, ensure_ascii=ascii_only)
    json.loads(_REDACTOR.redact_text(raw))


@given(_TEXTS)
def test_a_literal_never_survives(text: str) -> None:
    assert "hunter2-Really" not in _REDACTOR.redact_text(text)


@given(st.binary(max_size=200))
def test_any_bytes_are_taken(value: bytes) -> None:
    _REDACTOR.redact(value)


@given(
    st.text("0123456789abcdef", min_size=40, max_size=40),
    st.sampled_from(["token=", "SECRET=", 'password: "', "Bearer ", "--token "]),
)
def test_object_ids_are_never_touched(oid: str, before: str) -> None:
    text = f'{before}{oid}" end'
    assert Redactor({"A_TOKEN": oid}).redact_text(text) == text
