"""The verifier: reads a record from its first entry, says what holds, what does not, what it cannot know.

Rules this module keeps:
    * It needs the ledger and the base only, changes nothing, and never encodes again what was signed.
    * Each entry is checked for form, place, link, key, signature and story, in this order, before the next
      one is read; the first that fails is named, and nothing after it is relied on.
    * Each sealed part is checked against its own signed head; unsealed bytes must equal the sealed ones.
    * What this machine remembers (pin, own key, own record) is compared last, over the entries that hold.
    * An empty record is never ok.
    * One seal is in memory at a time, besides the unsealed entries.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError
from agentgov.ids import RunId
from agentgov.ledger.chain import NO_LEAF, LeafHash, leaf_hash, verify_link
from agentgov.ledger.endorsement import verify_endorsement
from agentgov.ledger.entry import SignedEntry, parse_entry
from agentgov.ledger.keyring import Keyring
from agentgov.ledger.merkle import Frontier, verify_inclusion
from agentgov.ledger.seal import Seal
from agentgov.ledger.sshsig import SshPublicKey
from agentgov.ledger.verify_evidence import ALL_CLASSES, Evidence, FindMissing, Payloads
from agentgov.ledger.verify_report import Check, Code, Finding, Head, Level, Report, Status
from agentgov.ledger.verify_rules import RunRules
from agentgov.ledger.verify_source import ORIGIN_PREFIX, RawRecord, RawTail, RecordSource, Trust
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
    "AG0283": "signature",
    "AG0284": "missing",
    "AG0211": "signature",
    "AG0220": "signature",
    "AG0271": "snapshots",
    "AG0272": "calls",
    "AG0276": "sealed-differs",
    "AG0277": "other-log",
}
_claimed_run = re.compile(rb'"run":"([0-9a-hjkmnp-tv-z]{5})"').search
_claimed_call = re.compile(rb'"n":([1-9][0-9]{0,8})[,}]').search


def verify_ledger(
    source: RecordSource,
    *,
    trust: Trust,
    objects: FindMissing | None = None,
    payloads: Payloads | None = None,
    expected_payloads: frozenset[str] = ALL_CLASSES,
    is_live: Callable[[RunId], bool] = lambda run: False,
    require: Level | None = None,
    run: RunId | None = None,
    progress: Progress | None = None,
) -> Report:
    """Verify a record from its first entry to its last.

    Args:
        source: Where it is read from.
        trust: What this machine knew before; read before `source` is.
        objects: Finds missing git objects; without it their presence is not checked.
        payloads: Finds payloads; without it they are not checked.
        expected_payloads: The classes whose absence makes the evidence incomplete here; the absence of
            others is only said. A clone that fetched the record has `changes` at most.
        is_live: Tells whether somebody records an open run.
        require: A lower level than this makes the evidence incomplete, as does a run that is still open.
        run: Check the evidence and the end of this run only; the chain is always checked whole.
        progress: Called every thousand entries.

    Returns:
        The report; what is wrong with the record is in it and is not raised.

    Raises:
        AgentgovError: When the repository itself cannot be read.
    """
    evidence = Evidence(objects, payloads, expected_payloads, run)
    return _Verification(source, trust, evidence, is_live, require, progress).report()


class _Verification:
    """One pass over one record."""

    def __init__(
        self,
        source: RecordSource,
        trust: Trust,
        evidence: Evidence,
        is_live: Callable[[RunId], bool],
        require: Level | None,
        progress: Progress | None,
    ) -> None:
        self._source = source
        self._trust = trust
        self._evidence = evidence
        self._is_live = is_live
        self._progress = progress
        self._report = Report(required=require)
        self._keyring = Keyring()
        self._rules = RunRules()
        self._frontier = Frontier()
        self._leaf: LeafHash = NO_LEAF
        self._endorsed: list[SshPublicKey] = []
        self._log = ""
        self._key = ""
        self._at_pin: tuple[str, str] | None = None
        self._place: tuple[int | None, bytes] = (None, b"")

    def report(self) -> Report:
        """Read everything and return the report."""
        report = self._report
        stream = self._source.stream_id()
        self._log = ORIGIN_PREFIX + (stream or "")
        tail = self._source.tail()
        whole = self._read(tail)
        report.entries = self._frontier.size
        if report.entries:
            root = self._frontier.root().hex()
            report.head = Head(self._log, self._key, report.entries, root, self._leaf.hex())
        self._check_chain(whole)
        if whole and not report.entries:
            self._check_gone()
        elif whole:
            self._check_tail(tail)
            self._check_memory(stream)
            self._check_evidence()
            self._check_open()
            self._check_gaps(tail)
        self._set_level(whole)
        return report

    # Reading, entry by entry.

    def _read(self, tail: RawTail) -> bool:
        """Take in seals and tail; False when something stopped it, which is then the first finding."""
        unsealed = {record.seq: record for record in tail.records}
        try:
            for seal in self._source.seals():
                self._take_seal(seal, unsealed)
            self._place = (None, b"")
            for record in tail.records:
                if record.seq >= self._frontier.size:
                    self._take(record.line, record.raw_signature, record.seq)
            if tail.fault is not None:
                self._place = (None, b"")
                raise tail.fault
        except (BrokenRecordError, IncompleteError) as error:
            self._report.findings.append(self._finding(error))
            return False
        return True

    def _take_seal(self, seal: Seal, unsealed: dict[int, RawRecord]) -> None:
        self._place = (None, b"")
        lines = seal.lines()
        signatures = seal.signatures.split(b"\n")
        if len(signatures) != len(lines) + 1 or signatures[-1]:
            raise BrokenRecordError("entries and signatures are not as many", id="AG0228", where=seal.commit)
        for line, raw_signature in zip(lines, signatures, strict=False):
            seq = self._frontier.size
            known = unsealed.get(seq)
            self._take(line, raw_signature, seq)
            if known is not None and (known.line, known.raw_signature) != (line, raw_signature):
                self._place = (seq, known.line)
                raise BrokenRecordError("the unsealed entry differs from the sealed one", id="AG0276")
        self._place = (None, b"")
        checkpoint = seal.verify_checkpoint(self._log, bytes.fromhex(self._key))
        if checkpoint.size != self._frontier.size or checkpoint.root != self._frontier.root():
            raise BrokenRecordError("a signed head is not that of the entries before it", id="AG0209")
        verify_inclusion(
            self._leaf, checkpoint.size - 1, checkpoint.size, seal.proof_hashes(), checkpoint.root
        )
        self._keyring.seal(checkpoint.size)
        self._report.sealed = checkpoint.size

    def _take(self, line: bytes, raw_signature: bytes, place: int) -> None:
        """Check one entry completely, then take it over."""
        seq = self._frontier.size
        self._place = (seq, line)
        if place != seq:
            raise BrokenRecordError(f"entries {seq} to {place - 1} are missing", id="AG0205")
        entry = parse_entry(line)
        if entry.log != self._log:
            raise BrokenRecordError("this entry belongs to another record", id="AG0277")
        verify_link(self._leaf, entry, seq=seq)
        self._keyring.admit(SignedEntry(entry, line, parse_signature(raw_signature, seq=seq)))
        self._rules.check(entry)
        if seq == 0:
            self._key = entry.body["public_key"]
            if entry.body["continues"] is not None:
                earlier = entry.body["continues"]
                self._report.notes.append(f"continues {earlier['log']} after its {earlier['size']} entries")
        elif entry.kind == "stream.endorse":
            self._endorsed += verify_endorsement(entry.body, self._log, self._key)
        elif entry.kind == "log.recovered":
            self._report.notes.append(f"a crash tore {entry.body['torn_bytes']} bytes before entry {seq}")
        self._leaf = leaf_hash(line)
        self._frontier.append(self._leaf)
        self._evidence.note(entry)
        pin = self._trust.pin
        if pin is not None and pin.size == self._frontier.size:
            self._at_pin = (self._frontier.root().hex(), self._leaf.hex())
        if self._progress is not None and self._frontier.size % _PROGRESS_EVERY == 0:
            self._progress(self._frontier.size)

    def _finding(self, error: AgentgovError) -> Finding:
        seq, line = self._place
        if seq is None:
            seq = self._frontier.size
        run, call = _claimed_run(line), _claimed_call(line)
        return Finding(
            _CODES.get(error.id, "line"),
            error.message,
            seq,
            RunId(run[1].decode()) if run else None,
            int(call[1]) if call else None,
            error.id,
        )

    # What follows from it.

    def _add(self, name: str, status: Status, text: str) -> None:
        self._report.checks.append(Check(name, status, text))

    def _check_chain(self, whole: bool) -> None:
        report = self._report
        if not whole:
            first = report.findings[0]
            stopped: Status = "incomplete" if first.code == "missing" else "broken"
            self._add("chain", stopped, f"stops at {first.place()}: {first.why}")
            return
        if not report.entries:
            return
        count = report.entries
        self._add("chain", "ok", f"{count} entries, none missing, reordered or altered")
        self._add(
            "signatures", "ok", f"{count} of {count}; signed by this record's key and the keys it delegated"
        )
        names = dict.fromkeys(key.fingerprint for key in self._endorsed)
        if names:
            self._add("signer", "ok", f"a person stands behind this record's key: {', '.join(names)}")
        else:
            self._add("signer", "--", "this record's key, trusted on first use; nobody stands behind it yet")
        if report.sealed:
            rest = f", {count - report.sealed} after it" if count > report.sealed else ""
            self._add("saved", "ok", f"signed head over entries 0-{report.sealed - 1} holds{rest}")
        else:
            self._add("saved", "--", "nothing is saved in git yet")
        self._add("calls", "ok", "requests, verdicts, answers and results fit together")

    def _check_gone(self) -> None:
        """Say whether an empty record was ever another one."""
        trust = self._trust
        if trust.pin is None and trust.stream_id is None:
            finding = Finding("missing", "there is no record here", error_id="AG0278")
        else:
            seen = "one was begun here" if trust.pin is None else f"{trust.pin.size} entries were seen here"
            finding = Finding("record-gone", f"the record is gone: {seen}", error_id="AG0222")
        self._add("chain", "incomplete" if finding.code == "missing" else "broken", finding.why)
        self._report.findings.append(finding)

    def _check_tail(self, tail: RawTail) -> None:
        count = self._report.entries
        if tail.newest is not None and tail.newest > count:
            # The next file is begun when those before it are whole: its name tells how many there were.
            why = f"entries {count} to {tail.newest - 1} are missing"
            self._add("tail", "broken", why)
            self._report.findings.append(Finding("order", why, count, error_id="AG0205"))
        if tail.torn:
            why = f"{len(tail.torn)} bytes of half a line stand at its end"
            self._report.findings.append(Finding("torn", why, self._report.entries, error_id="AG0279"))

    def _check_gaps(self, tail: RawTail) -> None:
        for why in tail.gaps:
            self._add("tail", "incomplete", why)
            self._report.findings.append(
                Finding("missing", f"{why}: entries may be", self._report.entries, error_id="AG0283")
            )

    def _check_memory(self, stream: str | None) -> None:
        """Compare with the pin, the own key and the own record."""
        trust, pin, count = self._trust, self._trust.pin, self._report.entries
        found: list[Finding] = []
        if trust.stream_id is not None and stream != trust.stream_id:
            found.append(
                Finding("other-record", "another record stands in place of this clone's", error_id="AG0223")
            )
        elif trust.public_key not in (None, self._key) or (pin is not None and pin.public_key != self._key):
            found.append(Finding("other-key", "its key is not the one known here", 0, error_id="AG0280"))
        elif pin is not None and pin.log != self._log:
            found.append(Finding("other-record", "another record was seen here before", error_id="AG0223"))
        elif pin is not None and pin.size > count:
            why = f"entries {count}-{pin.size - 1} were seen here and are missing"
            found.append(Finding("shorter", why, count, error_id="AG0230"))
        elif pin is not None and self._at_pin != (pin.root, pin.leaf):
            why = f"entries 0-{pin.size - 1} are not those seen here before"
            found.append(Finding("rewritten", why, pin.size - 1, error_id="AG0230"))
        elif pin is None and trust.public_key is None:
            found.append(Finding("unknown-key", "nobody here vouches for its key", 0, error_id="AG0280"))
        if found:
            untrusted = found[0].code in ("other-key", "unknown-key")
            status: Status = "untrusted" if untrusted else "broken"
            self._add("not older", status, found[0].why)
        elif pin is not None:
            self._add("not older", "ok", f"than the last state seen here (entry {pin.size - 1})")
        else:
            self._add("not older", "--", "no earlier state was seen here")
        self._report.findings += found

    def _check_evidence(self) -> None:
        evidence, report = self._evidence, self._report
        evidence.finish()
        report.coverage, report.missing = evidence.coverage, evidence.missing
        report.findings += evidence.findings
        fit = "each step begins with the files the one before it left"
        if evidence.payloads is not None:
            fit += f"; {evidence.coverage.text()}"
        self._add("files", "ok", fit)
        if evidence.objects is None:
            self._add("objects", "--", "not looked for")
        else:
            absent = evidence.missing.get("objects", 0)
            seen = evidence.objects_seen
            self._add(
                "objects", "incomplete" if absent else "ok", f"{seen - absent} of {seen} snapshots are here"
            )
        if evidence.payloads is None:
            self._add("payloads", "--", "not looked for")
            return
        absent = sum(count for what, count in evidence.missing.items() if what != "objects")
        codes = {
            found.code for found in evidence.findings if found.code == "payload" or "payload" in found.why
        }
        status: Status = (
            "broken" if "payload" in codes else "incomplete" if codes else "--" if absent else "ok"
        )
        seen = evidence.payloads_seen
        self._add("payloads", status, f"{seen - absent} of {seen} are here and are those committed to")

    def _check_open(self) -> None:
        report, only = self._report, self._evidence.run
        for run in self._rules.open_runs():
            if only not in (None, run):
                continue
            if self._is_live(run):
                report.open_runs.append(run)
                self._add("open", "open", f"{run} is still running")
                if report.required is not None:
                    report.findings.append(
                        Finding("level", "this run has not ended", run=run, error_id="AG0281")
                    )
            else:
                why = "this run has not ended and nobody records it: entries may have been cut off"
                self._add("open", "incomplete", f"{run} has not ended and nobody records it")
                report.findings.append(Finding("unfinished", why, run=run, error_id="AG0281"))

    def _set_level(self, whole: bool) -> None:
        """Say how much is known, and whether that is as much as was asked for."""
        report = self._report
        count = report.entries if whole else 0
        if count:
            self._add(
                "witness", "--", f"none: entries 0-{count - 1} could be replaced together by who has the key"
            )
            self._add("time", "--", "by this machine's clock")
        if count and report.broken_at is None:
            report.level = Level.SIGNED
            known = not any(found.code in ("other-key", "unknown-key") for found in report.findings)
            if known and report.sealed:
                report.level = Level.PINNED if self._at_pin is not None else Level.CHECKPOINT
        if report.required is not None and (report.level is None or report.level < report.required):
            reached = "none" if report.level is None else report.level.label
            why = f"{report.required.label} is required, and {reached} is reached"
            report.findings.append(Finding("level", why, error_id="AG0282"))
