"""Path patterns of rules, and whether an effect on a path touches what they name.

Rules kept here:
- `*` and `?` stay within one name, `**` crosses folders; a pattern names the path and everything below it, so
  `important`,
  `important/` and `important/**` are one pattern. A leading `!` takes paths back out of the set.
- Relative patterns start at the workspace, `~/` at the home folder, `/` at the root.
- An effect on a whole folder touches every pattern that can only match inside it; where a pattern starts with
  a wildcard, the
  folder is looked through, and one too large to look through counts as touched.
"""

# Paths are text here: "..", links and a last slash must stay as they were written.
# ruff: noqa: PTH112, PTH114, PTH120
from __future__ import annotations

import fnmatch
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache

from agentgov.gates.places import Places, is_under, real_path

LOOK_THROUGH_LIMIT = 20_000
UNKNOWN = "\ue000"
"""Stands in a path for a part that cannot be read before the command runs."""

_NOTHING = "\ue001"
_WILD = re.compile(r"[*?\[]")


@lru_cache(maxsize=4096)
def _segment_pattern(segment: str) -> re.Pattern[str]:
    return re.compile(fnmatch.translate(segment), re.DOTALL)


def _segment_matches(pattern: str, name: str) -> bool:
    # The name may be a glob itself, or unreadable: then it matches whatever it could stand for.
    if UNKNOWN in name:
        return _segment_pattern(name.replace(UNKNOWN, "*")).fullmatch(pattern) is not None or pattern == "*"
    return name == pattern or _segment_pattern(pattern).fullmatch(name) is not None


@dataclass(frozen=True)
class PathPattern:
    """One glob of a rule, made absolute: `text` is as written, `segments` may hold `**`."""

    text: str
    segments: tuple[str, ...]

    @property
    def literal_count(self) -> int:
        """How many leading names hold no wildcard."""
        for index, segment in enumerate(self.segments):
            if _WILD.search(_ESCAPED.sub("", segment)):
                return index
        return len(self.segments)

    def _states(self, names: Iterable[str]) -> tuple[bool, set[int]]:
        # A non-deterministic walk: a state is the next segment to match; reaching the end covers all below.
        end = len(self.segments)
        states = self._closure({0})
        for name in names:
            if end in states:
                return True, states
            after: set[int] = set()
            for state in states:
                segment = self.segments[state]
                if segment == "**":
                    after.add(state)
                elif _segment_matches(segment, name):
                    after.add(state + 1)
            states = self._closure(after)
            if not states:
                return False, states
        return end in states, states

    def _closure(self, states: set[int]) -> set[int]:
        found = set(states)
        for state in states:
            while state < len(self.segments) and self.segments[state] == "**":
                state += 1
                found.add(state)
        return found

    def covers(self, names: tuple[str, ...]) -> bool:
        """True when the path is in the pattern, or below something that is."""
        return self._states(names)[0]

    def exists(self) -> bool:
        """True when the part of the pattern that holds no wildcard is there."""
        names = (_unescape(segment) for segment in self.segments[: self.literal_count])
        return os.path.lexists("/" + "/".join(names))

    def reach(self, names: tuple[str, ...]) -> bool | None:
        """Whether a folder holds what the pattern names: True, False, or None for "look inside"."""
        covered, states = self._states(names)
        if covered:
            return True
        if not states:
            return False
        return True if min(states) < self.literal_count else None


def split(path: str) -> tuple[str, ...]:
    """The names of an absolute, normalised path."""
    return tuple(part for part in path.split("/") if part)


def make_patterns(text: str, places: Places) -> list[PathPattern]:
    """Makes a written glob absolute: one pattern for each folder it may start at.

    A `~` with no known home gives no pattern; `{a,b}` is not special.
    """
    body = text.removeprefix("!")
    if body.startswith("{state}"):
        starts, body = [place for place in (places.state_home,) if place], body[len("{state}") :].lstrip("/")
    elif body.startswith("{git}"):
        starts, body = list(places.git_dirs), body[len("{git}") :].lstrip("/")
    elif body.startswith("~"):
        if places.home is None:
            return []
        starts, body = [places.home], body[1:].lstrip("/")
    elif body.startswith("/"):
        starts = ["/"]
    else:
        starts = list(places.roots)
    names = [part for part in body.split("/") if part not in ("", ".")]
    while names and names[-1] == "**" and len(names) > 1:
        names.pop()
    found = []
    for start in starts:
        for root in dict.fromkeys((start, real_path(start))):
            segments = (*map(_escape, split(root)), *names)
            found.append(PathPattern(text, tuple(places.fold(segment) for segment in segments)))
    return found


_ESCAPED = re.compile(r"\[([*?\[])\]")


