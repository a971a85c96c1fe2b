"""A writer's memory of the record's end, how it follows what others append, and how it writes.

Rules: everything here happens under the append lock; memory changes only after the disk has; what memory
knows and the disk no longer says is tampering, never news. The lines that others wrote in between are linked
at both ends here and verified one by one when they are sealed. Nothing is written behind `log.end`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from agentgov.clock import Clock, Random
from agentgov.errors import AgentgovError, BrokenRecordError
from agentgov.layout import Layout
from agentgov.ledger import recovery
from agentgov.ledger.chain import NO_LEAF, LeafHash, leaf_hash
from agentgov.ledger.entry import PAYLOAD_TYPE, Draft, Entry, SignedEntry
from agentgov.ledger.keys import SEED_BYTES, KeyFolder, Signer
from agentgov.ledger.pins import read_pin, verify_pin
from agentgov.ledger.seal import SealStore
from agentgov.ledger.signing import PrivateKey, pae
from agentgov.ledger.wal import (
    Segment,
    Tail,
    create_segment,
    encode_record,
    list_segments,
    parse_record,
    split_torn,
)

# Lines are canonical, so their bytes can be searched.
_find_lost = re.compile(rb'^\{"body":\{"lost":([0-9]+)\},"key":0,"kind":"key\.lost"', re.MULTILINE).findall


@dataclass(frozen=True, slots=True)
class Head:
    """How many entries there are, and the leaf of the last one."""

    size: int
    leaf: LeafHash


class Writer:
    """The end of one stream, as this process knows it.

    Args:
        layout: Where the segments lie.
        keys: Where the log key lies.
        store: Where the seals lie.
        pin: The file of the stream's pin.
        origin: The stream's origin.
        clock: For the times of entries.
        random: For new keys.

    Attributes:
        head: The head in memory.
        sealed: The end of the sealed part in memory.
        ended: Whether the last entry closed the record.
    """

    def __init__(
        self,
        layout: Layout,
        keys: KeyFolder,
        store: SealStore,
        pin: Path,
        *,
        origin: str,
        clock: Clock,
        random: Random,
    ) -> None:
        self._root = layout.root
        self._wal = layout.wal
        self._keys = keys
        self._store = store
        self._pin = pin
        self._origin = origin
        self._clock = clock
        self._random = random
        self.public_key: bytes = keys.load_key().public_key
        self._tail: Tail | None = None
        self._lost: set[int] = set()
        self.head = Head(0, NO_LEAF)
        self.sealed = recovery.NOTHING_SEALED
        self.ended = False

    def sync(self) -> None:
        """Bring memory up to what others have appended, recovering what a crash left.

        Raises:
            BrokenRecordError: AG0221, when memory and disk disagree; and whatever is wrong with new lines.
        """
        tail = self._tail
        if tail is None:
            self.load()
            return
        if tail.is_up_to_date():
            return
        data = tail.read_new()
        complete, torn = split_torn(data)
        later: list[Segment] = []
        if torn or len(complete) == len(data):
            later = [s for s in list_segments(self._wal) if s.first > tail.segment.first]
        if not later:
            tail.check_place()
        elif torn:
            raise changed("a closed part of it is not whole", tail.segment.path)
        # After a seal, what is new in the old segment is read although its name may be gone already.
        self._absorb(tail, complete, torn)
        for segment in later:
            if segment.first != self.head.size:
                self.load()
                return
            tail = self._open(segment)
            self._absorb(tail, *split_torn(tail.read_new()))

    def load(self) -> None:
        """Build memory from the disk, and compare it with the memory there was and with the pin.

        Raises:
            BrokenRecordError: When what is there does not hold, or is not what was there before.
        """
        known = self.head
        commit = self._store.newest()
        if commit is None or commit != self.sealed.commit:
            newer = recovery.read_sealed(self._store, commit, self._origin, self.public_key)
            if newer.size < self.sealed.size:
                raise changed(f"{self.sealed.size} entries were sealed, now {newer.size}", self._store.ref)
            self.sealed = newer
        sealed = self.sealed
        recovery.drop_sealed(self._wal, sealed, self._store)
        unsealed = recovery.read_unsealed(self._wal, sealed, self._origin)
        leaves = [sealed.leaf, *(record.leaf() for record in unsealed.records)]
        head = Head(sealed.size + len(unsealed.records), leaves[-1])
        self._check_pin(head, leaves)
        if known.size > head.size or (known.size and self._leaf_at(known.size - 1, leaves) != known.leaf):
            raise changed("an entry that this writer knew is gone", self._wal)
        tail = self._open(unsealed.newest)
        tail.remember(unsealed.newest_bytes)
        self._note_lost(b"".join(record.line + b"\n" for record in unsealed.records))
        self.ended = unsealed.records[-1].entry.kind == "log.end" if unsealed.records else sealed.ended
        if known.size:
            for seal in self._store.newest_first(sealed.commit):
                if seal.size() <= known.size:
                    break
                self._note_lost(seal.entries)
        self.head = head
        if unsealed.torn:
            self._absorb(tail, *split_torn(tail.read_new()))
        else:
            self._report_torn()

    def write(self, drafts: Sequence[Draft], signer: Signer) -> list[SignedEntry]:
        """Sign and append drafts at the head; after `sync`. All of them count, or none.

        Returns:
            The drafts' entries; without the `key.rotate` that had to come first.

        Raises:
            AgentgovError: AG0204, when the signer's life is over; AG0231, when the record's is; AG0201, when
                an entry is too large.
            OSError: When the disk refuses.
        """
        tail = self._tail
        if tail is None:
            raise changed("the newest segment is not open", self._wal)
        if self.ended:
            raise AgentgovError(
                "this record has ended: nothing can be added to it",
                id="AG0231",
                where=self._origin,
                hint="agentgov ledger restart",
            )
        if signer.ended or signer.key_seq in self._lost:
            raise AgentgovError("this cannot be recorded: the key's life is over", id="AG0204")
        batch = list(drafts)
        stale = not signer.is_log and signer.key_seq < tail.segment.first
        if stale and batch[0].kind != "key.end":
            batch.insert(0, Draft("key.rotate", signer.run, {}))
        memory, key = self.head, signer.memento()
        done = False
        try:
            signed, head = self._sign(batch, signer)
            data = b"".join([encode_record(item.line, item.signature) for item in signed])
            tail.write(data)
            tail.remember(data)
            self.head = head
            done = True
        finally:
            if not done:
                signer.restore(key)
                self.head = memory
                self._take_back(tail)
        for draft in batch:
            if draft.kind == "key.lost":
                self._lost.add(draft.body["lost"])
        self.ended = batch[-1].kind == "log.end"
        return signed[len(batch) - len(drafts) :]

    def close_segment(self) -> list[Segment]:
        """Start the next segment if the newest one holds entries; return the closed ones.

        Raises:
            OSError: When the disk refuses.
        """
        tail = self._tail
        if tail is not None and tail.segment.first < self.head.size:
            # In this order: a writer that finds no room looks for a newer segment; and no later entry is
            # durable before all the entries here are.
            tail.give_room_back()
            tail.sync()
            tail = self._open(create_segment(self._wal, self.head.size))
        return [s for s in list_segments(self._wal) if tail is None or s.first < tail.segment.first]

    def close(self) -> None:
        """Give the file back; memory is built again by the next operation."""
        if self._tail is not None:
            self._tail.close()
            self._tail = None

    def _sign(self, batch: Sequence[Draft], signer: Signer) -> tuple[list[SignedEntry], Head]:
        size, leaf = self.head.size, self.head.leaf
        signed: list[SignedEntry] = []
        for draft in batch:
            body, following = draft.body, None
            if draft.kind == "key.rotate":
                following = PrivateKey(self._random(SEED_BYTES))
                body = {"public_key": following.public_key.hex()}
            now = self._clock.now_us()
            entry = Entry(size, leaf.hex(), self._origin, draft.kind, now, draft.run, signer.key_seq, body)
            line = entry.line()
            signed.append(SignedEntry(entry, line, signer.sign(pae(PAYLOAD_TYPE, line))))
            if following is not None:
                signer.replace(following, size)
            signer.ended = draft.kind == "key.end"
            size, leaf = size + 1, leaf_hash(line)
        return signed, Head(size, leaf)

    def _take_back(self, tail: Tail) -> None:
        # Whatever could be restored: the next operation reads the file anew, and compares it with the head.
        self._tail = None
        try:
            tail.take_back()
        finally:
            tail.close()

    def _absorb(self, tail: Tail, complete: bytes, torn: bytes) -> None:
        if complete:
            first = parse_record(complete[: complete.find(b"\n")], seq=self.head.size)
            recovery.verify_place(first, self.head.size, self.head.leaf, self._origin)
            end = self.head.size + complete.count(b"\n")
            last = parse_record(complete[complete.rfind(b"\n", 0, -1) + 1 : -1], seq=end - 1)
            recovery.verify_place(last, end - 1, bytes.fromhex(last.entry.prev), self._origin)
            tail.remember(complete)
            self._note_lost(complete)
            self.head = Head(end, last.leaf())
            self.ended = last.entry.kind == "log.end"
        if torn:
            recovery.keep_torn(self._root, self.head.size, torn)
            tail.take_back()
            self._report_torn()

    def _note_lost(self, lines: bytes) -> None:
        # A writer that was taken for dead must stop: what its key still signed could never be sealed.
        self._lost.update(map(int, _find_lost(lines)))

    def _report_torn(self) -> None:
        found = recovery.torn_at(self._root, self.head.size)
        drafts = [Draft("log.recovered", None, {"sha256": sha, "torn_bytes": size}) for size, sha in found]
        # Behind the end of a record nothing can be reported: the torn bytes are kept, and that is all.
        if drafts and not self.ended:
            self.write(drafts, Signer(self._keys.load_key()))

    def _check_pin(self, head: Head, leaves: Sequence[LeafHash]) -> None:
        pin = read_pin(self._pin)
        if pin is not None:
            place = pin.size - self.sealed.size
            leaf = leaves[place].hex() if 0 <= place < len(leaves) else None
            log, key = self._origin, self.public_key.hex()
            verify_pin(pin, self._pin, log=log, public_key=key, size=head.size, leaf=leaf)

    def _leaf_at(self, seq: int, leaves: Sequence[LeafHash]) -> LeafHash:
        """The leaf of any entry, at hand or in a seal; `leaves[0]` is that of the last sealed one."""
        place = seq - self.sealed.size + 1
        return leaves[place] if place >= 0 else leaf_hash(self._sealed_line(seq))

    def _sealed_line(self, seq: int) -> bytes:
        for seal in self._store.newest_first(self.sealed.commit):
            first = seal.first()
            if first <= seq < first + seal.count():
                return seal.lines()[seq - first]
        raise changed(f"entry {seq} is in no seal", self._store.ref)

    def _open(self, segment: Segment) -> Tail:
        tail = Tail(segment)
        self.close()
        self._tail = tail
        return tail


def changed(what: str, where: object) -> BrokenRecordError:
    """Return the error for a record that is not what its writer left."""
    return BrokenRecordError(
        f"the record was changed under its writer: {what}",
        id="AG0221",
        where=str(where),
        hint="agentgov verify",
    )
