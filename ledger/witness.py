"""A witness: verifies that a record only grew since it last looked, and signs its newest head.

Rules this module keeps:
    * The whole record is verified first, up to its newest seal; one that does not hold is not signed.
    * Every head this witness signed, as far as its memory or the repository shows, must be in the record. One
      that is not means that the record was cut or rewritten: nothing is signed, and both signed heads are
      kept as evidence.
    * What is signed is remembered, durably, before anybody else can see the signature: not even a crash makes
      a witness sign two histories.
    * A witness's key is a file that only its owner may read, or a text from elsewhere: never in a repository.
"""

from __future__ import annotations

import base64
import hashlib
import os
import stat
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentgov.clock import Clock, Random
from agentgov.errors import BrokenRecordError, IncompleteError, UsageError
from agentgov.files import FileLock, open_private_dir, read_own_file, write_atomic
from agentgov.git import Git, Repository
from agentgov.ledger.anchor_store import own_cosigned, write_cosigned
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.checkpoint import Checkpoint, parse_checkpoint
from agentgov.ledger.cosignature import cosign, verify_cosignatures, witness_key
from agentgov.ledger.keys import SEED_BYTES
from agentgov.ledger.note import COSIGNATURE_ED25519, MAX_BYTES, Note, NoteKey, decode_base64, parse_note
from agentgov.ledger.seal import SealStore
from agentgov.ledger.signing import PrivateKey
from agentgov.ledger.verify import verify_ledger
from agentgov.ledger.verify_report import Report
from agentgov.ledger.verify_source import RepositorySource, Trust
from agentgov.memory import guard_memory

SECRET_PREFIX: Final = "PRIVATE+KEY+"  # noqa: S105 - it says that a secret follows
MAX_SECRET_BYTES: Final = 4096
# A witness says that a record grew, not whose it is: that is the trust file's to say.
_NOT_ITS_BUSINESS: Final = ("unknown-key", "unfinished")


@dataclass(frozen=True, slots=True)
class WitnessKey:
    """A witness's key with its name; `text` of the public part belongs into `.agentgov/witnesses`."""

    public: NoteKey
    private: PrivateKey = field(repr=False)
    seed: bytes = field(repr=False)

    @classmethod
    def generate(cls, name: str, random: Random) -> WitnessKey:
        """Make a key.

        Raises:
            BrokenRecordError: AG0207, when no key may have that name.
        """
        return cls._of(name, random(SEED_BYTES))

    @classmethod
    def parse(cls, raw: bytes, *, where: str) -> WitnessKey:
        """Parse a secret text, as `secret` prints it.

        Raises:
            UsageError: AG0471, when it is none.
        """
        try:
            text = raw.decode("utf-8").removesuffix("\n")
            name, _, rest = text.removeprefix(SECRET_PREFIX).partition("+")
            blob = decode_base64(rest.partition("+")[2])
            if blob[:1] == bytes([COSIGNATURE_ED25519]) and len(blob) == 1 + SEED_BYTES:
                key = cls._of(name, blob[1:])
                if key.secret() == text:
                    return key
        except (UnicodeDecodeError, BrokenRecordError):
            pass
        # What was read is never shown: it may be a secret all the same.
        raise UsageError(
            "this is not a witness's key", id="AG0471", where=where, hint="agentgov witness new-key NAME"
        )

    @classmethod
    def read(cls, path: Path) -> WitnessKey:
        """Read a key file.

        Raises:
            UsageError: AG0471, when it is none, or cannot be read; AG0472, when others may read it.
        """
        try:
            fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise UsageError(
                f"this key file cannot be read: {error.strerror}", id="AG0471", where=str(path)
            ) from None
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(fd).st_mode
            if not stat.S_ISREG(mode) or mode & 0o077:
                raise UsageError(
                    "a witness's key must be a file that only its owner may read",
                    id="AG0472",
                    where=str(path),
                    hint=f"chmod 600 {path}",
                )
            return cls.parse(file.read(MAX_SECRET_BYTES), where=str(path))

    @classmethod
    def _of(cls, name: str, seed: bytes) -> WitnessKey:
        guard_memory()
        private = PrivateKey(seed)
        return cls(witness_key(name, private.public_key), private, seed)

    def secret(self) -> str:
        """Return the secret text, without a line feed."""
        name, key_id, _ = self.public.text().split("+", 2)
        encoded = base64.b64encode(bytes([COSIGNATURE_ED25519]) + self.seed).decode()
        return f"{SECRET_PREFIX}{name}+{key_id}+{encoded}"

    def write(self, path: Path) -> None:
        """Write a new key file, readable by its owner only.

        Raises:
            UsageError: AG0473, when there is something of that name, or it cannot be written.
        """
        try:
            fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as error:
            raise UsageError(
                f"the key file cannot be made: {error.strerror}", id="AG0473", where=str(path)
            ) from None
        with os.fdopen(fd, "wb") as file:
            file.write(f"{self.secret()}\n".encode())
            file.flush()
            os.fsync(fd)


