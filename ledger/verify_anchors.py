"""Compares a record with what was seen of it before: frozen heads, witnesses, time stamps, other copies.

Rules this module keeps:
    * A record agrees with a head when its own root over as many entries is the same. Shorter is cut, another
      root is rewritten; against another copy of the record it is a fork.
    * The parts of a record that agree with a smaller head hold: what is named broken begins above it.
    * Entries below a size are witnessed when the witnesses who saw at least so many are a quorum; without a
      quorum any one witness is enough.
    * Heads come verified: whose signature or stamp is on them was checked by whoever made the `Anchor`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Final

from agentgov.ledger.anchors import Anchor
from agentgov.ledger.merkle import EMPTY_ROOT
from agentgov.ledger.pins import Pin
from agentgov.ledger.revocation import FrozenHead
from agentgov.ledger.verify_report import Check, Code, Finding

Quorum = Callable[[frozenset[str]], bool]
"""Tells whether these witnesses, by name, are enough."""

_SEEN_BY: Final[dict[str, str]] = {
    "witness": "the witness {}",
    "timestamp": "the time stamp of {}",
    "copy": "{}",
}


def marks(pin: Pin | None, anchors: Iterable[Anchor], frozen: Iterable[FrozenHead]) -> frozenset[int]:
    """Return the sizes at which the record's own root is needed."""
    sizes = {anchor.size for anchor in anchors} | {head.size for head in frozen}
    return frozenset(sizes | ({pin.size} if pin is not None else set()))


@dataclass(slots=True)
class Comparison:
    """What anchors say about a record.

    Attributes:
        witnessed: How many entries enough witnesses have seen.
        timestamped: How many entries an authority has stamped.
        checks: Lines of the report.
        findings: What does not agree.
    """

    witnessed: int = 0
    timestamped: int = 0
    checks: list[Check] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def compare_anchors(
    roots: Mapping[int, str],
    entries: int,
    anchors: Sequence[Anchor],
    frozen: Sequence[FrozenHead],
    quorum: Quorum | None,
) -> Comparison:
    """Compare a record with heads seen elsewhere.

    Args:
        roots: The record's own roots, hex, by size.
        entries: How many entries it has.
        anchors: Heads that somebody else has seen.
        frozen: Heads at which a key was revoked.
        quorum: Which witnesses are enough.
    """
    outcome = Comparison()
    agreed = 0
    roots = {**roots, 0: EMPTY_ROOT.hex()}
    heads = [(a.size, a.root, _SEEN_BY[a.kind].format(a.who), a.kind == "copy") for a in anchors]
    heads += [(h.size, h.root, "the revocation of a key", False) for h in frozen]
    for size, root, who, is_copy in sorted(heads, key=lambda head: head[0]):
        code: Code
        place: int | None
        if size > entries:
            code, place = "shorter", entries
            was, now = ("were", "are") if size - entries > 1 else ("was", "is")
            why = f"{_range(entries, size)} {was} seen by {who} and {now} missing here"
        elif roots.get(size) != root.hex():
            # A head stands for its whole past: the two part somewhere above the last one that agrees.
            code, place = "fork" if is_copy else "rewritten", agreed if agreed == size - 1 else None
            why = f"{_range(agreed, size)} {'is' if agreed == size - 1 else 'are'} not what {who} saw"
            if is_copy:
                why = f"this record and {who} part at {_range(agreed, size)}"
        else:
            agreed = max(agreed, size)
            continue
        outcome.findings.append(Finding(code, why, place, error_id="AG0444"))
    if outcome.findings:
        outcome.checks.append(Check("copies", "broken", outcome.findings[0].why))
        return outcome
    _say_copies(outcome, anchors, entries)
    _say_witnesses(outcome, anchors, entries, quorum)
    _say_time(outcome, anchors, entries)
    return outcome


def _say_copies(outcome: Comparison, anchors: Sequence[Anchor], entries: int) -> None:
    copies = [anchor for anchor in anchors if anchor.kind == "copy"]
    if copies:
        said = ", ".join(f"{up_to(a.size)} as {a.who}" for a in copies)
        outcome.checks.append(Check("copies", "ok", f"{said}: the same"))


def _say_witnesses(
    outcome: Comparison, anchors: Sequence[Anchor], entries: int, quorum: Quorum | None
) -> None:
    seen = [anchor for anchor in anchors if anchor.kind == "witness"]
    outcome.witnessed = witnessed_size(seen, quorum)
    if outcome.witnessed:
        names = ", ".join(sorted({a.who for a in seen if a.size >= outcome.witnessed}))
        rest = "" if outcome.witnessed >= entries else f"; {_range(outcome.witnessed, entries)} by nobody yet"
        outcome.checks.append(Check("witness", "ok", f"{up_to(outcome.witnessed)} seen by {names}{rest}"))
    else:
        few = "none" if not seen else f"fewer than are required ({', '.join(sorted({a.who for a in seen}))})"
        why = f"{few}: {up_to(entries)} could be replaced together by who has the key"
        outcome.checks.append(Check("witness", "--", why))


def _say_time(outcome: Comparison, anchors: Sequence[Anchor], entries: int) -> None:
    stamps = [anchor for anchor in anchors if anchor.kind == "timestamp"]
    last = max(stamps, key=lambda anchor: anchor.size, default=None)
    if last is None:
        outcome.checks.append(Check("time", "--", "by this machine's clock"))
        return
    outcome.timestamped = last.size
    rest = "" if last.size >= entries else f"; {_range(last.size, entries)} by this machine's clock"
    when = "" if last.ts is None else f" before {utc(last.ts)}"
    outcome.checks.append(Check("time", "ok", f"{up_to(last.size)} existed{when}, says {last.who}{rest}"))


def witnessed_size(seen: Sequence[Anchor], quorum: Quorum | None) -> int:
    """Return the largest size that enough witnesses have seen; 0 when there is none."""
    for size in sorted({anchor.size for anchor in seen}, reverse=True):
        names = frozenset(anchor.who for anchor in seen if anchor.size >= size)
        if names and (quorum is None or quorum(names)):
            return size
    return 0


def utc(ts: int) -> str:
    """Return a time as people read it: `2026-11-20 15:31 UTC`."""
    try:
        return datetime.fromtimestamp(ts / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")
    except (ValueError, OverflowError, OSError):
        return "an impossible time"


def up_to(size: int) -> str:
    """Return `entries 0-41` for a size of 42."""
    return f"entries 0-{size - 1}" if size > 1 else "entry 0"


def _range(first: int, end: int) -> str:
    return f"entries {first}-{end - 1}" if end - first > 1 else f"entry {first}"
