"""What a verification says: checks, findings, a level, and the exit code that follows from them.

Rules this module keeps:
    * There is no bare "valid": a level is always given with what was not checked and with the part that
      nobody else has seen.
    * Exit codes: 12 what is there is not what was signed; 13 an unknown or another key; 3 something needed is
      missing, an open run has nobody who records it, or a required level is not reached; 0 otherwise. The
      gravest counts.
    * Entries are numbered from 0, as in the record.
"""

from __future__ import annotations

import textwrap
from dataclasses import dataclass, field
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final, Literal

from agentgov.errors import ExitCode, UsageError
from agentgov.ids import RunId

if TYPE_CHECKING:
    from agentgov.ledger.verify_resume import Resume

JSON_VERSION: Final = 1

Status = Literal["ok", "--", "open", "incomplete", "broken", "untrusted"]
Code = Literal[
    "line",  # not an entry in its only spelling
    "order",  # not the entry that follows
    "other-log",  # an entry of another record
    "signature",  # not signed by the key it names
    "key",  # signed by a key that may not sign it
    "snapshots",  # trees that do not fit together
    "calls",  # a story of calls that cannot be
    "seal",  # checkpoint, proof or form of a sealed part
    "object",  # a git object that is not what its name says
    "sealed-differs",  # unsealed bytes differ from the sealed ones
    "shorter",  # entries seen before are missing
    "rewritten",  # entries seen before are others now
    "fork",  # another copy of this record went on differently
    "earlier",  # the record it says it continues has another head
    "record-gone",  # there was a record, and there is none
    "other-record",  # another record stands in its place
    "other-key",  # another log key than the one known
    "unknown-key",  # a log key nobody here knows
    "revoked",  # vouched for, or approved, by somebody whose keys were revoked before
    "newer",  # a kind of entry that only a later version knows
    "payload",  # a payload that is not what was committed to
    "missing",  # an object or a payload that is not there
    "torn",  # half a line at the end
    "unfinished",  # an open run that nobody records any more
    "level",  # less than what was required
]


class Level(IntEnum):
    """How much is known about a record; each level includes those below."""

    CHAIN = 0
    SIGNED = 1
    CHECKPOINT = 2
    PINNED = 3
    WITNESSED = 4
    TIMESTAMPED = 5

    @property
    def label(self) -> str:
        """The name on screens."""
        return _LABELS[self]


_LABELS: Final = {
    Level.CHAIN: "chained",
    Level.SIGNED: "signed",
    Level.CHECKPOINT: "saved",
    Level.PINNED: "pinned",
    Level.WITNESSED: "witnessed",
    Level.TIMESTAMPED: "timestamped",
}


def parse_level(raw_level: str) -> Level:
    """Return the level named `raw_level`: ``witnessed``, ``L4`` or ``4``.

    Raises:
        UsageError: AG0273, when there is no such level.
    """
    name = raw_level.lower()
    for level in Level:
        if name in (level.label, level.name.lower(), f"l{level.value}", str(level.value)):
            return level
    names = ", ".join(level.label for level in Level)
    raise UsageError(f"there is no level {raw_level!a}", id="AG0273", hint=f"one of: {names}")


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is wrong or missing.

    Attributes:
        code: What kind of thing.
        why: What it is, for a person.
        seq: The entry's place, if it is about one.
        run: The run the entry names. Where the line itself is wrong, this is only what it claims.
        call: The call the entry names, likewise.
        error_id: The id of the error behind it.
    """

    code: Code
    why: str
    seq: int | None = None
    run: RunId | None = None
    call: int | None = None
    error_id: str | None = None

    def place(self) -> str:
        """Return `entry 207 (run 5bd0a, call 31)`, as far as it is known."""
        if self.seq is None:
            return "the record" if self.run is None else f"run {self.run}"
        inner = [f"run {self.run}"] if self.run is not None else []
        inner += [f"call {self.call}"] if self.call is not None else []
        return f"entry {self.seq} ({', '.join(inner)})" if inner else f"entry {self.seq}"

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands in a report."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report."""

    name: str
    status: Status
    text: str


