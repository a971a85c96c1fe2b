"""Where a verification reads the record from, and what this machine knows about it beforehand.

Rules this module keeps:
    * Reading changes nothing: no recovery, no repair, no new stream.
    * What this machine knows is read first, then the entries that are not sealed, under the append lock,
      then the sealed ref: whatever is appended or sealed meanwhile can neither be missed nor be taken for a
      loss.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final, Protocol, runtime_checkable

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.files import held_for_reading, machine_id, read_own_file
from agentgov.git import Git, Repository
from agentgov.layout import StateHome
from agentgov.ledger.chain import leaf_hash
from agentgov.ledger.keys import KeyFolder, read_stream_id
from agentgov.ledger.pins import Pin, pin_path, read_pin
from agentgov.ledger.records import find_records
from agentgov.ledger.seal import REF_PREFIX, Seal, SealStore
from agentgov.ledger.wal import list_segments, split_torn

ORIGIN_PREFIX: Final = "agentgov/"
_is_stream_id = re.compile(r"[0-9a-f]{32}").fullmatch


@dataclass(frozen=True, slots=True)
class RawRecord:
    """An unsealed entry as it lies there: its place, its line, its signature in base64; none is parsed."""

    seq: int
    line: bytes
    raw_signature: bytes


@dataclass(frozen=True, slots=True)
class RawTail:
    """The entries that are not sealed yet.

    Attributes:
        records: Whole records in the order of the files.
        torn: Bytes after the last line feed of the last file.
        fault: What is wrong with the files themselves; the records up to there are given all the same.
        newest: The number that names the newest file; None when there is none, or none was looked for.
        gaps: Files that every record has and this one lacks, in words.
    """

    records: list[RawRecord]
    torn: bytes = b""
    fault: BrokenRecordError | None = None
    newest: int | None = None
    gaps: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Trust:
    """What this machine knows about a record before it reads it.

    Attributes:
        pin: The last head seen here.
        public_key: The log key that is this clone's own, or vouched for by somebody trusted; 64 hex
            characters.
        stream_id: The record that was begun in this clone.
    """

    pin: Pin | None = None
    public_key: str | None = None
    stream_id: str | None = None


def local_trust(repository: Repository, state: StateHome, *, machine: str | None = None) -> Trust:
    """Return what this machine knows about the clone's own record; call it before anything else is read.

    Args:
        repository: The clone.
        state: The user's state folder.
        machine: The machine's id; found out when None.

    Raises:
        BrokenRecordError: AG0229, when a pin is there and cannot be read.
        AgentgovError: AG0225, when the clone's key or the name of its record is damaged.
    """
    keys = KeyFolder.of(state.keys, repository.common_dir, machine or machine_id())
    bound = keys.stream()
    stream = bound if bound is not None else read_stream_id(repository.layout.stream_file)
    pin = read_pin(pin_path(state.pins, stream)) if stream is not None else None
    own = keys.load_key().public_key.hex() if bound is not None and keys.has_key() else None
    return Trust(pin, own, bound)


def earlier_leaf(repository: Repository, log: str, size: int) -> str | None:
    """Return the leaf of the last of the first `size` entries of another record, as it lies here.

    A moved or copied clone keeps what its earlier record had not saved, beside its own.

    Args:
        repository: Where to look.
        log: The other record's origin.
        size: How many entries it is said to have had.

    Returns:
        64 hex characters; None when that part of the record is not here.

    Raises:
        BrokenRecordError: When what is here is no record.
    """
    stream = log.removeprefix(ORIGIN_PREFIX)
    if not _is_stream_id(stream):
        return None
    aside = repository.layout.root / "earlier" / stream
    for record in read_tail(aside).records:
        if record.seq == size - 1:
            return leaf_hash(record.line).hex()
    for tip in [place.tip for place in find_records(repository) if place.stream_id == stream]:
        store = SealStore(Git(repository.common_dir), stream, repository.object_format)
        try:
            for seal in store.newest_first(tip):
                lines, first = seal.lines(), seal.first()
                if first < size <= first + len(lines):
                    return leaf_hash(lines[size - 1 - first]).hex()
                if first + len(lines) < size:
                    break
        except IncompleteError:
            continue
        finally:
            store.close()
    return None


class RecordSource(Protocol):
    """A record to verify."""

    def stream_id(self) -> str | None:
        """Return the 32 hex characters that name the record; None when there is none."""
        ...

    def tail(self) -> RawTail:
        """Return what is not sealed yet; called before `seals`."""
        ...

    def seals(self) -> Iterator[Seal]:
        """Yield the seals, the oldest first; raises what `SealStore` raises."""
        ...


@runtime_checkable
class ResumableSource(RecordSource, Protocol):
    """A record that can be read from a seal on."""

    def seal(self, commit: str) -> Seal:
        """Return one seal; raises what `SealStore` raises."""
        ...

    def seals(self, *, after: str | None = None, hashed: bool = True) -> Iterator[Seal]:
        """Yield the seals after one, the oldest first; `hashed` as in `SealStore.oldest_first`."""
        ...


class RepositorySource:
    """The record of a clone, or one that was fetched into it.

    Args:
        repository: The repository.
        stream_id: A fetched record; by default the clone's own is read, with its unsealed part.
        tip: The newest seal of that record, for one that lies under another ref than a record of this clone
            would.
        known_stream_id: The clone's own record as this machine knows it, for a clone that has lost the file
            which says so.
    """

    def __init__(
        self,
        repository: Repository,
        *,
        stream_id: str | None = None,
        tip: str | None = None,
        known_stream_id: str | None = None,
    ) -> None:
        self._layout = repository.layout
        self._git = Git(repository.common_dir)
        self._format = repository.object_format
        self._fetched = stream_id
        self._tip = tip
        self._known = known_stream_id

    def stream_id(self) -> str | None:
        """Return the record asked for, else the clone's own, the one known, or the only one there is."""
        if self._fetched is not None:
            return self._fetched
        present = read_stream_id(self._layout.stream_file)
        if present is not None or self._known is not None:
            return present or self._known
        refs = self._git.text("for-each-ref", "--format=%(refname)", REF_PREFIX).split()
        name = refs[0].removeprefix(REF_PREFIX) if len(refs) == 1 else ""
        return name if _is_stream_id(name) else None

    def tail(self) -> RawTail:
        """Return what is not sealed yet, as it was at one moment."""
        if self._fetched is not None:
            return RawTail([])
        with held_for_reading(self._layout.lock):
            tail = read_tail(self._layout.wal)
            gaps, named = [], self._layout.stream_file.exists()
            if tail.newest is None and (named or self._known is not None):
                gaps.append("the files of entries that are not saved yet are gone")
            if self._known is not None and not named:
                gaps.append("the file that names this record is gone")
        return replace(tail, gaps=tuple(gaps))

    def seal(self, commit: str) -> Seal:
        """Return one seal."""
        store = SealStore(self._git, self.stream_id() or "", self._format)
        try:
            return store.read(commit)
        finally:
            store.close()

    def seals(self, *, after: str | None = None, hashed: bool = True) -> Iterator[Seal]:
        """Yield the seals, the oldest first; only those after one when it is named."""
        stream = self.stream_id()
        if stream is None:
            return
        store = SealStore(self._git, stream, self._format)
        try:
            yield from store.oldest_first(self._tip or store.newest(), after=after, hashed=hashed)
        finally:
            store.close()


def read_tail(folder: Path) -> RawTail:
    """Read the files of entries that are not sealed; what is wrong with them is returned, not raised."""
    records: list[RawRecord] = []
    torn = b""
    newest: int | None = None
    for segment in list_segments(folder) if folder.is_dir() else []:
        newest = segment.first
        try:
            data = read_own_file(segment.path)
        except FileNotFoundError:
            # Sealed and removed meanwhile: the ref, which is read later, holds it.
            continue
        except BrokenRecordError as error:
            return RawTail(records, fault=error)
        if torn:
            return RawTail(records, fault=_fault("the line before it is torn", segment.first))
        complete, torn = split_torn(data)
        for seq, raw_record in enumerate(complete.split(b"\n")[:-1], segment.first):
            line, tab, raw_signature = raw_record.rpartition(b"\t")
            if not tab:
                return RawTail(records, fault=_fault("this line has no signature", seq))
            records.append(RawRecord(seq, line, raw_signature))
    return RawTail(records, torn, newest=newest)


def _fault(what: str, seq: int) -> BrokenRecordError:
    return BrokenRecordError(what, id="AG0268", where=f"entry {seq}")