class Memory:
    """What a witness has signed: the last head of each record, and the evidence of what did not fit.

    Args:
        folder: The witness's own folder outside every repository; made when it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = open_private_dir(folder)

    def lock(self) -> FileLock:
        """The lock under which one head is compared and signed."""
        return FileLock(self._folder / "lock")

    def last(self, stream_id: str, key: NoteKey) -> Checkpoint | None:
        """Return the head that was signed last; None when none was.

        Raises:
            BrokenRecordError: AG0474, when what is there is none that this witness signed.
        """
        path = self._path(stream_id)
        try:
            note = parse_note(read_own_file(path, max_bytes=MAX_BYTES))
            found = verify_cosignatures(note, [key])
        except FileNotFoundError:
            return None
        except BrokenRecordError as error:
            raise self._broken(path, error.message) from error
        if not found or found[0].checkpoint.origin != f"agentgov/{stream_id}":
            raise self._broken(path, "it is not signed by this witness")
        return found[0].checkpoint

    def remember(self, stream_id: str, note: Note) -> None:
        """Keep a head that was signed, durably."""
        write_atomic(self._path(stream_id), note.to_bytes())

    def keep_evidence(self, stream_id: str, raw_note: bytes) -> Path:
        """Keep a head that does not fit what was signed before, and return its file."""
        folder = open_private_dir(self._folder / "evidence")
        path = folder / f"{stream_id}-{hashlib.sha256(raw_note).hexdigest()[:16]}.note"
        write_atomic(path, raw_note)
        return path

    def _path(self, stream_id: str) -> Path:
        return self._folder / f"{stream_id}.note"

    @staticmethod
    def _broken(path: Path, what: str) -> BrokenRecordError:
        return BrokenRecordError(
            f"the last head this witness signed cannot be read: {what}", id="AG0474", where=str(path)
        )


@dataclass(frozen=True, slots=True)
class Witnessed:
    """What a witness has seen.

    Attributes:
        stream_id: Which record.
        size: How many entries it has signed now.
        before: How many it had signed before; 0 when it saw the record for the first time.
        commit: The commit of the cosigned head; None when there was nothing new to sign.
    """

    stream_id: str
    size: int
    before: int
    commit: str | None


def witness_record(
    repository: Repository,
    stream_id: str,
    tip: str,
    key: WitnessKey,
    memory: Memory,
    *,
    clock: Clock,
    progress: Callable[[int], None] | None = None,
) -> Witnessed:
    """Verify a record up to a seal, compare it with what was signed before, and cosign its head.

    Args:
        repository: Where it lies.
        stream_id: Which record.
        tip: Its newest seal there.
        key: The witness's key.
        memory: What the witness remembers.
        clock: For the time of the signature.
        progress: Called every thousand entries.

    Raises:
        BrokenRecordError: AG0475, when the record was cut or rewritten since, the two heads are kept; AG0476,
            when it does not hold in itself; AG0474, when the witness's memory cannot be read.
        IncompleteError: AG0477, when a part of it is not here.
        AgentgovError: AG0008, when git cannot write the signature.
    """
    with memory.lock():
        head = _newest_head(repository, stream_id, tip)
        signed = {pair[1].checkpoint: pair[0] for pair in own_cosigned(repository, stream_id, key.public)}
        last = memory.last(stream_id, key.public)
        known = set(signed) | ({last} if last is not None else set())
        anchors = [Anchor("witness", seen.size, seen.root, key.public.name) for seen in known if seen.size]
        report = verify_ledger(
            RepositorySource(repository, stream_id=stream_id, tip=tip),
            trust=Trust(),
            anchors=anchors,
            progress=progress,
        )
        _refuse_others(report, memory, stream_id, head, known, signed)
        checkpoint = parse_checkpoint(head.text)
        _refuse_broken(report, checkpoint)
        before = max((seen.size for seen in known), default=0)
        if any(seen.size == checkpoint.size for seen in signed):
            return Witnessed(stream_id, checkpoint.size, before, None)
        seconds = clock.now_us() // 1_000_000
        cosigned = head.with_signature(cosign(head, key.public, key.private.sign, seconds=seconds))
        memory.remember(stream_id, cosigned)
        commit = write_cosigned(repository, stream_id, key.public, cosigned, seconds=seconds)
        return Witnessed(stream_id, checkpoint.size, before, commit)


def _newest_head(repository: Repository, stream_id: str, tip: str) -> Note:
    store = SealStore(Git(repository.common_dir), stream_id, repository.object_format)
    try:
        return parse_note(store.read(tip).checkpoint)
    finally:
        store.close()


def _refuse_others(
    report: Report,
    memory: Memory,
    stream_id: str,
    head: Note,
    known: set[Checkpoint],
    signed: dict[Checkpoint, Note],
) -> None:
    codes = [found for found in report.findings if found.error_id == "AG0444"]
    if not codes:
        return
    kept = [memory.keep_evidence(stream_id, head.to_bytes())]
    last = max(known, key=lambda seen: seen.size)
    if last in signed:
        kept.append(memory.keep_evidence(stream_id, signed[last].to_bytes()))
    raise BrokenRecordError(
        f"not signed: {codes[0].why}",
        id="AG0475",
        where=f"record {stream_id}",
        facts=[f"kept as evidence: {path}" for path in kept],
        hint="show both to the people of this record; nothing of it should be relied on until it is clear",
    )


def _refuse_broken(report: Report, checkpoint: Checkpoint) -> None:
    grave = [found for found in report.findings if found.code not in _NOT_ITS_BUSINESS]
    where = checkpoint.origin.replace("agentgov/", "record ", 1)
    if grave and report.broken_at is None:
        raise IncompleteError(
            f"not signed: {grave[0].place()}: {grave[0].why}",
            id="AG0477",
            where=where,
            hint="git fetch ORIGIN 'refs/agentgov/*:refs/agentgov/*'",
        )
    whole = report.head is not None and (report.head.log, report.head.size, report.head.root) == (
        checkpoint.origin,
        checkpoint.size,
        checkpoint.root.hex(),
    )
    if grave or not whole:
        broken = report.broken_at
        why = f"{broken.place()}: {broken.why}" if broken is not None else "its head is of something else"
        raise BrokenRecordError(f"not signed: {why}", id="AG0476", where=where)
