"""Which stored content is past its time: a pure reading of the record.

Rules this module keeps:
    * The chain itself is never pruned: no entry, no signature, no signed head.
    * Age is the time that the entry says which commits to the payload. A run's payloads of a class go in the
      order of their entries: a younger one keeps those after it.
    * What is gone already is not counted again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Final

from agentgov.config import RetentionTable
from agentgov.ids import RunId
from agentgov.ledger.commitments import Commitment, commitments_of, tombstones_of
from agentgov.ledger.entry import Draft, Entry

DAY_US: Final = 86_400 * 1_000_000
CLASSES: Final = ("args", "output", "patch", "changes")


@dataclass(frozen=True, slots=True)
class Due:
    """The payloads of one class of one run that are past their time.

    Attributes:
        run: The run.
        cls: The class.
        before: Every payload of them is committed to below this number of the record, and none that stays.
        oldest_us: The time of the first entry that commits to one.
        digests: Their commitments.
    """

    run: RunId
    cls: str
    before: int
    oldest_us: int
    digests: tuple[str, ...]

    def tombstone(self, cause: str) -> Draft:
        """Return the entry that says that they are gone; `cause` is ``retention`` or ``operator``."""
        body = {"before": self.before, "cause": cause, "class": self.cls, "count": len(self.digests)}
        return Draft("payload.pruned", self.run, body)


def cutoffs_of(table: RetentionTable, now_us: int) -> dict[str, int]:
    """Return the time before which each class is past its time; a class that is kept for ever is left out."""
    days = {
        "args": table.args_days,
        "changes": table.changes_days,
        "output": table.output_days,
        "patch": table.patch_days,
    }
    return {cls: now_us - count * DAY_US for cls, count in days.items() if count}


def cutoffs_at(classes: Collection[str], older_than_days: int, now_us: int) -> dict[str, int]:
    """Return one time for each of these classes."""
    return dict.fromkeys(classes, now_us - older_than_days * DAY_US)


def find_due(
    entries: Callable[[], Iterable[Entry]],
    cutoffs: Mapping[str, int],
    keep: Callable[[RunId, str], bool] = lambda run, cls: False,
) -> list[Due]:
    """Return what is past its time, by the order of the runs.

    Args:
        entries: Gives the entries of the record and of those it continues, the oldest first; called twice.
        cutoffs: By class, the time in microseconds before which a payload is past its time.
        keep: Whether a run's payloads of a class are to stay all the same.
    """
    said = tombstones_of(entries())
    due: dict[tuple[RunId, str], list[Commitment]] = {}
    stays: dict[tuple[RunId, str], Commitment] = {}
    current = ""
    for entry in entries():
        current = entry.log
        for item in commitments_of(entry):
            place = (item.run, item.cls)
            if item.cls not in cutoffs or place in stays or said.is_gone(item):
                continue
            if item.ts >= cutoffs[item.cls]:
                stays[place] = item
            else:
                due.setdefault(place, []).append(item)
    found = []
    for (run, cls), items in due.items():
        first = stays.get((run, cls))
        if keep(run, cls) or (first is not None and first.log != current):
            # A number of this record cannot part what an earlier one holds: it waits for the rest.
            continue
        # Below 1 stands what earlier records commit to; entry 0 commits to nothing.
        before = max(1, *(item.seq + 1 for item in items if item.log == current), 1)
        digests = tuple(item.digest for item in items)
        found.append(Due(run, cls, before, items[0].ts, digests))
    return found
