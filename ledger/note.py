"""Signed notes, byte for byte as C2SP signed-note v1 says (c2sp.org/signed-note).

Rules: the text is UTF-8 without control characters other than LF and ends in LF; then an empty line and one
or more signature lines `EM-DASH SPACE name SPACE base64(4-byte key id || signature) LF`. A signature of an
unknown key is passed over; one of a known key that does not verify refuses the whole note; with no verified
signature the note is refused. Base64 that does not print back identically is refused.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.ledger.signing import check_public_key, verify_ed25519

ED25519: Final = 0x01
MAX_BYTES: Final = 1_000_000
MAX_SIGNATURES: Final = 100
_MARK: Final = "— "


@dataclass(frozen=True, slots=True)
class NoteKey:
    """A public key that may sign notes under a name.

    Attributes:
        name: Without spaces and `+`.
        public_key: 32 bytes of Ed25519.
    """

    name: str
    public_key: bytes

    @property
    def key_id(self) -> bytes:
        """The four bytes by which signature lines name this key."""
        return key_id(self.name, ED25519, self.public_key)

    def text(self) -> str:
        """Return the verifier key `name+hash+base64(type || key)`."""
        encoded = base64.b64encode(bytes([ED25519]) + self.public_key).decode()
        return f"{self.name}+{self.key_id.hex()}+{encoded}"


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


def key_id(name: str, algorithm: int, public_key: bytes) -> bytes:
    """Return SHA-256(name || LF || algorithm || key), cut to four bytes."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + public_key).digest()[:4]


def sign_note(text: str, key: NoteKey, sign: Callable[[bytes], bytes]) -> Note:
    """Return a note over `text` with one signature.

    Raises:
        BrokenRecordError: AG0207, when the text or the name cannot stand in a note.
    """
    _check_text(text)
    _check_name(key.name)
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
    _check_text(text)
    lines = raw_lines[:-1].split("\n")
    if len(lines) > MAX_SIGNATURES:
        raise _malformed(f"more than {MAX_SIGNATURES} signatures")
    return Note(text, tuple(map(_parse_signature, lines)))


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
            if key.name == signature.name and key.key_id == signature.key_id:
                if not verify_ed25519(key.public_key, signature.signature, note.text.encode()):
                    raise BrokenRecordError("the signature of a note is wrong", id="AG0208")
                if key not in verified:
                    verified.append(key)
    if not verified:
        raise BrokenRecordError("no known key has signed this note", id="AG0208")
    return note.text, tuple(verified)


def parse_key(raw_text: str) -> NoteKey:
    """Parse a verifier key `name+hash+base64(type || key)`.

    Raises:
        BrokenRecordError: AG0207, when it is not one, or not Ed25519; AG0210, when the key itself is refused.
    """
    parts = raw_text.split("+", 2)
    if len(parts) != 3:
        raise _malformed("not a verifier key")
    name, raw_id, raw_key = parts
    _check_name(name)
    key = decode_base64(raw_key)
    if len(key) != 33 or key[0] != ED25519:
        raise _malformed("a verifier key that is not Ed25519")
    if raw_id != key_id(name, ED25519, key[1:]).hex():
        raise _malformed("a verifier key whose id is not its own")
    check_public_key(key[1:])
    return NoteKey(name, key[1:])


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


def _parse_signature(raw_line: str) -> NoteSignature:
    if not raw_line.startswith(_MARK):
        raise _malformed("a signature line without its mark")
    name, space, raw_value = raw_line[len(_MARK) :].partition(" ")
    if not space:
        raise _malformed("a signature line without a signature")
    _check_name(name)
    value = decode_base64(raw_value)
    if len(value) < 5:
        raise _malformed("a signature that is too short")
    return NoteSignature(name, value[:4], value[4:])


def _check_name(name: str) -> None:
    if not name or "+" in name or any(c.isspace() or unicodedata.category(c) in ("Cc", "Cs") for c in name):
        raise _malformed("a name that is empty or holds a space, + or a control character")


def _check_text(text: str) -> None:
    if not text.endswith("\n") or any(ord(c) < 0x20 and c != "\n" for c in text):
        raise _malformed("text that does not end in LF, or holds control characters")
    if any(0xD800 <= ord(c) <= 0xDFFF for c in text):
        raise _malformed("text that is not UTF-8")


def _malformed(what: str) -> BrokenRecordError:
    return BrokenRecordError(f"this is not a signed note: {what}", id="AG0207")
