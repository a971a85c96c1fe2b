"""Where else the bytes of a payload lie: in files that a run's snapshots hold.

Rules kept here:

- Only what the run itself added to its base is looked at: what was committed before is the user's own.
- It is a search by whole lines, and by whole short values: it names places to look at and proves nothing.
- Time and memory are bounded; a search that was cut short says so.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, Final

from agentgov.errors import AgentgovError
from agentgov.ledger.history import RunRecord
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.treeform import MODE_DIR

MINIMUM_BYTES: Final = 8
_MAX_FILES: Final = 2000
_MAX_FILE_BYTES: Final = 4 * 2**20
_MAX_BYTES: Final = 256 * 2**20
_MAX_LINES: Final = 100_000
_MAX_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Copy:
    """A file of a snapshot that holds something of a payload."""

    path: bytes
    tree: str


@dataclass(frozen=True, slots=True)
class Copies:
    """What a search found.

    Attributes:
        found: One place for each file, the first snapshot that has it.
        is_whole: Whether everything was looked at.
    """

    found: tuple[Copy, ...]
    is_whole: bool


def find_copies(store: ObjectStore, record: RunRecord, values: Iterable[bytes]) -> Copies:
    """Return the files of the run's snapshots that share a line with one of these payloads."""
    lines = frozenset(line for value in values for line in _lines_of(value))
    found: list[Copy] = []
    seen: set[str] = set()
    left_bytes, is_whole = _MAX_BYTES, len(lines) <= _MAX_LINES
    if not lines:
        return Copies((), True)
    try:
        for path, tree, blob in _added(store, record):
            if blob in seen:
                continue
            seen.add(blob)
            if len(seen) > _MAX_FILES or left_bytes <= 0:
                return Copies(tuple(found), False)
            data = store.blob(blob)
            left_bytes -= len(data)
            if len(data) > _MAX_FILE_BYTES:
                is_whole = False
            elif not lines.isdisjoint(_pieces(data)):
                found.append(Copy(path, tree))
    except AgentgovError:
        # A snapshot is missing or damaged: `verify` names it, and the search was not whole.
        is_whole = False
    return Copies(tuple(found), is_whole)


def _added(store: ObjectStore, record: RunRecord) -> Iterator[tuple[bytes, str, str]]:
    """Every file that a snapshot has and the one before it, or the base, has not: path, snapshot, blob."""
    if record.start is None or record.start_tree is None:
        return
    kind, commit = store.read(record.start.body["base"])
    trees = [commit[5:].split(b"\n", 1)[0].decode() if kind == "commit" else None, record.start_tree]
    trees += [step.tree for step in record.steps]
    for before, after in itertools.pairwise(trees):
        for delta in store.diff(before, after):
            if delta.new is not None and delta.new_mode not in (MODE_DIR, 0o160000):
                yield delta.path, str(after), delta.new


def _lines_of(value: bytes) -> Iterator[bytes]:
    yield from _pieces(value)
    try:
        decoded = json.loads(value)
    except (ValueError, RecursionError):
        return
    for text in _strings(decoded, _MAX_DEPTH):
        yield from _pieces(text.encode("utf-8", "surrogatepass"))


def _strings(value: Any, depth: int) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif depth and isinstance(value, list | dict):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _strings(item, depth - 1)


def _pieces(data: bytes) -> Iterator[bytes]:
    return (line.strip() for line in data.split(b"\n") if len(line.strip()) >= MINIMUM_BYTES)
