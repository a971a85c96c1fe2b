"""Everything that reads bytes from outside, for tests and fuzzing: what it takes must print back to them."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from agentgov.config import Settings
from agentgov.errors import (
    AgentgovError,
    BrokenRecordError,
    ConfigError,
    IncompleteError,
    UntrustedSignerError,
    UsageError,
)
from agentgov.git import parse_gitmodules
from agentgov.ledger.archive import encode_heads, parse_heads
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.checkpoint import Checkpoint, parse_checkpoint, sign_checkpoint
from agentgov.ledger.cosignature import cosign, verify_cosignatures, witness_key
from agentgov.ledger.endorsement import verify_endorsement
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry, parse_entry
from agentgov.ledger.note import Note, NoteKey, parse_any_key, parse_note, verify_note
from agentgov.ledger.payloads import parse_record as parse_payload
from agentgov.ledger.people import People
from agentgov.ledger.pins import parse_pin
from agentgov.ledger.proof_extra import ProofExtra, parse_extra
from agentgov.ledger.proof_trust import parse_trust
from agentgov.ledger.proof_verify import verify_proof
from agentgov.ledger.redaction_literals import parse_dotenv
from agentgov.ledger.remote import parse_offer
from agentgov.ledger.signing import PrivateKey, pae, parse_envelope, verify_ed25519
from agentgov.ledger.sshsig import parse_armored, parse_sshsig
from agentgov.ledger.timestamps import Authorities
from agentgov.ledger.tlog_policy import Policy
from agentgov.ledger.tlog_proof import TlogProof, parse_proof
from agentgov.ledger.trust_text import parse_keys
from agentgov.ledger.wal import parse_record
from agentgov.ledger.witness import WitnessKey

KEY = PrivateKey(b"\1" * 32)
WITNESS = witness_key("witness.example", KEY.public_key)
ORIGIN = "agentgov/" + "0" * 32
TRUST = parse_trust(f"{NoteKey(ORIGIN, KEY.public_key).text()}\n".encode())
ROOT = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
NOTE = f"agentgov/x\n1\n{ROOT}\n\n\u2014 agentgov/x AAAAAAA=\n"
LINE = (
    '{"body":{},"key":0,"kind":"log.heartbeat","log":"agentgov/00000000000000000000000000000000",'
    '"prev":"' + "0" * 64 + '","run":null,"seq":1,"ts":1,"v":1}'
)


def whole_proof() -> bytes:
    """A proof that holds: of the first entry, in a record that has no other."""
    body = {"continues": None, "object_format": "sha1", "public_key": KEY.public_key.hex()}
    line = Entry(0, "0" * 64, ORIGIN, "log.genesis", 1, None, 0, body).line()
    head = sign_checkpoint(Checkpoint(ORIGIN, 1, leaf_hash(line)), KEY.public_key, KEY.sign)
    note = head.with_signature(cosign(head, WITNESS, KEY.sign, seconds=1))
    extra = ProofExtra(line, KEY.sign(pae(PAYLOAD_TYPE, line)))
    return TlogProof(0, (), note.to_bytes(), extra.to_bytes()).to_bytes()


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


def read_heads(raw: bytes) -> None:
    assert encode_heads(parse_heads(raw, where="x").values()) == raw


def read_secret(raw: bytes) -> None:
    assert WitnessKey.parse(raw, where="x").secret().encode() == raw.removesuffix(b"\n")


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
READERS: Sequence[Reader] = (
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
        whole_proof(),
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
    Reader("list of records", read_heads, BROKEN, b"0" * 32 + f" 1 {ROOT} ".encode() + b"1" * 40 + b"\n"),
    Reader("remote's offer", parse_offer, (AgentgovError,), b"1" * 40 + b"\trefs/agentgov/ledger/x\n"),
    Reader(
        "keys to import",
        lambda raw: parse_keys(text(raw), None),
        (UsageError, BrokenRecordError),
        b"a ssh-ed25519 AAAA\n",
    ),
    Reader("witness's secret", read_secret, (UsageError,), WITNESS.text().encode()),
    Reader("authorities", Authorities.parse, (ConfigError,), b"-----BEGIN CERTIFICATE-----\nMAA=\n-----END"),
    Reader("settings", Settings.parse, (ConfigError,), b"[retention]\nargs_days = 400\n"),
    Reader("submodules", parse_gitmodules, (UsageError,), b'[submodule "a"]\n\tpath = b\n\turl = c\n'),
    Reader(".env", parse_dotenv, (), b"TOKEN='abc'\nexport A=b # c\n"),
    Reader(
        "payload",
        lambda raw: parse_payload(raw, "0" * 64),
        BROKEN,
        b"args\targs\t" + b"0" * 64 + b"\t" + b"A" * 43 + b"=\te30=",
    ),
)


def expect(reader: Reader, raw: bytes) -> None:
    try:
        reader.read(raw)
    except reader.errors as error:
        assert len(error.message) < 2000, "an error is a sentence, not its input"  # noqa: PT017
