"""What the policy says to tools other than a shell, however they name what they act on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from agentgov.calls import Verdict
from agentgov.gates.places import Places
from agentgov.gates.policy import Judge, Policy
from agentgov.harness.capture.claude import ClaudeCapture

RULES = b"""
[[policy.rule]]
id = "keep"
effect = "deny"
action = ["fs.write", "fs.delete"]
paths = ["important/**"]
"""


class Asked:
    """Judges calls as Claude Code reports them."""

    def __init__(self, root: Path) -> None:
        self.root = root / "ws"
        for name in ("ws/important/a", "ws/.env", "ws/src/x.py", "home/.ssh/id_rsa", "ws/.git/config"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).write_text("x")
        (self.root / "link").symlink_to("important")
        (self.root / "plain.txt").symlink_to(".env")
        places = Places.of(self.root, home=root / "home", state_home=root / "state")
        self.judge = Judge([Policy.parse(RULES, source="base")], places)

    def __call__(self, tool: str, cwd: str = "", **arguments: Any) -> Verdict:
        raw = {
            "hook_event_name": "PreToolUse",
            "tool_name": tool,
            "tool_use_id": "1",
            "cwd": str(self.root / cwd),
            "tool_input": json.loads(json.dumps(arguments).replace("ROOT", str(self.root))),
        }
        call = ClaudeCapture().parse("PreToolUse", json.dumps(raw).encode()).call
        assert call is not None
        return self.judge.decide(call)


@pytest.fixture
def asked(tmp_path: Path) -> Asked:
    return Asked(tmp_path)


@pytest.mark.parametrize(("tool", "key"), [("Write", "file_path"), ("NotebookEdit", "notebook_path")])
@pytest.mark.parametrize(
    "path",
    [
        "important/a",
        "./src/../important/new",
        "link/new",
        "ROOT/important/a",
        "file://ROOT/important/a",
        "file://localhost/ROOT/%69mportant/a",
        "important/a\x00.md",
        "important//a",
        "/proc/self/cwd/important/a",
        "~/.gitconfig",
        ".git/../.git/hooks/pre-commit",
        "important/" + "../important/" * 500 + "a",
    ],
)
def test_a_path_is_judged_in_every_form(asked: Asked, tool: str, key: str, path: str) -> None:
    assert asked(tool, **{key: path}).decision == "deny"


def test_a_relative_path_starts_where_the_agent_is(asked: Asked) -> None:
    assert asked("Write", cwd="important", file_path="a").decision == "deny"
    assert asked("Write", cwd="src", file_path="a").decision == "allow"


@pytest.mark.parametrize(
    "arguments",
    [
        {"tool": "Read", "file_path": "~/.ssh/id_rsa"},
        {"tool": "Read", "file_path": "plain.txt"},
        {"tool": "Read", "file_path": ".env\x00.md"},
        {"tool": "Grep", "pattern": "KEY", "path": ".env"},
        {"tool": "Grep", "pattern": "KEY", "path": "~/.ssh"},
        {"tool": "Grep", "pattern": "KEY", "glob": "**/.env"},
        {"tool": "Grep", "pattern": "KEY", "glob": "{*.py,.env}"},
        {"tool": "Grep", "pattern": "KEY", "path": "ROOT", "glob": ".e*"},
        {"tool": "WebFetch", "url": "file://ROOT/.env", "prompt": "what is in it"},
        {"tool": "mcp__files__read_file", "path": ".env"},
        {"tool": "mcp__files__read_many", "paths": ["src/x.py", "~/.ssh/id_rsa"]},
        {"tool": "mcp__files__fetch", "options": {"uri": "file://ROOT/.env"}},
    ],
)
def test_a_secret_is_not_read_by_any_tool(asked: Asked, arguments: dict[str, Any]) -> None:
    assert asked(**arguments).rules == ("builtin-secrets",)


@pytest.mark.parametrize(
    "arguments",
    [
        {"tool": "mcp__files__write_file", "path": "important/a", "content": "x"},
        {"tool": "mcp__files__move_file", "source": "important/a", "destination": "b"},
        {"tool": "mcp__files__delete", "paths": ["important"]},
        {"tool": "mcp__shell__exec", "command": "rm -rf important"},
        {"tool": "mcp__shell__run", "args": {"cmd": "cd important && rm a"}},
        {"tool": "NewTool", "command": "rm -rf important"},
        {"tool": "PowerShell", "command": "Remove-Item -Recurse -Force important"},
    ],
)
def test_tools_that_nobody_listed_are_judged_by_their_arguments(
    asked: Asked, arguments: dict[str, Any]
) -> None:
    assert asked(**arguments).rules == ("keep",)


@pytest.mark.parametrize(
    "arguments",
    [
        {"tool": "Grep", "pattern": "important"},
        {"tool": "Grep", "pattern": "x", "glob": "*.{py,md}"},
        {"tool": "Grep", "pattern": "x", "glob": "**/*", "path": "src"},
        {"tool": "Glob", "pattern": "**/*.py"},
        {"tool": "Read", "file_path": "important/a"},
        {"tool": "WebFetch", "url": "https://example.org/.env", "prompt": "x"},
        {"tool": "mcp__files__read_file", "path": "important/a"},
        {"tool": "mcp__github__create_issue", "title": "rm -rf important", "body": "path: .env"},
        {"tool": "mcp__docs__search", "query": "important/a", "path": "/api/v1"},
        {"tool": "Agent", "prompt": "rm -rf important"},
        {"tool": "Write", "file_path": "src/new.py", "content": "rm -rf important"},
        {"tool": "TodoWrite", "todos": [{"content": "delete important/", "status": "pending"}]},
    ],
)
def test_ordinary_calls_of_tools_are_allowed(asked: Asked, arguments: dict[str, Any]) -> None:
    assert asked(**arguments).decision == "allow"


@pytest.mark.parametrize("path", ["", "\ud800", "a" * 10_000, "\x00", "file://", "~", "/proc/self/root"])
@pytest.mark.parametrize("tool", ["Write", "Read", "Grep", "mcp__files__delete"])
def test_no_path_makes_the_policy_stumble(asked: Asked, tool: str, path: str) -> None:
    key = {"Grep": "path", "mcp__files__delete": "path"}.get(tool, "file_path")
    assert asked(tool, **{key: path}).reason != "policy error"
