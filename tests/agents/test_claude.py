"""The real Claude Code under the record, headless, against a scripted model on the loopback address."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from agentgov.harness.request import RunOutcome
from agentgov.layout import StateHome
from tests.conftest import MakeRepo
from tests.model_server import Call, ModelServer, Turn
from tests.support.running import Heard, Record, run

BIN = Path(__file__).parents[2] / ".agents" / "node_modules" / ".bin"
CLAUDE = shutil.which("claude", path=f"{BIN}:{os.environ.get('PATH', '')}")
pytestmark = [
    pytest.mark.agents,
    pytest.mark.timeout(300),
    pytest.mark.skipif(CLAUDE is None, reason="claude is not installed (make test-agents installs it)"),
]
POLICY = """
[[policy.rule]]
id = "keep-important"
effect = "deny"
action = "fs.delete"
paths = ["important/**"]
reason = "it is important"
"""
ALLOW = {"permissions": {"allow": ["Bash", "Edit", "Write", "Read", "Agent"]}}


def agent_env(home: Path, server: ModelServer, **more: str) -> dict[str, str]:
    """The environment a user would start Claude with."""
    return {
        **os.environ,
        "PATH": f"{BIN}:{os.environ['PATH']}",
        "ANTHROPIC_BASE_URL": server.url,
        "ANTHROPIC_API_KEY": "sk-ant-test",
        "CLAUDE_CONFIG_DIR": str(home / "claude"),
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        **more,
    }


def claude(
    repo: Path,
    state: StateHome,
    home: Path,
    turns: Sequence[Turn],
    heard: Heard | None = None,
    settings: dict[str, object] | None = None,
    **conversations: Sequence[Turn],
) -> RunOutcome:
    """Let Claude play a script in a repository."""
    with ModelServer({"KEYMAIN": turns, **conversations}) as server:
        argv = ["claude", "-p", "KEYMAIN go", "--output-format", "stream-json", "--verbose"]
        argv += ["--settings", json.dumps(settings or ALLOW)]
        return run(repo, state, argv, heard, env=agent_env(home, server), workspace="in-place")


def bash(command: str) -> Call:
    return Call("Bash", {"command": command})


def test_every_call_is_recorded_with_its_arguments_result_and_files(
    make_repo: MakeRepo, state: StateHome, home: Path
) -> None:
    repo = make_repo(files={"a.txt": "one\n", "important/x": "x\n"})
    path = str(repo / "a.txt")
    outcome = claude(
        repo,
        state,
        home,
        [
            Turn(calls=[bash("echo hi > b.txt")]),
            Turn(calls=[Call("Read", {"file_path": path})]),
            Turn(calls=[Call("Edit", {"file_path": path, "old_string": "one", "new_string": "two"})]),
            Turn(calls=[Call("Write", {"file_path": str(repo / "c.txt"), "content": "c\n"})]),
            Turn(calls=[bash("exit 3")]),
            Turn("finished"),
        ],
    )
    assert (outcome.exit_code, outcome.state, outcome.calls, outcome.ran) == (0, "finished", 5, 5)
    assert outcome.warnings == []
    assert outcome.lines_with_call == outcome.lines
    assert outcome.model is not None
    assert outcome.info.agent_version is not None
    record = Record(repo, state)
    record.assert_sequence(outcome.info.run)
    calls = record.of(outcome.info.run).calls
    assert [call.tool for call in calls.values()] == ["Bash", "Read", "Edit", "Write", "Bash"]
    assert [call.status for call in calls.values()] == ["ok", "ok", "ok", "ok", "error"]
    said = [json.loads(record.payload(outcome.info.run, c.request.body["args"])) for c in calls.values()]
    assert said[0]["input"]["command"] == "echo hi > b.txt"
    assert said[1]["model"] == outcome.model
    result = calls[5].result
    assert result is not None
    assert b"3" in record.payload(outcome.info.run, result.body["output"])
    trees = [call.tree_after for call in calls.values()]
    assert record.file(trees[0], "b.txt") == b"hi\n"
    assert record.file(trees[1], "a.txt") == b"one\n"
    assert record.file(trees[2], "a.txt") == b"two\n"
    assert record.file(trees[2], "c.txt") is None
    assert record.file(trees[3], "c.txt") == b"c\n"


def test_a_forbidden_call_does_not_run_and_the_model_is_told_why(
    make_repo: MakeRepo, state: StateHome, home: Path
) -> None:
    repo = make_repo(files={"important/x": "x\n", ".agentgov.toml": POLICY})
    turns = [Turn(calls=[bash("rm -rf important/")]), Turn(calls=[bash("echo on > on.txt")]), Turn("ok")]
    with ModelServer({"KEYMAIN": turns}) as server:
        argv = ["claude", "-p", "KEYMAIN", "--settings", json.dumps(ALLOW)]
        outcome = run(repo, state, argv, env=agent_env(home, server), workspace="in-place")
        told = json.dumps([seen.body for seen in server.seen if seen.query.assistant_turns == 1])
    assert (repo / "important" / "x").exists()
    assert (repo / "on.txt").exists()
    assert [(denied.n, denied.what) for denied in outcome.denied] == [(1, "rm -rf important/")]
    assert "agentgov denied this call: rule keep-important" in told
    calls = Record(repo, state).of(outcome.info.run).calls
    assert [call.status for call in calls.values()] == ["denied", "ok"]


def test_calls_at_once_are_open_together_and_each_has_its_result(
    make_repo: MakeRepo, state: StateHome, home: Path
) -> None:
    repo = make_repo(files={"a.txt": "a\n", "b.txt": "b\n"})
    pair = [bash("cat a.txt; sleep 0.5"), bash("cat b.txt; sleep 0.5")]
    outcome = claude(repo, state, home, [Turn(calls=pair), Turn("finished")])
    record = Record(repo, state)
    opened = [step.open for step in record.of(outcome.info.run).steps if step.kind == "call.result"]
    assert sorted(map(len, opened)) == [1, 2]
    assert [call.status for call in record.of(outcome.info.run).calls.values()] == ["ok", "ok"]


@pytest.mark.parametrize("background", [True, False])
def test_a_sub_agents_calls_are_its_own(
    make_repo: MakeRepo, state: StateHome, home: Path, background: bool
) -> None:
    repo = make_repo()
    task = {"description": "sub", "prompt": "KEYSUB do", "subagent_type": "general-purpose"}
    outcome = claude(
        repo,
        state,
        home,
        [Turn(calls=[Call("Agent", {**task, "run_in_background": background})]), Turn("finished")],
        KEYSUB=[Turn(calls=[bash("echo sub > sub.txt")]), Turn("sub done")],
    )
    record = Record(repo, state)
    seen = record.of(outcome.info.run)
    by_tool = {call.tool: call for call in seen.calls.values()}
    assert (by_tool["Agent"].actor, by_tool["Bash"].actor) == (0, 1)
    who = json.loads(record.payload(outcome.info.run, seen.actors[1].body["who"]))
    assert who["type"] == "general-purpose"
    assert seen.actors[1].body["parent"] == 0
    result = by_tool["Bash"].result
    assert result is not None
    changes = json.loads(record.payload(outcome.info.run, result.body["changes"]))
    assert [(file["path"], file["calls"]) for file in changes["files"]] == [("sub.txt", [by_tool["Bash"].n])]


def test_a_call_that_claude_itself_refuses_does_not_stay_open(
    make_repo: MakeRepo, state: StateHome, home: Path
) -> None:
    repo = make_repo()
    outcome = claude(
        repo,
        state,
        home,
        [Turn(calls=[bash("curl http://127.0.0.1:1/")]), Turn(calls=[bash("echo x > x.txt")]), Turn("end")],
        settings={"permissions": {"allow": ["Bash(echo *)", "Write"]}},
    )
    calls = Record(repo, state).of(outcome.info.run).calls
    assert calls[1].status == "interrupted"
    assert outcome.unrecorded == 0


def test_a_repository_cannot_switch_the_hooks_off(make_repo: MakeRepo, state: StateHome, home: Path) -> None:
    off = '{"disableAllHooks": true}'
    repo = make_repo(
        files={".claude/settings.json": off, ".claude/settings.local.json": off, "important/x": "x"}
    )
    outcome = claude(repo, state, home, [Turn(calls=[bash("echo x > x.txt")]), Turn("finished")])
    assert (outcome.calls, outcome.saw_hooks) == (1, True)


def test_the_users_settings_are_byte_identical(make_repo: MakeRepo, state: StateHome, home: Path) -> None:
    mine = home / "claude" / "settings.json"
    mine.parent.mkdir()
    mine.write_text('{"permissions": {"allow": ["Bash"]}}')
    repo = make_repo(files={".claude/settings.json": "{}"})
    claude(repo, state, home, [Turn(calls=[bash("true")]), Turn("finished")])
    assert mine.read_text() == '{"permissions": {"allow": ["Bash"]}}'
    status = subprocess.run(["git", "status", "--porcelain"], cwd=repo, capture_output=True, check=True)
    assert status.stdout == b""
