"""Attacks on the way from an agent's call to the record: by the agent, and by the repository it works in."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from agentgov.errors import UsageError
from agentgov.harness import demo_agent
from agentgov.harness.request import RunOutcome
from agentgov.harness.session import CHANGED_ARGUMENTS
from agentgov.layout import StateHome
from tests.conftest import MakeRepo
from tests.support.running import Heard, Record, run

POLICY = """
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
AGENT = f"""
import glob, json, os, socket, subprocess, sys, time
sys.path.insert(0, {str(Path(demo_agent.__file__).parent)!r})
import demo_agent
settings = json.loads(open(sys.argv[-1]).read())
state = json.load(open(glob.glob(".git/agentgov/runs/*/state.json")[0]))
def bash(command):
    demo_agent.call(settings, {{"tool": "Bash", "input": {{"command": command}}}})
def send(kind, payload, agent="-", event="-"):
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(state["socket"])
        s.sendall(b"AG1 %s %s %s %d\\n" % (kind.encode(), agent.encode(), event.encode(), len(payload)))
        s.sendall(payload)
        return s.recv(9999)
def wait():
    time.sleep(60)
"""


def play(repo: Path, state: StateHome, script: str, heard: Heard | None = None, **more: Any) -> RunOutcome:
    """Run a script as an agent that speaks the demonstration agent's dialect."""
    path = repo.parent / "agent.py"
    path.write_text(AGENT + script)
    return run(repo, state, [sys.executable, str(path)], heard, agent="demo", workspace="in-place", **more)


def failures(outcome: RunOutcome) -> Sequence[str]:
    return [line for line in outcome.warnings if "the recorder failed" in line]


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return make_repo(files={".agentgov.toml": POLICY, "important/x": "x\n", "a.txt": "one\n"})


@pytest.mark.parametrize("name", ["LD_PRELOAD", "LD_TRACE_LOADED_OBJECTS", "CLAUDE_CODE_SHELL_PREFIX"])
@pytest.mark.parametrize("place", [".claude/settings.json", ".claude/settings.local.json"])
def test_a_repository_whose_settings_reach_into_the_hooks_is_refused(
    make_repo: MakeRepo, state: StateHome, name: str, place: str
) -> None:
    # With a byte order mark, which Claude takes as well.
    text = "\ufeff" + json.dumps({"env": {"HARMLESS": "1", name: "/bin/true"}})
    repo = make_repo(files={place: text, "sub/x": "x\n"})
    with pytest.raises(UsageError, match=name):
        run(repo / "sub", state, [sys.executable, "-c", "1"], agent="demo")
    assert not list((repo / ".git" / "agentgov" / "runs").glob("*/state.json"))


