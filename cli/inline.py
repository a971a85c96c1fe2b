"""Which words of a changed line changed: for the eye only, drawn over a unified diff.

Rules kept here:

- It draws; it never decides and never applies anything. The lines themselves are printed as they are.
- Only runs of as many removed as added lines are paired, and only short lines; anything else has no spans.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

MAX_LINE: Final = 400
MAX_RUN: Final = 50
_SECONDS_PER_LINE: Final = 0.02
_DELETE, _EQUAL = -1, 0

Span = tuple[int, int]


def changed_spans(lines: Sequence[str]) -> dict[int, list[Span]]:
    """Return, by index of a line, the stretches of it that changed; offsets count the leading sign.

    Args:
        lines: The lines of a unified diff.
    """
    spans: dict[int, list[Span]] = {}
    for old, new, count in _runs(lines):
        for at in range(count):
            found = _compare(lines[old + at][1:], lines[new + at][1:])
            if found is not None:
                spans[old + at], spans[new + at] = found
    return spans


def _runs(lines: Sequence[str]) -> Iterator[tuple[int, int, int]]:
    """Yield where a run of removed lines is followed by as many added ones: both starts, and how many."""
    at, in_hunk = 0, False
    while at < len(lines):
        line = lines[at]
        if line.startswith("diff "):
            in_hunk = False
        elif line.startswith("@@"):
            in_hunk = True
        if not in_hunk or not line.startswith("-"):
            at += 1
            continue
        removed = _length(lines, at, "-")
        added = _length(lines, at + removed, "+")
        if removed == added <= MAX_RUN:
            yield at, at + removed, removed
        at += removed + added


def _length(lines: Sequence[str], start: int, sign: str) -> int:
    end = start
    while end < len(lines) and lines[end].startswith(sign):
        end += 1
    return end - start


def _compare(old: str, new: str) -> tuple[list[Span], list[Span]] | None:
    if len(old) > MAX_LINE or len(new) > MAX_LINE:
        return None
    from diff_match_patch import diff_match_patch

    engine = diff_match_patch()
    engine.Diff_Timeout = _SECONDS_PER_LINE
    pieces = engine.diff_main(old, new, False)
    engine.diff_cleanupSemantic(pieces)
    if not any(kind == _EQUAL and text.strip() for kind, text in pieces):
        # Nothing in common: the whole line changed, and marking all of it marks nothing.
        return None
    removed: list[Span] = []
    added: list[Span] = []
    at_old = at_new = 1
    for kind, text in pieces:
        if kind == _EQUAL:
            at_old, at_new = at_old + len(text), at_new + len(text)
        elif kind == _DELETE:
            removed.append((at_old, at_old + len(text)))
            at_old += len(text)
        else:
            added.append((at_new, at_new + len(text)))
            at_new += len(text)
    return removed, added
