"""Reads a record from its first entry and checks each one before the next.

Rules this module keeps:
    * Each entry is checked for form, place, link, key, signature and story, in this order; the first that
      fails is named, and nothing after it is relied on.
    * Each sealed part is checked against its own signed head; unsealed bytes must equal the sealed ones.
    * What was signed is never encoded again.
    * One seal is in memory at a time, besides the unsealed entries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError
from agentgov.ids import RunId
from agentgov.ledger.bodies import KINDS
from agentgov.ledger.chain import NO_LEAF, LeafHash, leaf_hash, verify_link
from agentgov.ledger.entry import PAYLOAD_TYPE, Entry, SignedEntry, decode_frame, parse_entry
from agentgov.ledger.keyring import Keyring
from agentgov.ledger.merkle import Frontier, verify_inclusion
from agentgov.ledger.seal import Seal
from agentgov.ledger.signing import verify_signature
from agentgov.ledger.verify_evidence import Evidence
from agentgov.ledger.verify_people import Statements
from agentgov.ledger.verify_report import Code, Finding
from agentgov.ledger.verify_rules import RunRules
from agentgov.ledger.verify_source import ORIGIN_PREFIX, RawRecord, RawTail, RecordSource
from agentgov.ledger.wal import parse_signature

Progress = Callable[[int], None]
"""Called now and then with the number of entries read so far."""

_PROGRESS_EVERY: Final = 1000
_CODES: Final[dict[str, Code]] = {
    "AG0205": "order",
    "AG0206": "seal",
    "AG0207": "seal",
    "AG0208": "seal",
    "AG0209": "seal",
    "AG0228": "seal",
    "AG0017": "missing",
    "AG0018": "object",
    "AG0210": "key",
    "AG0217": "signature",
    "AG0218": "signature",
    "AG0227": "key",
    "AG0420": "order",
    "AG0212": "signature",
    "AG0283": "signature",
    "AG0284": "missing",
    "AG0211": "signature",
    "AG0220": "signature",
    "AG0271": "snapshots",
    "AG0272": "calls",
    "AG0449": "newer",
    "AG0276": "sealed-differs",
    "AG0277": "other-log",
}
_BY_PERSONS: Final = ("stream.endorse", "approval.given")
_is_kind = re.compile(r"[a-z]{1,32}(?:\.[a-z_]{1,32})+").fullmatch
_claimed_run = re.compile(rb'"run":"([0-9a-hjkmnp-tv-z]{5})"').search
_claimed_call = re.compile(rb'"n":([1-9][0-9]{0,8})[,}]').search


@dataclass(frozen=True, slots=True)
class SignedPart:
    """The first entries of a record, by number and by the leaf of the last of them."""

    size: int
    leaf: bytes


NOTHING_SIGNED: Final = SignedPart(0, NO_LEAF)


class Reading:
    """One pass over one record, and what is known at its present place.

    Args:
        source: Where the record is read from.
        evidence: Takes note of what the entries point at.
        marks: Sizes at which the root is kept.
        progress: Called every thousand entries.
        with_signatures: Check the entries' signatures; without them only the structure is.
        signed: The part whose signatures were found right already, in another pass.

    Attributes:
        log: The record's origin.
        key: Its log key, hex; empty before the first entry.
        sealed: How many entries are sealed.
        heads: Root and leaf, hex, at the sizes that were marked.
        statements: What persons signed in it.
        continues: What the first entry says about an earlier record.
        next: What the last entry says about the record after this one; None when it goes on.
        notes: Facts that are no fault.
    """

    def __init__(
        self,
        source: RecordSource,
        evidence: Evidence,
        marks: frozenset[int] = frozenset(),
        progress: Progress | None = None,
        *,
        with_signatures: bool = True,
        signed: SignedPart = NOTHING_SIGNED,
    ) -> None:
        self._with_signatures = with_signatures
        self._signed = signed
        self.source = source
        self._evidence = evidence
        self._marks = marks
        self._progress = progress
        self.keyring = Keyring()
        self.rules = RunRules()
        self.frontier = Frontier()
        self.leaf: LeafHash = NO_LEAF
        self.log = ORIGIN_PREFIX + (source.stream_id() or "")
        self.key = ""
        self.sealed = 0
        self.heads: dict[int, tuple[str, str]] = {}
        self.statements = Statements()
        self.continues: tuple[str, int, str] | None = None
        self.notes: list[str] = []
        self._place: tuple[int | None, bytes] = (None, b"")

    def read(self, tail: RawTail) -> Finding | None:
        """Take in seals and tail; return what stopped it, None when nothing did."""
        unsealed = {record.seq: record for record in tail.records}
        try:
            for seal in self.source.seals():
                self._take_seal(seal, unsealed)
            self._place = (None, b"")
            for record in tail.records:
                if record.seq >= self.frontier.size:
                    self._take(record.line, record.raw_signature, record.seq)
            if tail.fault is not None:
                self._place = (None, b"")
                raise tail.fault
        except (BrokenRecordError, IncompleteError) as error:
            return self._finding(error)
        return None

    def _take_seal(self, seal: Seal, unsealed: dict[int, RawRecord]) -> None:
        self._place = (None, b"")
        lines = seal.lines()
        signatures = seal.signatures.split(b"\n")
        if len(signatures) != len(lines) + 1 or signatures[-1]:
            raise BrokenRecordError("entries and signatures are not as many", id="AG0228", where=seal.commit)
        for line, raw_signature in zip(lines, signatures, strict=False):
            seq = self.frontier.size
            known = unsealed.get(seq)
            self._take(line, raw_signature, seq)
            if known is not None and (known.line, known.raw_signature) != (line, raw_signature):
                self._place = (seq, known.line)
                raise BrokenRecordError("the unsealed entry differs from the sealed one", id="AG0276")
        self._place = (None, b"")
        self._take_head(seal)

    def _take_head(self, seal: Seal) -> None:
        """Check a seal's signed head against the entries up to there."""
        checkpoint = seal.verify_checkpoint(self.log, bytes.fromhex(self.key))
        if checkpoint.size != self.frontier.size or checkpoint.root != self.frontier.root():
            raise BrokenRecordError("a signed head is not that of the entries before it", id="AG0209")
        verify_inclusion(
            self.leaf, checkpoint.size - 1, checkpoint.size, seal.proof_hashes(), checkpoint.root
        )
        self.keyring.seal(checkpoint.size)
        self.sealed = checkpoint.size

    def _take(self, line: bytes, raw_signature: bytes, place: int) -> None:
        """Check one entry completely, then take it over."""
        seq = self.frontier.size
        self._place = (seq, line)
        if place != seq:
            raise BrokenRecordError(f"entries {seq} to {place - 1} are missing", id="AG0205")
        try:
            entry = parse_entry(line)
        except BrokenRecordError:
            self._check_newer(line, raw_signature)
            raise
        self._check_link(entry)
        if self._with_signatures and seq >= self._signed.size:
            signature = parse_signature(raw_signature, seq=seq)
            self.keyring.admit(SignedEntry(entry, line, signature))
        else:
            self.keyring.signer(entry)
            self.keyring.advance(entry)
        self._take_in(entry, line)
        if self.frontier.size == self._signed.size and self.leaf != self._signed.leaf:
            raise AgentgovError("the record changed while it was read", id="AG0448", hint="agentgov verify")
        self._mark()
        if self._progress is not None and self.frontier.size % _PROGRESS_EVERY == 0:
            self._progress(self.frontier.size)

    def _check_newer(self, line: bytes, raw_signature: bytes) -> None:
        """Tell an entry of a kind that only a later version knows from one that is wrong.

        Raises:
            IncompleteError: AG0449, when it is one: linked, and signed by a key that may sign here.
            BrokenRecordError: When it has the form of an entry, and its link, key or signature does not hold.
        """
        entry = decode_frame(line)
        if entry.kind in KINDS or not _is_kind(entry.kind):
            return
        self._check_link(entry)
        signature = parse_signature(raw_signature, seq=entry.seq)
        key = self.keyring.signer(entry)
        verify_signature(key.public_key, PAYLOAD_TYPE, line, signature)
        raise IncompleteError(
            f"written by a newer version: {entry.kind} is not known here, and reading stops",
            id="AG0449",
            where=f"entry {entry.seq}",
        )

    def _check_link(self, entry: Entry) -> None:
        if entry.log != self.log:
            raise BrokenRecordError("this entry belongs to another record", id="AG0277")
        verify_link(self.leaf, entry, seq=self.frontier.size)

    def _take_in(self, entry: Entry, line: bytes) -> None:
        """Check the story of an entry whose key was checked, and take it over."""
        self.rules.check(entry)
        self._take_over(entry)
        self.leaf = leaf_hash(line)
        self.frontier.append(self.leaf)
        self._evidence.note(entry)

    def _mark(self) -> None:
        if self.frontier.size in self._marks:
            self.heads[self.frontier.size] = (self.frontier.root().hex(), self.leaf.hex())

    def _take_over(self, entry: Entry) -> None:
        """Note what an entry says about the record as a whole.

        Raises:
            BrokenRecordError: When a person's signature in it is wrong.
            IncompleteError: AG0284, when an endorsement cannot be checked here.
        """
        kind, body = entry.kind, entry.body
        if kind == "log.genesis":
            self.key = body["public_key"]
            if body["continues"] is not None:
                earlier = body["continues"]
                self.continues = (earlier["log"], earlier["size"], earlier["leaf"])
        elif kind in _BY_PERSONS and not self._with_signatures:
            return
        elif kind == "stream.endorse":
            self.statements.take_endorsement(entry, self.log, self.key)
        elif kind == "approval.given":
            self.statements.take_approval(entry)
        elif kind == "promote.intent":
            self.statements.take_promotion(entry)
        elif kind == "log.recovered":
            self.notes.append(f"a crash tore {body['torn_bytes']} bytes before entry {entry.seq}")
        elif kind == "log.end":
            after = "" if body["next"] is None else f"; {body['next']['log']} goes on from here"
            self.notes.append(f"ended on purpose at entry {entry.seq}: {body['reason']}{after}")
        elif kind == "pin.forgotten":
            what = f"the last state seen of {body['log']} ({body['size']} entries)"
            self.notes.append(f"{what} was forgotten on purpose at entry {entry.seq}")

    def _finding(self, error: AgentgovError) -> Finding:
        seq, line = self._place
        if seq is None:
            seq = self.frontier.size
        run, call = _claimed_run(line), _claimed_call(line)
        return Finding(
            _CODES.get(error.id, "line"),
            error.message,
            seq,
            RunId(run[1].decode()) if run else None,
            int(call[1]) if call else None,
            error.id,
        )
