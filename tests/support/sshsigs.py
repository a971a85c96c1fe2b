"""SSH signatures as another program than ssh-keygen makes them: no device, and flags and fields at will."""

from __future__ import annotations

import hashlib

from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.sshkey import SshPublicKey
from agentgov.ledger.sshsig import NAMESPACE
from tests.support.persons import ssh_string

SK = b"sk-ssh-ed25519@openssh.com"
APPLICATION = b"ssh:"


def pen(seed: int) -> PrivateKey:
    """The private part of `persons.ssh_key(seed)`."""
    return PrivateKey(bytes([seed]) * 32)


def sk_key(seed: int) -> SshPublicKey:
    """The public key of a device that exists in software only."""
    return SshPublicKey(ssh_string(SK) + ssh_string(pen(seed).public_key) + ssh_string(APPLICATION))


def sshsig(
    seed: int,
    message: bytes,
    *,
    namespace: bytes = NAMESPACE.encode(),
    hash_name: bytes = b"sha512",
    flags: int | None = None,
    named: bytes | None = None,
    tail: bytes = b"",
    reserved: bytes = b"",
) -> bytes:
    """Sign as the key of a number; with `flags` as the device that holds it.

    Args:
        seed: Whose key.
        message: The bytes.
        namespace: What it is for.
        hash_name: How the message is hashed.
        flags: What the device says; no device when None.
        named: The type that the signature says it has.
        tail: What follows the signature.
        reserved: The reserved field.
    """
    kind = b"ssh-ed25519" if flags is None else SK
    key = ssh_string(kind) + ssh_string(pen(seed).public_key)
    digest = hashlib.new(hash_name.decode(), message).digest()
    signed = b"SSHSIG" + b"".join(map(ssh_string, (namespace, b"", hash_name, digest)))
    if flags is not None:
        key += ssh_string(APPLICATION)
        tail = bytes([flags]) + b"\0\0\0\7" + tail
        signed = hashlib.sha256(APPLICATION).digest() + tail + hashlib.sha256(signed).digest()
    value = ssh_string(kind if named is None else named) + ssh_string(pen(seed).sign(signed)) + tail
    return b"SSHSIG\0\0\0\1" + b"".join(map(ssh_string, (key, namespace, reserved, hash_name, value)))
