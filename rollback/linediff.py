"""Which lines differ between two contents, as git counts lines.

Rules: a line ends with LF, and the last one may lack it (and then differs from one that has it); the common
start and end are cut off before anything is compared; a map is exact or absent (None), never a guess.
Line numbers and counts are those of `git diff -U0`: with a count of 0, the start is the line before.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from agentgov.rollback.objects import ObjectStore

# As buffer_is_binary() of git: a NUL in the first bytes.
_BINARY_PROBE_BYTES = 8000
MAX_DIFF_BYTES = 16 << 20
_INDEX = re.compile(rb"index ([0-9a-f]+)\.\.([0-9a-f]+)(?: [0-7]+)?$")
_HUNK = re.compile(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")
_MAX_PATHS_BYTES = 64 << 10


class Hunk(NamedTuple):
    """One place where lines were replaced, taken away or put in."""

    old_start: int
    old_count: int
    new_start: int
    new_count: int


def is_binary(data: bytes) -> bool:
    """Return whether git would show the content as binary, or it is too large to compare."""
    return len(data) > MAX_DIFF_BYTES or b"\0" in data[:_BINARY_PROBE_BYTES]


def count_lines(data: bytes) -> int:
    """Return the number of lines, an unfinished last one included."""
    return data.count(b"\n") + (1 if data and not data.endswith(b"\n") else 0)


def whole(old: bytes | None, new: bytes | None) -> list[Hunk]:
    """Return the map of a content that came into being or went."""
    if new is not None:
        count = count_lines(new)
        return [Hunk(0, 0, 1, count)] if count else []
    count = count_lines(old or b"")
    return [Hunk(1, count, 0, 0)] if count else []


def trimmed(old: bytes, new: bytes) -> list[Hunk] | None:
    """Return the map when cutting off the common start and end leaves one exact hunk; None otherwise."""
    if old == new:
        return []
    start = _common_prefix(old, new)
    start = old.rfind(b"\n", 0, start) + 1
    tail = _common_suffix(old[start:], new[start:])
    old_end, new_end = len(old) - tail, len(new) - tail
    if tail:
        # The suffix must begin after a line feed on both sides.
        at_line = [
            end == start or data[end - 1 : end] == b"\n" for data, end in ((old, old_end), (new, new_end))
        ]
        if not all(at_line):
            feed = old.find(b"\n", old_end)
            cut = len(old) - old_end if feed < 0 else feed + 1 - old_end
            old_end, new_end = old_end + cut, new_end + cut
    before = old.count(b"\n", 0, start)
    old_lines, new_lines = _lines(old[start:old_end]), _lines(new[start:new_end])
    if old_lines and new_lines and not set(old_lines).isdisjoint(new_lines):
        return None
    return [hunk(before, len(old_lines), before, len(new_lines))]


def hunk(old_before: int, old_count: int, new_before: int, new_count: int) -> Hunk:
    """Return a hunk from the numbers of lines before it."""
    return Hunk(
        old_before + (1 if old_count else 0), old_count, new_before + (1 if new_count else 0), new_count
    )


def _lines(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _common_prefix(a: bytes, b: bytes) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _common_suffix(a: bytes, b: bytes) -> int:
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[len(a) - middle : len(a) - low] == b[len(b) - middle : len(b) - low]:
            low = middle
        else:
            high = middle - 1
    return low


def by_git(
    store: ObjectStore, old_tree: str, new_tree: str, paths: Sequence[bytes]
) -> dict[tuple[str, str], list[Hunk]]:
    """Return (old blob, new blob) -> map, from one `git diff-tree` over the given paths."""
    from agentgov.git import Git

    if not paths:
        return {}
    limit = [os.fsdecode(path) for path in paths] if sum(map(len, paths)) < _MAX_PATHS_BYTES else []
    result = Git(store.dir).run(
        "diff-tree",
        "-r",
        "-p",
        "-U0",
        "--full-index",
        "--text",
        "--no-renames",
        "--no-ext-diff",
        "--no-textconv",
        "--no-color",
        "--diff-algorithm=histogram",
        old_tree,
        new_tree,
        "--",
        *limit,
        # The user's attributes could name a diff driver, and so other lines.
        config={"core.attributesFile": os.devnull, "core.quotePath": "true"},
    )
    return parse_patch(result.stdout)


def parse_patch(raw_patch: bytes) -> dict[tuple[str, str], list[Hunk]]:
    """Return the maps in a `-U0 --full-index` patch by the pair of blobs."""
    maps: dict[tuple[str, str], list[Hunk]] = {}
    current: list[Hunk] = []
    skip = 0
    for line in raw_patch.split(b"\n"):
        if skip and line[:1] in (b"+", b"-"):
            # Content: it may look like anything.
            skip -= 1
            continue
        if line.startswith(b"@@ ") and (match := _HUNK.match(line)):
            numbers = [int(group) if group is not None else 1 for group in match.groups()]
            current.append(Hunk(*numbers))
            skip = numbers[1] + numbers[3]
        elif match := _INDEX.match(line):
            current = maps.setdefault((match[1].decode(), match[2].decode()), [])
            # Two paths can change between the same blobs; each gives the same map.
            current.clear()
    return maps
