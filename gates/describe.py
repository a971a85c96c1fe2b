"""Effects in words, for the person who is asked and the agent that is told."""

# Paths are text here: "..", links and a last slash must stay as they were written.
# ruff: noqa: PTH112, PTH120
from __future__ import annotations

import os
from collections.abc import Iterable

from agentgov.gates.effect import Effect
from agentgov.gates.patterns import UNKNOWN, count_files, shown
from agentgov.gates.places import Places
from agentgov.text import printable

_VERBS = {"fs.read": "read", "fs.write": "write", "fs.delete": "delete"}
MAX_LINE_CHARS = 160
MIN_GROUP = 3


def describe(effects: Iterable[Effect], places: Places) -> list[str]:
    """One line per distinct effect, such as "delete 3 files under important/"; folders sum up."""
    groups: dict[tuple[str, str], list[str]] = {}
    for effect in dict.fromkeys(effects):
        line = printable(_line(effect, places), limit=MAX_LINE_CHARS)
        folder = "" if effect.recursive or not effect.names else os.path.dirname(effect.names[1])
        members = groups.setdefault((effect.action, folder or line), [])
        if line not in members:
            members.append(line)
    return [
        line
        for (action, folder), lines in groups.items()
        for line in _together(action, folder, lines, places)
    ]


def _together(action: str, folder: str, lines: list[str], places: Places) -> list[str]:
    if len(lines) < MIN_GROUP or not folder.startswith("/"):
        return lines
    name = shown(folder, places)
    return [printable(f"{_VERBS[action]} {len(lines)} files in {name}", limit=MAX_LINE_CHARS)]


def _line(effect: Effect, places: Places) -> str:
    if effect.action == "net.connect":
        return f"connect {effect.host}:{effect.port}" if effect.port else f"connect {effect.host}"
    if effect.opaque:
        return "run something that cannot be read"
    if effect.action == "exec":
        return "run " + " ".join(effect.argv).replace(UNKNOWN, "?")
    name = shown(effect.names[1], places).replace(UNKNOWN, "*")
    if not effect.recursive:
        return f"{_VERBS[effect.action]} {name}"
    if effect.action == "fs.read" or not os.path.isdir(effect.names[0]):
        is_folder = os.path.isdir(effect.names[0])
        return f"{_VERBS[effect.action]} {name}{'/' if is_folder else ''}"
    folder = name if name == "the workspace" else name + "/"
    count = count_files(effect.names)
    if count is None:
        return f"{_VERBS[effect.action]} {folder}"
    return f"{_VERBS[effect.action]} {count} file{'' if count == 1 else 's'} under {folder}"
