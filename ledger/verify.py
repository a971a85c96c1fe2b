"""The verifier: reads a record from its first entry, says what holds, what does not, what it cannot know.

Rules this module keeps:
    * It needs the ledger and the base only, and changes nothing.
    * Entries are read and checked one by one (`verify_reading`); the first that fails is named, and nothing
      after it is relied on.
    * What this machine and others remember (pin, own key, own record, witnesses, copies) is compared last,
      over the entries that hold.
    * An empty record is never ok.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from agentgov.errors import ExitCode
from agentgov.ids import RunId
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.verify_anchors import Comparison, Quorum, compare_anchors, marks, up_to, utc
from agentgov.ledger.verify_evidence import ALL_CLASSES, Evidence, FindMissing, Payloads
from agentgov.ledger.verify_passes import Passes, read_record
from agentgov.ledger.verify_people import Persons, Vouching, judge_statements
from agentgov.ledger.verify_reading import Progress, Reading
from agentgov.ledger.verify_report import Check, Finding, Head, Level, Report, Status
from agentgov.ledger.verify_resume import Resume
from agentgov.ledger.verify_source import RawTail, RecordSource, Trust

_MAX_ERASED: Final = 5

EarlierLeaf = Callable[[str, int], str | None]
"""Returns the leaf, hex, of the last of the first so many entries of another record; None if not at hand."""


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
    anchors: Sequence[Anchor] = (),
    quorum: Quorum | None = None,
    people: Persons | None = None,
    earlier: EarlierLeaf | None = None,
    structure: bool = False,
    jobs: int = 1,
    since: Resume | None = None,
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
        require: A lower level than this makes the evidence incomplete, as does a run that is still open, and
            from `witnessed` on a tail that the level does not cover.
        run: Check the evidence and the end of this run only; the chain is always checked whole.
        progress: Called every thousand entries.
        anchors: Heads that others have seen, their signatures and stamps verified.
        quorum: Which witnesses, by name, are enough; any one when None.
        people: Who is trusted; when it is given, a record that is not this clone's own needs one of them
            behind its key.
        earlier: Finds the leaf of an earlier record that this one says it continues.
        structure: Leave the signatures of entries and persons unchecked: level 0 at most.
        jobs: How many processes check signatures, once there are many.
        since: Where an earlier verification on this machine ended; what it read is not read again.

    Returns:
        The report; what is wrong with the record is in it and is not raised.

    Raises:
        AgentgovError: When the repository itself cannot be read; AG0447, when a process that checks
            signatures is gone.
    """
    origin = f"agentgov/{source.stream_id() or ''}"
    frozen = () if people is None else tuple(people.frozen_heads(origin))
    sizes = marks(trust.pin, anchors, frozen)
    tail = source.tail()
    passes = read_record(
        source,
        tail,
        lambda: Evidence(objects, payloads, expected_payloads, run),
        sizes,
        progress=progress,
        structure=structure,
        jobs=jobs,
        since=since,
    )
    reading, evidence, stopped = passes.reading, passes.evidence, passes.stopped
    judgement = _Judgement(reading, trust, evidence, Report(required=require, structure_only=structure))
    report = judgement.begin(stopped)
    if stopped is None and not report.entries:
        judgement.check_gone()
    elif stopped is None:
        vouching = judge_statements(
            reading.statements,
            people,
            reading.log,
            report.entries,
            is_known=trust.public_key is not None or (people is None and trust.pin is not None),
        )
        roots = {size: root for size, (root, _) in reading.heads.items()}
        comparison = compare_anchors(roots, report.entries, anchors, frozen, quorum)
        judgement.check_signer(vouching)
        judgement.check_tail(tail)
        judgement.check_memory(source.stream_id(), vouching)
        judgement.check_earlier(earlier)
        judgement.check_evidence()
        judgement.check_open(is_live)
        judgement.check_gaps(tail)
        judgement.check_anchors(comparison)
    judgement.set_level()
    judgement.say_resumed(passes)
    return report


