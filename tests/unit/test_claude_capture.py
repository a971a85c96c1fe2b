"""Claude Code's adapter, against payloads that the real agent sent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agentgov.calls import Verdict
from agentgov.errors import UsageError
from agentgov.harness.capture import claude_log
from agentgov.harness.capture.base import BrokenEventError, CaptureContext
from agentgov.harness.capture.claude import ClaudeCapture
from agentgov.harness.capture.registry import find_capture

FIXTURES = Path(__file__).parents[1] / "fixtures" / "claude"
EVENTS = [json.loads(line) for line in (FIXTURES / "2.1.329.jsonl").read_text().splitlines()]
DENY = Verdict("deny", ("keep",), "0" * 64, "would delete", ".agentgov.toml:3", ())


def context(tmp_path: Path, **env: str) -> CaptureContext:
    return CaptureContext(
        socket=tmp_path / "it's.sock",
        recorder_pid=4711,
        private_dir=tmp_path,
        python=sys.executable,
        timeout_program="/usr/bin/timeout",
        hook_timeout_seconds=630,
        cwd=tmp_path,
        env=env,
    )


@pytest.fixture
def claude(tmp_path: Path) -> ClaudeCapture:
    return ClaudeCapture(managed_settings=tmp_path / "managed.json")


def prepared_settings(claude: ClaudeCapture, tmp_path: Path, *argv: str) -> dict[str, Any]:
    prepared = claude.prepare(argv, context(tmp_path))
    at = list(prepared.argv).index("--settings")
    loaded: dict[str, Any] = json.loads(Path(prepared.argv[at + 1]).read_text())
    return loaded


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: f"{e['hook_event_name']}-{e.get('tool_name', '')}")
def test_each_event_of_the_real_agent_is_understood(claude: ClaudeCapture, event: dict[str, Any]) -> None:
    parsed = claude.parse(event["hook_event_name"], json.dumps(event).encode())
    assert parsed.kind != "other"
    assert parsed.session_id == event["session_id"]
    assert parsed.actor_id == event.get("agent_id")
    assert (parsed.call is not None) == ("tool_use_id" in event)
    if parsed.call is not None:
        assert parsed.call.call_id == event["tool_use_id"]
        assert parsed.call.kind in ("shell", "read", "edit", "write", "agent")


def test_a_call_of_a_sub_agent_and_its_start_are_told_apart(claude: ClaudeCapture) -> None:
    parsed = [claude.parse(e["hook_event_name"], json.dumps(e).encode()) for e in EVENTS]
    started = next(e.spawned_id for e in parsed if e.spawned_id)
    by_it = [e for e in parsed if e.call and e.kind == "pre" and e.call.actor_id == started]
    assert [e.call.command for e in by_it if e.call] == ["echo sub > sub.txt"]


def test_paths_and_commands_are_announced(claude: ClaudeCapture) -> None:
    calls = [claude.parse(e["hook_event_name"], json.dumps(e).encode()).call for e in EVENTS]
    by_tool = {call.tool: call for call in calls if call is not None}
    assert by_tool["Read"].reads == ("/repo/a.txt",)
    assert by_tool["Edit"].writes == ("/repo/a.txt",)
    assert by_tool["Write"].writes == ("/repo/c.txt",)
    assert by_tool["Bash"].command


def test_an_unknown_tool_with_a_command_line_is_judged_as_a_shell(claude: ClaudeCapture) -> None:
    raw = {"hook_event_name": "PreToolUse", "tool_name": "NewShell", "tool_use_id": "t", "cwd": "/repo"}
    parsed = claude.parse("PreToolUse", json.dumps({**raw, "tool_input": {"command": "ls"}}).encode())
    assert parsed.call is not None
    assert (parsed.call.kind, parsed.call.command) == ("shell", "ls")


@pytest.mark.parametrize(
    "change",
    [
        {"tool_name": None},
        {"tool_use_id": ""},
        {"tool_input": []},
        {"cwd": "relative"},
        {"cwd": None},
        {"agent_id": 3},
        {"hook_event_name": "PostToolUse"},
    ],
)
def test_an_event_that_lacks_what_is_needed_is_refused(claude: ClaudeCapture, change: dict[str, Any]) -> None:
    good = next(e for e in EVENTS if e["hook_event_name"] == "PreToolUse")
    with pytest.raises(BrokenEventError):
        claude.parse("PreToolUse", json.dumps({**good, **change}).encode())


@pytest.mark.parametrize("raw", [b"", b"null", b"\xff", b"[" * 100_000, b"[" * 500 + b"]" * 500])
def test_what_is_not_an_event_is_refused(claude: ClaudeCapture, raw: bytes) -> None:
    with pytest.raises(BrokenEventError):
        claude.parse("PreToolUse", raw)


def test_hooks_are_injected_for_all_tools_and_pinned_on(claude: ClaudeCapture, tmp_path: Path) -> None:
    settings = prepared_settings(claude, tmp_path, "claude", "-p", "x")
    assert settings["disableAllHooks"] is False
    assert settings["hooks"]["PreToolUse"][0]["matcher"] == "*"
    hook = settings["hooks"]["PreToolUse"][0]["hooks"][0]
    assert hook["timeout"] > 630


def test_the_settings_file_is_private_and_outside_the_command_of_the_user(
    claude: ClaudeCapture, tmp_path: Path
) -> None:
    prepared = claude.prepare(["claude", "-p", "--", "--settings"], context(tmp_path))
    assert list(prepared.argv) == ["claude", "--settings", str(prepared.files[0]), "-p", "--", "--settings"]
    assert prepared.files[0].stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("form", ["text", "file", "joined"])
def test_the_users_own_settings_are_kept(claude: ClaudeCapture, tmp_path: Path, form: str) -> None:
    theirs = {"model": "m", "disableAllHooks": True, "hooks": {"PreToolUse": [{"hooks": []}], "X": [1]}}
    (tmp_path / "mine.json").write_text(json.dumps(theirs))
    argv = {
        "text": ["--settings", json.dumps(theirs)],
        "file": ["--settings", "mine.json"],
        "joined": ["--settings=mine.json"],
    }[form]
    settings = prepared_settings(claude, tmp_path, "claude", *argv, "-p")
    assert settings["model"] == "m"
    assert settings["disableAllHooks"] is False
    assert settings["hooks"]["X"] == [1]
    assert len(settings["hooks"]["PreToolUse"]) == 2
    assert json.loads((tmp_path / "mine.json").read_text()) == theirs


@pytest.mark.parametrize(
    "argv", [["--bare"], ["-p", "--safe-mode"], ["--bg", "x"], ["--cloud=x"], ["attach", "1"], ["--tmux"]]
)
def test_what_hides_calls_is_refused(claude: ClaudeCapture, tmp_path: Path, argv: list[str]) -> None:
    with pytest.raises(UsageError):
        claude.prepare(["claude", *argv], context(tmp_path))


@pytest.mark.parametrize("name", ["CLAUDE_CODE_SIMPLE", "CLAUDE_CODE_SAFE_MODE"])
def test_variables_that_hide_calls_are_refused(claude: ClaudeCapture, tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError):
        claude.prepare(["claude"], context(tmp_path, **{name: "1"}))


@pytest.mark.parametrize("key", ["disableAllHooks", "allowManagedHooksOnly"])
def test_managed_settings_that_forbid_hooks_are_refused(
    claude: ClaudeCapture, tmp_path: Path, key: str
) -> None:
    (tmp_path / "managed.json").write_text(json.dumps({key: True}))
    with pytest.raises(UsageError):
        claude.prepare(["claude"], context(tmp_path))


@pytest.mark.parametrize("raw", ["{", "nowhere.json", "[1]", '{"hooks": 3}'])
def test_settings_that_cannot_be_merged_are_an_error(claude: ClaudeCapture, tmp_path: Path, raw: str) -> None:
    with pytest.raises(UsageError):
        claude.prepare(["claude", "--settings", raw], context(tmp_path))


def test_a_denial_is_said_in_json_and_an_allowance_not_at_all(claude: ClaudeCapture) -> None:
    said = claude.answer("PreToolUse", DENY, "because")
    assert said.exit_code == 0
    specific = json.loads(said.stdout)["hookSpecificOutput"]
    assert (specific["permissionDecision"], specific["permissionDecisionReason"]) == ("deny", "because")
    allow = Verdict("allow", (), "0" * 64, "", "", ())
    assert claude.answer("PreToolUse", allow, "").stdout == b""


@pytest.mark.parametrize(
    ("event", "expected"), [("PreToolUse", 2), ("PostToolUse", 2), ("Stop", 0), ("SessionStart", 0)]
)
def test_a_hook_without_a_recorder_fails_closed_around_calls_only(
    claude: ClaudeCapture, tmp_path: Path, event: str, expected: int
) -> None:
    settings = prepared_settings(claude, tmp_path, "claude")
    command = settings["hooks"][event][0]["hooks"][0]["command"]
    done = subprocess.run(["/bin/sh", "-c", command], input=b"{}", capture_output=True, check=False)
    assert done.returncode == expected
    assert expected == 0 or b"denied" in done.stderr


def test_a_missing_interpreter_fails_closed_with_a_reason(claude: ClaudeCapture, tmp_path: Path) -> None:
    settings = prepared_settings(claude, tmp_path, "claude")
    command = settings["hooks"]["PreToolUse"][0]["hooks"][0]["command"].replace(sys.executable, "/gone")
    done = subprocess.run(["/bin/sh", "-c", command], input=b"{}", capture_output=True, check=False)
    assert (done.returncode, b"denied" in done.stderr) == (2, True)


@pytest.mark.parametrize(
    ("argv", "agent", "name"),
    [
        (["claude", "-p"], None, "claude"),
        (["/opt/bin/claude"], None, "claude"),
        (["make"], None, "make"),
        (["./odd name"], None, "command"),
        (["claude"], "files-only", "claude"),
        (["x"], "demo", "demo"),
    ],
)
def test_the_adapter_follows_the_command_or_the_name_given(
    argv: list[str], agent: str | None, name: str
) -> None:
    assert find_capture(argv, agent).name == name


def test_an_unknown_agent_is_an_error() -> None:
    with pytest.raises(UsageError):
        find_capture(["x"], "nobody")


def test_results_and_model_are_read_from_the_session_log(tmp_path: Path) -> None:
    log = tmp_path / "s.jsonl"
    result = {"message": {"content": [{"type": "tool_result", "tool_use_id": "t1"}]}}
    model = {"message": {"model": "claude-x-1", "content": [{"type": "tool_use", "id": "t2"}]}}
    log.write_text(json.dumps(result) + "\n" + json.dumps(model, separators=(",", ":")) + "\n{cut")
    assert claude_log.results_in(log, {"t1", "t2"}) == {"t1"}
    assert claude_log.model_in(log) == "claude-x-1"


def test_a_log_that_is_a_pipe_or_not_there_says_nothing(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "p.jsonl")
    assert claude_log.results_in(tmp_path / "p.jsonl", {"t"}) == set()
    assert claude_log.model_in(tmp_path / "none.jsonl") is None
    assert claude_log.log_of("/x/s.jsonl", "../../etc") is None
