"""Pins: the last head this machine has seen of a record, kept outside the repository.

Rules: a pin never goes back: a smaller head is not written, another root at the same size is refused. A
record that is shorter than its pin, or differs from it, was cut or rewritten. Anything unreadable is refused,
never taken for "no pin".
"""

from __future__ import annotations

import hashlib
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from agentgov.errors import BrokenRecordError
from agentgov.files import FileLock, fsync_dir, read_own_file, write_atomic
from agentgov.ledger import canonical

VERSION: Final = 1
_is_hash = re.compile(r"[0-9a-f]{64}").fullmatch
_is_log = re.compile(r"agentgov/[0-9a-f]{32}").fullmatch
_KEYS: Final = {"leaf", "log", "public_key", "root", "size", "ts", "v"}


@dataclass(frozen=True, slots=True)
class Pin:
    """A head that was seen.

    Attributes:
        log: The stream's origin.
        public_key: The log key, 64 hex characters.
        size: How many entries there were, at least one.
        root: The root of the tree over them, 64 hex characters.
        leaf: The leaf of the last of them, 64 hex characters.
        ts: When it was seen, microseconds since 1970 UTC.
    """

    log: str
    public_key: str
    size: int
    root: str
    leaf: str
    ts: int

    def to_bytes(self) -> bytes:
        """Return the file's content."""
        value = {name: getattr(self, name) for name in self.__slots__}
        return canonical.encode({**value, "v": VERSION}) + b"\n"


def pin_path(pins: Path, stream_id: str) -> Path:
    """Return the file of one stream's pin."""
    return pins / f"{stream_id}.json"


def parse_pin(raw: bytes, *, where: str | None = None) -> Pin:
    """Parse a pin's file.

    Raises:
        BrokenRecordError: AG0229, when it is not one.
    """
    try:
        value = canonical.decode(raw.removesuffix(b"\n"))
    except BrokenRecordError as error:
        raise BrokenRecordError(f"the last head seen here cannot be read: {error}", id="AG0229") from None
    if type(value) is dict and value.keys() == _KEYS and value["v"] == VERSION:
        texts = all(type(value[name]) is str for name in ("log", "public_key", "root", "leaf"))
        numbers = all(type(value[name]) is int for name in ("size", "ts", "v"))
        if texts and numbers and value["size"] > 0 and value["ts"] >= 0 and _is_log(value["log"]):
            hashes = (value["public_key"], value["root"], value["leaf"])
            if all(_is_hash(item) for item in hashes):
                return Pin(value["log"], *hashes[:1], value["size"], *hashes[1:], value["ts"])
    raise BrokenRecordError("the last head seen here cannot be read", id="AG0229", where=where)


def read_pin(path: Path) -> Pin | None:
    """Return the pin in a file; None when there is no such file.

    Raises:
        BrokenRecordError: AG0229, when the file is no pin.
    """
    try:
        raw = read_own_file(path)
    except FileNotFoundError:
        return None
    return parse_pin(raw, where=str(path))


def advance_pin(path: Path, pin: Pin) -> None:
    """Remember a head, unless a larger one is remembered already.

    Raises:
        BrokenRecordError: AG0229, when the present pin cannot be read; AG0230, when it is about another
            record
            or another tree of the same size.
    """
    with FileLock(path.with_suffix(".lock")):
        known = read_pin(path)
        if known is not None:
            if (known.log, known.public_key) != (pin.log, pin.public_key):
                raise pin_broken("this head belongs to another record than the one seen before", path)
            if known.size == pin.size and (known.root, known.leaf) != (pin.root, pin.leaf):
                raise pin_broken("this head is not the one seen before", path)
            if known.size >= pin.size:
                return
        write_atomic(path, pin.to_bytes())


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A pin that was given up.

    Attributes:
        pin: What it said; None when it could not be read.
        list_file: The file in which that is written down.
    """

    pin: Pin | None
    list_file: Path


def forget_pin(pins: Path, stream_id: str, ts: int) -> Forgotten | None:
    """Give up a pin; that is written down first, in a file of lines that only grows.

    A line is `<microseconds> <record> <size> <root>`, or `<microseconds> <record> unreadable <SHA-256>`.

    Returns:
        What was forgotten; None when there was no pin.

    Raises:
        OSError: The disk refuses; nothing is forgotten then.
    """
    path, list_file = pin_path(pins, stream_id), pins / "forgotten"
    if not os.path.lexists(path):
        return None
    with FileLock(path.with_suffix(".lock")):
        pin, what = None, ""
        try:
            raw = read_own_file(path)
            what = f"unreadable {hashlib.sha256(raw).hexdigest()}"
            pin = parse_pin(raw)
            what = f"{pin.size} {pin.root}"
        except FileNotFoundError:
            return None
        except BrokenRecordError:
            what = what or f"unreadable {'0' * 64}"
        # A FIFO in its place would wait for a reader for ever.
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(list_file, flags, 0o600)
        try:
            os.write(fd, f"{ts} {stream_id} {what}\n".encode())
            os.fsync(fd)
        finally:
            os.close(fd)
        fsync_dir(pins)
        path.unlink()
        fsync_dir(pins)
    return Forgotten(pin, list_file)


def verify_pin(pin: Pin, path: Path, *, log: str, public_key: str, size: int, leaf: str | None) -> None:
    """Check a record against its pin.

    Args:
        pin: What was seen.
        path: Where the pin lies, for the error.
        log: The record's origin.
        public_key: The record's log key, hex.
        size: How many entries it has now.
        leaf: The leaf, hex, of the last entry the pin covers, if the caller has it at hand.

    Raises:
        BrokenRecordError: AG0230, when the record is shorter or another one.
    """
    if (pin.log, pin.public_key) != (log, public_key):
        raise pin_broken("this is not the record seen before", path)
    if size < pin.size:
        raise pin_broken(f"entries are missing: {pin.size} were seen before, {size} are here", path)
    if leaf is not None and leaf != pin.leaf:
        raise pin_broken(f"entry {pin.size - 1} is not the one seen before", path)


def pin_broken(what: str, path: Path) -> BrokenRecordError:
    """Return the error for a record that does not continue its pin."""
    return BrokenRecordError(what, id="AG0230", where=str(path), hint="agentgov verify")
