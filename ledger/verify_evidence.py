"""What the entries point at: snapshots and base commits, payloads, and the lines that changed.

Rules this module keeps:
    * What a signed entry says was erased or let go is gone on purpose: it is shown, and no fault. Any other
      gap is counted and said, never taken for good; whether it is a fault depends on what this clone is
      expected to hold.
    * A payload that is there must be the one committed to.
    * Coverage is a ratio of counted lines, or unknown; it is never estimated.
    * Memory is bounded: objects are asked for in batches, and only counts and first places are kept.
"""

from __future__ import annotations

import json
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.ids import RunId
from agentgov.ledger.bodies import STEPS
from agentgov.ledger.commitments import COMMITTED
from agentgov.ledger.entry import Entry
from agentgov.ledger.payloads import Payload
from agentgov.ledger.verify_report import Coverage, Finding

FindMissing = Callable[[Iterable[str]], set[str]]
"""Takes object ids and returns those that are not there."""

ALL_CLASSES: Final = frozenset({"changes", "args", "output", "patch"})
_BATCH: Final = 4096
_MAX_REASON_BYTES: Final = 200
_OBJECTS: Final[dict[str, tuple[str, ...]]] = {
    "run.start": ("base", "tree"),
    "result.bind": ("base", "result"),
    "run.rollback": ("tree", "target"),
    "run.apply": ("saved", "result"),
    **{kind: ("tree",) for kind in STEPS if kind != "run.rollback"},
}


class Payloads(Protocol):
    """Where payloads are looked up; `PayloadStore` is one."""

    def get(self, run: RunId, digest: str, /) -> Payload | None:
        """Return the payload, None when it is not there; raise BrokenRecordError when it is another one."""
        ...


@dataclass(slots=True)
class _Gap:
    count: int
    seq: int
    run: RunId | None


@dataclass(slots=True)
class _Absent:
    """Payloads of one class of one run that are not here: entry numbers and beginnings of commitments."""

    seqs: array[int] = field(default_factory=lambda: array("Q"))
    tags: array[int] = field(default_factory=lambda: array("Q"))


@dataclass(frozen=True, slots=True)
class Erased:
    """A payload that was destroyed on purpose, as a signed entry says.

    Attributes:
        run: The run.
        entry: The number of the entry that commits to it.
        field: Which of its payloads.
        reason: Why, in the eraser's words; None when that is not here or was not said.
    """

    run: RunId
    entry: int
    field: str
    reason: str | None

    def text(self) -> str:
        """Return it as a phrase."""
        return f"{self.field} of entry {self.entry}" + (f" ({self.reason})" if self.reason else "")


