"""``run`` with an agent that speaks the real hook path: the bundled demonstration agent."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentgov.git import discover
from agentgov.harness import demo_agent
from agentgov.harness.control import Control
from agentgov.harness.request import RunOutcome
from agentgov.harness.state import live_runs
from agentgov.layout import StateHome
from tests.conftest import MakeRepo
from tests.support.running import Heard, Record, run

POLICY = """
[policy]
ask_timeout_seconds = 20
[[policy.rule]]
id = "keep-important"
effect = "deny"
action = "fs.delete"
paths = ["important/**"]
reason = "it is important"
[[policy.rule]]
id = "ask-first"
effect = "ask"
action = "fs.write"
paths = ["guarded/**"]
reason = "a person decides"
"""


def step(tool: str, agent: str | None = None, **given: Any) -> dict[str, Any]:
    return {"tool": tool, "input": given, **({} if agent is None else {"agent": agent})}


def demo(
    repo: Path,
    state: StateHome,
    steps: Sequence[dict[str, Any]],
    heard: Heard | None = None,
    **more: Any,
) -> RunOutcome:
    script = repo.parent / "script.json"
    script.write_text(json.dumps(steps))
    argv = [sys.executable, "-I", str(Path(demo_agent.__file__)), str(script)]
    return run(repo, state, argv, heard, agent="demo", **more)


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return make_repo(files={".agentgov.toml": POLICY, "important/x": "x\n", "a.txt": "one\n"})


@pytest.mark.parametrize("workspace", ["clone", "in-place"])
def test_calls_are_recorded_judged_and_tied_to_what_they_changed(
    repo: Path, state: StateHome, workspace: str
) -> None:
    heard = Heard()
    outcome = demo(
        repo,
        state,
        [
            step("Bash", command="echo hi > b.txt"),
            step("Bash", command="rm -rf important/"),
            step("Edit", agent="sub1", file_path="a.txt", old_string="one", new_string="two"),
            step("Read", file_path="nowhere"),
        ],
        heard,
        workspace=workspace,
    )
    assert outcome.warnings == []
    assert (outcome.calls, outcome.ran, [denied.n for denied in outcome.denied]) == (4, 3, [2])
    assert heard.denials == [2]
    assert (outcome.info.root / "important" / "x").exists()
    assert (outcome.lines_with_call, outcome.lines) == (3, 3)
    record = Record(repo, state)
    record.assert_sequence(outcome.info.run)
    calls = record.of(outcome.info.run).calls
    assert [call.status for call in calls.values()] == ["ok", "denied", "ok", "error"]
    assert [call.actor for call in calls.values()] == [0, 0, 1, 0]
    assert record.file(calls[2].tree_after, "important/x") == b"x\n"
    assert record.file(calls[3].tree_after, "a.txt") == b"two\n"
    history = subprocess.run(
        ["git", "log", "--format=%s", f"refs/agentgov/snapshots/{outcome.info.run}"],
        cwd=record.repo.layout.store,
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split("\n")
    assert len([line for line in history if line]) == 3


@pytest.mark.parametrize(("answer", "exists"), [("allow", True), ("deny", False)])
def test_a_person_answers_for_a_call_that_waits(
    repo: Path, state: StateHome, answer: Any, exists: bool
) -> None:
    waiting = threading.Event()

    class Told(Heard):
        def asks(self, ask: dict[str, Any]) -> None:
            super().asks(ask)
            waiting.set()

    def person() -> None:
        waiting.wait()
        (live,) = live_runs(discover(repo).layout)
        # From a process that is not the agent's: the recorder's own does as well.
        (ask,) = Control.of(live).pending()
        assert ask["rules"] == ["ask-first"]
        Control.of(live).answer(ask["n"], answer)

    thread = threading.Thread(target=person)
    thread.start()
    outcome = demo(
        repo, state, [step("Write", file_path="guarded/f", content="x")], Told(), workspace="in-place"
    )
    thread.join()
    assert (repo / "guarded" / "f").exists() == exists
    assert Record(repo, state).of(outcome.info.run).calls[1].allowed == exists


def test_an_agent_cannot_answer_for_itself(repo: Path, state: StateHome) -> None:
    script = (
        "import glob, json, os, socket\n"
        "state = json.load(open(glob.glob('.git/agentgov/runs/*/state.json')[0]))\n"
        "s = socket.socket(socket.AF_UNIX); s.connect(state['socket'])\n"
        'p = b\'{"n": 1, "answer": "allow"}\'\n'
        "s.sendall(b'AG1 answer - - %d\\n' % len(p) + p); open('said', 'wb').write(s.recv(999))"
    )
    (repo / "tool.py").write_text(script)
    outcome = demo(
        repo, state, [step("Bash", command=f"{shlex.quote(sys.executable)} tool.py")], workspace="in-place"
    )
    assert b"must come from outside" in (repo / "said").read_bytes()
    assert any("answer for a person" in line for line in outcome.warnings)


def test_what_changes_between_calls_is_nobodys(repo: Path, state: StateHome) -> None:
    script = f"""
