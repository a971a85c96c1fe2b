"""How often a record is read: once quickly, and once more, one by one, when something does not hold.

Rules this module keeps:
    * A quick pass only ever says that all holds; which entry is the first that does not is for the exact one.
    * What an earlier verification remembered is used when all of it fits; with any doubt the record is read
      from its first entry.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass

from agentgov.errors import BrokenRecordError, IncompleteError
from agentgov.ledger.verify_evidence import Evidence
from agentgov.ledger.verify_quick import QuickReading
from agentgov.ledger.verify_reading import Progress, Reading
from agentgov.ledger.verify_report import Finding
from agentgov.ledger.verify_resume import Resume, capture, restore
from agentgov.ledger.verify_signatures import Helpers, Nothing
from agentgov.ledger.verify_source import RawTail, RecordSource, ResumableSource


@dataclass(frozen=True, slots=True)
class Passes:
    """What reading came to.

    Attributes:
        reading: What is known at the end.
        evidence: What the entries that were read point at.
        stopped: The first thing that does not hold; None when all does.
        resumed: The place that reading went on from; None when it began at the first entry.
        reached: The last seal's place, to go on from another time; None when there is no new one.
    """

    reading: Reading
    evidence: Evidence
    stopped: Finding | None
    resumed: Resume | None
    reached: Resume | None


def read_record(
    source: RecordSource,
    tail: RawTail,
    new_evidence: Callable[[], Evidence],
    sizes: frozenset[int],
    *,
    progress: Progress | None,
    structure: bool,
    jobs: int,
    since: Resume | None,
) -> Passes:
    """Read a record.

    Args:
        source: Where it lies.
        tail: What is not sealed, read before.
        new_evidence: Makes what takes note of what entries point at.
        sizes: Sizes at which the root is needed.
        progress: Called now and then.
        structure: Leave signatures unchecked.
        jobs: How many processes check signatures.
        since: Where an earlier verification ended.

    Raises:
        AgentgovError: AG0447, when a process that checks signatures is gone; others, when the repository
            cannot be read.
    """
    known = since if since is not None and not structure and _knows(since, tail, sizes) else None
    for resumed in (known, None) if known is not None else (None,):
        evidence, reached = new_evidence(), list[Resume]()
        with contextlib.closing(Nothing() if structure else Helpers(jobs)) as checker:
            quick = QuickReading(source, evidence, checker, sizes, progress, with_signatures=not structure)
            quick.at_seal = lambda reading, commit, reached=reached: reached.append(capture(reading, commit))
            if _holds(quick, tail, resumed):
                last = reached[-1] if reached and not structure else None
                return Passes(quick, evidence, None, resumed, last)
    evidence = new_evidence()
    exact = Reading(source, evidence, sizes, with_signatures=not structure, signed=quick.signed)
    return Passes(exact, evidence, exact.read(tail), None, None)


def _holds(quick: QuickReading, tail: RawTail, resumed: Resume | None) -> bool:
    source = quick.source
    if not isinstance(source, ResumableSource):
        return resumed is None and quick.holds(tail)
    # Each seal's entries are compared with the signed head over them; git's own hash adds nothing to that.
    if resumed is None:
        return quick.holds(tail, source.seals(hashed=False))
    try:
        restore(quick, resumed, source.seal(resumed.seal))
    except (BrokenRecordError, IncompleteError):
        return False
    return quick.holds(tail, source.seals(after=resumed.seal, hashed=False))


def _knows(since: Resume, tail: RawTail, sizes: frozenset[int]) -> bool:
    """Whether nothing before the place that is remembered has to be looked at again."""
    asked = (size for size in sizes if size <= since.size)
    left = (record.seq for record in tail.records)
    return all(size in since.heads for size in asked) and all(seq >= since.size for seq in left)
