"""Variables in Claude's settings files that reach the hook command before it can say anything.

Claude hands the ``env`` of every settings file to its hooks, a repository's ``.claude/settings.json`` among
them, and reads the files again whenever they change. A library in ``LD_PRELOAD``, or a
``CLAUDE_CODE_SHELL_PREFIX``, then ends the hook with "allow" in the recorder's place (measured).

Rules kept here:
- A repository that sets such a variable is refused, unless the user's own environment has the same value.
- Those that are harmless when empty are pinned in the run's own layer of settings, which wins over all files.
- The files are looked at again while the run lasts: such a variable that appears in one ends the run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from agentgov.errors import UsageError
from agentgov.harness.guarding import lstat_key, read_quietly

PINNED = ("LD_PRELOAD", "LD_AUDIT", "LD_LIBRARY_PATH", "CLAUDE_CODE_SHELL_PREFIX")
# LD_TRACE_LOADED_OBJECTS counts even when it is empty, and makes every program end well without running.
_PREFIXES = ("LD_", "DYLD_", "BASH_FUNC_", "CLAUDE_CODE_SHELL")
_NAMES = frozenset({"SHELLOPTS", "CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_SAFE_MODE"})
_FILES = (".claude/settings.json", ".claude/settings.local.json")
_BOM = b"\xef\xbb\xbf"


def reaches_hooks(name: str) -> bool:
    """Tell whether a variable can keep a hook from running although it ends well."""
    return name.startswith(_PREFIXES) or name in _NAMES


def repository_files(cwd: Path) -> list[Path]:
    """Return where a repository's settings may lie, from the folder Claude starts in up to the top."""
    found = []
    for folder in (cwd, *cwd.parents):
        found += [folder / name for name in _FILES]
        if (folder / ".git").exists():
            break
    return found


def user_file(env: Mapping[str, str]) -> Path | None:
    """Return where the user's own settings lie."""
    if env.get("CLAUDE_CONFIG_DIR"):
        return Path(env["CLAUDE_CONFIG_DIR"]) / "settings.json"
    return Path(env["HOME"]) / ".claude" / "settings.json" if env.get("HOME") else None


def settings_in(path: Path) -> Mapping[str, Any]:
    """Return a settings file's object; what Claude cannot read either is empty."""
    # Claude follows a link here, and takes a byte order mark.
    raw = read_quietly(path.resolve()) if lstat_key(path) is not None else None
    try:
        found = json.loads((raw or b"{}").removeprefix(_BOM))
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def reaching(path: Path) -> dict[str, str]:
    """Return the variables that a settings file sets and that reach the hooks."""
    env = settings_in(path).get("env")
    if not isinstance(env, dict):
        return {}
    return {name: str(value) for name, value in env.items() if reaches_hooks(name)}


def refuse_reaching(cwd: Path, env: Mapping[str, str]) -> None:
    """Refuse to start where a repository's settings reach the hooks.

    Raises:
        UsageError: AG0061, naming the file and the variable.
    """
    for path in repository_files(cwd):
        for name, value in reaching(path).items():
            if env.get(name) != value:
                raise UsageError(
                    f"{name} in claude's settings could keep its hooks from running, "
                    "so its calls could not be recorded",
                    id="AG0061",
                    where=str(path),
                    hint=f"take {name} out; if you trust its value, set it in your own environment",
                )


def pins(env: Mapping[str, str]) -> dict[str, str]:
    """Return the variables for the run's own layer: as the user has them, otherwise empty."""
    own = user_file(env)
    theirs = reaching(own) if own is not None else {}
    return {name: theirs.get(name, env.get(name, "")) for name in PINNED}


def has_hooks_before_calls(path: Path) -> bool:
    """Tell whether a settings file brings hooks of its own that may change a call after it was judged."""
    hooks = settings_in(path).get("hooks")
    return isinstance(hooks, dict) and bool(hooks.get("PreToolUse"))


class SettingsGuard:
    """Guards the settings files: no variable that reaches the hooks may appear, or change, during the run."""

    def __init__(self, cwd: Path, env: Mapping[str, str]) -> None:
        own = user_file(env)
        paths = [*repository_files(cwd), *([own] if own is not None else [])]
        self._files = {path: (lstat_key(path.resolve()), reaching(path)) for path in paths}

    def __call__(self) -> str | None:
        """Say which one appeared."""
        for path, (key, before) in self._files.items():
            now = lstat_key(path.resolve())
            if now == key:
                continue
            found = reaching(path)
            new = sorted(name for name, value in found.items() if before.get(name) != value)
            if new:
                return f"{path.name} now sets {new[0]}, which could keep the agent's hooks from running"
            self._files[path] = (now, before)
        return None