import json, subprocess, sys
sys.path.insert(0, {str(Path(demo_agent.__file__).parent)!r})
import demo_agent
settings = json.loads(open(sys.argv[-1]).read())
demo_agent.call(settings, {{"tool": "Bash", "input": {{"command": "echo 1 > one"}}}})
open("between", "w").write("x\\n")
demo_agent.call(settings, {{"tool": "Bash", "input": {{"command": "echo 2 > two"}}}})
"""
    (repo.parent / "agent.py").write_text(script)
    outcome = run(
        repo, state, [sys.executable, str(repo.parent / "agent.py")], agent="demo", workspace="in-place"
    )
    assert (outcome.lines_with_call, outcome.lines) == (2, 3)
    record = Record(repo, state)
    owners: dict[str, list[int]] = {}
    for entry in record.entries:
        if entry.run == outcome.info.run and entry.body.get("changes"):
            listed = json.loads(record.payload(outcome.info.run, entry.body["changes"]))
            owners |= {file["path"]: file["calls"] for file in listed["files"]}
    assert owners == {"one": [1], "between": [], "two": [2]}


def test_a_record_that_cannot_be_written_denies_the_call_and_fails_the_run(
    repo: Path, state: StateHome
) -> None:
    # After the agent's first call the record's lock is a folder: nothing can be appended any more.
    breaking = repo.parent / "breaking.sh"
    breaking.write_text("rm .git/agentgov/lock .git/agentgov/wal/*; mkdir .git/agentgov/lock\n")
    heard = Heard()
    outcome = demo(
        repo,
        state,
        [
            step("Bash", command=f"sh {breaking}"),
            step("Bash", command="echo ran > ran"),
        ],
        heard,
        workspace="in-place",
    )
    assert (outcome.exit_code, outcome.state) == (125, "failed")
    assert not (repo / "ran").exists()
    assert any("the recorder failed" in line for line in heard.lines)


def test_an_agent_whose_hooks_were_never_heard_is_pointed_out(repo: Path, state: StateHome) -> None:
    outcome = run(repo, state, ["sh", "-c", "true"], agent="demo", workspace="in-place")
    assert not outcome.saw_hooks
    assert any("no hook of demo was heard" in line for line in outcome.warnings)


def test_the_run_knows_its_own_name_and_the_settings_file_is_outside_the_tree(
    repo: Path, state: StateHome
) -> None:
    outcome = demo(repo, state, [step("Bash", command="echo $AGENTGOV_RUN > name")], workspace="in-place")
    assert (repo / "name").read_text().strip() == outcome.info.run
    status = subprocess.run(
        ["git", "status", "--porcelain"], cwd=repo, capture_output=True, check=True, text=True
    )
    assert status.stdout == "?? name\n"
