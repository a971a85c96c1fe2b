"""Runs while they last: questions to a person, two at once, a recorder that is killed."""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import MakeRepo
from tests.e2e.conftest import Cli, bash, demo, write

ASK = """
[policy]
ask_timeout_seconds = {seconds}
[[policy.rule]]
id = "ask-first"
effect = "ask"
action = "fs.write"
paths = ["guarded/**"]
reason = "a person decides"
"""


class Live:
    """`agentgov run` in a process of its own; it is ended with the test."""

    def __init__(self, repo: Path, *args: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "agentgov", "run", *args],
            cwd=repo,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            # A job in the background of a script ignores Ctrl-C, and so would everything that it starts.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        )

    def end(self) -> tuple[int, str, str]:
        out, err = self.process.communicate()
        return self.process.returncode, out, err


@pytest.fixture
def start() -> Iterator[Any]:
    """Starts runs; those that are left are killed."""
    runs: list[Live] = []

    def begin(repo: Path, *args: str) -> Live:
        runs.append(Live(repo, *args))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.kill()
            run.process.communicate()


def until(is_so: Any, run: Live | None = None) -> Any:
    """Wait for something that must come; the test's own time limit is the end of it."""
    while not (found := is_so()):
        if run is not None and run.process.poll() is not None:
            raise AssertionError(f"the run is over: {run.end()}")
        time.sleep(0.02)
    return found


def pending(agentgov: Cli, repo: Path) -> list[dict[str, Any]]:
    return list(agentgov(repo, "pending", "--json").json["pending"])


def ask_repo(make_repo: MakeRepo, seconds: int = 100) -> Path:
    return make_repo(files={".agentgov.toml": ASK.format(seconds=seconds), "a.txt": "one\n"})


GUARDED = [write("guarded/f", "x\n"), bash("echo went on > on")]


@pytest.mark.parametrize("answer", ["yes", "no"])
def test_a_waiting_call_is_listed_and_answered_once(
    agentgov: Cli, make_repo: MakeRepo, start: Any, answer: str
) -> None:
    repo = ask_repo(make_repo)
    run = start(repo, "--workspace", "in-place", "--intent", "try it", *demo(repo, GUARDED))
    (ask,) = until(lambda: pending(agentgov, repo), run)
    assert (ask["tool"], ask["rules"], ask["intent"]) == ("Write", ["ask-first"], "try it")
    text = agentgov(repo, "pending").out
    assert f"agentgov answer {ask['id']} yes" in text
    assert "guarded/f" in text
    assert "means no" in text
    assert f"agentgov show {ask['id']}" in text
    status = agentgov(repo, "status").out
    assert status.startswith("1 run running, 1 call waiting for you\n")
    assert agentgov(repo, "status", "--json").json["live"][0]["run"] == ask["id"][:5]
    # It can be looked at whole before it is answered.
    assert "waits" in agentgov(repo, "show").out
    assert agentgov(repo, "show", ask["id"], "--json").json["call"]["status"] == "open"
    assert agentgov(repo, "log", "--json").json["runs"][0]["state"] == "running"
    assert "1            " in agentgov(repo, "verify").out or "running" in agentgov(repo, "verify").out
    said = agentgov(repo, "answer", ask["id"], answer, "--json").json
    assert (said["id"], said["answer"]) == (ask["id"], answer)
    code, out, err = run.end()
    assert code == 0
    assert (repo / "guarded" / "f").exists() == (answer == "yes")
    assert (repo / "on").exists()
    again = agentgov(repo, "answer", ask["id"], answer, code=2)
    assert again.err.startswith("error[AG0307]: ")
    call = agentgov(repo, "show", ":1", "--json").json["call"]
    assert (call["decision"], call["denied_by"]) == ("ask", None if answer == "yes" else "operator")
    assert f"agentgov asks  {ask['id']}" in err
    if answer == "no":
        assert "a person said no" in out
    agentgov(repo, "verify")


