"""Any value goes there and back; any bytes are a clear error."""

from __future__ import annotations

import contextlib
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.ledger import canonical, merkle
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry, parse_entry
from agentgov.ledger.note import parse_key, parse_note
from agentgov.ledger.pins import parse_pin
from agentgov.ledger.signing import PrivateKey, check_public_key, pae, parse_envelope, verify_ed25519
from agentgov.ledger.sshsig import parse_armored, parse_sshsig
from agentgov.ledger.wal import encode_record, parse_record
from tests.support.ledger import slow_root

KEY = PrivateKey(bytes(range(32)))
ASCII = st.text(st.characters(min_codepoint=0, max_codepoint=127))
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | ASCII,
    lambda inner: (
        st.lists(inner, max_size=5)
        | st.dictionaries(st.from_regex(r"[a-z][a-z0-9_]{0,5}", fullmatch=True), inner, max_size=5)
    ),
    max_leaves=20,
)
GENESIS = {"continues": None, "object_format": "sha1", "public_key": KEY.public_key.hex()}
LINE = Entry(0, "0" * 64, "agentgov/" + "0" * 32, "log.genesis", 1, None, 0, GENESIS).line()
RECORD = encode_record(LINE, KEY.sign(pae(PAYLOAD_TYPE, LINE)))
NOTHING_ELSE: dict[str, Any] = {
    "canonical": canonical.decode,
    "entry": parse_entry,
    "record": lambda raw: parse_record(raw, seq=0),
    "note": parse_note,
    "pin": parse_pin,
    "key": check_public_key,
    "sshsig": parse_sshsig,
    "verifier key": lambda raw: parse_key(raw.decode("latin-1")),
    "checkpoint": lambda raw: parse_checkpoint(raw.decode("latin-1")),
    "armour": lambda raw: parse_armored(raw.decode("latin-1")),
}


@given(VALUES)
def test_what_is_encoded_is_decoded_to_the_same_value(value: Any) -> None:
    try:
        raw = canonical.encode(value)
    except AgentgovError:
        return
    assert canonical.decode(raw) == value
    assert json.loads(raw) == value
    assert raw == json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


@pytest.mark.parametrize("form", sorted(NOTHING_ELSE))
@given(raw=st.binary(max_size=300) | st.text(max_size=200).map(lambda text: text.encode("utf-8", "replace")))
def test_any_bytes_are_read_or_refused_and_never_crash(form: str, raw: bytes) -> None:
    with contextlib.suppress(BrokenRecordError):
        NOTHING_ELSE[form](raw)


@given(VALUES)
def test_any_json_is_an_envelope_or_refused(value: Any) -> None:
    with contextlib.suppress(BrokenRecordError):
        parse_envelope(value)


@settings(max_examples=400)
@given(st.integers(0, len(RECORD) - 2), st.integers(1, 255))
def test_no_byte_of_a_record_can_be_changed(place: int, difference: int) -> None:
    changed = RECORD[:place] + bytes([RECORD[place] ^ difference]) + RECORD[place + 1 :]
    try:
        signed = parse_record(changed[:-1], seq=0)
    except BrokenRecordError:
        return
    assert not verify_ed25519(KEY.public_key, signed.signature, pae(PAYLOAD_TYPE, signed.line))


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=40))
def test_roots_agree_with_the_recursive_definition(leaves: list[bytes]) -> None:
    assert merkle.root(leaves) == slow_root(leaves)
