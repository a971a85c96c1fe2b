"""Payloads: what the chain only commits to, kept beside it, salted, and redacted before anything is hashed.

Rules this module keeps:
    * The redactor runs inside `put`, before the commitment is made: there is no way around it.
    * commitment = SHA-256("agentgov/commit/v1" 00 || salt32 || u16 length || field || u64 length || value),
      with a fresh salt of 32 bytes for each payload and big-endian lengths.
    * `get` hands out nothing that does not match its commitment.
    * A record is one line: class TAB field TAB commitment TAB base64(salt) TAB base64(value) LF. A last line
      without LF was never acknowledged and is passed over.
    * An erased record keeps its place in a file that is still written to, with salt and value overwritten.
    * A file of records is written by one process, which holds a lock on it; it is folded into the private
      store only when nobody holds that lock, and removed only after the store has it (see payload_fold.py).
"""

from __future__ import annotations

import base64
import binascii
import fcntl
import hashlib
import os
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Literal

from agentgov.clock import Random
from agentgov.errors import BrokenRecordError, IncompleteError, UsageError
from agentgov.files import fsync_dir, open_own_file, open_private_dir
from agentgov.ids import RunId, is_token
from agentgov.layout import Layout
from agentgov.ledger.payload_erase import Removed, remove_payloads
from agentgov.ledger.payload_fold import FoldedPayloads, fold_files
from agentgov.ledger.payload_records import SUFFIX, is_erased_record, record_places
from agentgov.ledger.redaction import Redactor

PayloadClass = Literal["changes", "args", "output", "patch"]
FIELDS: Final[dict[str, frozenset[str]]] = {
    "changes": frozenset({"intent", "changes"}),
    "args": frozenset({"args", "start", "who", "text", "target", "message", "reason"}),
    "output": frozenset({"output"}),
    "patch": frozenset({"patch"}),
}
SALT_BYTES: Final = 32
_ROLL_BYTES: Final = 16 * 2**20
_INDEXED_RUNS: Final = 16
_DOMAIN: Final = b"agentgov/commit/v1\x00"
_is_commitment = re.compile(r"[0-9a-f]{64}").fullmatch
_RECORD: Final = re.compile(
    rb"([a-z]{1,16})\t([a-z_]{1,32})\t([0-9a-f]{64})\t([A-Za-z0-9+/=]{44})\t([A-Za-z0-9+/=]*)"
)


@dataclass(frozen=True, slots=True)
class Payload:
    """A payload with what is needed to check its commitment."""

    field: str
    cls: str
    value: bytes
    salt: bytes


def commitment(salt: bytes, field: str, value: bytes) -> str:
    """Return the commitment to `value` as `field`, 64 hex characters."""
    name = field.encode("ascii")
    hasher = hashlib.sha256(
        _DOMAIN + salt + len(name).to_bytes(2, "big") + name + len(value).to_bytes(8, "big")
    )
    hasher.update(value)
    return hasher.hexdigest()


def is_payload_of(payload: Payload, expected: str) -> bool:
    """Whether `payload` is what `expected` commits to."""
    return (
        len(payload.salt) == SALT_BYTES and commitment(payload.salt, payload.field, payload.value) == expected
    )


def parse_record(raw_line: bytes, expected: str) -> Payload:
    """Parse one record, without its LF, and check that it is the payload of `expected`.

    Raises:
        BrokenRecordError: AG0260, when it is no record or not that payload.
    """
    match = _RECORD.fullmatch(raw_line)
    if match is not None and match[3] == expected.encode("ascii"):
        try:
            salt = base64.b64decode(match[4], validate=True)
            value = base64.b64decode(match[5], validate=True)
        except binascii.Error:
            pass
        else:
            payload = Payload(match[2].decode("ascii"), match[1].decode("ascii"), value, salt)
            if is_payload_of(payload, expected):
                return payload
    raise BrokenRecordError("a stored payload is not the one that was recorded", id="AG0260", where=expected)


