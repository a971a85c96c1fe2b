"""What the payloads say about a run: its start, its calls, its actors, its changes.

Rules kept here:

- A payload may be missing (erased, or not fetched) or hold anything: a reader gets what can be read,
  and `None` or an empty mapping for the rest. Nothing is made up, and nothing raises for content.
- Text is returned as it was recorded; whoever prints it makes it printable.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from agentgov.errors import BrokenRecordError
from agentgov.ids import RunId
from agentgov.ledger.entry import Entry
from agentgov.ledger.history import CallRecord, RunRecord
from agentgov.text import decode_name

MAIN_ACTOR = "main"
_KINDS = {"040000": "folder", "120000": "link", "160000": "repository"}
_EXECUTABLE = "100755"


class PayloadReader(Protocol):
    """Where payloads are looked up (`ledger.payloads.PayloadStore`)."""

    def get(self, run: RunId, digest: str) -> Any:
        """Return the payload that `digest` commits to, or None."""


@dataclass(frozen=True, slots=True)
class FileFact:
    """One changed path of a step.

    Attributes:
        path: The path, relative to the workspace.
        status: `A`, `M`, `D` or `T` (a change of type).
        added: Lines added.
        deleted: Lines deleted.
        binary: True when lines cannot be counted.
        calls: The calls it belongs to; empty when nobody's.
        kind: `file`, `folder` (an empty one), `link` or `repository`.
        executable: What the executable bit became; None when it did not change.
    """

    path: bytes
    status: str
    added: int
    deleted: int
    binary: bool
    calls: tuple[int, ...]
    kind: str = "file"
    executable: bool | None = None


def payload_bytes(reader: PayloadReader, run: RunId, digest: str | None) -> bytes | None:
    """Return a payload's bytes; None when it is missing or is not the one that was recorded."""
    if digest is None:
        return None
    try:
        payload = reader.get(run, digest)
    except BrokenRecordError:
        # `verify` names it; a reader goes on without it.
        return None
    return None if payload is None else bytes(payload.value)


def payload_text(reader: PayloadReader, run: RunId, digest: str | None) -> str | None:
    """Return a payload as text; None when it is missing."""
    raw = payload_bytes(reader, run, digest)
    return None if raw is None else raw.decode("utf-8", "backslashreplace")


def payload_object(reader: PayloadReader, run: RunId, digest: str | None) -> Mapping[str, Any]:
    """Return a payload that holds a JSON object; empty when it is missing or holds something else."""
    raw = payload_bytes(reader, run, digest)
    if raw is None:
        return {}
    try:
        value = json.loads(raw)
    except (ValueError, RecursionError):
        return {}
    return value if isinstance(value, dict) else {}


def why_missing(run: RunRecord, reader: PayloadReader, entry: Entry, key: str, cls: str) -> str | None:
    """Say why a payload that an entry commits to cannot be shown; None when it can be, or there is none.

    Args:
        run: The entry's run.
        reader: Where payloads are looked up.
        entry: The entry.
        key: The field of its body that commits to the payload.
        cls: The payload's class.
    """
    digest = entry.body[key]
    if digest is None or payload_bytes(reader, run.run, digest) is not None:
        return None
    for stone in run.erasures:
        if stone.kind == "payload.erased" and stone.body["commitment"] == digest:
            return f"erased on purpose, entry {stone.seq}"
        is_below = stone.log != entry.log or entry.seq < min(stone.body.get("before", 0), stone.seq)
        if stone.kind == "payload.pruned" and stone.body["class"] == cls and is_below:
            return f"pruned, entry {stone.seq}"
    return "not in this clone"


def start_facts(run: RunRecord, reader: PayloadReader) -> Mapping[str, Any]:
    """Return what `run.start` carried: command, folder, operator."""
    return {} if run.start is None else payload_object(reader, run.run, run.start.body["start"])


def call_facts(call: CallRecord, run: RunRecord, reader: PayloadReader) -> Mapping[str, Any]:
    """Return what a call's request carried: tool, arguments, effects, reason."""
    return payload_object(reader, run.run, call.request.body["args"])


def intent_of(run: RunRecord, reader: PayloadReader) -> str | None:
    """Return the run's intent; None when none was given or it is missing."""
    return None if run.start is None else payload_text(reader, run.run, run.start.body["intent"])


def actor_names(run: RunRecord, reader: PayloadReader) -> dict[int, str]:
    """Return a name for each actor: `main`, a sub-agent's type, with a number where several share it."""
    types = {
        number: str(payload_object(reader, run.run, entry.body["who"]).get("type") or f"agent-{number}")
        for number, entry in run.actors.items()
    }
    return name_actors(types)


def name_actors(types: Mapping[int, str]) -> dict[int, str]:
    """Return a name for each actor, by number, whose types are given."""
    names, seen = {0: MAIN_ACTOR}, dict[str, int]()
    for number, name in sorted(types.items()):
        seen[name] = seen.get(name, 0) + 1
        names[number] = name if seen[name] == 1 else f"{name}-{seen[name]}"
    return names


def changed_files(run: RunRecord, reader: PayloadReader, digest: str | None) -> Sequence[FileFact] | None:
    """Return the files that a `changes` payload lists; None when it is missing or unreadable."""
    return () if digest is None else files_in(payload_object(reader, run.run, digest))


def files_in(changes: Mapping[str, Any]) -> Sequence[FileFact] | None:
    """Return the files that the object in a `changes` payload lists; None when it is not such a list."""
    files = changes.get("files")
    if not isinstance(files, list):
        return None
    try:
        return [_file_fact(item) for item in files]
    except (LookupError, TypeError, ValueError, OverflowError, BrokenRecordError):
        return None


def _file_fact(item: Mapping[str, Any]) -> FileFact:
    hunks = item["hunks"]
    return FileFact(
        decode_name(item["path"]),
        str(item["status"]),
        0 if hunks is None else sum(int(hunk[3]) for hunk in hunks),
        0 if hunks is None else sum(int(hunk[1]) for hunk in hunks),
        hunks is None,
        tuple(int(n) for n in item.get("calls", ())),
        _KINDS.get(str(item.get("new_mode") or item.get("old_mode")), "file"),
        _bit(item),
    )


def _bit(item: Mapping[str, Any]) -> bool | None:
    was, now = item.get("old_mode") == _EXECUTABLE, item.get("new_mode") == _EXECUTABLE
    return None if was == now or item["status"] == "D" else now
