"""What a person signs (docs/format.md, OpenSSH PROTOCOL.sshsig), for Ed25519 keys only."""

from __future__ import annotations

import base64
import hashlib
from typing import Any

from tests.reference import canonical_slow, signatures
from tests.reference.refused import Refused

NAMESPACE = b"agentgov-approval-v1"
ENDORSEMENT_TYPE = "application/vnd.agentgov.endorsement.v1+json"


def check_envelope(envelope: dict[str, Any], seq: int) -> list[bytes]:
    """Return the Ed25519 keys that signed an envelope; one of another algorithm is left out."""
    payload = base64.b64decode(envelope["payload"])
    signed = signatures.pae(envelope["payload_type"], payload)
    keys = []
    for one in envelope["signatures"]:
        key = _signer(base64.b64decode(one["sig"]), signed, seq)
        keys += [] if key is None else [key]
    return keys


def check_endorsement(envelope: dict[str, Any], log: str, public_key: str, seq: int) -> list[bytes]:
    """Return the keys of those who stand behind this record's key."""
    payload = base64.b64decode(envelope["payload"])
    said = canonical_slow.parse(payload)
    fits = isinstance(said, dict) and sorted(said) == ["log", "public_key", "roots", "v"]
    if not fits or envelope["payload_type"] != ENDORSEMENT_TYPE or said["v"] != 1:
        raise Refused("signature", "not an endorsement", seq)
    if (said["log"], said["public_key"]) != (log, public_key) or said["roots"] != sorted(said["roots"]):
        raise Refused("signature", "an endorsement of another record", seq)
    return check_envelope(envelope, seq)


def _signer(blob: bytes, message: bytes, seq: int) -> bytes | None:
    if blob[:6] != b"SSHSIG" or blob[6:10] != b"\x00\x00\x00\x01":
        raise Refused("signature", "not an SSH signature", seq)
    key, namespace, reserved, algorithm, signature = _strings(blob[10:], 5, seq)
    if namespace != NAMESPACE or algorithm not in (b"sha256", b"sha512"):
        raise Refused("signature", "another namespace or hash", seq)
    kind, *_ = _strings(key, 1, seq)
    if kind != b"ssh-ed25519":
        return None
    _, public = _strings(key, 2, seq)
    _, value = _strings(signature, 2, seq)
    digest = hashlib.new(algorithm.decode(), message).digest()
    signed = b"SSHSIG" + b"".join(_string(part) for part in (namespace, reserved, algorithm, digest))
    if not signatures.verify(public, value, signed):
        raise Refused("signature", "a person's signature is wrong", seq)
    return public


def _string(raw: bytes) -> bytes:
    return len(raw).to_bytes(4, "big") + raw


def _strings(raw: bytes, count: int, seq: int) -> list[bytes]:
    """The first so many strings of RFC 4251, section 5."""
    found = []
    for _ in range(count):
        size = int.from_bytes(raw[:4], "big")
        if len(raw) < 4 + size:
            raise Refused("signature", "an SSH structure is cut", seq)
        found.append(raw[4 : 4 + size])
        raw = raw[4 + size :]
    return found
