"""What one step of a run changed: paths, kinds, blobs, modes and line maps; and its form as a payload.

Rules: a change of content is described from the two trees alone; renames are a deletion and an addition; a
line map is exact or null (binary, a link, too large). Empty folders appear with mode 040000.
The payload holds no content. `parse_payload` refuses what `to_payload` would not have written.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, NamedTuple, cast

from agentgov.errors import BrokenRecordError
from agentgov.rollback.leftout import REASONS, Reason, Skip
from agentgov.rollback.linediff import Hunk, by_git, is_binary, trimmed, whole
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.treeform import MODE_DIR, MODE_EXEC, MODE_FILE, MODE_GITLINK, MODE_LINK, Delta
from agentgov.text import decode_name, encode_name

Status = Literal["A", "M", "D", "T"]

_MODES = {f"{mode:06o}": mode for mode in (MODE_DIR, MODE_FILE, MODE_EXEC, MODE_LINK, MODE_GITLINK)}
_KEYS = ["calls", "hunks", "new", "new_mode", "old", "old_mode", "path", "status"]
_HEX = frozenset("0123456789abcdef")


class FileChange(NamedTuple):
    """One path that differs between two snapshots.

    Attributes:
        path: Relative to the root.
        status: A(dded), M(odified: content or executable bit), D(eleted), T(ype: file, link or folder).
        old: The blob before, or None.
        new: The blob after, or None.
        old_mode: git's mode before, or None.
        new_mode: git's mode after, or None.
        hunks: The line map; None when there is none to give.
    """

    path: bytes
    status: Status
    old: str | None
    new: str | None
    old_mode: int | None
    new_mode: int | None
    hunks: tuple[Hunk, ...] | None


class ChangeList(NamedTuple):
    """A parsed payload: the changes, what was left out, and the calls each path belongs to."""

    files: tuple[FileChange, ...]
    skipped: tuple[Skip, ...]
    calls: dict[bytes, tuple[int, ...]]


def describe(store: ObjectStore, from_tree: str, to_tree: str) -> list[FileChange]:
    """Return what changed between two trees of the store, sorted by path.

    Raises:
        IncompleteError: An object is missing.
        BrokenRecordError: An object is not what its id says.
    """
    deltas = list(store.diff(from_tree, to_tree))
    maps: dict[tuple[str, str], list[Hunk] | None] = {}
    unsure: list[Delta] = []
    for delta in deltas:
        pair = (delta.old or "", delta.new or "")
        if _is_text(delta) and pair not in maps:
            known, maps[pair] = _map(store, delta)
            if not known:
                unsure.append(delta)
    exact = by_git(store, from_tree, to_tree, [delta.path for delta in unsure])
    for delta in unsure:
        pair = (delta.old or "", delta.new or "")
        maps[pair] = exact.get(pair)
    changes = [_change(delta, maps) for delta in deltas]
    changes.sort(key=lambda change: change.path)
    return changes


def _is_text(delta: Delta) -> bool:
    return all(mode in (None, MODE_FILE, MODE_EXEC) for mode in (delta.old_mode, delta.new_mode))


def _map(store: ObjectStore, delta: Delta) -> tuple[bool, list[Hunk] | None]:
    """Return whether the map is known already, and the map."""
    if delta.old == delta.new:
        return True, []
    old = store.blob(delta.old) if delta.old else None
    new = store.blob(delta.new) if delta.new else None
    if (old is not None and is_binary(old)) or (new is not None and is_binary(new)):
        return True, None
    if old is None or new is None:
        return True, whole(old, new)
    hunks = trimmed(old, new)
    return hunks is not None, hunks


def _change(delta: Delta, maps: Mapping[tuple[str, str], list[Hunk] | None]) -> FileChange:
    status: Status
    if delta.old is None:
        status = "A"
    elif delta.new is None:
        status = "D"
    else:
        status = "M" if _kind(delta.old_mode) == _kind(delta.new_mode) else "T"
    hunks = maps.get((delta.old or "", delta.new or "")) if _is_text(delta) else None
    return FileChange(
        delta.path,
        status,
        delta.old,
        delta.new,
        delta.old_mode,
        delta.new_mode,
        tuple(hunks) if hunks is not None else None,
    )


def _kind(mode: int | None) -> int:
    return (mode or 0) & 0o170000


def to_payload(
    changes: Iterable[FileChange],
    skipped: Iterable[Skip] = (),
    calls_by_path: Mapping[bytes, Sequence[int]] | None = None,
) -> bytes:
    """Return the payload of class `changes`: canonical JSON without content.

    Args:
        changes: What changed.
        skipped: What the snapshot left out.
        calls_by_path: The calls each path belongs to, where several were open.
    """
    calls = calls_by_path or {}
    files = [
        {
            "path": encode_name(change.path),
            "status": change.status,
            "old": change.old,
            "new": change.new,
            "old_mode": _mode_text(change.old_mode),
            "new_mode": _mode_text(change.new_mode),
            "hunks": [list(h) for h in change.hunks] if change.hunks is not None else None,
            "calls": sorted(calls.get(change.path, ())),
        }
        for change in changes
    ]
    left_out = [{"path": encode_name(s.path), "reason": s.reason, "size": s.size} for s in skipped]
    return _canonical({"v": 1, "files": files, "skipped": left_out})


def _canonical(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True, separators=(",", ":")).encode("ascii")


def _mode_text(mode: int | None) -> str | None:
    return f"{mode:06o}" if mode is not None else None


def parse_payload(raw: bytes) -> ChangeList:
    """Return what `to_payload` wrote.

    Raises:
        BrokenRecordError: AG0157, when it is not such a payload; AG0003, when a name in it is not.
    """
    try:
        value = json.loads(raw)
        if _canonical(value) != raw or list(value) != ["files", "skipped", "v"] or value["v"] != 1:
            raise ValueError
        files = [_parse_file(item) for item in value["files"]]
        skipped = tuple(_parse_skip(item) for item in value["skipped"])
    except (ValueError, TypeError, KeyError, RecursionError):
        raise BrokenRecordError("a list of changes is malformed", id="AG0157") from None
    return ChangeList(
        tuple(change for change, _ in files),
        skipped,
        {change.path: calls for change, calls in files if calls},
    )


def _parse_file(raw: Any) -> tuple[FileChange, tuple[int, ...]]:
    if not isinstance(raw, dict) or list(raw) != _KEYS or raw["status"] not in ("A", "M", "D", "T"):
        raise ValueError
    old_mode, new_mode = (None if raw[k] is None else _MODES[raw[k]] for k in ("old_mode", "new_mode"))
    old, new = _oid(raw["old"]), _oid(raw["new"])
    if (old is None) != (old_mode is None) or (new is None) != (new_mode is None):
        raise ValueError
    if (old is None) != (raw["status"] == "A") or (new is None) != (raw["status"] == "D"):
        raise ValueError
    hunks = None
    if raw["hunks"] is not None:
        if any(len(item) != 4 for item in raw["hunks"]):
            raise ValueError
        hunks = tuple(Hunk(*(_number(n) for n in item)) for item in raw["hunks"])
    calls = tuple(_number(n) for n in raw["calls"])
    if list(calls) != sorted(set(calls)):
        raise ValueError
    path = _path(raw["path"])
    return FileChange(path, cast(Status, raw["status"]), old, new, old_mode, new_mode, hunks), calls


def _parse_skip(raw: Any) -> Skip:
    if not isinstance(raw, dict) or list(raw) != ["path", "reason", "size"] or raw["reason"] not in REASONS:
        raise ValueError
    size = None if raw["size"] is None else _number(raw["size"])
    return Skip(_path(raw["path"]), cast(Reason, raw["reason"]), size)


def _path(raw: Any) -> bytes:
    # It may be joined to a folder by a reader: nothing in it leads up or elsewhere.
    path = decode_name(raw)
    if any(part in (b"", b".", b"..") for part in path.split(b"/")) or b"\0" in path:
        raise ValueError
    return path


def _number(raw: Any) -> int:
    if type(raw) is not int or raw < 0:
        raise ValueError
    return raw


def _oid(raw: Any) -> str | None:
    if raw is None:
        return None
    if not isinstance(raw, str) or len(raw) not in (40, 64) or not _HEX.issuperset(raw):
        raise ValueError
    return raw
