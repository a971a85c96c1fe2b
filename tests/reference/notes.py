"""Signed notes and checkpoints (docs/format.md, "Checkpoint"; c2sp.org/signed-note, tlog-checkpoint)."""

from __future__ import annotations

import base64
import hashlib
import re

from tests.reference import signatures
from tests.reference.refused import Refused

_LINE = re.compile(r"— ([^\s+]+) ([A-Za-z0-9+/=]+)")


def key_id(name: str, algorithm: int, key: bytes) -> bytes:
    """The four bytes by which a signature line names its key."""
    return hashlib.sha256(name.encode() + b"\n" + bytes([algorithm]) + key).digest()[:4]


def split_note(raw: bytes) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Return a note's text, and the name, key id and signature of each of its lines."""
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise Refused("seal", "not UTF-8") from None
    text, empty, rest = whole.rpartition("\n\n")
    if not empty or not rest.endswith("\n") or any(c < " " and c != "\n" for c in text):
        raise Refused("seal", "not a note")
    found = []
    for line in rest[:-1].split("\n"):
        match = _LINE.fullmatch(line)
        value = only_base64(match[2]) if match else b""
        if match is None or len(value) < 5:
            raise Refused("seal", "not a signature line")
        found.append((match[1], value[:4], value[4:]))
    return text + "\n", found


def only_base64(text: str) -> bytes:
    """Decode base64 that is spelt in the only way."""
    try:
        value = base64.b64decode(text, validate=True)
    except ValueError:
        raise Refused("seal", "not base64") from None
    if base64.b64encode(value).decode() != text:
        raise Refused("seal", "base64 spelt in another way")
    return value


def write_checkpoint(origin: str, size: int, root: bytes) -> str:
    """The text of a checkpoint."""
    return f"{origin}\n{size}\n{base64.b64encode(root).decode()}\n"


def sign_checkpoint(text: str, origin: str, seed: bytes) -> bytes:
    """The note over a checkpoint, by the log key."""
    key = signatures.public_key(seed)
    value = base64.b64encode(key_id(origin, 1, key) + signatures.sign(seed, text.encode())).decode()
    return f"{text}\n— {origin} {value}\n".encode()


def open_checkpoint(raw: bytes, origin: str, key: bytes) -> tuple[int, bytes]:
    """Return size and root of a checkpoint that the log key has signed."""
    text, lines = split_note(raw)
    signed = [value for name, kid, value in lines if (name, kid) == (origin, key_id(origin, 1, key))]
    if not signed or not all(signatures.verify(key, value, text.encode()) for value in signed):
        raise Refused("seal", "not signed by the log key")
    fields = text.split("\n")
    if len(fields) < 4 or fields[0] != origin or "" in fields[:-1]:
        raise Refused("seal", "not a checkpoint of this record")
    if re.fullmatch("0|[1-9][0-9]{0,19}", fields[1]) is None or int(fields[1]) >= 2**64:
        raise Refused("seal", "not a size")
    root = only_base64(fields[2])
    if len(root) != 32:
        raise Refused("seal", "not a root")
    return int(fields[1]), root


def cosigned_message(text: str, seconds: int) -> bytes:
    """What a witness signs (c2sp.org/tlog-cosignature)."""
    return f"cosignature/v1\ntime {seconds}\n{text}".encode()


def witnessed_at(raw: bytes, name: str, key: bytes) -> int | None:
    """Return the time of a witness's cosignature on a note; None when it has none that holds."""
    text, lines = split_note(raw)
    for found, kid, value in lines:
        if (found, kid) == (name, key_id(name, 4, key)) and len(value) == 72:
            seconds = int.from_bytes(value[:8], "big")
            if signatures.verify(key, value[8:], cosigned_message(text, seconds)):
                return seconds
    return None
