"""SSH signatures by Ed25519 keys, plain or in hardware, checked without a program.

Rules kept here:

- What is signed is a hash of the message with namespace and hash named (OpenSSH, PROTOCOL.sshsig); a hardware
  key signs a hash of that, behind its application, flags and counter (OpenSSH, PROTOCOL.u2f).
- A hardware key counts only with a touch: whoever reads its handle on disk can have it sign without one, and
  only the flags tell. `ssh-keygen -Y verify` does not look at them.
- Keys of other types are for `ssh-keygen` to check.
"""

from __future__ import annotations

import hashlib
import struct
from typing import Final

from agentgov.ledger.signing import verify_ed25519
from agentgov.ledger.sshkey import Fields, SshPublicKey

ED25519: Final = "ssh-ed25519"
SK_ED25519: Final = "sk-ssh-ed25519@openssh.com"
_USER_PRESENT: Final = 0x01
# Flags, one byte, and a counter of four.
_SK_TAIL_BYTES: Final = 5


def needs_program(key: SshPublicKey) -> bool:
    """Whether only `ssh-keygen` can check what this key signed."""
    return key.algorithm not in (ED25519, SK_ED25519)


def is_right(key: SshPublicKey, namespace: str, hash_name: str, raw_signature: bytes, message: bytes) -> bool:
    """Tell whether an Ed25519 key signed a message; the key was checked, the touch is not looked at.

    Args:
        key: One that does not need a program.
        namespace: What was signed for.
        hash_name: `sha256` or `sha512`.
        raw_signature: The last field of the SSHSIG.
        message: The bytes it must be over.

    Raises:
        BrokenRecordError: AG0218, when key or signature are cut off; AG0210, when the key is refused.
    """
    named, signature = Fields(key.blob), Fields(raw_signature)
    if named.text() != signature.text():
        return False
    public_key, value = named.string(), signature.string()
    tail = signature.rest()
    digest = hashlib.new(hash_name, message).digest()
    signed = b"SSHSIG" + b"".join(map(_string, (namespace.encode(), b"", hash_name.encode(), digest)))
    if key.algorithm == SK_ED25519:
        application = hashlib.sha256(named.string()).digest()
        signed = application + tail + hashlib.sha256(signed).digest()
    if len(tail) != (_SK_TAIL_BYTES if key.algorithm == SK_ED25519 else 0):
        return False
    return verify_ed25519(public_key, value, signed)


def is_touched(key: SshPublicKey, raw_signature: bytes) -> bool:
    """Tell whether somebody touched the device that signed; true of a key that is in none.

    Raises:
        BrokenRecordError: AG0218, when key or signature are cut off.
    """
    if not key.algorithm.startswith("sk-"):
        return True
    signature = Fields(raw_signature)
    signature.text()
    signature.string()
    tail = signature.rest()
    return len(tail) >= _SK_TAIL_BYTES and bool(tail[0] & _USER_PRESENT)


def _string(raw: bytes) -> bytes:
    return struct.pack(">I", len(raw)) + raw
