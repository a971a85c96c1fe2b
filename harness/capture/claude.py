"""Claude Code, observed and stopped through hooks that are passed in with ``--settings``.

Rules kept here (each was tried on the versions in ``TESTED_VERSIONS``):
- Nothing of the user's is changed: their own ``--settings`` are merged into a file of this run.
- ``disableAllHooks`` is pinned to false in that layer, which wins over a repository's ``.claude`` files; what
  switches hooks off all the same (``--bare``, ``--safe-mode``, their variables, managed settings) is
  refused, and so is what takes the session out of the run (``--background``, ``--cloud`` ...).
- No settings file, at the start or later, reaches into the hook command (``claude_settings``); the command
  talks to the recorder's process only.
- The hook before a call fails closed by itself: Claude runs a call whose hook timed out, crashed or printed
  garbage.
- On allow nothing is printed: an explicit allow would skip the user's own prompts. ``ask`` is never printed.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from agentgov.calls import CallKind, ToolCall, Verdict
from agentgov.errors import UsageError
from agentgov.files import write_atomic
from agentgov.harness.capture import claude_log, claude_settings
from agentgov.harness.capture.base import (
    BrokenEventError,
    CaptureContext,
    HookAnswer,
    HookEvent,
    HookKind,
    Prepared,
)
from agentgov.harness.guarding import Unchanged
from agentgov.text import printable

TESTED_VERSIONS = ("2.1.329",)
HOOK_CLIENT = Path(__file__).with_name("hook_client.py")
MAX_DEPTH = 100
MANAGED_SETTINGS = Path("/etc/claude-code/managed-settings.json")

_EVENTS: Mapping[str, HookKind] = {
    "PreToolUse": "pre",
    "PostToolUse": "post",
    "PostToolUseFailure": "post-failed",
    "SessionStart": "session",
    "SubagentStart": "subagent-start",
    "SubagentStop": "subagent-stop",
    "Stop": "turn-end",
}
_TOOL_EVENTS = frozenset({"PreToolUse", "PostToolUse", "PostToolUseFailure"})
_NO_HOOKS = frozenset({"--bare", "--safe-mode"})
_LEAVES_THE_RUN = frozenset(
    {"--bg", "--background", "--cloud", "--desktop", "--teleport", "--tmux", "--environment"}
)
_LEAVING_COMMANDS = frozenset({"attach", "respawn"})
_NO_HOOKS_ENV = ("CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_SAFE_MODE")
_OTHER_EVENT_SECONDS = 20
_MARGIN_SECONDS = 30
_KINDS: Mapping[str, CallKind] = {
    "Bash": "shell",
    "PowerShell": "shell",
    "Monitor": "shell",
    "Write": "write",
    "Edit": "edit",
    "MultiEdit": "edit",
    "NotebookEdit": "edit",
    "Read": "read",
    "LS": "read",
    "Glob": "search",
    "Grep": "search",
    "WebFetch": "fetch",
    "WebSearch": "fetch",
    "Task": "agent",
    "Agent": "agent",
}
_VERSION = re.compile(rb"\b(\d{1,4}(?:\.\d{1,6}){1,3}(?:-[0-9A-Za-z.]{1,20})?)\b")


class ClaudeCapture:
    """Claude Code."""

    name = "claude"
    program = "claude"

    def __init__(self, managed_settings: Path = MANAGED_SETTINGS) -> None:
        self._managed_settings = managed_settings

    def recognise(self, argv: Sequence[str]) -> bool:
        """Tell whether a command starts Claude Code."""
        return bool(argv) and Path(argv[0]).name == self.program

    def is_headless(self, argv: Sequence[str]) -> bool:
        """Tell whether ``-p`` or ``--print`` is among the options."""
        return any(word in ("-p", "--print") for word in _options(argv))

    def version_command(self, argv: Sequence[str]) -> Sequence[str] | None:
        """Return ``claude --version``."""
        return [*argv[: _program_at(argv) + 1], "--version"]

    def parse_version(self, raw_output: bytes) -> str | None:
        """Read "2.1.329 (Claude Code)"."""
        found = _VERSION.search(raw_output[:200])
        return found.group(1).decode("ascii") if found else None

    def prepare(self, argv: Sequence[str], context: CaptureContext) -> Prepared:
        """Write the run's settings file and name it in the command.

        Raises:
            UsageError: A flag, variable or managed setting switches hooks off, or the user's settings are
            unreadable.
        """
        self._refuse_what_hides_calls(argv, context.env)
        claude_settings.refuse_reaching(context.cwd, context.env)
        at = _program_at(argv)
        rest, raw_settings = _take_settings(argv)
        settings = _read_settings(raw_settings, context.cwd) if raw_settings is not None else {}
        path = context.private_dir / "claude-settings.json"
        write_atomic(
            path, json.dumps(_with_hooks(self.name, settings, context), indent=1).encode(), mode=0o600
        )
        return Prepared(
            argv=self.with_settings(rest, at, path),
            hooks=True,
            files=(path,),
            warnings=[
                f"{printable(str(theirs))} brings hooks of its own: they run as you, and may change a call "
                "after it was judged"
                for theirs in claude_settings.repository_files(context.cwd)
                if claude_settings.has_hooks_before_calls(theirs)
            ],
            guards=(
                Unchanged((path, HOOK_CLIENT)),
                claude_settings.SettingsGuard(context.cwd, context.env),
            ),
        )

    def with_settings(self, argv: Sequence[str], program_at: int, settings: Path) -> list[str]:
        """Return the command with the run's settings named in it."""
        return [*argv[: program_at + 1], "--settings", str(settings), *argv[program_at + 1 :]]

    def parse(self, event: str, raw: bytes) -> HookEvent:
        """Read one hook event.

        Raises:
            BrokenEventError: It is not JSON, or a field that is needed is missing or of another type.
        """
        try:
            fields = json.loads(raw)
        except (ValueError, RecursionError):
            raise BrokenEventError("the hook's input is not JSON") from None
        if _is_deeper_than(fields, MAX_DEPTH):
            raise BrokenEventError("the hook's input is nested too deeply")
        if not isinstance(fields, dict) or fields.get("hook_event_name", event) != event:
            raise BrokenEventError("the hook's input is not an event of that name")
        kind = _EVENTS.get(event, "other")
        common: dict[str, Any] = {
            "session_id": _optional_text(fields, "session_id"),
            "actor_id": _optional_text(fields, "agent_id"),
            "actor_type": _optional_text(fields, "agent_type"),
            "model": _optional_text(fields, "model"),
            "transcript": _optional_text(fields, "transcript_path"),
        }
        if kind not in ("pre", "post", "post-failed"):
            return HookEvent(kind, **common)
        call = _parse_call(fields, common)
        if kind == "pre":
            return HookEvent(kind, call, **common)
        if kind == "post-failed":
            output = str(fields.get("error", "")).encode("utf-8", "surrogatepass")
            return HookEvent(kind, call, output, fields.get("is_interrupt") is True, **common)
        response = fields.get("tool_response")
        text = response if isinstance(response, str) else json.dumps(response, ensure_ascii=False)
        spawned = response.get("agentId") if isinstance(response, dict) else None
        return HookEvent(
            kind,
            call,
            text.encode("utf-8", "surrogatepass"),
            isinstance(response, dict) and response.get("interrupted") is True,
            spawned_id=spawned if isinstance(spawned, str) else None,
            **common,
        )

    def settled_calls(self, event: HookEvent, open_ids: Collection[str]) -> set[str]:
        """Look the open calls up in the session log of the actor that sent `event`."""
        path = claude_log.log_of(event.transcript, event.actor_id)
        return claude_log.results_in(path, open_ids) if path is not None else set()

    def ran_calls(self, transcripts: Collection[str], since_us: int) -> set[str]:
        """Look through the logs of the sessions and of their sub-agents."""
        paths = {path for transcript in transcripts for path in claude_log.logs_of_session(transcript)}
        return {call_id for path in paths for call_id in claude_log.ran_in(path, since_us)}

    def model_of(self, event: HookEvent) -> str | None:
        """Look the model up in the session log."""
        path = claude_log.log_of(event.transcript, event.actor_id)
        return event.model or (claude_log.model_in(path) if path is not None else None)

    def answer(self, event: str, verdict: Verdict | None, message: str) -> HookAnswer:
        """Deny by JSON and exit 0; say nothing otherwise."""
        if verdict is None or verdict.decision == "allow" or event != "PreToolUse":
            return HookAnswer()
        said = {
            "hookSpecificOutput": {
                "hookEventName": "PreToolUse",
                "permissionDecision": "deny",
                "permissionDecisionReason": message,
            }
        }
        return HookAnswer(stdout=json.dumps(said).encode())

    def _refuse_what_hides_calls(self, argv: Sequence[str], env: Mapping[str, str]) -> None:
        words = [word.split("=", 1)[0] for word in _options(argv)]
        for word in words:
            if word in _NO_HOOKS:
                raise UsageError(
                    f"claude {word} switches its hooks off, so its calls could not be recorded",
                    id="AG0061",
                    hint=f"leave {word} out",
                )
            if word in _LEAVES_THE_RUN or (word == words[0] and word in _LEAVING_COMMANDS):
                raise UsageError(
                    f"claude {word} moves the session out of this run", id="AG0062", hint=f"leave {word} out"
                )
        for name in _NO_HOOKS_ENV:
            if env.get(name):
                raise UsageError(
                    f"{name} switches claude's hooks off, so its calls could not be recorded",
                    id="AG0061",
                    hint=f"unset {name}",
                )
        try:
            managed = json.loads(self._managed_settings.read_bytes())
        except (OSError, ValueError):
            return
        for key in ("disableAllHooks", "allowManagedHooksOnly"):
            if isinstance(managed, dict) and managed.get(key) is True:
                raise UsageError(
                    f"{key} in claude's managed settings keeps agentgov's hooks from running",
                    id="AG0063",
                    where=str(self._managed_settings),
                )


