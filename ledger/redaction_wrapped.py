"""Secrets in base64 that was broken into lines, as `base64`, `openssl` and mail do it.

Rules this module keeps:
    * A block is lines of 60 to 76 characters of base64, and what follows the last of them; the breaks may be
      escaped, as in JSON. Inside a block a secret is looked for as if there were no breaks.
    * Work is linear: a plain search for a line that is long enough goes first, and as a rule finds none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

# They begin with a letter that is the same each time: that is what makes the search for it fast.
_BREAKS = (
    re.compile(rb"\n(?<=[A-Za-z0-9+/_\r-]{60}\n)"),
    re.compile(rb"\\n(?<=[A-Za-z0-9+/_-]{52}[A-Za-z0-9+/_\\-]{8}\\n)"),
)
_BREAK_START = re.compile(rb"(?:\r|\\{1,4}r)?\\{0,3}$")
_LINE_END = re.compile(rb"[A-Za-z0-9+/_-]{60}")
_LINE_CHARS = 76
_TAIL = re.compile(rb"[A-Za-z0-9+/_=-]{0,76}")
_NOT_BASE64 = re.compile(rb"[^A-Za-z0-9+/_-]")


def wrapped_hits(value: bytes, literals: Sequence[bytes], start: int, end: int) -> Iterator[tuple[int, int]]:
    """Find these spellings across the breaks of a block; yields spans of `value`, which hold the breaks."""
    for lines in _blocks(value, start, end):
        joined = b"".join(value[first:last] for first, last in lines)
        for literal in literals:
            at = 0
            while (found := joined.find(literal, at)) >= 0:
                at = found + len(literal)
                yield _place(lines, found), _place(lines, at - 1) + 1


def _blocks(value: bytes, start: int, end: int) -> Iterator[list[tuple[int, int]]]:
    """The lines of each block, as spans."""
    lines: list[tuple[int, int]] = []
    after = start
    for at, next_line in _breaks(value, start, end):
        if lines and after + 60 <= at <= after + _LINE_CHARS and not _NOT_BASE64.search(value, after, at):
            lines.append((after, at))
        else:
            if lines:
                yield [*lines, _tail(value, after, at)]
            lines = [(_line_start(value, at, after), at)]
        after = next_line
    if lines:
        yield [*lines, _tail(value, after, end)]


def _breaks(value: bytes, start: int, end: int) -> Iterator[tuple[int, int]]:
    """Every break after a long line: where it begins and ends."""
    ends = sorted(match.span() for pattern in _BREAKS for match in pattern.finditer(value, start, end))
    for first, last in ends:
        escapes = _BREAK_START.search(value, max(start, first - 8), first)
        at = first if escapes is None else escapes.start()
        if at - 60 >= start and _LINE_END.match(value, at - 60):
            yield at, last


def _line_start(value: bytes, line_end: int, limit: int) -> int:
    at = line_end - 60
    limit = max(limit, line_end - _LINE_CHARS)
    while at > limit and not _NOT_BASE64.match(value, at - 1):
        at -= 1
    return at


def _tail(value: bytes, at: int, end: int) -> tuple[int, int]:
    match = _TAIL.match(value, at, max(at, end))
    return (at, at if match is None else match.end())


def _place(lines: list[tuple[int, int]], at: int) -> int:
    for first, last in lines:
        if at < last - first:
            return first + at
        at -= last - first
    raise IndexError(at)
