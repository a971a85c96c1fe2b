"""What the entries point at: snapshots and base commits, payloads, and the lines that changed.

Rules this module keeps:
    * Missing is counted and said, never taken for good; whether it is a fault depends on what this clone is
      expected to hold.
    * A payload that is there must be the one committed to.
    * Coverage is a ratio of counted lines, or unknown; it is never estimated.
    * Memory is bounded: objects are asked for in batches, and only counts and first places are kept.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.ids import RunId
from agentgov.ledger.bodies import STEPS
from agentgov.ledger.entry import Entry
from agentgov.ledger.payloads import Payload
from agentgov.ledger.verify_report import Coverage, Finding

FindMissing = Callable[[Iterable[str]], set[str]]
"""Takes object ids and returns those that are not there."""

ALL_CLASSES: Final = frozenset({"changes", "args", "output", "patch"})
_BATCH: Final = 4096
_OBJECTS: Final[dict[str, tuple[str, ...]]] = {
    "run.start": ("base", "tree"),
    "result.bind": ("base", "result"),
    "run.rollback": ("tree", "target"),
    "run.apply": ("saved", "result"),
    **{kind: ("tree",) for kind in STEPS if kind != "run.rollback"},
}
_PAYLOADS: Final[dict[str, tuple[tuple[str, str], ...]]] = {
    "policy.adopted": (("text", "args"),),
    "run.start": (("intent", "changes"), ("start", "args")),
    "actor.seen": (("who", "args"),),
    "call.request": (("args", "args"), ("changes", "changes")),
    "call.result": (("output", "output"), ("changes", "changes")),
    "change.unattributed": (("changes", "changes"),),
    "run.end": (("changes", "changes"),),
    "run.rollback": (("changes", "changes"),),
    "result.bind": (("problems", "args"),),
    "approval.given": (("message", "args"),),
    "promote.intent": (("target", "args"),),
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
class Evidence:
    """Looks at what the entries of the runs in question point at.

    Attributes:
        objects: Finds missing objects; None when they are not to be looked at.
        payloads: Finds payloads; None when they are not to be looked at.
        expected: The classes of payloads that this clone must hold.
        run: Only this run is looked at; all when None.
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
    _gaps: dict[str, _Gap] = field(default_factory=dict)
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
            for name, cls in _PAYLOADS.get(entry.kind, ()):
                if entry.body[name] is not None:
                    self._look(entry, name, cls, entry.body[name])

    def finish(self) -> None:
        """Ask for what is left, and turn gaps into findings."""
        self._ask()
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
            self._gap(cls, entry.seq, entry.run)
        if name == "changes" and entry.kind != "run.rollback":
            self._count(entry, payload)

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
