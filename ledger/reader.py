"""Reading a stream as it lies there, without a key, without repairing and without believing anything.

Rules: nothing is written; the sealed part is read seal by seal, the rest as raw segments in one moment under
the append lock, so that a seal that happens meanwhile neither hides nor doubles an entry.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from types import TracebackType

from agentgov.errors import BrokenRecordError
from agentgov.files import held_for_reading, read_own_file
from agentgov.git import Git, Repository
from agentgov.ledger.chain import NO_LEAF
from agentgov.ledger.disk import DiskErrors
from agentgov.ledger.entry import SignedEntry
from agentgov.ledger.keys import read_stream_id
from agentgov.ledger.recovery import verify_place
from agentgov.ledger.seal import Seal, SealStore
from agentgov.ledger.wal import list_segments, parse_record, split_torn


@dataclass(frozen=True, slots=True)
class RawSegment:
    """One segment as it was read: complete lines and what stands after the last LF."""

    first: int
    complete: bytes
    torn: bytes


@dataclass(frozen=True, slots=True)
class RawRecord:
    """One moment of a stream.

    Attributes:
        seal: The newest seal's commit; None when nothing is sealed.
        segments: Every segment that is there, also one that is sealed already.
    """

    seal: str | None
    segments: tuple[RawSegment, ...]


def read_continued(repository: Repository) -> Iterator[SignedEntry]:
    """Return the entries of this clone's stream, after those of the streams it continues.

    A moved or copied clone starts a new stream, as does one whose record could not go on; the runs of the old
    one are still to be read, up to the entry that the new one names. What was not sealed lies set aside.

    Raises:
        IncompleteError, BrokenRecordError: As `Reader.entries`.
    """
    own = read_stream_id(repository.layout.stream_file)
    if own is not None:
        yield from _with_earlier(repository, own, frozenset(), None)


def _with_earlier(
    repository: Repository, stream_id: str, later: frozenset[str], size: int | None
) -> Iterator[SignedEntry]:
    with Reader(repository, stream_id, sealed_only=size is not None, with_aside=True) as reader:
        entries = reader.entries()
        first = next(entries, None)
        if first is None:
            return
        continues = first.entry.body.get("continues")
        if continues is not None:
            earlier = str(continues["log"]).rpartition("/")[2]
            # What a stream says it continues is its writer's word: it must not lead in a circle.
            if earlier != stream_id and earlier not in later:
                named = int(continues["size"])
                yield from _with_earlier(repository, earlier, later | {stream_id}, named)
        yield first
        # What follows the entry that was named was not relied on, and may be anything.
        yield from entries if size is None else islice(entries, size - 1)


class Reader:
    """Reads one stream of a repository. Use it as a context manager, or close it.

    Args:
        repository: Where it lies.
        stream_id: Which stream.
        sealed_only: Read what is sealed; the unsealed part in this clone belongs to another stream.
        with_aside: Then read also what of it was not sealed, if that lies set aside here.
    """

    def __init__(
        self,
        repository: Repository,
        stream_id: str,
        *,
        sealed_only: bool = False,
        with_aside: bool = False,
    ) -> None:
        self._sealed_only = sealed_only
        self._wal = repository.layout.wal
        if sealed_only and with_aside:
            self._wal = repository.layout.root / "earlier" / stream_id
            self._sealed_only = False
        self._layout = repository.layout
        self.stream_id = stream_id
        self.origin = f"agentgov/{stream_id}"
        self.store = SealStore(Git(repository.common_dir), stream_id, repository.object_format)

    @classmethod
    def of_clone(cls, repository: Repository) -> Reader | None:
        """Return a reader of this clone's own stream; None when the clone names none.

        Raises:
            AgentgovError: AG0225, when the file that names it is damaged.
        """
        stream_id = read_stream_id(repository.layout.stream_file)
        return cls(repository, stream_id) if stream_id is not None else None

    def snapshot(self) -> RawRecord:
        """Return the stream as it is at one moment.

        Raises:
            AgentgovError: AG0226, when it cannot be read; BrokenRecordError: AG0228, when the ref is no plain
                one.
        """
        if self._sealed_only or not self._wal.is_dir():
            return RawRecord(self.store.newest(), ())
        with DiskErrors(self._layout.root), held_for_reading(self._layout.lock):
            seal = self.store.newest()
            segments = []
            for segment in list_segments(self._wal):
                segments.append(RawSegment(segment.first, *split_torn(read_own_file(segment.path))))
        return RawRecord(seal, tuple(segments))

    def seals(self, commit: str | None) -> Iterator[Seal]:
        """Return the seals up to this one, oldest first, one at a time; raises as `SealStore.read`."""
        return self.store.oldest_first(commit)

    def entries(self, start: int = 0) -> Iterator[SignedEntry]:
        """Return the entries from number `start` on; form and chain are checked, signatures are not.

        Raises:
            IncompleteError: AG0017, when sealed objects are missing.
            BrokenRecordError: When an entry has not its form or its place, or is missing in the middle.
        """
        record = self.snapshot()
        seq, leaf = 0, bytes(NO_LEAF)
        for signed in self._all(record, start):
            if seq == 0 and signed.entry.seq > 0 and start > 0:
                # Whole seals before the start are skipped: the first one read gives the link.
                seq, leaf = signed.entry.seq, bytes.fromhex(signed.entry.prev)
            verify_place(signed, seq, leaf, self.origin)
            seq, leaf = seq + 1, signed.leaf()
            if signed.entry.seq >= start:
                yield signed

    def close(self) -> None:
        """End the git process."""
        self.store.close()

    def __enter__(self) -> Reader:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _all(self, record: RawRecord, start: int) -> Iterator[SignedEntry]:
        seal = record.seal
        commits: list[str] = []
        sealed_size = 0
        while seal is not None:
            found = self.store.read(seal)
            sealed_size = max(sealed_size, found.size())
            if found.size() > start:
                commits.append(seal)
            if found.first() <= start:
                break
            seal = found.parent
        for commit in reversed(commits):
            yield from self.store.read(commit).records()
        seq = sealed_size
        for segment in record.segments:
            if segment.first < sealed_size:
                continue
            if segment.first != seq:
                raise BrokenRecordError(
                    f"the record goes on at entry {segment.first} instead of {seq}",
                    id="AG0222",
                    where=str(self._wal),
                )
            for raw_record in segment.complete.split(b"\n")[:-1]:
                yield parse_record(raw_record, seq=seq)
                seq += 1
