"""Public keys as SSH encodes them, and which of them are believed.

Rules kept here:

- One key has one encoding. A type, point or number with a second spelling, or bytes after the key, would give
  one key two fingerprints, and a revocation hits a fingerprint.
- An Ed25519 key of low order, off the curve or with another spelling is refused, as everywhere in the record.
- A type that is not known here may still be checked by `ssh-keygen`; it is never added to a trust file.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from dataclasses import dataclass
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.ledger.signing import check_public_key

MAX_KEY_BYTES: Final = 8192
MIN_RSA_BITS: Final = 2048
# The curve, and the size of an uncompressed point on it (RFC 5656, section 3.1; SEC 1, section 2.3.3).
_CURVES: Final = {"nistp256": 65, "nistp384": 97, "nistp521": 133}
_SK_ED25519: Final = "sk-ssh-ed25519@openssh.com"
_SK_ECDSA: Final = "sk-ecdsa-sha2-nistp256@openssh.com"
ADDABLE: Final = frozenset(
    {"ssh-ed25519", _SK_ED25519, _SK_ECDSA, "ssh-rsa", *(f"ecdsa-sha2-{curve}" for curve in _CURVES)}
)


@dataclass(frozen=True, slots=True)
class SshPublicKey:
    """A public key as SSH encodes it."""

    blob: bytes

    @property
    def algorithm(self) -> str:
        """Its type, such as `ssh-ed25519`."""
        return Fields(self.blob).text()

    @property
    def fingerprint(self) -> str:
        """The fingerprint as `ssh-keygen -l` prints it."""
        return "SHA256:" + base64.b64encode(hashlib.sha256(self.blob).digest()).decode().rstrip("=")

    @property
    def line(self) -> str:
        """The key as it stands in a public key file or a trust file."""
        return f"{self.algorithm} {base64.b64encode(self.blob).decode()}"

    @property
    def is_addable(self) -> bool:
        """Whether it may be added to a trust file: a known type, no certificate, RSA of a fair length."""
        if self.algorithm not in ADDABLE:
            return False
        fields = Fields(self.blob)
        return fields.text() != "ssh-rsa" or _rsa_bits(fields) >= MIN_RSA_BITS


def parse_public_key(raw_line: str) -> SshPublicKey:
    """Parse the line of a public key file; a comment may follow.

    Raises:
        BrokenRecordError: AG0218, when it is not one; AG0210, when the key is refused.
    """
    # Blanks as ssh-keygen knows them: to it a non-breaking space is a part of the word.
    words = re.split(r"[ \t]+", raw_line.strip(" \t\r\n"), maxsplit=2)
    try:
        key = SshPublicKey(base64.b64decode(words[1], validate=True))
    except (IndexError, ValueError):
        raise malformed() from None
    if key.algorithm != words[0]:
        raise malformed()
    check_ssh_key(key)
    return key


def check_ssh_key(key: SshPublicKey) -> None:
    """Check that a key is well formed, spelled in the only way, and may be believed.

    Raises:
        BrokenRecordError: AG0218, when it is not one; AG0210, when it is refused (RFC 8032, section 5.1.3).
    """
    if len(key.blob) > MAX_KEY_BYTES:
        raise malformed()
    fields = Fields(key.blob)
    algorithm = fields.text()
    if "-cert-v" in algorithm or algorithm not in ADDABLE:
        return
    if algorithm in ("ssh-ed25519", _SK_ED25519):
        check_public_key(fields.string())
    elif algorithm == "ssh-rsa":
        _rsa_bits(fields)
    else:
        curve = fields.text()
        point = fields.string()
        named = algorithm == f"ecdsa-sha2-{curve}" or (algorithm == _SK_ECDSA and curve == "nistp256")
        if not named or len(point) != _CURVES.get(curve) or point[0] != 4:
            raise malformed()
    if algorithm.startswith("sk-"):
        fields.text()
    if fields.rest():
        raise malformed()


class Fields:
    """Reads the length-prefixed strings of SSH (RFC 4251, section 5)."""

    def __init__(self, raw: bytes) -> None:
        self._raw = raw
        self._place = 0

    def string(self) -> bytes:
        """Return the next string.

        Raises:
            BrokenRecordError: AG0218, when there is none.
        """
        head = self._raw[self._place : self._place + 4]
        if len(head) != 4:
            raise malformed()
        end = self._place + 4 + int(struct.unpack(">I", head)[0])
        if end > len(self._raw):
            raise malformed()
        value, self._place = self._raw[self._place + 4 : end], end
        return value

    def text(self) -> str:
        """Return the next string, which must be ASCII.

        Raises:
            BrokenRecordError: AG0218, when it is not.
        """
        try:
            return self.string().decode("ascii")
        except UnicodeDecodeError:
            raise malformed() from None

    def number(self) -> int:
        """Return the next mpint, which must be positive and have no byte too many.

        Raises:
            BrokenRecordError: AG0218, when it is not.
        """
        raw = self.string()
        value = int.from_bytes(raw, "big")
        if value == 0 or raw != value.to_bytes(value.bit_length() // 8 + 1, "big"):
            raise malformed()
        return value

    def rest(self) -> bytes:
        """Return what was not read yet."""
        return self._raw[self._place :]


def _rsa_bits(fields: Fields) -> int:
    fields.number()
    return fields.number().bit_length()


def malformed() -> BrokenRecordError:
    """Return the error for bytes that are no SSH signature or key."""
    return BrokenRecordError("this is not an SSH signature or key", id="AG0218")
