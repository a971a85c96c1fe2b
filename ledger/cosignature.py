"""Cosignatures: what a witness signs when it has seen a record grow (c2sp.org/tlog-cosignature, Ed25519).

Rules: the signature line of a witness holds key id || time || Ed25519 signature, the time as 8 bytes of
POSIX seconds, big endian, below 2^63; the signed message is `cosignature/v1 LF time SECONDS LF` and the
checkpoint's whole text. Only a checkpoint is cosigned. A cosignature of an unknown witness, or of an
algorithm that this program does not know (ML-DSA-44), is kept and passed over; one of a known witness that
does not verify is refused. The message does not name the witness: one key must not serve two witnesses.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.ledger.checkpoint import Checkpoint, parse_checkpoint
from agentgov.ledger.note import COSIGNATURE_ED25519, Note, NoteKey, NoteSignature, check_name
from agentgov.ledger.signing import verify_ed25519

MAX_SECONDS: Final = 2**63 - 1
_TIME_BYTES: Final = 8
_SIGNATURE_BYTES: Final = 64


@dataclass(frozen=True, slots=True)
class Cosignature:
    """A cosignature that was verified.

    Attributes:
        key: The witness's key, under the witness's name.
        seconds: When the witness says it signed, POSIX seconds.
        checkpoint: What it signed.
    """

    key: NoteKey
    seconds: int
    checkpoint: Checkpoint


def witness_key(name: str, public_key: bytes) -> NoteKey:
    """Return a witness's Ed25519 key under its name.

    Raises:
        BrokenRecordError: AG0207, when no key may have that name.
    """
    check_name(name)
    return NoteKey(name, public_key, COSIGNATURE_ED25519)


def cosigned_message(text: str, seconds: int) -> bytes:
    """Return the bytes that a witness signs.

    Args:
        text: The checkpoint's text, with its last LF.
        seconds: When, POSIX seconds.
    """
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def cosign(note: Note, key: NoteKey, sign: Callable[[bytes], bytes], *, seconds: int) -> NoteSignature:
    """Return the signature line of a witness for a checkpoint; `Note.with_signature` adds it.

    The caller has verified the note and that the record grew from what this witness signed before.

    Args:
        note: The signed checkpoint.
        key: The witness's key.
        sign: Signs bytes with it.
        seconds: The time now, POSIX seconds.

    Raises:
        BrokenRecordError: AG0207 or AG0209, when the note is not about a checkpoint.
        AgentgovError: AG0400, when the key is none for cosignatures or the time none.
    """
    parse_checkpoint(note.text)
    if key.algorithm != COSIGNATURE_ED25519 or not 0 <= seconds <= MAX_SECONDS:
        raise AgentgovError("this key or this time cannot stand in a cosignature", id="AG0400")
    signature = sign(cosigned_message(note.text, seconds))
    return NoteSignature(key.name, key.key_id, seconds.to_bytes(_TIME_BYTES, "big") + signature)


def verify_cosignature(note: Note, signature: NoteSignature, key: NoteKey) -> Cosignature:
    """Verify one signature line that names this key.

    Raises:
        BrokenRecordError: AG0401, when it is not that witness's cosignature; AG0207 or AG0209, when the note
            is not about a checkpoint; AG0210, when the key itself is refused.
    """
    checkpoint = parse_checkpoint(note.text)
    blob = signature.signature
    seconds = int.from_bytes(blob[:_TIME_BYTES], "big")
    if (
        key.algorithm != COSIGNATURE_ED25519
        or not key.names(signature)
        or len(blob) != _TIME_BYTES + _SIGNATURE_BYTES
        or seconds > MAX_SECONDS
        or not verify_ed25519(key.public_key, blob[_TIME_BYTES:], cosigned_message(note.text, seconds))
    ):
        raise BrokenRecordError("a witness's cosignature is wrong", id="AG0401", where=key.name)
    return Cosignature(key, seconds, checkpoint)


def verify_cosignatures(note: Note, keys: Iterable[NoteKey]) -> list[Cosignature]:
    """Return the cosignatures of the known witnesses, in the order of the note, one for each witness.

    None at all is no error: how many are enough is a policy's to say.

    Raises:
        BrokenRecordError: AG0401, when one that names a known key is wrong; AG0207 or AG0209, when there is
            one and the note is not about a checkpoint.
    """
    known = [key for key in keys if key.algorithm == COSIGNATURE_ED25519]
    found: dict[NoteKey, Cosignature] = {}
    for signature in note.signatures:
        for key in known:
            if key.names(signature):
                verified = verify_cosignature(note, signature, key)
                found.setdefault(key, verified)
    return list(found.values())