@dataclass(slots=True)
class Coverage:
    """How many changed lines belong to a call.

    Attributes:
        lines: All changed lines, added and removed; a binary change counts as one.
        with_call: Those of steps during which at least one call was open.
        shared: Those of them where several calls were open and none could be named.
        unknown: Steps whose list of changes is not at hand.
    """

    lines: int = 0
    with_call: int = 0
    shared: int = 0
    unknown: int = 0

    def text(self) -> str:
        """Return it as a phrase."""
        if self.unknown:
            lists = "1 list of changes is" if self.unknown == 1 else f"{self.unknown} lists of changes are"
            return f"unknown how many lines have a call: {lists} not here"
        if not self.lines:
            return "no line was changed"
        percent = 100 if self.with_call == self.lines else min(99, 100 * self.with_call // self.lines)
        return f"{percent} % of lines have a call"

    def to_json(self) -> dict[str, Any]:
        """Return the object that stands in a report."""
        return {name: getattr(self, name) for name in self.__slots__}


@dataclass(slots=True)
class Head:
    """The end of what holds, from which a pin is made."""

    log: str
    public_key: str
    size: int
    root: str
    leaf: str


@dataclass(slots=True)
class Report:
    """The outcome of one verification.

    Attributes:
        checks: One line each, in a fixed order.
        findings: What is wrong or missing, the first broken entry first.
        level: What was reached; None when the record is broken or there is none.
        required: What was asked for.
        entries: How many entries were read and hold.
        sealed: How many of them are sealed.
        witnessed: How many of them enough witnesses have seen.
        timestamped: How many of them an outside authority has stamped.
        head: The end of what holds; None when nothing does.
        coverage: Changed lines that belong to a call.
        open_runs: Open runs that somebody records.
        missing: Objects and payloads that are not there, by class.
        erased: Payloads destroyed on purpose, in words.
        pruned: How many payloads of each class were let go, as the record says.
        notes: Facts that are no fault.
        structure_only: Whether signatures were left unchecked.
        read_from: The first entry that was read; those before were verified another time.
        reached: The place that a later verification may go on from.
    """

    checks: list[Check] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)
    level: Level | None = None
    required: Level | None = None
    entries: int = 0
    sealed: int = 0
    witnessed: int = 0
    timestamped: int = 0
    head: Head | None = None
    coverage: Coverage = field(default_factory=Coverage)
    open_runs: list[RunId] = field(default_factory=list)
    missing: dict[str, int] = field(default_factory=dict)
    erased: list[str] = field(default_factory=list)
    pruned: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    structure_only: bool = False
    read_from: int = 0
    reached: Resume | None = None

    @property
    def broken_at(self) -> Finding | None:
        """The first broken entry or part."""
        return next((found for found in self.findings if _exit_of(found) is ExitCode.BROKEN), None)

    @property
    def exit_code(self) -> ExitCode:
        """What the command exits with."""
        codes = {_exit_of(found) for found in self.findings}
        for code in (ExitCode.BROKEN, ExitCode.UNTRUSTED, ExitCode.INCOMPLETE):
            if code in codes:
                return code
        return ExitCode.OK

    def headline(self) -> str:
        """Return the answer in one line."""
        broken = self.broken_at
        if broken is not None:
            at = "" if broken.seq is None and broken.run is None else f" at {broken.place()}"
            return f"BROKEN{at}: {broken.why}"
        if self.exit_code is ExitCode.UNTRUSTED:
            return f"UNKNOWN SIGNER: {self._first(ExitCode.UNTRUSTED)}"
        if any(found.code in ("unfinished", "torn") for found in self.findings):
            return f"OPEN: {self._first(ExitCode.INCOMPLETE)}"
        if self.exit_code is ExitCode.INCOMPLETE:
            return f"INCOMPLETE: {self._first(ExitCode.INCOMPLETE)}"
        if self.structure_only:
            return "The structure holds. Signatures were not checked."
        witness = "No outside witness yet."
        if self.witnessed:
            rest = "" if self.witnessed >= self.entries else f" up to entry {self.witnessed - 1}"
            witness = f"Witnessed{rest}."
        return f"Unchanged, signed and complete as far as this machine can tell. {witness}"

    def holds(self) -> str | None:
        """Return which entries still hold, when the record is broken."""
        if self.broken_at is None:
            return None
        if not self.entries:
            return "no entry can be relied on"
        last = self.entries - 1
        if any(check.name == "chain" and check.status == "ok" for check in self.checks):
            # It is not what was seen before or elsewhere: a copy cannot tell by itself which one is right.
            return (
                f"entries 0-{last} fit together, and are not, or not all, what was seen before or elsewhere"
            )
        return f"entries 0-{last} hold; nothing after {last} can be relied on"

    def to_json(self) -> dict[str, Any]:
        """Return the report as a versioned object."""
        broken = self.broken_at
        return {
            "v": JSON_VERSION,
            "ok": self.exit_code is ExitCode.OK,
            "exit_code": int(self.exit_code),
            "level": None if self.level is None else {"n": int(self.level), "name": self.level.label},
            "required": None if self.required is None else self.required.label,
            "entries": self.entries,
            "read_from": self.read_from,
            "sealed": self.sealed,
            "witnessed": self.witnessed,
            "timestamped": self.timestamped,
            "tail": {
                "unsealed": self.entries - self.sealed,
                "unwitnessed": self.entries - self.witnessed,
                "untimestamped": self.entries - self.timestamped,
            },
            "not_checked": [check.name for check in self.checks if check.status == "--"],
            "head": None if self.head is None else {k: getattr(self.head, k) for k in self.head.__slots__},
            "checks": [{"name": c.name, "status": c.status, "text": c.text} for c in self.checks],
            "broken_at": None if broken is None else broken.to_json(),
            "findings": [found.to_json() for found in self.findings],
            "coverage": self.coverage.to_json(),
            "missing": dict(self.missing),
            "gone_on_purpose": {"erased": list(self.erased), "pruned": dict(self.pruned)},
            "open_runs": list(self.open_runs),
            "notes": list(self.notes),
        }

    def _first(self, code: ExitCode) -> str:
        found = next(found for found in self.findings if _exit_of(found) is code)
        return (
            f"{found.place()}: {found.why}" if found.seq is not None or found.run is not None else found.why
        )