def test_a_variable_of_the_users_own_is_no_attack(
    make_repo: MakeRepo, state: StateHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LD_LIBRARY_PATH", "/opt/mine")
    repo = make_repo(files={".claude/settings.json": '{"env": {"LD_LIBRARY_PATH": "/opt/mine"}}'})
    outcome = play(repo, state, "bash('echo $LD_LIBRARY_PATH > said')")
    assert (outcome.state, (repo / "said").read_text()) == ("finished", "/opt/mine\n")
    settings = state.root.parent / "settings"
    play(repo, state, f"open({str(settings)!r}, 'w').write(json.dumps(settings['env']))")
    pinned = json.loads(settings.read_text())
    assert pinned["LD_LIBRARY_PATH"] == "/opt/mine"
    assert pinned["LD_PRELOAD"] == pinned["CLAUDE_CODE_SHELL_PREFIX"] == ""


@pytest.mark.parametrize(
    "attack",
    [
        "os.makedirs('.claude'); open('.claude/settings.json', 'w')"
        '.write(\'{"env": {"LD_PRELOAD": "/x.so"}}\')',
        "mine = os.environ['HOME'] + '/.claude'; os.makedirs(mine)\n"
        "open(mine + '/settings.json', 'w').write('{\"env\": {\"LD_DEBUG\": \"help\"}}')",
        "open(sys.argv[-1], 'a').write(' ')",
        "os.unlink(sys.argv[-1])",
        "os.unlink(state['socket'])",
    ],
)
def test_an_agent_that_reaches_for_its_hooks_is_ended_and_the_run_fails(
    repo: Path, state: StateHome, attack: str
) -> None:
    outcome = play(repo, state, f"bash('true')\n{attack}\nwait()\nbash('echo ran > ran')")
    assert (outcome.exit_code, outcome.state, len(failures(outcome))) == (125, "failed", 1)
    assert not (repo / "ran").exists()


def test_an_agent_that_answers_its_own_hooks_gets_no_call_through(repo: Path, state: StateHome) -> None:
    outcome = play(
        repo,
        state,
        """
os.unlink(state["socket"])
server = socket.socket(socket.AF_UNIX)
server.bind(state["socket"])
server.listen(9)
if os.fork() == 0:
    os.setsid()
    while True:
        client = server.accept()[0]
        client.recv(1 << 16)
        client.sendall(b"0 0 0\\n")
        client.close()
bash("echo ran > ran")
wait()
""",
    )
    assert (outcome.state, (repo / "ran").exists()) == ("failed", False)


def test_what_ran_is_judged_and_recorded_when_it_is_not_what_was_announced(
    repo: Path, state: StateHome
) -> None:
    # As with a hook of the repository's that answers with "updatedInput".
    outcome = play(
        repo,
        state,
        """
fields = {"tool_name": "Bash", "tool_input": {"command": "echo fine"}, "tool_use_id": "t1"}
assert demo_agent.run_hooks(settings, "PreToolUse", fields) is None
subprocess.run("rm -rf important", shell=True)
fields["tool_input"] = {"command": "rm -rf important"}
demo_agent.run_hooks(settings, "PostToolUse", {**fields, "tool_response": {"stdout": "said"}})
bash("echo ran > ran")
wait()
""",
    )
    assert (outcome.state, (repo / "ran").exists()) == ("failed", False)
    assert any("keep-important" in line and "rm -rf important" in line for line in outcome.warnings)
    record = Record(repo, state)
    (call,) = [call for call in record.of(outcome.info.run).calls.values() if call.n == 1]
    assert call.result is not None
    output = record.payload(outcome.info.run, call.result.body["output"])
    assert output.startswith(CHANGED_ARGUMENTS)
    assert b"rm -rf important" in output.splitlines()[0]


def test_a_repository_with_hooks_of_its_own_is_pointed_out(make_repo: MakeRepo, state: StateHome) -> None:
    theirs = {"hooks": {"PreToolUse": [{"hooks": [{"type": "command", "command": "true"}]}]}}
    repo = make_repo(files={".claude/settings.json": json.dumps(theirs)})
    outcome = play(repo, state, "")
    assert any("brings hooks of its own" in line for line in outcome.warnings)


def test_an_answer_counts_only_while_the_process_that_connected_is_there(
    repo: Path, state: StateHome
) -> None:
    # Its number could belong to a person's process by then.
    outcome = play(
        repo,
        state,
        """
held = socket.socket(socket.AF_UNIX)
if (pid := os.fork()) == 0:
    held.connect(state["socket"])
    os._exit(0)
os.waitpid(pid, 0)
payload = b'{"n": 1, "answer": "allow"}'
held.sendall(b"AG1 answer - - %d\\n" % len(payload) + payload)
open("said", "wb").write(held.recv(999))
""",
    )
    assert b"must come from outside" in (repo / "said").read_bytes()
    assert any("answer for a person" in line for line in outcome.warnings)


def test_no_event_ends_the_run(repo: Path, state: StateHome) -> None:
    outcome = play(
        repo,
        state,
        r"""
def event(name="PreToolUse", **fields):
    usual = {"tool_name": "Bash", "tool_input": {"command": "true"}, "tool_use_id": "t", "cwd": os.getcwd()}
    return send("hook", json.dumps({**usual, **fields}).encode(), "demo", name)
lone = "\ud800"
for path in ("/x\0.jsonl", f"/{lone}.jsonl", "/etc/passwd.jsonl", "/dev/full.jsonl", "x" * 9999):
    event(tool_use_id=lone, transcript_path=path)
    event("Stop", transcript_path=path)
    event("SubagentStop", agent_id=lone, transcript_path=path)
for text in (lone, "a\0b", "x" * 99_999, "\x1b]0;x\x07", "\n"):
    for field in ("tool_name", "tool_use_id", "agent_id", "agent_type", "model", "session_id"):
        event(**{field: text})
    event(cwd="/" + text)
    for tool, key in (("Bash", "command"), ("Write", "file_path"), ("WebFetch", "url"), ("x", "path")):
        event(tool_name=tool, tool_input={key: text})
    event("PostToolUse", tool_response=text)
    event("PostToolUseFailure", error=text, is_interrupt=text)
event(tool_input={"n": float("nan"), "i": 10**400, "l": [[[[]]]] * 99})
event("PostToolUse", tool_use_id="never announced")
for _ in range(2):
    event(tool_use_id="twice")
for _ in range(3):
    event("PostToolUse", tool_use_id="twice", tool_input={"command": "true"})
for raw in (b"", b"\xff", b"[" * 99_999, b"1e999", b"nul", b"{}"):
    assert send("hook", raw, "demo", "PreToolUse")[:1] == b"2", raw
bash("echo on > on")
""",
    )
    assert (outcome.state, outcome.exit_code) == ("finished", 0)
    assert (repo / "on").exists()
    Record(repo, state).assert_sequence(outcome.info.run)


def test_connections_that_say_nothing_do_not_keep_the_agents_hooks_out(repo: Path, state: StateHome) -> None:
    outcome = play(
        repo,
        state,
        """
import contextlib
held = []
for number in range(300):
    s = socket.socket(socket.AF_UNIX)
    s.connect(state["socket"])
    s.sendall([b"", b"AG1 hook demo PreToolUse 99999\\nhalf", b"AG1 status - - 0"][number % 3])
    if number % 2:
        s.shutdown(socket.SHUT_WR)
    held.append(s)
for junk in (b"GET / HTTP/1.0\\r\\n\\r\\n", b"\\0" * 999, b"AG1 hook demo PreToolUse 999999999\\n"):
    s = socket.socket(socket.AF_UNIX)
    s.connect(state["socket"])
    with contextlib.suppress(OSError):
        s.sendall(junk)
    s.close()
bash("echo on > on")
""",
    )
    assert (outcome.state, outcome.calls, outcome.ran) == ("finished", 1, 1)
    assert (repo / "on").exists()


def test_calls_that_ran_although_their_hook_was_killed_are_counted(repo: Path, state: StateHome) -> None:
    # Claude runs a call whose hook died of a signal; its own log tells of it.
    outcome = play(
        repo,
        state,
        """
from datetime import datetime, timedelta, timezone
def line(call_id, moment, **more):
    block = {"type": "tool_result", "tool_use_id": call_id, "content": "fine", **more}
    return json.dumps({"timestamp": moment.isoformat(), "message": {"content": [block]}}) + "\\n"
now = datetime.now(timezone.utc)
log = os.path.abspath("../session.jsonl")
fields = {"tool_name": "Bash", "tool_input": {"command": "true"}, "tool_use_id": "heard"}
assert demo_agent.run_hooks(settings, "PreToolUse", {**fields, "transcript_path": log}) is None
os.makedirs("../session/subagents")
with open(log, "w") as file:
    file.write(line("heard", now) + line("silent", now) + line("before", now - timedelta(days=1)))
    file.write(line("refused", now, is_error=True) + "not json\\n" + json.dumps({"timestamp": 1}) + "\\n")
with open("../session/subagents/agent-1.jsonl", "w") as file:
    file.write(line("failed", now, is_error=True, content="Exit code 1"))
demo_agent.run_hooks(settings, "PostToolUse", {**fields, "transcript_path": log, "tool_response": "x"})
""",
    )
    assert (outcome.calls, outcome.unrecorded) == (1, 2)
    assert "2 calls ran that no hook announced, by the agent's own log" in outcome.warnings
