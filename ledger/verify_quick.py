"""Reads a record quickly: whole seals at a time, most entries without making objects of them.

Rules this module keeps:
    * It accepts nothing that `verify_reading.Reading` would refuse, and ends with the same knowledge; a test
      compares the two. Whatever it is not sure about is taken the exact way, entry by entry.
    * It only says whether all holds. When something does not, the record is read again the exact way, which
      names the first broken entry; signatures that were found right are not checked twice.
    * Signatures are checked after the structure of their part, in batches, here or by helpers.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import count as count_from
from typing import Final

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.ledger.chain import LeafHash
from agentgov.ledger.entry import parse_entry
from agentgov.ledger.seal import Seal
from agentgov.ledger.verify_calls import Block, CallReader
from agentgov.ledger.verify_evidence import Evidence
from agentgov.ledger.verify_reading import NOTHING_SIGNED, Progress, Reading, SignedPart
from agentgov.ledger.verify_signatures import Batch, Checker
from agentgov.ledger.verify_source import RawRecord, RawTail, RecordSource

_TAIL_BATCH: Final = 256
_PIECE_BYTES: Final = 65_536


class QuickReading(Reading):
    """One quick pass over one record.

    Args:
        source: As in `Reading`.
        evidence: As in `Reading`.
        checker: Checks the signatures.
        marks: As in `Reading`.
        progress: Called after each seal.
        with_signatures: Check those of persons; those of entries are the checker's.

    Attributes:
        at_seal: Called with this reading and the last seal's commit, before what is not sealed is read.
        signed: The part that is known to be rightly signed, once `holds` said no.
    """

    def __init__(
        self,
        source: RecordSource,
        evidence: Evidence,
        checker: Checker,
        marks: frozenset[int] = frozenset(),
        progress: Progress | None = None,
        *,
        with_signatures: bool = True,
    ) -> None:
        super().__init__(source, evidence, marks, progress, with_signatures=with_signatures)
        self._checker = checker
        self._spans: list[tuple[int, bytes]] = []
        note = evidence.note if evidence.is_looking else None
        self._calls = CallReader(self.log, self.rules, self.keyring, note)
        self.signed = NOTHING_SIGNED
        self._begins: list[SignedPart] = []
        self.at_seal: Callable[[QuickReading, str], None] | None = None

    def holds(self, tail: RawTail, seals: Iterable[Seal] | None = None) -> bool:
        """Read everything; tell whether nothing at all was wrong.

        Args:
            tail: What is not sealed.
            seals: The seals to read; by default all of the source's.

        Raises:
            AgentgovError: AG0447, when a process that checks signatures is gone.
        """
        last: Seal | None = None
        try:
            unsealed = {record.seq: record for record in tail.records}
            for seal in self.source.seals() if seals is None else seals:
                self._begins.append(SignedPart(self.frontier.size, self.leaf))
                self._take_whole_seal(seal, unsealed)
                last = seal
                if self._checker.wrong() is not None:
                    break
            if last is not None and self.at_seal is not None:
                self.at_seal(self, last.commit)
            rest = [record for record in tail.records if record.seq >= self.frontier.size]
            for at in range(0, len(rest), _TAIL_BATCH):
                self._begins.append(SignedPart(self.frontier.size, self.leaf))
                self._take_tail(rest[at : at + _TAIL_BATCH])
            held = tail.fault is None
        except (BrokenRecordError, IncompleteError):
            held = False
        wrong = self._checker.finish()
        # What was begun last may not have been checked; what lies before the first wrong one was.
        good = (part for part in reversed(self._begins) if wrong is None or part.size <= wrong)
        self.signed = next(good, NOTHING_SIGNED)
        return held and wrong is None

    def _take_whole_seal(self, seal: Seal, unsealed: dict[int, RawRecord]) -> None:
        first, count = self.frontier.size, seal.signatures.count(b"\n")
        if not seal.entries.endswith(b"\n"):
            raise BrokenRecordError("entries do not end in a line feed", id="AG0228", where=seal.commit)
        if not unsealed.keys().isdisjoint(range(first, first + count)):
            raw_signatures = seal.signatures.split(b"\n")
            for seq, line, raw in zip(count_from(first), seal.lines(), raw_signatures, strict=False):
                known = unsealed.get(seq)
                if known is not None and (known.line, known.raw_signature) != (line, raw):
                    raise BrokenRecordError("the unsealed entry differs from the sealed one", id="AG0276")
        self._take_lines(seal.entries)
        if first + count != self.frontier.size or not seal.signatures.endswith(b"\n"):
            raise BrokenRecordError("entries and signatures are not as many", id="AG0228", where=seal.commit)
        self._take_head(seal)
        self._hand_over(Batch(first, seal.entries, seal.signatures, tuple(self._spans)))

    def _take_tail(self, records: Sequence[RawRecord]) -> None:
        first = self.frontier.size
        if any(record.seq != seq for seq, record in enumerate(records, first)):
            raise BrokenRecordError("entries are missing", id="AG0205")
        lines = b"".join(record.line + b"\n" for record in records)
        self._take_lines(lines)
        raw_signatures = b"".join(record.raw_signature + b"\n" for record in records)
        self._hand_over(Batch(first, lines, raw_signatures, tuple(self._spans)))

    def _hand_over(self, batch: Batch) -> None:
        self._spans = []
        self._checker.add(batch)
        if self._progress is not None:
            self._progress(self.frontier.size)

    def _take_lines(self, data: bytes) -> None:
        """Check the structure of lines that follow, and take them over, some at a time."""
        at = 0
        while at < len(data):
            # Pieces that fit into the processor's cache, and into memory that is at hand.
            end = data.rfind(b"\n", at, at + _PIECE_BYTES) + 1 or data.index(b"\n", at) + 1
            self._take_block(Block(data[at:end]))
            at = end

    def _take_block(self, block: Block) -> None:
        at, after = 0, len(block.text)
        marks = sorted(mark for mark in self._marks if mark > self.frontier.size)
        for last in (*marks, None):
            while at < after and (last is None or self.frontier.size < last):
                size = self.frontier.size
                at = self._take_calls(block, at, None if last is None else last - size)
                if at < after and self.frontier.size != last:
                    end = block.text.index("\n", at)
                    self._take_one(block.line(at, end))
                    at = end + 1
            self._mark()

    def _take_calls(self, block: Block, at: int, limit: int | None) -> int:
        """Take calls, so many at most, while nothing about them is unusual; return where that ends."""
        taken = self._calls.take(block, at, self.frontier.size, self.leaf, limit)
        if taken.leaves:
            self.leaf = LeafHash(taken.leaves[-1])
            self.frontier.extend(taken.leaves)
            for count, public_key in taken.spans:
                self._add_span(count, public_key)
        return taken.at

    def _take_one(self, line: bytes) -> None:
        """Take one entry the exact way, but for its signature, which waits for its batch."""
        entry = parse_entry(line)
        self._check_link(entry)
        key = self.keyring.signer(entry)
        self._add_span(1, key.public_key)
        self.keyring.advance(entry)
        self._take_in(entry, line)

    def _add_span(self, count: int, public_key: bytes) -> None:
        if self._spans and self._spans[-1][1] == public_key:
            count += self._spans.pop()[0]
        self._spans.append((count, public_key))
