"""What a step changed: the changes payload of an entry, and the count of lines.

Rules kept here:
- The payload names each changed path, and the calls it belongs to; nobody's stay without one.
- The lines counted are those the payload shows: nothing is estimated.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentgov.harness.attribution import Writer, calls_by_path


class FileChange(Protocol):
    """One changed path, as ``rollback.changes`` describes it."""

    @property
    def path(self) -> bytes:
        """The path, relative to the workspace."""

    @property
    def old_mode(self) -> int | None:
        """Git's mode before."""

    @property
    def new_mode(self) -> int | None:
        """Git's mode after."""

    @property
    def hunks(self) -> Sequence[Sequence[int]] | None:
        """Old start, old count, new start, new count of each hunk; None for binary files."""


_KINDS = {0o040000: "folder", 0o120000: "link", 0o160000: "repository"}

Describe = Callable[[str, str], Sequence[Any]]
Encode = Callable[[Sequence[Any], Sequence[Any], Mapping[bytes, Sequence[int]]], bytes]


@dataclass(frozen=True, slots=True)
class FileTotal:
    """How much a path changed; `kind` is `file`, `folder`, `link` or `repository`."""

    path: bytes
    added: int
    deleted: int
    binary: bool
    kind: str = "file"


@dataclass(slots=True)
class LineTally:
    """Changed lines of a run so far."""

    with_call: int = 0
    total: int = 0

    def add(self, changes: Iterable[FileChange], *, has_call: bool) -> None:
        """Count a step's lines."""
        for change in changes:
            total = total_of(change)
            self.total += total.added + total.deleted
            self.with_call += (total.added + total.deleted) if has_call else 0


def total_of(change: FileChange) -> FileTotal:
    """Sum a path's hunks up."""
    hunks = change.hunks or ()
    return FileTotal(
        change.path,
        sum(hunk[3] for hunk in hunks),
        sum(hunk[1] for hunk in hunks),
        change.hunks is None,
        _KINDS.get(change.new_mode or change.old_mode or 0, "file"),
    )


def encode_changes(
    changes: Sequence[FileChange], skipped: Sequence[Any], open_calls: Sequence[Writer], encode: Encode
) -> bytes:
    """Return the changes payload of a step."""
    return encode(changes, skipped, calls_by_path((change.path for change in changes), open_calls))
