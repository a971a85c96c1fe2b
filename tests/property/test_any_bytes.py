"""Any bytes, wherever bytes come from outside: a clear error of the right class, soon and in little memory.

What must not happen is anything else: another exception, a crash, an answer that is not the bytes' own. What
is taken must print back to the very bytes it was read from.
"""

from __future__ import annotations

import base64
import json
import tracemalloc
from collections.abc import Callable
from dataclasses import dataclass

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.errors import (
    AgentgovError,
    BrokenRecordError,
    ConfigError,
    IncompleteError,
    UntrustedSignerError,
)
from agentgov.ledger.checkpoint import parse_checkpoint
from agentgov.ledger.cosignature import verify_cosignatures, witness_key
from agentgov.ledger.endorsement import verify_endorsement
from agentgov.ledger.entry import parse_entry
from agentgov.ledger.note import Note, parse_any_key, parse_note, verify_note
from agentgov.ledger.people import People
from agentgov.ledger.pins import parse_pin
from agentgov.ledger.proof_extra import parse_extra
from agentgov.ledger.proof_trust import parse_trust
from agentgov.ledger.proof_verify import verify_proof
from agentgov.ledger.signing import PrivateKey, parse_envelope, verify_ed25519
from agentgov.ledger.sshsig import parse_armored, parse_sshsig
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.tlog_proof import parse_proof
from agentgov.ledger.wal import parse_record

MAX_PEAK_BYTES = 64 * 1024 * 1024
WITNESS = witness_key("witness.example", PrivateKey(b"\1" * 32).public_key)
TRUST = parse_trust(b"PeterNeumann+c74f20a3+ARpc2QcUPDhMQegwxbzhKqiBfsVkmqq/LDE4izWy10TW\n")
ROOT = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
NOTE = f"agentgov/x\n1\n{ROOT}\n\n\u2014 agentgov/x AAAAAAA=\n"
LINE = (
    '{"body":{},"key":0,"kind":"log.heartbeat","log":"agentgov/00000000000000000000000000000000",'
    '"prev":"' + "0" * 64 + '","run":null,"seq":1,"ts":1,"v":1}'
)


def text(raw: bytes) -> str:
    """Bytes as a caller would hand them to a function that takes text."""
    return raw.decode("utf-8", "surrogateescape")


def read_note(raw: bytes) -> None:
    assert parse_note(raw).to_bytes() == raw


def read_checkpoint(raw: bytes) -> None:
    assert parse_checkpoint(text(raw)).text() == text(raw)


def read_proof(raw: bytes) -> None:
    assert parse_proof(raw).to_bytes() == raw


def read_extra(raw: bytes) -> None:
    assert parse_extra(raw).to_bytes() == raw


def read_key(raw: bytes) -> None:
    assert parse_any_key(text(raw)).text() == text(raw)


def read_policy(raw: bytes) -> None:
    assert Policy.parse(raw).to_bytes() == raw


def read_entry(raw: bytes) -> None:
    assert parse_entry(raw).line() == raw


def read_record(raw: bytes) -> None:
    signed = parse_record(raw, seq=1)
    assert b"%b\t%b" % (signed.line, base64.b64encode(signed.signature)) == raw


def read_pin(raw: bytes) -> None:
    assert parse_pin(raw).to_bytes() == raw


def read_envelope(raw: bytes) -> None:
    """As it comes out of an entry, and as other tools write it."""
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        value = text(raw)
    envelope = parse_envelope(value)
    assert parse_envelope(envelope.to_json()) == envelope == parse_envelope(envelope.to_body())


def read_endorsement(raw: bytes) -> None:
    signatures = [{"keyid": "", "sig": base64.b64encode(raw).decode()}]
    body = {"payload": base64.b64encode(raw).decode(), "payload_type": "x", "signatures": signatures}
    verify_endorsement({"envelope": body}, "agentgov/x", "00" * 32)


def read_armored(raw: bytes) -> None:
    parse_armored(text(raw))


def read_cosignatures(raw: bytes) -> None:
    verify_cosignatures(Note(f"o\n1\n{ROOT}\n", parse_note(raw).signatures), [WITNESS])


def read_public_key(raw: bytes) -> None:
    verify_ed25519(raw, bytes(64), b"")


@dataclass(frozen=True)
class Reader:
    """Something that reads bytes from outside."""

    name: str
    read: Callable[[bytes], object]
    errors: tuple[type[AgentgovError], ...]
    seed: bytes = b""


