"""Ed25519 and DSSE: what is signed, and which keys are believed.

Rules: the signed bytes are the DSSE pre-authentication encoding of type and payload, never the payload alone;
a public key that is not the only encoding of its point, lies off the curve or has low order is refused before
it is used (under one of low order, common verifiers accept forgeries); a signature with S at or above the
group order is refused. A process that holds a private key is closed to others of the same user.
`cryptography` is imported at first use only.
"""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from agentgov.errors import BrokenRecordError
from agentgov.memory import guard_memory

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

_P: Final = 2**255 - 19
_ORDER: Final = 2**252 + 27742317777372353535851937790883648493
_D: Final = -121665 * pow(121666, -1, _P) % _P
# The y coordinates of the eight points whose order divides 8 (RFC 7748, section 7; the test multiplies them).
_LOW_ORDER_Y: Final = frozenset(
    {
        0,
        1,
        _P - 1,
        0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
        _P - 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826,
    }
)


def pae(payload_type: str, payload: bytes) -> bytes:
    """Return the pre-authentication encoding (DSSE v1.0, protocol.md)."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %b %d %b" % (len(kind), kind, len(payload), payload)


def check_public_key(public_key: bytes) -> None:
    """Check that 32 bytes are a key that may be believed (RFC 8032, section 5.1.3).

    Raises:
        BrokenRecordError: AG0210, when they are not.
    """
    _load_public_key(bytes(public_key))


@lru_cache(maxsize=1024)
def _load_public_key(public_key: bytes) -> Ed25519PublicKey:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    if len(public_key) != 32:
        raise BrokenRecordError("a public key that is not 32 bytes long", id="AG0210")
    y = int.from_bytes(public_key, "little") & (2**255 - 1)
    if y >= _P:
        raise BrokenRecordError("a public key with more than one spelling", id="AG0210")
    if y in _LOW_ORDER_Y:
        raise BrokenRecordError(
            "a public key of low order, under which signatures can be forged", id="AG0210"
        )
    x_squared = (y * y - 1) * pow(_D * y * y + 1, -1, _P) % _P
    if pow(x_squared, (_P - 1) // 2, _P) != 1:
        raise BrokenRecordError("a public key that is no point of the curve", id="AG0210")
    return Ed25519PublicKey.from_public_bytes(public_key)


def verify_ed25519(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Tell whether a signature is right.

    Raises:
        BrokenRecordError: AG0210, when the key itself is refused.
    """
    return verifier(public_key)(signature, message)


@lru_cache(maxsize=1024)
def verifier(public_key: bytes) -> Callable[[bytes, bytes], bool]:
    """Return what tells whether a signature of this key over a message is right, for many of them.

    Raises:
        BrokenRecordError: AG0210, when the key is refused.
    """
    from cryptography.exceptions import InvalidSignature

    verify = _load_public_key(bytes(public_key)).verify

    def is_right(signature: bytes, message: bytes) -> bool:
        if len(signature) != 64 or int.from_bytes(signature[32:], "little") >= _ORDER:
            return False
        try:
            verify(signature, message)
        except InvalidSignature:
            return False
        return True

    return is_right


def verify_signature(
    public_key: bytes, payload_type: str, payload: bytes, signature: bytes, *, where: str | None = None
) -> None:
    """Check a signature over the encoding of `payload`.

    Raises:
        BrokenRecordError: AG0210, when the key is refused; AG0211, when the signature is wrong.
    """
    if not verify_ed25519(public_key, signature, pae(payload_type, payload)):
        raise BrokenRecordError("the signature is not that of the key named", id="AG0211", where=where)