def test_no_answer_in_time_is_no(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = ask_repo(make_repo, seconds=1)
    said = agentgov(repo, "run", "--workspace", "in-place", *demo(repo, GUARDED))
    assert "nobody answered in time" in said.out
    assert not (repo / "guarded").exists()
    assert agentgov(repo, "show", ":1", "--json").json["call"]["denied_by"] == "timeout"


def test_an_answer_from_inside_the_agents_own_tree_is_refused(
    agentgov: Cli, make_repo: MakeRepo, start: Any
) -> None:
    repo = ask_repo(make_repo)
    # The agent starts a process that answers for it as soon as the question is there.
    helper = repo.parent / "cheat.sh"
    command = f"{shlex.quote(sys.executable)} -m agentgov"
    helper.write_text(
        f"cd {repo}\n"
        f"(while ! {command} pending 2>/dev/null | grep -q asks; do sleep 0.1; done\n"
        f"{command} answer :2 yes > {repo.parent}/said 2>&1; echo $? > {repo.parent}/code"
        ") > /dev/null 2>&1 &\n"
    )
    steps = [bash(f"sh {helper}"), write("guarded/f", "x\n")]
    run = start(repo, "--workspace", "in-place", *demo(repo, steps))
    until(lambda: (repo.parent / "code").exists() and (repo.parent / "code").read_text(), run)
    assert (repo.parent / "code").read_text().strip() != "0"
    assert "error[AG0" in (repo.parent / "said").read_text()
    (ask,) = pending(agentgov, repo)
    assert ask["n"] == 2
    agentgov(repo, "answer", ":2", "no")
    _, _, err = run.end()
    assert "answer for a person" in err
    assert not (repo / "guarded").exists()


def test_what_belongs_to_a_run_that_is_going_on_is_refused(
    agentgov: Cli, make_repo: MakeRepo, start: Any
) -> None:
    repo = ask_repo(make_repo)
    run = start(repo, "--workspace", "in-place", *demo(repo, [bash("echo x > x"), *GUARDED]))
    (ask,) = until(lambda: pending(agentgov, repo), run)
    name = ask["id"][:5]
    for args in (
        ["rollback", ":1", "--yes"],
        ["rollback", ":start", "--dry-run"],
        ["apply"],
        ["drop", "--yes"],
        ["approve", name, "-m", "x"],
    ):
        said = agentgov(repo, *args, code=15)
        assert said.err.startswith("error[AG0071]: "), args
    agentgov(repo, "promote", code=None)
    assert (repo / "x").exists()
    agentgov(repo, "answer", ask["id"], "no")
    assert run.end()[0] == 0


def test_two_runs_at_once_are_both_recorded_and_kept_apart(
    agentgov: Cli, make_repo: MakeRepo, start: Any
) -> None:
    repo = ask_repo(make_repo)
    scripts = []
    for number in (1, 2):
        folder = repo.parent / f"script{number}"
        folder.mkdir()
        calls = [bash(f"echo {number} > f{number}-{n}") for n in range(5)]
        scripts.append(demo(folder / "x", [*calls, write("guarded/f", f"{number}\n")]))
    runs = [start(repo, *script) for script in scripts]
    asks = until(lambda: found if len(found := pending(agentgov, repo)) == 2 else None)
    assert len({ask["id"] for ask in asks}) == 2
    assert agentgov(repo, "status").out.startswith("2 runs running, 2 calls waiting for you")
    ambiguous = agentgov(repo, "answer", ":6", "yes", code=2)
    assert "more than one live run" in ambiguous.err
    for ask in asks:
        agentgov(repo, "answer", ask["id"], "yes")
    assert [run.end()[0] for run in runs] == [0, 0]
    listed = agentgov(repo, "log", "--json").json["runs"]
    assert [(run["calls"], run["files"], run["state"]) for run in listed] == [(6, 6, "finished")] * 2
    for run in listed:
        files = agentgov(repo, "diff", run["run"], "--json").json["files"]
        (number,) = {file["path"][1] for file in files if file["path"] != "guarded/f"}
        assert {f["path"] for f in files} == {"guarded/f", *(f"f{number}-{n}" for n in range(5))}
    agentgov(repo, "verify", "--require", "pinned")
    assert not (repo / "guarded").exists()


def alive(pid: int) -> bool:
    try:
        return b") Z " not in Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return False


def test_after_kill_9_the_agent_is_gone_and_the_next_command_closes_the_run(
    agentgov: Cli, make_repo: MakeRepo, start: Any
) -> None:
    repo = make_repo(files={"a.txt": "one\n"})
    pids = repo.parent / "pids"
    steps = [
        bash("echo two >> a.txt"),
        bash(f"echo 3 >> a.txt; setsid sleep 999 & echo $! $$ > {pids}.tmp; mv {pids}.tmp {pids}; sleep 999"),
    ]
    run = start(repo, "--workspace", "in-place", *demo(repo, steps))
    until(pids.exists, run)
    run.process.send_signal(signal.SIGKILL)
    run.end()
    for pid in map(int, pids.read_text().split()):
        until(lambda pid=pid: not alive(pid))
    # Only looking at it changes nothing.
    assert agentgov(repo, "verify", code=None).code in (0, 3)
    said = agentgov(repo, "log")
    assert "its recorder was killed; closed as interrupted" in said.err
    assert said.out.splitlines()[1].endswith("interrupted")
    assert "closed" not in agentgov(repo, "log").err
    calls = agentgov(repo, "show", "--json").json["calls"]
    assert [call["status"] for call in calls] == ["ok", "interrupted"]
    assert {f["path"] for f in agentgov(repo, "diff", "--json").json["files"]} == {"a.txt"}
    agentgov(repo, "verify", "--require", "pinned")
    agentgov(repo, "rollback", ":1", "--yes")
    assert (repo / "a.txt").read_text() == "one\ntwo\n"
    agentgov(repo, "rollback", ":start", "--yes")
    assert (repo / "a.txt").read_text() == "one\n"


def test_background_writers_are_ended_and_said(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo()
    script = "setsid sh -c 'while :; do date +%N > busy; done' & while [ ! -s busy ]; do :; done"
    said = agentgov(repo, "run", "--workspace", "in-place", "--", "sh", "-c", script)
    assert "  ended     " in said.err
    seen = (repo / "busy").read_bytes()
    time.sleep(0.1)
    assert (repo / "busy").read_bytes() == seen
    agentgov(repo, "verify")


def test_ctrl_c_reaches_the_agent_and_the_run_ends_in_good_order(
    agentgov: Cli, make_repo: MakeRepo, start: Any
) -> None:
    repo = make_repo()
    ready = repo.parent / "ready"
    run = start(
        repo, "--json", "--", "sh", "-c", f"trap 'exit 7' INT; touch {ready}; while :; do sleep 0.1; done"
    )
    until(ready.exists, run)
    run.process.send_signal(signal.SIGINT)
    code, _, err = run.end()
    value = json.loads(err.splitlines()[-1])
    assert code == value["exit"]
    assert agentgov(repo, "log", "--json").json["runs"][0]["state"] == value["state"]
    agentgov(repo, "verify")


def completions(words: Sequence[str], cwd: Path) -> list[str]:
    env = {
        **os.environ,
        "_AGENTGOV_COMPLETE": "complete_bash",
        "COMP_WORDS": " ".join(words),
        "COMP_CWORD": str(len(words) - 1),
    }
    done = subprocess.run(
        [sys.executable, "-m", "agentgov"], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    return done.stdout.split()


def test_completion_knows_the_commands_and_their_options(tmp_path: Path) -> None:
    # It looks at the shell that it is called from.
    shown = subprocess.run(
        ["bash", "-c", f"'{sys.executable}' -m agentgov --show-completion; true"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_AGENTGOV_COMPLETE=complete_bash" in shown.stdout
    assert completions(["agentgov", "ver"], tmp_path) == ["verify"]
    assert "--require" in completions(["agentgov", "verify", "--re"], tmp_path)