@dataclass(slots=True)
class Evidence:
    """Looks at what the entries of the runs in question point at.

    Attributes:
        objects: Finds missing objects; None when they are not to be looked at.
        payloads: Finds payloads; None when they are not to be looked at.
        expected: The classes of payloads that this clone must hold.
        run: Only this run is looked at; all when None.
        erased: Payloads destroyed on purpose.
        erased_seen: How many of them were looked for and are gone.
        pruned: How many of each class were let go when their time was over.
        notes: What is odd about them.
    """

    objects: FindMissing | None
    payloads: Payloads | None
    expected: frozenset[str] = ALL_CLASSES
    run: RunId | None = None
    coverage: Coverage = field(default_factory=Coverage)
    missing: dict[str, int] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    objects_seen: int = 0
    payloads_seen: int = 0
    erased_seen: int = 0
    erased: list[Erased] = field(default_factory=list)
    pruned: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    _gaps: dict[str, _Gap] = field(default_factory=dict)
    _absent: dict[tuple[RunId, str], _Absent] = field(default_factory=dict)
    _erased_tags: dict[RunId, set[int]] = field(default_factory=dict)
    _pruned_before: dict[tuple[RunId, str], int] = field(default_factory=dict)
    _waiting: dict[str, tuple[int, RunId | None]] = field(default_factory=dict)

    @property
    def is_looking(self) -> bool:
        """Whether anything is looked at besides the entries themselves."""
        return self.objects is not None or self.payloads is not None

    def note(self, entry: Entry) -> None:
        """Look at what an entry, whose own form and signature hold, points at."""
        if entry.run is None or self.run not in (None, entry.run):
            return
        if self.objects is not None:
            for name in _OBJECTS.get(entry.kind, ()):
                self._waiting.setdefault(entry.body[name], (entry.seq, entry.run))
            if len(self._waiting) >= _BATCH:
                self._ask()
        if self.payloads is not None:
            for name, cls, _ in COMMITTED.get(entry.kind, ()):
                if entry.body[name] is not None:
                    self._look(entry, name, cls, entry.body[name])
            if entry.kind == "payload.erased":
                self._note_erased(entry, entry.run)
            elif entry.kind == "payload.pruned":
                place = (entry.run, entry.body["class"])
                # What comes after a tombstone cannot have been gone when it was written.
                before = min(entry.body["before"], entry.seq)
                self._pruned_before[place] = max(self._pruned_before.get(place, 0), before)

    def finish(self) -> None:
        """Ask for what is left, and turn gaps into findings."""
        self._ask()
        for (run, cls), absent in self._absent.items():
            before = self._pruned_before.get((run, cls), 0)
            tags = self._erased_tags.get(run, set())
            for seq, tag in zip(absent.seqs, absent.tags, strict=True):
                if tag in tags:
                    self.erased_seen += 1
                    continue
                if seq < before:
                    self.pruned[cls] = self.pruned.get(cls, 0) + 1
                else:
                    self._gap(cls, seq, run)
        for what, gap in self._gaps.items():
            self.missing[what] = gap.count
            if what == "objects" or what in self.expected:
                noun = "snapshots or commits" if what == "objects" else f"payloads ({what})"
                self.findings.append(
                    Finding(
                        "missing", f"{gap.count} {noun} are not here", gap.seq, gap.run, error_id="AG0274"
                    )
                )

    def _ask(self) -> None:
        if self.objects is None or not self._waiting:
            return
        self.objects_seen += len(self._waiting)
        for oid in sorted(self.objects(list(self._waiting)), key=lambda oid: self._waiting[oid]):
            self._gap("objects", *self._waiting[oid])
        self._waiting.clear()

    def _look(self, entry: Entry, name: str, cls: str, digest: str) -> None:
        if self.payloads is None or entry.run is None:
            return
        self.payloads_seen += 1
        payload: Payload | None = None
        try:
            payload = self.payloads.get(entry.run, digest)
        except BrokenRecordError as error:
            call = entry.body.get("n")
            self.findings.append(
                Finding("payload", f"{name}: {error.message}", entry.seq, entry.run, call, error.id)
            )
        except IncompleteError:
            payload = None
        if payload is None:
            absent = self._absent.setdefault((entry.run, cls), _Absent())
            absent.seqs.append(entry.seq)
            absent.tags.append(_tag(digest))
        if name == "changes" and entry.kind != "run.rollback":
            self._count(entry, payload)

    def _note_erased(self, entry: Entry, run: RunId) -> None:
        """Take note of a tombstone; that what it names is really gone is looked at too."""
        body = entry.body
        self._erased_tags.setdefault(run, set()).add(_tag(body["commitment"]))
        why = self._get(run, body["reason"]) if body["reason"] is not None else None
        reason = None if why is None else why.value[:_MAX_REASON_BYTES].decode("utf-8", "replace")
        self.erased.append(Erased(run, body["entry"], body["field"], reason))
        if self._get(run, body["commitment"]) is not None:
            what = f"{body['field']} of entry {body['entry']} (run {run})"
            self.notes.append(f"{what} is said to be erased by entry {entry.seq}, and is still here")

    def _get(self, run: RunId, digest: str) -> Payload | None:
        try:
            return None if self.payloads is None else self.payloads.get(run, digest)
        except (BrokenRecordError, IncompleteError):
            return None

    def _count(self, entry: Entry, payload: Payload | None) -> None:
        try:
            counts = None if payload is None else count_lines(payload.value)
        except BrokenRecordError:
            counts = None
        if counts is None:
            self.coverage.unknown += 1
            return
        lines, named = counts
        self.coverage.lines += lines
        if entry.body["open"]:
            self.coverage.with_call += lines
            if len(entry.body["open"]) > 1:
                self.coverage.shared += lines - named

    def _gap(self, what: str, seq: int, run: RunId | None) -> None:
        gap = self._gaps.setdefault(what, _Gap(0, seq, run))
        gap.count += 1


def _tag(digest: str) -> int:
    """The first 64 bits of a commitment: nobody who writes a tombstone can choose another's."""
    return int(digest[:16], 16)


def count_lines(raw_changes: bytes) -> tuple[int, int]:
    """Return how many lines a list of changes names, and how many of them it gives to a call by path.

    A file without a line map (binary, mode, link) counts as one line.

    Raises:
        BrokenRecordError: AG0275, when it is not a list of changes of a version known here.
    """
    lines = named = 0
    try:
        value: Any = json.loads(raw_changes)
        if value["v"] != 1:
            raise ValueError
        for file in value["files"]:
            hunks = file["hunks"]
            count = 1 if not hunks else sum(_count_of(hunk[1]) + _count_of(hunk[3]) for hunk in hunks)
            lines += count
            named += count if len(file.get("calls") or ()) > 0 else 0
    except (ValueError, TypeError, KeyError, IndexError, RecursionError):
        raise BrokenRecordError("a list of changes that cannot be read", id="AG0275") from None
    return lines, named


def _count_of(value: object) -> int:
    if type(value) is not int or value < 0:
        raise ValueError
    return value