def _exit_of(finding: Finding) -> ExitCode:
    if finding.code in ("other-key", "unknown-key", "revoked"):
        return ExitCode.UNTRUSTED
    if finding.code in ("missing", "torn", "unfinished", "level", "newer"):
        return ExitCode.INCOMPLETE
    return ExitCode.BROKEN


_INDENT: Final = " " * 11
_EXPLAINED: Final = {
    "chain": (
        "Each entry holds the SHA-256 of the one before it, and its own number. Nobody who cannot "
        "compute collisions can take one out, put one in, or change one, and keep the rest."
    ),
    "signer": (
        "A person's SSH key can sign that this record's key is theirs; agentgov approve does it once. Until "
        "then the first key seen on this machine is trusted, because there is nobody to ask."
    ),
    "signatures": (
        "Each entry is signed with Ed25519, by this clone's log key or by a key that it delegated to "
        "one run. Someone who holds the log key could still write the whole record anew: only a pin "
        "and a witness show that."
    ),
    "saved": (
        "Parts of the record lie sealed in git, each with a signed size and Merkle root and the proof "
        "of its last entry. After a seal every run's key must be replaced, so that one stolen later "
        "signs nothing before it."
    ),
    "not older": (
        "This machine remembers the last size and root that it saw, outside the repository. A record "
        "that was cut, restored from an earlier state or rewritten does not fit them."
    ),
    "calls": (
        "Requests, verdicts, answers and results tell one possible story: nothing denied has a result."
    ),
    "files": (
        "Each step begins with the files that the step before it left. What changed while no call was "
        "open is nobody's; what changed while several were is theirs together."
    ),
    "objects": ("The snapshots and base commits that the entries name are there."),
    "payloads": (
        "Arguments, outputs and lists of changes are not in the record, only commitments to them. "
        "Those at hand were checked against their commitments; of the others only that they existed "
        "is known."
    ),
    "approvals": "Each approval was signed by a person's SSH key over exactly what it approves.",
    "erased": "The record says, signed, that these were destroyed; that they existed is all that is known.",
    "let go": "The record says, signed, that content past its time was let go; the chain stays whole.",
    "continues": "A moved clone or a new key begins a new record, which names the end of the one before.",
    "copies": "Another copy of this record, or a head taken from one, says the same as far as it goes.",
    "before": "An earlier verification on this machine read these, and remembered what it knew there.",
    "witness": (
        "A witness signs a head only after it has seen that the record grew from the one it signed before. "
        "Entries that none has seen could be replaced by whoever holds the record's key."
    ),
    "time": (
        "Times in entries are what this machine's clock said, and no evidence of order; the numbers are. A "
        "time stamp of an outside authority shows that the entries below it existed by then."
    ),
    "open": (
        "A run that has not ended may still write. If nobody records it, entries may have been cut off."
    ),
}


def explain(report: Report) -> str:
    """Return the whole text: the answer, each check with what it means, and what was not checked."""
    lines = [report.headline()]
    held = report.holds()
    if held is not None:
        lines.append(held)
    for check in report.checks:
        lines += ["", f"{check.status:<10} {check.name}: {check.text}"]
        if check.name in _EXPLAINED:
            lines += textwrap.wrap(
                _EXPLAINED[check.name], 100, initial_indent=_INDENT, subsequent_indent=_INDENT
            )
    if report.findings:
        lines += ["", "Found:"]
        lines += [f"  {found.code}: {found.place()}: {found.why}" for found in report.findings]
    lines += [f"note: {note}" for note in report.notes]
    level = "none" if report.level is None else f"{int(report.level)} ({report.level.label})"
    unsealed, unseen = report.entries - report.sealed, report.entries - report.witnessed
    lines += [
        "",
        f"level {level} of {len(Level) - 1}; {report.entries} entries",
        f"{unsealed} of them not saved in git yet, {unseen} seen by nobody else",
    ]
    return "\n".join(lines) + "\n"