class _Judgement:
    """Turns what was read into checks, findings and a level."""

    def __init__(self, reading: Reading, trust: Trust, evidence: Evidence, report: Report) -> None:
        self._reading = reading
        self._trust = trust
        self._evidence = evidence
        self._report = report

    def _add(self, name: str, status: Status, text: str) -> None:
        self._report.checks.append(Check(name, status, text))

    def begin(self, stopped: Finding | None) -> Report:
        """Say how far the chain holds, and return the report."""
        report, reading = self._report, self._reading
        report.entries = count = reading.frontier.size
        report.sealed = reading.sealed
        report.notes += reading.notes
        if count:
            root = reading.frontier.root().hex()
            report.head = Head(reading.log, reading.key, count, root, reading.leaf.hex())
        if stopped is not None:
            report.findings.append(stopped)
            status: Status = "incomplete" if stopped.code in ("missing", "newer") else "broken"
            self._add("chain", status, f"stops at {stopped.place()}: {stopped.why}")
        elif count:
            noun = "entry" if count == 1 else "entries"
            self._add("chain", "ok", f"{count} {noun}, none missing, reordered or altered")
        if count and stopped is None and report.structure_only:
            self._add("signatures", "--", "not checked: --structure reads forms, links, keys and order only")
        elif count and stopped is None:
            self._add(
                "signatures",
                "ok",
                f"{count} of {count}; signed by this record's key and the keys it delegated",
            )
        return report

    def check_signer(self, vouching: Vouching) -> None:
        """Say who stands behind the record, and what is saved."""
        report = self._report
        report.checks += vouching.checks
        report.findings += vouching.findings
        report.notes += vouching.notes
        if report.sealed:
            rest = f", {report.entries - report.sealed} after it" if report.entries > report.sealed else ""
            self._add("saved", "ok", f"signed head over entries 0-{report.sealed - 1} holds{rest}")
        else:
            self._add("saved", "--", "nothing is saved in git yet")
        self._add("calls", "ok", "requests, verdicts, answers and results fit together")

    def say_resumed(self, passes: Passes) -> None:
        """Say what was not read again, and keep the place to go on from if all of the record holds."""
        report, since = self._report, passes.resumed
        if since is not None:
            report.read_from = since.size
            what = f"{up_to(since.size)} verified here on {utc(since.ts)}, not read again"
            self._add("before", "--", f"{what}, nor what they point at")
        if report.broken_at is None and report.exit_code is not ExitCode.UNTRUSTED:
            report.reached = passes.reached

    def check_gone(self) -> None:
        """Say whether an empty record was ever another one."""
        trust = self._trust
        if trust.pin is None and trust.stream_id is None:
            finding = Finding("missing", "there is no record here", error_id="AG0278")
        else:
            seen = "one was begun here" if trust.pin is None else f"{trust.pin.size} entries were seen here"
            finding = Finding("record-gone", f"the record is gone: {seen}", error_id="AG0222")
        self._add("chain", "incomplete" if finding.code == "missing" else "broken", finding.why)
        self._report.findings.append(finding)

    def check_tail(self, tail: RawTail) -> None:
        """Say what is wrong at the end of the unsealed part."""
        count = self._report.entries
        if tail.newest is not None and tail.newest > count:
            # The next file is begun when those before it are whole: its name tells how many there were.
            why = f"entries {count} to {tail.newest - 1} are missing"
            self._add("tail", "broken", why)
            self._report.findings.append(Finding("order", why, count, error_id="AG0205"))
        if tail.torn:
            why = f"{len(tail.torn)} bytes of half a line stand at its end"
            self._report.findings.append(Finding("torn", why, self._report.entries, error_id="AG0279"))

    def check_gaps(self, tail: RawTail) -> None:
        """Say which files every record has and this one lacks."""
        for why in tail.gaps:
            self._add("tail", "incomplete", why)
            self._report.findings.append(
                Finding("missing", f"{why}: entries may be", self._report.entries, error_id="AG0283")
            )

    def check_memory(self, stream: str | None, vouching: Vouching) -> None:
        """Compare with the pin, the own key and the own record."""
        trust, pin, reading = self._trust, self._trust.pin, self._reading
        count, found = self._report.entries, list[Finding]()
        if trust.stream_id is not None and stream != trust.stream_id:
            found.append(
                Finding("other-record", "another record stands in place of this clone's", error_id="AG0223")
            )
        elif trust.public_key not in (None, reading.key) or (
            pin is not None and pin.public_key != reading.key
        ):
            found.append(Finding("other-key", "its key is not the one known here", 0, error_id="AG0280"))
        elif pin is not None and pin.log != reading.log:
            found.append(Finding("other-record", "another record was seen here before", error_id="AG0223"))
        elif pin is not None and pin.size > count:
            why = f"entries {count}-{pin.size - 1} were seen here and are missing"
            found.append(Finding("shorter", why, count, error_id="AG0230"))
        elif pin is not None and reading.heads.get(pin.size) != (pin.root, pin.leaf):
            why = f"entries 0-{pin.size - 1} are not those seen here before"
            found.append(Finding("rewritten", why, pin.size - 1, error_id="AG0230"))
        elif pin is None and trust.public_key is None and not vouching.decides:
            found.append(Finding("unknown-key", "nobody here vouches for its key", 0, error_id="AG0280"))
        if found:
            status: Status = "untrusted" if found[0].code in ("other-key", "unknown-key") else "broken"
            self._add("not older", status, found[0].why)
        elif pin is not None:
            self._add("not older", "ok", f"than the last state seen here (entry {pin.size - 1})")
        else:
            self._add("not older", "--", "no earlier state was seen here")
        self._report.findings += found

    def check_earlier(self, earlier: EarlierLeaf | None) -> None:
        """Compare what the record says it continues with the earlier record, when that is at hand."""
        if self._reading.continues is None:
            return
        log, size, leaf = self._reading.continues
        found = None if earlier is None else earlier(log, size)
        if found is None:
            self._add("continues", "--", f"{size} entries of {log}, which is not here to compare")
        elif found == leaf:
            self._add("continues", "ok", f"{size} entries of {log}, whose end is the one named")
        else:
            why = f"it says it continues {log} after {size} entries, and that record has another end there"
            self._add("continues", "broken", why)
            self._report.findings.append(Finding("earlier", why, 0, error_id="AG0445"))

    def check_anchors(self, comparison: Comparison) -> None:
        """Take over what others have seen of the record."""
        report = self._report
        report.checks += comparison.checks
        report.findings += comparison.findings
        report.witnessed, report.timestamped = comparison.witnessed, comparison.timestamped

    def check_evidence(self) -> None:
        """Say which snapshots and payloads are here, and how many changed lines belong to a call."""
        evidence, report = self._evidence, self._report
        evidence.finish()
        report.notes += evidence.notes
        report.erased, report.pruned = [item.text() for item in evidence.erased], dict(evidence.pruned)
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
        seen, let_go = evidence.payloads_seen, sum(evidence.pruned.values())
        here = seen - absent - let_go - evidence.erased_seen
        where = "lie in this clone's own store; no other was looked at"
        if status != "--":
            where = "are here and are those committed to"
        self._add("payloads", status, f"{here} of {seen} {where}")
        if evidence.erased:
            shown = "; ".join(item.text() for item in evidence.erased[:_MAX_ERASED])
            more = (
                f"; and {len(evidence.erased) - _MAX_ERASED} more"
                if len(evidence.erased) > _MAX_ERASED
                else ""
            )
            self._add("erased", "--", f"{len(evidence.erased)} erased on purpose: {shown}{more}")
        if let_go:
            shown = ", ".join(f"{count} {cls}" for cls, count in sorted(evidence.pruned.items()))
            self._add("let go", "--", f"past their time, as the record says: {shown}")

    def check_open(self, is_live: Callable[[RunId], bool]) -> None:
        """Say which runs have not ended."""
        report, only = self._report, self._evidence.run
        for run in self._reading.rules.open_runs():
            if only not in (None, run):
                continue
            if is_live(run):
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

    def set_level(self) -> None:
        """Say how much is known, and whether that is as much as was asked for."""
        report = self._report
        whole = report.checks and report.checks[0].status == "ok"
        if whole and report.broken_at is None:
            report.level = self._level()
        required = report.required
        if required is None:
            return
        if report.level is None or report.level < required:
            reached = "none" if report.level is None else report.level.label
            why = f"{required.label} is required, and {reached} is reached"
            report.findings.append(Finding("level", why, error_id="AG0282"))
            return
        reach = {Level.WITNESSED: report.witnessed, Level.TIMESTAMPED: report.timestamped}
        covered = min([size for level, size in reach.items() if level <= required], default=report.entries)
        if covered < report.entries:
            why = f"{required.label} is required, and entries {covered}-{report.entries - 1} are not"
            report.findings.append(Finding("level", why, covered, error_id="AG0282"))

    def _level(self) -> Level:
        report, pin = self._report, self._trust.pin
        if report.structure_only:
            return Level.CHAIN
        if any(found.code in ("other-key", "unknown-key", "revoked") for found in report.findings):
            return Level.SIGNED
        if not report.sealed:
            return Level.SIGNED
        if not report.witnessed:
            return Level.CHECKPOINT if pin is None else Level.PINNED
        return Level.TIMESTAMPED if report.timestamped else Level.WITNESSED