BROKEN = (BrokenRecordError,)
SSHSIG = b"SSHSIG\x00\x00\x00\x01" + b"".join(
    len(part).to_bytes(4, "big") + part
    for part in (b"\0\0\0\x0bssh-ed25519" + b"\0\0\0\x20" + bytes(32), b"n", b"", b"sha512", b"x")
)
READERS = [
    Reader("entry", read_entry, BROKEN, LINE.encode()),
    Reader("unsealed line", read_record, BROKEN, LINE.encode() + b"\t" + b"A" * 86 + b"=="),
    Reader("note", read_note, BROKEN, NOTE.encode()),
    Reader("known note", lambda raw: verify_note(raw, TRUST.logs), BROKEN, NOTE.encode()),
    Reader("checkpoint", read_checkpoint, BROKEN, f"agentgov/x\n1\n{ROOT}\n".encode()),
    Reader("cosignatures", read_cosignatures, BROKEN, NOTE.encode()),
    Reader("proof", read_proof, BROKEN, f"c2sp.org/tlog-proof@v1\nindex 0\n\n{NOTE}".encode()),
    Reader(
        "whole proof",
        lambda raw: verify_proof(raw, TRUST),
        (BrokenRecordError, UntrustedSignerError, IncompleteError),
        f"c2sp.org/tlog-proof@v1\nextra e30=\nindex 0\n\n{NOTE}".encode(),
    ),
    Reader(
        "extra",
        read_extra,
        BROKEN,
        b'{"endorsements":[],"entry":"","keys":[],"payloads":[],"related":[],"signature":"","timestamp":null,"v":1}',
    ),
    Reader("verifier key", read_key, BROKEN, WITNESS.text().encode()),
    Reader("policy", read_policy, (ConfigError,), f"witness W {WITNESS.text()}\nquorum W\n".encode()),
    Reader("keys to trust", parse_trust, (ConfigError,), TRUST.logs[0].text().encode()),
    Reader("trust file", lambda raw: People.parse(text(raw)), (ConfigError,), b"a ssh-ed25519 AAAA\n"),
    Reader(
        "revoked", lambda raw: People.parse("", text(raw)), (ConfigError,), b"agentgov-revoked v1\nperson a\n"
    ),
    Reader(
        "pin", read_pin, BROKEN, b'{"leaf":"","log":"","public_key":"","root":"","size":1,"ts":1,"v":1}\n'
    ),
    Reader("SSH signature", parse_sshsig, BROKEN, SSHSIG),
    Reader("armored SSH signature", read_armored, BROKEN, b"-----BEGIN SSH SIGNATURE-----\nU1NI\n"),
    Reader("envelope", read_envelope, BROKEN, b'{"payload":"","payloadType":"x","signatures":[{"sig":""}]}'),
    Reader(
        "endorsement", read_endorsement, BROKEN, b'{"log":"agentgov/x","public_key":"00","roots":[],"v":1}'
    ),
    Reader("public key", read_public_key, BROKEN, bytes(32)),
]
NAMES = [reader.name for reader in READERS]


@st.composite
def changed(draw: st.DrawFn, seed: bytes) -> bytes:
    """Bytes near what is right: cut, doubled, with other bytes in it."""
    raw = bytearray(seed)
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(raw)))
        end = min(len(raw), place + draw(st.integers(0, 12)))
        raw[place:end] = draw(st.binary(max_size=8)) or raw[place:end] * 2
    return bytes(raw)


def expect(reader: Reader, raw: bytes) -> None:
    try:
        reader.read(raw)
    except reader.errors as error:
        assert len(error.message) < 2000, "an error is a sentence, not its input"  # noqa: PT017


@pytest.mark.parametrize("reader", READERS, ids=NAMES)
@given(data=st.data())
def test_any_bytes_lead_to_their_value_or_to_a_clear_error(reader: Reader, data: st.DataObject) -> None:
    expect(reader, data.draw(st.one_of(st.binary(max_size=400), changed(reader.seed), st.just(reader.seed))))


@pytest.mark.parametrize("reader", READERS, ids=NAMES)
@pytest.mark.parametrize(
    "unit", [b"[", b'{"a":', b"\n", b"A", b"\xff", b"\x00", b"a,", b"1", b"- ", b'"\\u0000', b"a+b+"]
)
def test_megabytes_of_one_thing_are_refused_within_bounded_memory(reader: Reader, unit: bytes) -> None:
    raw = reader.seed[: len(reader.seed) // 2] + unit * (2_000_000 // len(unit))
    tracemalloc.start()
    try:
        expect(reader, raw)
        assert tracemalloc.get_traced_memory()[1] < MAX_PEAK_BYTES
    finally:
        tracemalloc.stop()