@dataclass(slots=True)
class _Writer:
    """The file that this process appends a run's payloads to."""

    path: Path
    fd: int
    size: int
    waiting: list[bytes]
    waiting_at: dict[str, tuple[int, int]]


@dataclass(slots=True)
class _Loose:
    """What is known of one file of records that is not folded yet."""

    read: int
    places: dict[str, tuple[int, int]]


class PayloadStore:
    """Payloads of all runs of one clone; used by one thread at a time.

    Args:
        layout: Where the loose files lie.
        store: The private bare repository, made when it is first needed.
        object_format: ``sha1`` or ``sha256``, as the user's repository.
        redactor: What takes the secrets out of each value.
        random: Source of salts and file names.
    """

    def __init__(
        self, layout: Layout, store: Path, object_format: str, redactor: Redactor, random: Random
    ) -> None:
        self._layout = layout
        self._redactor = redactor
        self._random = random
        self._store = store
        self._folded = FoldedPayloads(layout, store, object_format)
        self._writers: dict[RunId, _Writer] = {}
        self._loose: dict[RunId, dict[Path, _Loose]] = {}
        self._seen: dict[RunId, object] = {}

    def put(self, run: RunId, cls: PayloadClass, field: str, value: bytes) -> str:
        """Redact `value`, keep it in memory until the next `sync`, and return its commitment.

        Raises:
            UsageError: AG0261, when the field does not belong to the class.
        """
        if field not in FIELDS[cls]:
            raise UsageError(f"payload class {cls} has no field {field!r}", id="AG0261")
        value = self._redactor.redact(value)
        salt = self._random(SALT_BYTES)
        digest = commitment(salt, field, value)
        writer = self._writers.get(run) or self._open(run)
        line = b"%s\t%s\t%s\t%s\t%s\n" % (
            cls.encode(),
            field.encode(),
            digest.encode(),
            base64.b64encode(salt),
            base64.b64encode(value),
        )
        writer.waiting_at[digest] = (len(writer.waiting), len(line) - 1)
        writer.waiting.append(line)
        return digest

    def public_name(self, raw_name: str) -> str:
        """Return `raw_name` if it may stand in an entry itself; ``other`` if it is no token, or a secret."""
        if is_token(raw_name) and self._redactor.redact_text(raw_name) == raw_name:
            return raw_name
        return "other"

    def sync(self) -> None:
        """Make all that was put durable: one write and one fdatasync per run that has something new.

        Raises:
            OSError: When the disk refuses; what was put is still waiting then, and `sync` may be tried again.
        """
        for run, writer in list(self._writers.items()):
            if writer.waiting:
                self._write(run, writer)
            if writer.size >= _ROLL_BYTES:
                self._close(run)

    def get(self, run: RunId, digest: str) -> Payload | None:
        """Return the payload that `digest` commits to, or None when this clone does not have it.

        Raises:
            BrokenRecordError: AG0260, when what is stored under it is something else.
            IncompleteError: AG0017, when an object of the store is missing.
            UsageError: AG0262, when `digest` is no commitment.
        """
        if _is_commitment(digest) is None:
            raise UsageError("a commitment is 64 hex characters", id="AG0262")
        writer = self._writers.get(run)
        if writer is not None and digest in writer.waiting_at:
            return parse_record(writer.waiting[writer.waiting_at[digest][0]][:-1], digest)
        try:
            raw_line = self._find(run, digest)
        except IncompleteError:
            # An erasure wrote the branch anew since it was read.
            self._forget(run)
            raw_line = None
        if raw_line is None and self._refresh(run):
            raw_line = self._find(run, digest)
        if raw_line is None or is_erased_record(raw_line):
            return None
        return parse_record(raw_line, digest)

    def fold(self, run: RunId) -> None:
        """Move the run's files that nobody writes to any more into the store, if there are any.

        A crash at any point leaves each payload in the loose file, in the store, or in both; folding again
        then finishes it and adds nothing twice.
        """
        self.sync()
        self._close(run)
        fold_files(self._layout, self._folded, run)
        self._forget(run)

    def erase(self, gone: Mapping[RunId, Collection[str]]) -> Removed:
        """Destroy the payloads of these commitments, salts included, wherever this clone keeps them.

        The tombstones must be in the record already. May be repeated, by any process, until it went through.

        Returns:
            What was found and destroyed, and what holds the same bytes and could not be touched.
        """
        self.sync()
        try:
            return remove_payloads(self._layout, self._store, self._folded, gone)
        finally:
            for run in gone:
                self._forget(run)

    def close(self) -> None:
        """Make everything durable and give the files back, so that any process may fold them."""
        self.sync()
        for run in list(self._writers):
            self._close(run)
        self._folded.close()

    def _open(self, run: RunId) -> _Writer:
        folder = open_private_dir(self._layout.payloads / run)
        while True:
            path = folder / f"{self._random(8).hex()}{SUFFIX}"
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_APPEND | os.O_NOFOLLOW, 0o600)
            fcntl.flock(fd, fcntl.LOCK_EX)
            # Somebody who folds may have found the new file before it was locked, and removed it.
            if os.fstat(fd).st_nlink:
                break
            os.close(fd)
        fsync_dir(folder)
        writer = _Writer(path, fd, 0, [], {})
        self._writers[run] = writer
        return writer

    def _write(self, run: RunId, writer: _Writer) -> None:
        data = b"".join(writer.waiting)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(writer.fd, view) :]
            os.fdatasync(writer.fd)
        except OSError:
            # The half line must not become the head of the next one.
            os.ftruncate(writer.fd, writer.size)
            raise
        known = self._loose.setdefault(run, {}).setdefault(writer.path, _Loose(0, {}))
        if known.read == writer.size:
            at = writer.size
            lengths = {index: digest for digest, (index, _) in writer.waiting_at.items()}
            for index, line in enumerate(writer.waiting):
                if index in lengths:
                    known.places[lengths[index]] = (at, len(line) - 1)
                at += len(line)
            known.read = at
        writer.size += len(data)
        writer.waiting.clear()
        writer.waiting_at.clear()

    def _close(self, run: RunId) -> None:
        writer = self._writers.pop(run, None)
        if writer is not None:
            os.close(writer.fd)

    def _forget(self, run: RunId) -> None:
        """Drop what is known of a run's files; it is read again when it is needed."""
        self._seen.pop(run, None)
        self._loose.pop(run, None)
        self._folded.forget(run)

    def _find(self, run: RunId, digest: str) -> bytes | None:
        for path, known in self._loose.get(run, {}).items():
            place = known.places.get(digest)
            if place is not None:
                try:
                    with os.fdopen(open_own_file(path), "rb") as file:
                        file.seek(place[0])
                        return file.read(place[1])
                except FileNotFoundError:
                    # Folded by another process since it was read; the store has it.
                    break
        return self._folded.find(run, digest)

    def _refresh(self, run: RunId) -> bool:
        """Read what is new on disk; False when nothing is."""
        folder = self._layout.payloads / run
        files = {path: path.stat().st_size for path in _files(folder)}
        state = (tuple(sorted(files.items())), self._folded.state(run))
        if self._seen.get(run) == state:
            return False
        if run not in self._seen and len(self._seen) >= _INDEXED_RUNS:
            self._forget(next(iter(self._seen)))
        self._seen[run] = state
        known = self._loose.setdefault(run, {})
        for path in [path for path in known if path not in files]:
            del known[path]
        for path in files:
            _read_new(path, known.setdefault(path, _Loose(0, {})))
        self._folded.load(run)
        return True


def _files(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.suffix == SUFFIX)
    except FileNotFoundError:
        return []


def _read_new(path: Path, known: _Loose) -> None:
    try:
        with os.fdopen(open_own_file(path), "rb") as file:
            file.seek(known.read)
            data = file.read()
        for digest, at, length in record_places(data):
            known.places.setdefault(digest, (known.read + at, length))
        known.read += data.rfind(b"\n") + 1
    except FileNotFoundError:
        # Folded in the meantime: `load` finds it in the store.
        known.places.clear()
