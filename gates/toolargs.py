"""What a tool call names besides a command line: paths, addresses, and the arguments of tools nobody listed.

Rules kept here:
- A path is judged in every form that a tool may understand: as written, with `~` put in its place, as a
  `file:` address, up to a NUL.
- A tool from outside (MCP) is judged by what its arguments are called: nobody can know what it does with
  them, but a path stays a path.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import unquote

from agentgov.calls import ToolCall
from agentgov.gates.effect import Action, names
from agentgov.gates.netcmd import connect_url
from agentgov.gates.scope import BRACKET, QUERY, STAR, Scope

MAX_ARGUMENTS = 500
_PATH_KEYS = names(
    "path paths file files filename file_path filepath file_paths dir directory folder source destination "
    "src dst target_file uri old_path new_path notebook_path relative_path absolute_path"
)
_COMMAND_KEYS = names("command cmd script shell_command command_line commandline")
_WRITES = re.compile(
    r"write|edit|create|append|insert|replace|patch|save|move|rename|upload|put", re.IGNORECASE
)
_DELETES = re.compile(r"delete|remove|unlink|trash|rmdir|move|rename", re.IGNORECASE)
_FILE = re.compile(r"file:(?://(?:localhost)?)?(?=/)", re.IGNORECASE)
_BRACES = re.compile(r"\{([^{}]*)\}")


def read_arguments(call: ToolCall, scope: Scope) -> None:
    """Adds what a call names in its fields and arguments."""
    named: tuple[tuple[Action, tuple[str, ...]], ...] = (
        ("fs.delete", call.deletes),
        ("fs.write", call.writes),
        ("fs.read", call.reads),
    )
    # A search reads all that lies below the folder it names; one of everything is the agent's daily bread.
    searches = call.kind == "search" and call.tool.casefold() != "glob"
    for action, paths in named:
        for path in paths:
            _touch(action, path, scope, recursive=action == "fs.delete" or (searches and path != "."))
    glob = call.input.get("glob")
    if searches and isinstance(glob, str):
        for pattern in _alternatives(glob):
            _touch_glob(call.reads, pattern, scope)
    for url in call.urls:
        if _FILE.match(url):
            _touch("fs.read", url, scope)
        else:
            connect_url(url, scope)
    if call.kind in ("mcp", "other"):
        _unlisted(call, scope)


def _touch(action: Action, path: str, scope: Scope, *, recursive: bool = False) -> None:
    for form in _forms(path, scope):
        scope.touch(action, (form,), recursive=recursive)


def _forms(path: str, scope: Scope) -> Iterator[str]:
    yield path
    short = path.split("\x00", 1)[0].strip()
    address = _FILE.match(short)
    if address:
        short = unquote(short[address.end() :].split("?")[0].split("#")[0])
    if (short == "~" or short.startswith("~/")) and scope.places.home is not None:
        short = scope.places.home + short[1:]
    if short and short != path:
        yield short


def _alternatives(glob: str) -> list[str]:
    braces = _BRACES.search(glob)
    if braces is None:
        return [glob]
    return [glob[: braces.start()] + option + glob[braces.end() :] for option in braces[1].split(",")][:64]


def _touch_glob(folders: tuple[str, ...], glob: str, scope: Scope) -> None:
    # Whatever folder it is in: rules on names of secrets hold everywhere.
    name = glob.rsplit("/", 1)[-1]
    for folder in folders:
        for pattern in dict.fromkeys((name, glob.lstrip("/"))):
            active = pattern.replace("*", STAR).replace("?", QUERY).replace("[", BRACKET)
            if active.strip(STAR):
                scope.touch("fs.read", (f"{folder.rstrip('/')}/{active}",))


def _unlisted(call: ToolCall, scope: Scope) -> None:
    from agentgov.gates.shell import read_shell

    name = call.tool.rsplit("__", 1)[-1]
    actions: list[Action] = ["fs.read"]
    actions += ["fs.write"] if _WRITES.search(name) else []
    actions += ["fs.delete"] if _DELETES.search(name) else []
    for count, (key, value) in enumerate(_arguments(call.input)):
        if count >= MAX_ARGUMENTS:
            scope.opaque(str(dict(call.input)))
            return
        if key in _PATH_KEYS and "\n" not in value and (_FILE.match(value) or "://" not in value):
            for action in actions:
                _touch(action, value, scope, recursive=action == "fs.delete")
        elif key in _COMMAND_KEYS:
            read_shell(value, scope.fork())


def _arguments(value: Any, key: str = "") -> Iterator[tuple[str, str]]:
    """Every text below a value, with the name of the argument that it belongs to."""
    if isinstance(value, str):
        yield key, value
    elif isinstance(value, dict):
        for name, inner in value.items():
            yield from _arguments(inner, str(name).casefold())
    elif isinstance(value, (list, tuple)):
        for inner in value:
            yield from _arguments(inner, key)
