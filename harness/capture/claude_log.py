"""Claude's own session log, read for facts that its hooks leave out.

Rules kept here:
- The log is the agent's word, as its hooks are: it can close a call as interrupted, name a model, or tell of
  calls that no hook announced; nothing more.
- Reading never blocks; while the run lasts it never grows with the session: a regular file's last part.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Collection, Iterator
from datetime import UTC, datetime
from pathlib import Path

TAIL_BYTES = 512 * 1024
MAX_LOG_BYTES = 256 * 1024 * 1024
_MODEL = re.compile(rb'"(?:model|modelId)":"([A-Za-z0-9][A-Za-z0-9._:/-]{0,63})"')


def log_of(transcript: str | None, actor_id: str | None) -> Path | None:
    """Return the log of an actor; a sub-agent's lies in a folder beside the main one."""
    if transcript is None or not transcript.startswith("/") or not transcript.endswith(".jsonl"):
        return None
    main = Path(transcript)
    if actor_id is None:
        return main
    return main.with_suffix("") / "subagents" / f"agent-{actor_id}.jsonl" if actor_id.isalnum() else None


def results_in(path: Path, call_ids: Collection[str]) -> set[str]:
    """Return those calls that the log holds a result of."""
    found: set[str] = set()
    needles = [call_id.encode("utf-8", "surrogatepass") for call_id in call_ids]
    for raw_line in _tail(path):
        # Most lines are long and of other calls: parse only what can matter.
        if b'"tool_result"' not in raw_line or not any(needle in raw_line for needle in needles):
            continue
        try:
            line = json.loads(raw_line)
        except (ValueError, RecursionError):
            continue
        message = line.get("message") if isinstance(line, dict) else None
        content = message.get("content") if isinstance(message, dict) else None
        for block in content if isinstance(content, list) else ():
            if isinstance(block, dict) and block.get("type") == "tool_result":
                found.add(str(block.get("tool_use_id")))
    return found.intersection(call_ids)


def model_in(path: Path) -> str | None:
    """Return the model that the log named last."""
    names = [found for raw_line in _tail(path) for found in _MODEL.findall(raw_line)]
    return names[-1].decode("ascii") if names else None


def logs_of_session(transcript: str | None) -> list[Path]:
    """Return the main log of a session and its sub-agents'."""
    main = log_of(transcript, None)
    if main is None:
        return []
    try:
        return [main, *sorted((main.with_suffix("") / "subagents").glob("*.jsonl"))]
    except (OSError, ValueError):
        return [main]


def ran_in(path: Path, since_us: int) -> set[str]:
    """Return the calls that ran, by a log, since a moment: those with a result that is no refusal."""
    found: set[str] = set()
    for raw_line in _tail(path, MAX_LOG_BYTES):
        if b'"tool_result"' not in raw_line:
            continue
        try:
            line = json.loads(raw_line)
            moment = datetime.fromisoformat(line["timestamp"]).astimezone(UTC)
            blocks = [dict(block) for block in line["message"]["content"]]
        except (ValueError, TypeError, KeyError, RecursionError, OverflowError):
            continue
        # A resumed session's log begins with what ran before.
        if moment.timestamp() * 1_000_000 >= since_us:
            found.update(_ran(blocks))
    return found


def _ran(blocks: list[dict[str, object]]) -> Iterator[str]:
    for block in blocks:
        if block.get("type") == "tool_result":
            failed = block.get("is_error") is True
            # What never ran is an error too; a command that did says how it ended.
            if not failed or str(block.get("content")).startswith("Exit code"):
                yield str(block.get("tool_use_id"))


def _tail(path: Path, size_bytes: int = TAIL_BYTES) -> list[bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        # ValueError: no file can have that name.
        return []
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return []
        start = max(0, status.st_size - size_bytes)
        raw = os.pread(fd, min(size_bytes, status.st_size), start)
    except OSError:
        return []
    finally:
        os.close(fd)
    lines = raw.split(b"\n")
    return lines[1:] if start else lines