def _escape(name: str) -> str:
    return _WILD.sub(lambda match: f"[{match[0]}]", name)


def _unescape(segment: str) -> str:
    return _ESCAPED.sub(r"\1", segment)


class PathSet:
    """The patterns of one rule, with their exceptions, ready to be asked."""

    def __init__(self, texts: Iterable[str], places: Places) -> None:
        self.texts = tuple(texts)
        self._places = places
        patterns = [pattern for text in self.texts for pattern in make_patterns(text, places)]
        self._in = [pattern for pattern in patterns if not pattern.text.startswith("!")]
        self._out = [pattern for pattern in patterns if pattern.text.startswith("!")]

    def touched(
        self, names: Iterable[str], *, recursive: bool, look_inside: bool, must_exist: bool = False
    ) -> frozenset[str]:
        """The written patterns that an effect on one path (under all its `names`) touches.

        Args:
            names: absolute paths that are the same thing.
            recursive: the effect is on everything below as well.
            look_inside: walk the folder also for patterns that hold `**`.
            must_exist: an effect from above counts only when what the pattern starts with is there.
        """
        hits: set[str] = set()
        for name in names:
            parts = split(self._places.fold(name))
            # What is not known may be anything: it puts a path into a set, never out of it.
            certain = tuple(part.replace(UNKNOWN, _NOTHING) for part in parts)
            excluded = any(pattern.covers(certain) for pattern in self._out)
            for pattern in self._in:
                if pattern.text in hits:
                    continue
                if pattern.covers(parts):
                    if not excluded:
                        hits.add(pattern.text)
                elif recursive:
                    reached = pattern.reach(parts)
                    if reached and must_exist and not pattern.exists():
                        continue
                    inside = look_inside or "**" not in pattern.segments
                    if reached or (reached is None and inside and self._holds(name, pattern)):
                        hits.add(pattern.text)
        return frozenset(hits)

    def _holds(self, folder: str, pattern: PathPattern) -> bool:
        if UNKNOWN in folder:
            folder = os.path.dirname(folder[: folder.index(UNKNOWN)])
        for seen, path in enumerate(walk_below(folder), 1):
            if seen > LOOK_THROUGH_LIMIT:
                return True
            parts = split(self._places.fold(path))
            if pattern.covers(parts) and not any(out.covers(parts) for out in self._out):
                return True
        return False


def walk_below(folder: str) -> Iterator[str]:
    """Every path below a folder, links not followed; what cannot be listed is left out."""
    stack = [folder]
    while stack:
        here = stack.pop()
        try:
            with os.scandir(here) as listing:
                entries = list(listing)
        except (OSError, ValueError):
            continue
        for entry in entries:
            yield entry.path
            if entry.is_dir(follow_symlinks=False):
                stack.append(entry.path)


def literal_of(text: str) -> str | None:
    """The part of a written pattern that a text must mention for the pattern to be meant, or None."""
    body = text.removeprefix("{git}/").removeprefix("~/").removeprefix("/").rstrip("/")
    if body.startswith("{"):
        return None
    runs: list[list[str]] = [[]]
    for part in body.split("/"):
        if part in ("", ".", "**"):
            runs.append([])
        elif _WILD.search(part):
            piece = max(_WILD.split(part.replace("]", "*")), key=len)
            runs += [[piece]] if len(piece) >= 3 else []
            runs.append([])
        else:
            runs[-1].append(part)
    best = max(("/".join(run) for run in runs), key=len, default="")
    return best if len(best) >= 3 and not text.startswith("!") else None


def mentions(text: str, literal: str) -> bool:
    """True when `text` names the literal as a word of its own, not as a part of a longer name."""
    # Looked for as plain text first: a megabyte with a hundred literals would take the pattern seconds.
    if literal not in text:
        return False
    return re.search(r"(?<![\w-])" + re.escape(literal) + r"(?![\w-])", text) is not None


def count_files(names: Iterable[str], limit: int = 10_000) -> int | None:
    """How many existing files lie at or below the first of the names that exists; None when none does."""
    for name in names:
        if os.path.lexists(name):
            if os.path.isdir(name) and not os.path.islink(name):
                count = 0
                for path in walk_below(name):
                    count += not os.path.isdir(path) or os.path.islink(path)
                    if count >= limit:
                        break
                return count
            return 1
    return None


def shown(path: str, places: Places) -> str:
    """A path as a person would write it: relative to the workspace, or from the home folder."""
    for root in places.roots:
        for start in (root, real_path(root)):
            if path == start:
                return "the workspace"
            if is_under(path, start):
                return os.path.relpath(path, start)
    if places.home is not None and is_under(path, places.home) and path != places.home:
        return "~/" + os.path.relpath(path, places.home)
    return path
