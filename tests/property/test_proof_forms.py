"""Notes, heads, policies, keys and proofs that were changed anywhere: they print back, or are refused."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from agentgov.errors import AgentgovError
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.cosignature import cosign
from agentgov.ledger.note import parse_any_key, parse_note
from agentgov.ledger.proof_extra import parse_extra
from agentgov.ledger.proof_trust import parse_trust
from agentgov.ledger.proof_verify import verify_proof
from agentgov.ledger.sshsig import parse_sshsig
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.tlog_proof import parse_proof
from tests.tamper.test_proof_thief import BY_KEY, POLICY, STANDS, TRUSTED, WITNESS, WITNESS_KEY, Record

RECORD = Record(STANDS)
PROOF = RECORD.prove(3)
NOTE = RECORD.note.with_signature(cosign(RECORD.note, WITNESS_KEY, WITNESS.sign, seconds=5))
# What separates, pads or ends something in one of the forms.
TOKENS = ["\n", "\n\n", " ", "+", "=", "\u2014 ", "\r", "\0", "\x7f", "\x85", "\xa0", "\u2028", "0", "-", "#"]
FORMS: list[tuple[bytes, Callable[[bytes], bytes]]] = [
    (NOTE.to_bytes(), lambda raw: parse_note(raw).to_bytes()),
    (NOTE.text.encode(), lambda raw: parse_checkpoint(_text(raw)).text().encode()),
    (POLICY, lambda raw: Policy.parse(raw).to_bytes()),
    (WITNESS_KEY.text().encode(), lambda raw: parse_any_key(_text(raw)).text().encode()),
    (PROOF, lambda raw: parse_proof(raw).to_bytes()),
    (parse_proof(PROOF).extra or b"", lambda raw: parse_extra(raw).to_bytes()),
    (STANDS[1].signatures[0].signature, lambda raw: parse_sshsig(raw).blob),
]


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "surrogateescape")


@st.composite
def changed(draw: Any, raw: bytes) -> bytes:
    """These bytes with up to three changes."""
    for _ in range(draw(st.integers(1, 3))):
        at, length = draw(st.integers(0, len(raw))), draw(st.integers(0, 40))
        put = draw(st.sampled_from(TOKENS).map(str.encode) | st.binary(max_size=4))
        again = raw[at : at + length] if draw(st.booleans()) else b""
        raw = raw[:at] + put + again + raw[at + draw(st.integers(0, length)) :]
    return raw


@given(st.data())
def test_every_form_prints_back_or_is_refused(data: st.DataObject) -> None:
    good, again = data.draw(st.sampled_from(FORMS))
    assert again(good) == good
    raw = data.draw(changed(good))
    try:
        printed = again(raw)
    except AgentgovError:
        return
    assert printed == raw


@given(st.data())
def test_a_changed_proof_is_refused_or_says_the_same(data: st.DataObject) -> None:
    raw = data.draw(changed(PROOF))
    try:
        report = verify_proof(raw, BY_KEY)
    except AgentgovError:
        return
    # What is left is a further signature line, or another's.
    assert [entry.line() for entry in report.entries] == [RECORD.lines[3]]
    assert report.head.root == RECORD.head(6).root


@given(changed(TRUSTED.encode() + POLICY))
def test_a_changed_file_of_keys_is_read_or_refused(raw: bytes) -> None:
    try:
        trusted = parse_trust(raw)
    except AgentgovError:
        return
    assert trusted.people.lines or trusted.logs