class PrivateKey:
    """An Ed25519 key in memory.

    Args:
        seed: Its 32 bytes.
    """

    __slots__ = ("_key", "public_key")

    def __init__(self, seed: bytes) -> None:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        if len(seed) != 32:
            raise BrokenRecordError("a private key that is not 32 bytes long", id="AG0210")
        guard_memory()
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key: bytes = self._key.public_key().public_bytes_raw()

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of a signature over exactly these bytes."""
        return self._key.sign(message)

    def __repr__(self) -> str:
        return f"PrivateKey(public_key={self.public_key.hex()})"


@dataclass(frozen=True, slots=True)
class EnvelopeSignature:
    """One signature of an envelope; `key_id` is a hint and proves nothing."""

    key_id: str
    signature: bytes


@dataclass(frozen=True, slots=True)
class Envelope:
    """A DSSE envelope: a payload, its type, and signatures over the encoding of both."""

    payload_type: str
    payload: bytes
    signatures: tuple[EnvelopeSignature, ...]

    def pae(self) -> bytes:
        """Return the bytes that are signed."""
        return pae(self.payload_type, self.payload)

    def to_body(self) -> dict[str, Any]:
        """Return the form that stands in an entry; its keys are those of DSSE in the record's spelling."""
        return {
            "payload": base64.b64encode(self.payload).decode(),
            "payload_type": self.payload_type,
            "signatures": [
                {"keyid": s.key_id, "sig": base64.b64encode(s.signature).decode()} for s in self.signatures
            ],
        }

    def to_json(self) -> dict[str, Any]:
        """Return the form that other DSSE tools read."""
        body = self.to_body()
        return {
            "payload": body["payload"],
            "payloadType": self.payload_type,
            "signatures": body["signatures"],
        }


def sign_envelope(payload_type: str, payload: bytes, key_id: str, sign: Callable[[bytes], bytes]) -> Envelope:
    """Return an envelope with one signature, made by `sign` over the encoding."""
    return Envelope(payload_type, payload, (EnvelopeSignature(key_id, sign(pae(payload_type, payload))),))


def verify_envelope(envelope: Envelope, public_keys: Sequence[bytes]) -> list[bytes]:
    """Return the Ed25519 keys that have signed an envelope, each once, at least one (DSSE v1.0, protocol.md).

    Every signature is tried with every key: its `key_id` is a hint of whoever wrote it. What persons sign are
    SSH signatures, which `sshsig.verify_statement` checks.

    Raises:
        BrokenRecordError: AG0211, when none of these keys has; AG0210, when one of them is refused.
    """
    message = envelope.pae()
    found = [
        key
        for key in dict.fromkeys(public_keys)
        if any(verify_ed25519(key, item.signature, message) for item in envelope.signatures)
    ]
    if not found:
        raise BrokenRecordError("no known key has signed this envelope", id="AG0211")
    return found


def parse_envelope(raw: object) -> Envelope:
    """Parse an envelope in either of its two spellings.

    Raises:
        BrokenRecordError: AG0212, when it is not one, or has no signature.
    """
    error = BrokenRecordError("this is not a signed envelope", id="AG0212")
    if not isinstance(raw, Mapping):
        raise error
    name = "payloadType" if "payloadType" in raw else "payload_type"
    kind, items = raw.get(name), raw.get("signatures")
    if raw.keys() != {"payload", name, "signatures"} or not isinstance(kind, str) or not kind.isascii():
        raise error
    if not isinstance(items, Sequence) or isinstance(items, str | bytes) or not 1 <= len(items) <= 64:
        raise error
    signatures = []
    for item in items:
        if not isinstance(item, Mapping) or not item.keys() <= {"keyid", "sig"}:
            raise error
        key_id = item.get("keyid", "")
        if not isinstance(key_id, str) or not key_id.isascii():
            raise error
        signatures.append(EnvelopeSignature(key_id, _base64(item.get("sig"))))
    return Envelope(kind, _base64(raw.get("payload")), tuple(signatures))


def _base64(raw: object) -> bytes:
    if isinstance(raw, str):
        try:
            value = base64.b64decode(raw, validate=True)
        except ValueError:
            value = b""
        if base64.b64encode(value).decode() == raw:
            return value
    raise BrokenRecordError("this is not a signed envelope", id="AG0212")
