"""Signed notes, byte for byte as C2SP signed-note v1 says (c2sp.org/signed-note).

Rules: the text is UTF-8 without control characters other than LF and ends in LF; then an empty line and one
or more signature lines `EM-DASH SPACE name SPACE base64(4-byte key id || signature) LF`. A name is not empty
and holds neither a Unicode space nor `+`. A signature of an unknown key, or of an algorithm that this program
does not know, is kept and passed over; one of a known key that does not verify refuses the whole note; with
no verified signature the note is refused. What does not print back identically is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.ledger.signing import check_public_key, verify_ed25519

ED25519: Final = 0x01
ECDSA: Final = 0x02
COSIGNATURE_ED25519: Final = 0x04
COSIGNATURE_ML_DSA_44: Final = 0x06
MAX_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100
MAX_KEY_CHARS: Final = 16_384
_MARK: Final = "— "
_is_key_id = re.compile(r"[0-9a-f]{8}").fullmatch
_KEY_BYTES: Final = {ED25519: 32, COSIGNATURE_ED25519: 32, COSIGNATURE_ML_DSA_44: 1312}
# These two name their keys in another way (signed-note, "Signature types").
_OWN_KEY_IDS: Final = (ECDSA, 0xFF)


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key that may sign notes under a name.

    Attributes:
        name: Without spaces and `+`.
        public_key: The key as its algorithm encodes it: 32 bytes of Ed25519, 1312 of ML-DSA-44.
        algorithm: The signature type.
        stated_id: The key's id where the algorithm has its own way to make one; None where it follows from
            name, algorithm and key.
    """

    name: str
    public_key: bytes
    algorithm: int = ED25519
    stated_id: bytes | None = None

    @property
    def key_id(self) -> bytes:
        """The four bytes by which signature lines name this key."""
        if self.stated_id is not None:
            return self.stated_id
        return key_id(self.name, self.algorithm, self.public_key)

    def text(self) -> str:
        """Return the verifier key `name+hash+base64(type || key)`."""
        encoded = base64.b64encode(bytes([self.algorithm]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"

    def names(self, signature: NoteSignature) -> bool:
        """Whether a signature line says that this key made it."""
        return self.name == signature.name and self.key_id == signature.key_id


@dataclass(frozen=True, slots=True)
class NoteSignature:
    """One signature line: the signer's name, its key id, and the signature's bytes."""

    name: str
    key_id: bytes
    signature: bytes

    def line(self) -> str:
        """Return the line, with its LF."""
        return f"{_MARK}{self.name} {base64.b64encode(self.key_id + self.signature).decode()}\n"


@dataclass(frozen=True, slots=True)
class Note:
    """A parsed note; that it was parsed says nothing about its signatures."""

    text: str
    signatures: tuple[NoteSignature, ...]

    def to_bytes(self) -> bytes:
        """Return the note as it is stored."""
        return (self.text + "\n" + "".join(s.line() for s in self.signatures)).encode()

    def with_signature(self, signature: NoteSignature) -> Note:
        """Return the same note with one more signature line at its end, unless it has this very one."""
        return self if signature in self.signatures else Note(self.text, (*self.signatures, signature))


def key_id(name: str, algorithm: int, public_key: bytes) -> bytes:
    """Return SHA-256(name || LF || algorithm || key), cut to four bytes."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + public_key).digest()[:4]


def sign_note(text: str, key: NoteKey, sign: Callable[[bytes], bytes]) -> Note:
    """Return a note over `text` with one signature.

    Raises:
        BrokenRecordError: AG0207, when the text or the name cannot stand in a note.
    """
    check_text(text)
    check_name(key.name)
    return Note(text, (NoteSignature(key.name, key.key_id, sign(text.encode())),))


def parse_note(raw: bytes) -> Note:
    """Take a note apart.

    Raises:
        BrokenRecordError: AG0207, when it is not one.
    """
    if len(raw) > MAX_BYTES:
        raise _malformed(f"longer than {MAX_BYTES} bytes")
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise _malformed("not UTF-8") from None
    text, empty, raw_lines = whole.rpartition("\n\n")
    if not empty or not raw_lines.endswith("\n"):
        raise _malformed("no signature lines")
    text += "\n"
    check_text(text)
    lines = raw_lines[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(f"more than {MAX_SIGNATURES} signatures")
    return Note(text, tuple(map(parse_signature_line, lines)))


def verify_note(raw: bytes, keys: Sequence[NoteKey]) -> tuple[str, tuple[NoteKey, ...]]:
    """Return the text of a note and the keys that signed it, at least one.

    Raises:
        BrokenRecordError: AG0207, when it is not a note; AG0208, when a known key's signature is wrong or
            no known key signed it.
    """
    note = parse_note(raw)
    verified: list[NoteKey] = []
    for signature in note.signatures:
        for key in keys:
            if key.algorithm == ED25519 and key.names(signature):
                if not verify_ed25519(key.public_key, signature.signature, note.text.encode()):
                    raise BrokenRecordError("the signature of a note is wrong", id="AG0208")
                if key not in verified:
                    verified.append(key)
    if not verified:
        raise BrokenRecordError("no known key has signed this note", id="AG0208")
    return note.text, tuple(verified)


def parse_key(raw_text: str) -> NoteKey:
    """Parse the verifier key `name+hash+base64(type || key)` of an Ed25519 key that signs notes.

    Raises:
        BrokenRecordError: AG0207, when it is not one, or of another type; AG0210, when the key itself is
            refused.
    """
    key = parse_any_key(raw_text)
    if key.algorithm != ED25519:
        raise _malformed("a verifier key that is not Ed25519")
    return key


def parse_any_key(raw_text: str) -> NoteKey:
    """Parse a verifier key of any signature type; one of an unknown type can be kept and never verifies.

    Raises:
        BrokenRecordError: AG0207, when it is not one; AG0210, when an Ed25519 key itself is refused.
    """
    if len(raw_text) > MAX_KEY_CHARS:
        raise _malformed(f"a verifier key of more than {MAX_KEY_CHARS} characters")
    parts = raw_text.split("+", 2)
    if len(parts) != 3:
        raise _malformed("not a verifier key")
    name, raw_id, raw_key = parts
    check_name(name)
    encoded = decode_base64(raw_key)
    if len(encoded) < 2 or _is_key_id(raw_id) is None:
        raise _malformed("not a verifier key")
    algorithm, public_key = encoded[0], encoded[1:]
    if len(public_key) != _KEY_BYTES.get(algorithm, len(public_key)):
        raise _malformed("a verifier key of another length than its type has")
    stated = bytes.fromhex(raw_id)
    if algorithm in _OWN_KEY_IDS:
        return NoteKey(name, public_key, algorithm, stated)
    if stated != key_id(name, algorithm, public_key):
        raise _malformed("a verifier key whose id is not its own")
    if algorithm in (ED25519, COSIGNATURE_ED25519):
        check_public_key(public_key)
    return NoteKey(name, public_key, algorithm)


def decode_base64(raw_text: str) -> bytes:
    """Decode standard base64 with padding.

    Raises:
        BrokenRecordError: AG0207, when it does not print back identically.
    """
    try:
        value = base64.b64decode(raw_text, validate=True)
    except (binascii.Error, ValueError):
        raise _malformed("base64 that cannot be read") from None
    # The decoder passes over bits that do not belong to a whole byte: many spellings of one value.
    if base64.b64encode(value).decode() != raw_text:
        raise _malformed("base64 that does not print back identically")
    return value


def parse_signature_line(raw_line: str) -> NoteSignature:
    """Parse one signature line, without its LF.

    Raises:
        BrokenRecordError: AG0207, when it is not one.
    """
    if not raw_line.startswith(_MARK):
        raise _malformed("a signature line without its mark")
    name, space, raw_value = raw_line[len(_MARK) :].partition(" ")
    if not space:
        raise _malformed("a signature line without a signature")
    check_name(name)
    value = decode_base64(raw_value)
    if len(value) < 5:
        raise _malformed("a signature that is too short")
    return NoteSignature(name, value[:4], value[4:])


def check_name(name: str) -> None:
    """Check that a key may have this name.

    Raises:
        BrokenRecordError: AG0207, when it is empty or holds a Unicode space, `+`, a control character below
            U+0020, or what is no character.
    """
    if not name or "+" in name or any(c.isspace() or c < " " or "\ud800" <= c <= "\udfff" for c in name):
        raise _malformed("a name that is empty or holds a space, + or a control character")


def check_text(text: str) -> None:
    """Check that a text can stand in a note.

    Raises:
        BrokenRecordError: AG0207, when it does not end in LF, holds another control character below U+0020,
            or is not UTF-8.
    """
    if not text.endswith("\n") or any(c < " " and c != "\n" for c in text):
        raise _malformed("text that does not end in LF, or holds control characters")
    if any("\ud800" <= c <= "\udfff" for c in text):
        raise _malformed("text that is not UTF-8")


def _malformed(what: str) -> BrokenRecordError:
    return BrokenRecordError(f"this is not a signed note: {what}", id="AG0207")
