"""The bundled agent stands where a stranger's stands: standard library only, and a hook that fails denies."""

from __future__ import annotations

import ast
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from agentgov.harness import demo_agent

Settings = dict[str, Any]


def settings(**commands: str) -> Settings:
    return {"hooks": {event: [{"hooks": [{"command": command}]}] for event, command in commands.items()}}


def test_it_imports_the_standard_library_only() -> None:
    tree = ast.parse(Path(demo_agent.__file__).read_text())
    names = {
        (node.module or "") if isinstance(node, ast.ImportFrom) else alias.name
        for node in ast.walk(tree)
        if isinstance(node, (ast.Import, ast.ImportFrom))
        for alias in node.names
    }
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize(
    ("command", "reason"),
    [
        ("echo 'rule x' >&2; exit 2", "rule x"),
        ("exit 1", "a hook failed with 1"),
        ("kill -9 $$", "a hook failed with -9"),
        ("/no/such/program", "not found"),
        (
            """echo '{"hookSpecificOutput":{"permissionDecision":"deny","permissionDecisionReason":"no"}}'""",
            "no",
        ),
    ],
)
def test_a_hook_that_fails_or_says_no_denies(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: str, reason: str
) -> None:
    monkeypatch.chdir(tmp_path)
    step = {"tool": "Bash", "input": {"command": "echo ran > ran"}}
    assert reason in str(demo_agent.run_hooks(settings(PreToolUse=command), "PreToolUse", {}))
    demo_agent.call(settings(PreToolUse=command), step)
    assert not (tmp_path / "ran").exists()


def test_a_hook_that_says_nothing_allows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo_agent.run_hooks(settings(PreToolUse="cat > /dev/null"), "PreToolUse", {}) is None
    assert demo_agent.run_hooks(settings(), "PreToolUse", {}) is None


def test_the_hooks_hear_of_the_call_its_actor_and_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    heard = settings(
        **{name: f"cat >> {tmp_path}/{name}" for name in ("PreToolUse", "PostToolUse", "PostToolUseFailure")}
    )
    demo_agent.call(heard, {"tool": "Bash", "input": {"command": "echo out"}, "agent": "sub"})
    before = json.loads((tmp_path / "PreToolUse").read_text())
    after = json.loads((tmp_path / "PostToolUse").read_text())
    assert (before["tool_name"], before["agent_id"], before["agent_type"]) == ("Bash", "sub", "sub")
    assert before["tool_use_id"] == after["tool_use_id"]
    assert after["tool_response"] == {"stdout": "out\n", "stderr": "", "exit_code": 0}
    demo_agent.call(heard, {"tool": "Read", "input": {"file_path": "nowhere"}})
    failed = json.loads((tmp_path / "PostToolUseFailure").read_text())
    assert "nowhere" in failed["error"]


def test_the_tools_do_what_they_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert demo_agent.run_tool("Write", {"file_path": "a/b", "content": "one two"}) == {"written": 7}
    edit = {"file_path": "a/b", "old_string": "two", "new_string": "2"}
    assert demo_agent.run_tool("Edit", edit) == {"replaced": 1}
    assert demo_agent.run_tool("Read", {"file_path": "a/b"}) == {"content": "one 2"}
    with pytest.raises(ValueError, match="exactly once"):
        demo_agent.run_tool("Edit", edit)
    with pytest.raises(ValueError, match="no tool Teleport"):
        demo_agent.run_tool("Teleport", {"file_path": "x"})


def test_a_call_that_makes_no_sense_fails_and_the_script_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    script, hooks = tmp_path / "script.json", tmp_path / "settings.json"
    script.write_text(json.dumps([{"tool": "Teleport", "input": {}}, {"say": "still here"}]))
    hooks.write_text(json.dumps(settings()))
    assert demo_agent.main([str(script), "--settings", str(hooks)]) == 0
    out = capsys.readouterr().out
    assert "failed: " in out
    assert out.endswith("still here\n")
