"""Which payloads an entry commits to, and what the record itself says of those that are gone.

Rules this module keeps:
    * No I/O: a pure reading of entries.
    * A payload counts as gone on purpose only when a signed tombstone says so: ``payload.erased`` names one
      by its commitment, ``payload.pruned`` all of a class of a run that entries below a number commit to.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

from agentgov.ids import RunId
from agentgov.ledger.entry import Entry

COMMITTED: Final[dict[str, tuple[tuple[str, str, str], ...]]] = {
    "policy.adopted": (("text", "args", "text"),),
    "run.start": (("intent", "changes", "intent"), ("start", "args", "start")),
    "actor.seen": (("who", "args", "who"),),
    "call.request": (("args", "args", "args"), ("changes", "changes", "changes")),
    "call.result": (("output", "output", "output"), ("changes", "changes", "changes")),
    "change.unattributed": (("changes", "changes", "changes"),),
    "run.end": (("changes", "changes", "changes"),),
    "run.rollback": (("changes", "changes", "changes"),),
    "result.bind": (("problems", "args", "text"),),
    "approval.given": (("message", "args", "message"),),
    "promote.intent": (("target", "args", "target"),),
    "payload.erased": (("reason", "args", "reason"),),
}
"""By kind of entry: the key in its body, the payload's class and the payload's field."""


@dataclass(frozen=True, slots=True)
class Commitment:
    """One payload as an entry commits to it.

    Attributes:
        log: The origin of the record that holds the entry.
        seq: The entry's number.
        ts: The entry's time, in microseconds.
        run: The run.
        n: The call, if the entry is a call's.
        cls: The payload's class.
        field: The payload's field.
        digest: The commitment.
    """

    log: str
    seq: int
    ts: int
    run: RunId
    n: int | None
    cls: str
    field: str
    digest: str


def commitments_of(entry: Entry) -> Iterator[Commitment]:
    """Return the payloads that an entry commits to; none for an entry outside of a run."""
    if entry.run is None:
        return
    for key, cls, name in COMMITTED.get(entry.kind, ()):
        digest = entry.body[key]
        if digest is not None:
            yield Commitment(
                entry.log, entry.seq, entry.ts, entry.run, entry.body.get("n"), cls, name, digest
            )


@dataclass(slots=True)
class Tombstones:
    """What a record, and those it continues, say is gone on purpose.

    Attributes:
        erased: The tombstone of each payload that was erased alone, by its run and commitment.
        pruned: By run and class: the record and the number below which all is gone.
    """

    erased: dict[tuple[RunId, str], Entry] = field(default_factory=dict)
    pruned: dict[tuple[RunId, str], list[tuple[str, int]]] = field(default_factory=dict)
    _logs: dict[str, int] = field(default_factory=dict)

    def add(self, entry: Entry) -> None:
        """Take one more entry in; records come one after the other, the oldest first."""
        self._logs.setdefault(entry.log, len(self._logs))
        if entry.kind == "payload.erased" and entry.run is not None:
            self.erased.setdefault((entry.run, entry.body["commitment"]), entry)
        elif entry.kind == "payload.pruned" and entry.run is not None:
            marks = self.pruned.setdefault((entry.run, entry.body["class"]), [])
            # What comes after a tombstone cannot have been gone when it was written.
            marks.append((entry.log, min(entry.body["before"], entry.seq)))

    def is_gone(self, item: Commitment) -> bool:
        """Whether a tombstone says that this payload is gone; one in a later record covers earlier ones."""
        if (item.run, item.digest) in self.erased:
            return True
        place = (self._logs[item.log], item.seq)
        return any(
            place < (self._logs[log], before) for log, before in self.pruned.get((item.run, item.cls), ())
        )


def tombstones_of(entries: Iterable[Entry]) -> Tombstones:
    """Return what `entries` say is gone on purpose."""
    tombstones = Tombstones()
    for entry in entries:
        tombstones.add(entry)
    return tombstones