def _program_at(argv: Sequence[str]) -> int:
    """Where Claude stands in a command such as ``env X=1 claude -p``; first, if it goes by another name."""
    return next((index for index, word in enumerate(argv) if Path(word).name == ClaudeCapture.program), 0)


def _options(argv: Sequence[str]) -> list[str]:
    words = list(argv[_program_at(argv) + 1 :])
    return words[: words.index("--")] if "--" in words else words


def _take_settings(argv: Sequence[str]) -> tuple[list[str], str | None]:
    """Split the user's own ``--settings`` from a command; the last one counts, as for Claude itself."""
    index = _program_at(argv) + 1
    end = index + len(_options(argv))
    rest, raw_settings = list(argv[:index]), None
    while index < end:
        word = argv[index]
        if word == "--settings" and index + 1 < end:
            raw_settings = argv[index + 1]
            index += 1
        elif word.startswith("--settings="):
            raw_settings = word.partition("=")[2]
        else:
            rest.append(word)
        index += 1
    return [*rest, *argv[end:]], raw_settings


def _read_settings(raw_settings: str, cwd: Path) -> dict[str, Any]:
    is_text = raw_settings.lstrip().startswith("{")
    where = "--settings" if is_text else raw_settings
    try:
        settings = json.loads(raw_settings if is_text else (cwd / raw_settings).read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise UsageError(f"claude's settings cannot be read: {error}", id="AG0064", where=where) from None
    if not isinstance(settings, dict) or not isinstance(settings.get("hooks", {}), dict):
        raise UsageError("claude's settings are not a JSON object with hooks", id="AG0064", where=where)
    return settings


def _with_hooks(agent: str, settings: Mapping[str, Any], context: CaptureContext) -> dict[str, Any]:
    hooks = dict(settings.get("hooks", {}))
    for event in _EVENTS:
        seconds = context.hook_timeout_seconds if event in _TOOL_EVENTS else _OTHER_EVENT_SECONDS
        group: dict[str, Any] = {
            "hooks": [
                {
                    "type": "command",
                    "command": hook_command(agent, context, event, seconds),
                    "timeout": seconds + _MARGIN_SECONDS,
                }
            ]
        }
        if event in _TOOL_EVENTS:
            group["matcher"] = "*"
        theirs = hooks.get(event, [])
        hooks[event] = [group, *(theirs if isinstance(theirs, list) else [])]
    theirs = settings.get("env")
    env = {**claude_settings.pins(context.env), **(theirs if isinstance(theirs, dict) else {})}
    return {**settings, "env": env, "disableAllHooks": False, "hooks": hooks}


def hook_command(agent: str, context: CaptureContext, event: str, seconds: int) -> str:
    """Return the shell line of one hook.

    Before and after a call it fails closed. Elsewhere exit 2 would mean something else (``Stop`` would keep
    Claude from ending), and nothing has to be stopped there.
    """
    words = [
        *(context.timeout_program, "-k", "5", str(seconds)),
        *(context.python, "-I", "-S", str(HOOK_CLIENT)),
        *(str(context.socket), str(context.recorder_pid), agent, event),
    ]
    line = shlex.join(words)
    if event in _TOOL_EVENTS:
        return f"{line} || {{ echo 'agentgov: hook failed, denied' >&2; exit 2; }}"
    return f"{line} || exit 0"


def _parse_call(fields: Mapping[str, Any], common: Mapping[str, Any]) -> ToolCall:
    tool, call_id, raw_input = (
        fields.get("tool_name"),
        fields.get("tool_use_id"),
        fields.get("tool_input", {}),
    )
    cwd = fields.get("cwd")
    if not (isinstance(tool, str) and tool and isinstance(call_id, str) and call_id):
        raise BrokenEventError("the hook's input names no tool or no call")
    if not isinstance(raw_input, dict) or not isinstance(cwd, str) or not cwd.startswith("/"):
        raise BrokenEventError("the hook's input has no arguments or no folder")
    command = raw_input.get("command")
    # An unknown tool that takes a command line is judged as a shell: a new name must not be a way around.
    kind = _KINDS.get(tool) or ("mcp" if tool.startswith("mcp__") else None)
    kind = kind or ("shell" if isinstance(command, str) else "other")
    paths = tuple(
        value
        for key in ("file_path", "notebook_path", "path")
        if isinstance(value := raw_input.get(key), str)
    )
    url = raw_input.get("url")
    return ToolCall(
        tool=tool,
        kind=kind,
        call_id=call_id,
        actor_id=common["actor_id"],
        actor_type=common["actor_type"],
        session_id=common["session_id"],
        cwd=Path(cwd),
        input=raw_input,
        command=command if kind == "shell" and isinstance(command, str) else None,
        reads=(paths or (".",)) if kind == "search" else (paths if kind == "read" else ()),
        writes=paths if kind in ("write", "edit") else (),
        urls=(url,) if isinstance(url, str) else (),
    )


def _is_deeper_than(value: Any, depth: int) -> bool:
    """Whether a JSON value nests deeper; what does could not be written down again."""
    level = [value]
    for _ in range(depth):
        level = [
            part
            for node in level
            if isinstance(node, (dict, list))
            for part in (node.values() if isinstance(node, dict) else node)
        ]
        if not level:
            return False
    return True


def _optional_text(fields: Mapping[str, Any], key: str) -> str | None:
    value = fields.get(key)
    if value is not None and not isinstance(value, str):
        raise BrokenEventError(f"the hook's input has a {key} that is not text")
    return value or None
