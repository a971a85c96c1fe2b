"""Properties of the redaction funnel."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable

from hypothesis import assume, given
from hypothesis import strategies as st

from agentgov.ledger.redaction import Redactor
from agentgov.ledger.redaction_literals import is_worth_hiding

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
    assert Redactor().redact_text(text) == text
    assert Redactor({"CACHE_KEY": oid, "A_TOKEN": oid[:20]}).redact_text(text) == text
    assert oid not in Redactor({"A_TOKEN": oid}).redact_text(text) or len(set(oid)) < 3 or oid.isdecimal()


@given(
    st.text(st.characters(codec="utf-8", exclude_categories=["Cs"]), min_size=12, max_size=60),
    st.binary(max_size=20),
    st.binary(max_size=20),
    st.sampled_from([base64.b64encode, base64.urlsafe_b64encode]),
)
def test_a_literal_does_not_survive_in_base64(
    secret: str, before: bytes, after: bytes, encode: Callable[[bytes], bytes]
) -> None:
    assume(is_worth_hiding(secret.strip()) and "://" not in secret)
    secret = secret.strip()
    encoded = encode(before + secret.encode() + after)
    redacted = Redactor({"A_TOKEN": secret}).redact(encoded)
    assert b"[REDACTED:env:#1]" in redacted


@given(_TEXTS, st.integers(0, 3))
def test_a_long_text_is_redacted_as_its_parts_are(text: str, count: int) -> None:
    far = "\n" + "x y\n" * 20_000
    once = _REDACTOR.redact_text(text)
    redacted = _REDACTOR.redact_text(far.join([text] * (count + 1)))
    assert redacted.count("[REDACTED:") == once.count("[REDACTED:") * (count + 1)
    assert _REDACTOR.redact_text(redacted) == redacted
