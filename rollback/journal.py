"""The journal of a change to a work tree: what it takes to finish it, or to take it back, after a crash.

Rules:
- The journal is complete and on disk before the first name in the work tree changes, and is removed only
  when nothing of its temporary names is left.
- Its first bytes are the phase, of fixed width and overwritten in place: on a full disk the phase can still
  move.
- Phases: `staging` (new contents are being written beside their targets; the old state stands), `staged`
  (names are being changed; recovery goes forward), `placed` (the new state stands; old contents are being
  removed), `undone` (the old state stands; new contents are being removed).
- A journal that cannot be read is an error, never a reason to guess.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from agentgov.errors import BrokenRecordError
from agentgov.files import fsync_dir, read_own_file, write_atomic
from agentgov.rollback.trees import Node
from agentgov.rollback.worktree import check_path
from agentgov.text import decode_name, encode_name

Phase = Literal["staging", "staged", "placed", "undone"]

_PHASES: tuple[Phase, ...] = get_args(Phase)
_WIDTH = 16
_TOKEN_CHARS = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Step:
    """One file or link that changes.

    Attributes:
        path: Where.
        before: What must be there; None for nothing.
        after: What will be there; None for nothing.
        fresh: The temporary name of the new content; empty when there is none.
        aside: The temporary name under which the old content waits; empty when there is none.
    """

    path: bytes
    before: Node | None
    after: Node | None
    fresh: bytes
    aside: bytes


@dataclass(frozen=True, slots=True)
class Journal:
    """All that one change needs.

    Attributes:
        root: The work tree.
        object_format: "sha1" or "sha256".
        before: The tree that was there, for the record.
        target: The tree that was asked for, for the record.
        steps: The files and links, by path.
        removed_folders: Folders to remove and their permission bits, the deepest first.
        new_folders: Folders to make, the topmost first.
    """

    root: Path
    object_format: str
    before: str
    target: str
    steps: tuple[Step, ...]
    removed_folders: tuple[tuple[bytes, int], ...]
    new_folders: tuple[bytes, ...]

    @property
    def folders(self) -> set[bytes]:
        """The folders whose names change and that may need a sync."""
        names = [name for step in self.steps for name in (step.path, step.fresh, step.aside) if name]
        names += [path for path, _ in self.removed_folders]
        names += self.new_folders
        return {name.rpartition(b"/")[0] for name in names}


def write_journal(path: Path, journal: Journal) -> None:
    """Write a new journal in phase `staging`; it is on disk when this returns."""
    content = {
        "v": 1,
        "root": encode_name(os.fsencode(journal.root)),
        "object_format": journal.object_format,
        "before": journal.before,
        "target": journal.target,
        "steps": [
            [
                encode_name(step.path),
                _node_to_json(step.before),
                _node_to_json(step.after),
                encode_name(step.fresh),
                encode_name(step.aside),
            ]
            for step in journal.steps
        ],
        "removed_folders": [[encode_name(folder), mode] for folder, mode in journal.removed_folders],
        "new_folders": [encode_name(folder) for folder in journal.new_folders],
    }
    write_atomic(path, _phase_line("staging") + json.dumps(content).encode("ascii") + b"\n")


def set_phase(path: Path, phase: Phase) -> None:
    """Move the journal to another phase; it is on disk when this returns."""
    fd = os.open(path, os.O_WRONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        os.pwrite(fd, _phase_line(phase), 0)
        os.fdatasync(fd)
    finally:
        os.close(fd)


def read_journal(path: Path) -> tuple[Phase, Journal] | None:
    """Read a journal; None when there is none.

    Raises:
        BrokenRecordError: AG0173, when it is not one that `write_journal` wrote.
    """
    try:
        raw_bytes = read_own_file(path)
    except FileNotFoundError:
        return None
    try:
        phase = next(phase for phase in _PHASES if raw_bytes.startswith(_phase_line(phase)))
        return phase, _parse(json.loads(raw_bytes[_WIDTH:]))
    except (StopIteration, KeyError, TypeError, ValueError) as error:
        raise BrokenRecordError(
            "the journal of an interrupted change cannot be read",
            id="AG0173",
            where=str(path),
            hint="compare the work tree with the saved snapshot by hand, then remove this file",
        ) from error


def remove_journal(path: Path) -> None:
    """Remove the journal durably."""
    path.unlink()
    fsync_dir(path.parent)


def _parse(raw_content: Mapping[str, Any]) -> Journal:
    if raw_content["v"] != 1:
        raise ValueError("unknown version")
    steps = tuple(
        Step(
            _path_from_json(raw_path),
            _node_from_json(raw_before),
            _node_from_json(raw_after),
            _path_from_json(raw_fresh, required=False),
            _path_from_json(raw_aside, required=False),
        )
        for raw_path, raw_before, raw_after, raw_fresh, raw_aside in raw_content["steps"]
    )
    return Journal(
        Path(os.fsdecode(decode_name(raw_content["root"]))),
        str(raw_content["object_format"]),
        str(raw_content["before"]),
        str(raw_content["target"]),
        steps,
        tuple((_path_from_json(raw_path), int(mode)) for raw_path, mode in raw_content["removed_folders"]),
        tuple(_path_from_json(raw_path) for raw_path in raw_content["new_folders"]),
    )


def _path_from_json(raw_path: object, *, required: bool = True) -> bytes:
    path = decode_name(raw_path)
    if path or required:
        check_path(path)
    return path


def _node_to_json(node: Node | None) -> list[int | str] | None:
    return None if node is None else [node.mode, node.oid]


def _node_from_json(raw_node: Any) -> Node | None:
    if raw_node is None:
        return None
    mode, oid = raw_node
    if not isinstance(mode, int) or not isinstance(oid, str):
        raise ValueError("not a node")
    return Node(mode, oid)


def _phase_line(phase: Phase) -> bytes:
    return phase.ljust(_WIDTH - 1).encode("ascii") + b"\n"
