"""Persons: SSH public keys that need no ssh-keygen, and trust files that name them."""

from __future__ import annotations

import base64
import hashlib
import struct

from agentgov.ledger.revocation import FrozenHead
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.sshkey import SshPublicKey

LOG = "agentgov/" + "a" * 32
OTHER_LOG = "agentgov/" + "b" * 32


def ssh_string(raw: bytes) -> bytes:
    """RFC 4251, section 5."""
    return struct.pack(">I", len(raw)) + raw


def ssh_key(seed: int = 1) -> SshPublicKey:
    """The public key of an Ed25519 key made from a number."""
    public = PrivateKey(bytes([seed]) * 32).public_key
    return SshPublicKey(ssh_string(b"ssh-ed25519") + ssh_string(public))


def public_line(algorithm: bytes, *fields: bytes, tail: bytes = b"") -> str:
    """The line of a public key file with these fields, whether or not they are a key."""
    blob = ssh_string(algorithm) + b"".join(map(ssh_string, fields)) + tail
    return f"{algorithm.decode()} {base64.b64encode(blob).decode()}"


def trust(*entries: tuple[str, int], options: str = "") -> str:
    """A trust file: principals and the number of the key."""
    middle = f" {options}" if options else ""
    return "".join(f"{names}{middle} {ssh_key(seed).line}\n" for names, seed in entries)


def frozen(size: int, log: str = LOG) -> FrozenHead:
    """A frozen head of some root."""
    return FrozenHead(log, size, hashlib.sha256(b"%d" % size).digest())
