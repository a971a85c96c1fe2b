"""Reads a record quickly: whole seals at a time, most entries without making objects of them.

Rules this module keeps:
    * It accepts nothing that `verify_reading.Reading` would refuse, and ends with the same knowledge; a test
      compares the two. Whatever it is not sure about is taken the exact way, entry by entry.
    * It only says whether all holds. When something does not, the record is read again the exact way, which
      names the first broken entry; signatures that were found right are not checked twice.
    * Signatures are checked after the structure of their part, in batches, here or by helpers.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.ids import RunId
from agentgov.ledger import canonical
from agentgov.ledger.chain import LeafHash
from agentgov.ledger.entry import match_entry, parse_entry
from agentgov.ledger.keyring import LOG_KEY, LiveKey
from agentgov.ledger.lines import around_last_field, form_of
from agentgov.ledger.seal import Seal
from agentgov.ledger.verify_evidence import Evidence
from agentgov.ledger.verify_reading import NOTHING_SIGNED, Progress, Reading, SignedPart
from agentgov.ledger.verify_rules import RunProgress
from agentgov.ledger.verify_signatures import Batch, Checker
from agentgov.ledger.verify_source import RawRecord, RawTail, RecordSource

_TAIL_BATCH: Final = 256
_MAX_VERDICTS: Final = 512
# The end of a verdict's text, by which it is looked up: it names the last rules.
_VERDICT_KEY: Final = 80
_NO_VERDICT: Final = ("", "")


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
        self._request = form_of("call.request").pattern.fullmatch
        head, tail = around_last_field("call.request")
        self._around_verdict = head.fullmatch, tail.fullmatch
        self._verdicts: dict[str, tuple[str, str]] = {}
        self._result = form_of("call.result").pattern.fullmatch
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
        first, lines = self.frontier.size, seal.lines()
        if seal.signatures.count(b"\n") != len(lines) or not seal.signatures.endswith(b"\n"):
            raise BrokenRecordError("entries and signatures are not as many", id="AG0228", where=seal.commit)
        if unsealed:
            raw_signatures = seal.signatures.split(b"\n")
            for seq, line, raw in zip(range(first, first + len(lines)), lines, raw_signatures, strict=False):
                known = unsealed.get(seq)
                if known is not None and (known.line, known.raw_signature) != (line, raw):
                    raise BrokenRecordError("the unsealed entry differs from the sealed one", id="AG0276")
        self._take_lines(lines)
        self._take_head(seal)
        self._hand_over(Batch(first, seal.entries, seal.signatures, tuple(self._spans)))

    def _take_tail(self, records: Sequence[RawRecord]) -> None:
        first = self.frontier.size
        if any(record.seq != seq for seq, record in enumerate(records, first)):
            raise BrokenRecordError("entries are missing", id="AG0205")
        self._take_lines([record.line for record in records])
        lines = b"".join(record.line + b"\n" for record in records)
        raw_signatures = b"".join(record.raw_signature + b"\n" for record in records)
        self._hand_over(Batch(first, lines, raw_signatures, tuple(self._spans)))

    def _hand_over(self, batch: Batch) -> None:
        self._spans = []
        self._checker.add(batch)
        if self._progress is not None:
            self._progress(self.frontier.size)

    def _take_lines(self, lines: Sequence[bytes]) -> None:
        """Check the structure of lines that follow, and take them over."""
        place, base = 0, self.frontier.size
        marks = sorted(mark - base for mark in self._marks if base < mark <= base + len(lines))
        for end in (*marks, len(lines)):
            while place < end:
                place = self._take_calls(lines, place, end)
                if place < end:
                    self._take_one(lines[place])
                    place += 1
            self._mark()

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

    def _take_calls(self, lines: Sequence[bytes], place: int, end: int) -> int:
        """Take requests and results of one run by one key while nothing about them is unusual.

        It does for them what `entry.parse_entry`, `chain.verify_link`, `Keyring.signer` and `RunRules.check`
        do, in the same order of the record, and stops before the first entry that any of them might refuse.

        Returns:
            The place of the first line that was not taken.
        """
        request, result, sha256 = self._request, self._result, hashlib.sha256
        before_verdict, after_verdict = self._around_verdict
        verdicts = self._verdicts
        seq, log, prev = self.frontier.size, self.log, self.leaf.hex()
        note = self._evidence.note if self._evidence.is_looking else None
        run: RunProgress | None = None
        run_id = raw_key = open_text = ""
        key: LiveKey | None = None
        leaves: list[bytes] = []
        began = place
        while place < end:
            line = lines[place]
            # Any other character than ASCII is one that no pattern has.
            text = line.decode("latin-1")
            is_request = True
            # Verdicts are long and few: one that was matched before is compared, and only its surroundings
            # are matched. The key is short, because making one costs as much as matching the verdict.
            stop = text.rfind('},"key":')
            verdict, decision = verdicts.get(text[stop - _VERDICT_KEY : stop], _NO_VERDICT)
            begin = stop - len(verdict)
            if (
                verdict
                and text.startswith(verdict, begin)
                and (head := before_verdict(text, 0, begin)) is not None
                and (tail := after_verdict(text, stop)) is not None
            ):
                raw_actor, _, changes, before, _, raw_n, opened, _, after = head.groups()
                key_text, line_log, line_prev, line_run, line_seq, _ = tail.groups()
            elif (match := result(text)) is not None:
                is_request = False
                (
                    changes, before, _, raw_n, opened, _, _, _, after,
                    key_text, line_log, line_prev, line_run, line_seq, _,
                ) = match.groups()  # fmt: skip
            elif (match := request(text)) is not None:
                (
                    raw_actor, _, changes, before, _, raw_n, opened, _, after, verdict,
                    key_text, line_log, line_prev, line_run, line_seq, _,
                ) = match.groups()  # fmt: skip
                decision = self._learn_verdict(verdict)
            else:
                break
            if (
                line_prev != prev
                or line_log != log
                or line_seq != str(seq)
                or len(line) > canonical.MAX_BYTES
            ):
                break
            if line_run != run_id or key_text != raw_key:
                if run is not None:
                    # One key for each stretch; the next one begins where this one ends.
                    break
                run = self.rules.runs.get(RunId(line_run))
                key = self._session_key(int(key_text), RunId(line_run))
                if run is None or key is None or run.tree is None or run.end_tree is not None:
                    break
                run_id, raw_key, open_text = line_run, key_text, _open_text(run.open)
            assert run is not None  # noqa: S101 - the names differ before the first
            if before != run.tree or opened != open_text:
                break
            if (before == after) != (changes is None) or (changes is not None and not opened):
                break
            n = int(raw_n)
            if is_request:
                if n != run.calls + 1 or int(raw_actor) not in run.actors:
                    break
                run.calls = n
                if decision == "allow":
                    run.open.add(n)
                    open_text = raw_n if not opened else f"{opened},{raw_n}"
                else:
                    (run.waiting if decision == "ask" else run.denied).add(n)
            else:
                if n not in run.open:
                    break
                run.open.remove(n)
                open_text = _open_text(run.open)
            run.tree = after
            leaf = sha256(b"\x00" + line).digest()
            prev = leaf.hex()
            leaves.append(leaf)
            seq += 1
            place += 1
            if note is not None and (entry := match_entry(line)) is not None:
                note(entry)
        if place > began and key is not None:
            self.leaf = LeafHash(leaves[-1])
            self.frontier.extend(leaves)
            self._add_span(place - began, key.public_key)
        return place

    def _learn_verdict(self, verdict: str) -> str:
        """Remember a verdict that a whole pattern matched, and return its decision."""
        if len(self._verdicts) >= _MAX_VERDICTS:
            self._verdicts.clear()
        # {"decision":"; the three decisions differ in their second letter.
        decision = {"l": "allow", "s": "ask", "e": "deny"}[verdict[14]]
        self._verdicts[verdict[-_VERDICT_KEY:]] = (verdict, decision)
        return decision

    def _session_key(self, seq: int, run: RunId) -> LiveKey | None:
        """The key introduced at `seq`, if it may sign a call of this run now."""
        if seq == LOG_KEY or seq < self.keyring.boundary or self.keyring.ended is not None:
            return None
        return next((key for key in self.keyring.live(run) if key.seq == seq), None)


def _open_text(calls: set[int]) -> str:
    """The calls that are running as a line spells them, ascending."""
    return ",".join(map(str, sorted(calls)))
