"""Claude's own session log, read for two facts that its hooks leave out.

Rules kept here:
- The log is the agent's word, as its hooks are: it can close a call as interrupted or name a model, nothing
  more.
- Reading never blocks and never grows with the session: a regular file's last part, opened without waiting.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

TAIL_BYTES = 512 * 1024
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


def _tail(path: Path) -> list[bytes]:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except (OSError, ValueError):
        # ValueError: no file can have that name.
        return []
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            return []
        start = max(0, status.st_size - TAIL_BYTES)
        raw = os.pread(fd, TAIL_BYTES, start)
    except OSError:
        return []
    finally:
        os.close(fd)
    lines = raw.split(b"\n")
    return lines[1:] if start else lines
