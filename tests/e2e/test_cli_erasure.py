"""`agentgov redact` and `agentgov prune`: what is erased is gone everywhere, and the record still holds."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from agentgov.clock import SystemClock
from agentgov.git import Git
from agentgov.ids import RunId
from agentgov.layout import StateHome
from agentgov.ledger import erasure
from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash, demo, write
from tests.support.running import Record
from tests.support.traces import traces

CANARY = "canary-5e3f-that-must-go"


@pytest.fixture
def state_dir(home: Path) -> Path:
    return home / ".local" / "state" / "agentgov"


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return make_repo(files={"a.txt": "one\n"})


def _play(agentgov: Cli, repo: Path) -> str:
    return agentgov.play(repo, [bash(f"echo {CANARY}"), bash("echo other")], "--workspace", "in-place")


def _git_folder(repo: Path) -> Path:
    return repo / ".git"


def test_a_redacted_output_is_gone_from_every_place_and_the_record_holds(
    agentgov: Cli, repo: Path, state_dir: Path
) -> None:
    run = _play(agentgov, repo)
    assert traces(CANARY, _git_folder(repo), state_dir)
    agentgov(repo, "log", "--grep", "other")
    for field in ("output", "args"):
        said = agentgov(
            repo, "redact", f"{run}:1", "--field", field, "--reason", "a key was in it", "--yes", "--json"
        ).json
        assert [item["destroyed"] for item in said["erased"]] == [True]
        assert said["sent"] == []
        assert said["still_here"] == []
    assert traces(CANARY, _git_folder(repo), state_dir) == []
    assert agentgov(repo, "show", f"{run}:2", "--json").code == 0
    shown = agentgov(repo, "show", f"{run}:1").out
    assert "output    (erased on purpose, entry " in shown
    assert "what      (erased on purpose, entry " in shown
    agentgov(repo, "log")
    record = Record(repo, StateHome(state_dir))
    stones = [entry for entry in record.entries if entry.kind == "payload.erased"]
    assert [stone.body["field"] for stone in stones] == ["output", "args"]
    assert record.payload(RunId(run), stones[0].body["reason"]) == b"a key was in it"
    assert record.sealed_size == len(record.entries)
    for stone in stones:
        assert stone.body["commitment"] in record.entries[stone.body["entry"]].body.values()
    subprocess.run(["git", "-C", str(record.repo.layout.store), "fsck", "--strict"], check=True)


def test_verify_holds_after_an_erasure(agentgov: Cli, repo: Path) -> None:
    run = _play(agentgov, repo)
    agentgov(repo, "redact", f"{run}:1", "--field", "output", "--reason", "x", "--yes")
    said = agentgov(repo, "verify", "--json")
    assert said.code == 0, said.out


def test_everything_of_a_run_can_go(agentgov: Cli, repo: Path, state_dir: Path) -> None:
    run = _play(agentgov, repo)
    Git(repo / ".git/agentgov/store.git").run("repack", "-adq")
    agentgov(repo, "redact", run, "--all-fields", "--reason", CANARY[:12], "--yes")
    assert traces(CANARY, _git_folder(repo), state_dir) == []
    agentgov(repo, "show", run)
    assert "canary" not in agentgov(repo, "log").out
    agentgov(repo, "redact", run, "--all-fields", "--reason", "the reason too", "--yes")
    assert traces(CANARY[:12], _git_folder(repo), state_dir) == []
    agentgov(repo, "redact", run, "--all-fields", "--reason", "again", "--yes", code=0)


def test_a_run_of_an_earlier_record_can_be_erased_and_pruned(
    agentgov: Cli, repo: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, older = _play(agentgov, repo), _play(agentgov, repo)
    agentgov(repo, "keys", "rotate")
    _play(agentgov, repo)
    agentgov(repo, "redact", f"{old}:1", "--all-fields", "--reason", "x", "--yes")
    assert "erased on purpose" in agentgov(repo, "show", f"{old}:1").out
    agentgov(repo, "verify")
    _pass(monkeypatch, 401)
    said = agentgov(repo, "prune", "--yes", "--json").json
    assert {item["run"] for item in said["pruned"]} >= {old, older}
    assert traces(CANARY, _git_folder(repo), state_dir) == []
    assert "(pruned, entry " in agentgov(repo, "show", f"{older}:1").out
    assert agentgov(repo, "prune", "--json").json["pruned"] == []
    agentgov(repo, "verify")
    agentgov(repo, "verify", "--all")


def test_what_was_sent_is_named_and_can_be_removed_there(
    agentgov: Cli, repo: Path, git: GitRunner, tmp_path: Path
) -> None:
    (repo / ".agentgov.toml").write_text('[sync]\nremote = "origin"\nclasses = ["changes", "output"]\n')
    git(repo, "add", ".agentgov.toml")
    git(repo, "commit", "-q", "-m", "send what calls print")
    up = tmp_path / "up.git"
    git(tmp_path, "init", "-q", "--bare", str(up))
    git(repo, "remote", "add", "origin", str(up))
    git(repo, "push", "-q", "origin", "main")
    run = _play(agentgov, repo)
    agentgov(repo, "sync", "--yes")
    assert traces(CANARY, up)
    said = agentgov(repo, "redact", f"{run}:1", "--field", "output", "--reason", "x", "--yes").err
    assert f"sent       to {up}" in said
    command = next(line.split() for line in said.splitlines() if "git push" in line)
    git(repo, *command[1:])
    git(up, "gc", "-q", "--prune=now")
    assert traces(CANARY, up) == []
    agentgov(repo, "sync", "--yes")
    assert traces(CANARY, up) == []
    assert command[-1][1:] in git(up, "for-each-ref", "--format=%(refname)").split()


def test_an_erased_intent_is_not_shown_as_none_given(agentgov: Cli, repo: Path) -> None:
    run = agentgov.play(repo, [bash("true")], "--workspace", "in-place", "--intent", CANARY)
    agentgov(repo, "redact", run, "--field", "intent", "--reason", "x", "--yes")
    assert "intent erased on purpose, entry " in agentgov(repo, "show", run).out
    assert "(not here)" in agentgov(repo, "log").out


def test_the_screen_says_what_erasing_does_not_reach(agentgov: Cli, repo: Path) -> None:
    steps = [write("secret.txt", CANARY + "\n"), bash("cat secret.txt")]
    run = agentgov.play(repo, steps, "--workspace", "in-place")
    said = agentgov(repo, "redact", f"{run}:2", "--field", "output", "--reason", "x", "--yes").err
    assert "sent       never, from this machine" in said
    assert "file       secret.txt in snapshot" in said
    assert "other clones, backups" in said
    assert "1 value erased on purpose, 1 destroyed here" in said


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (["{run}:1", "--reason", "x", "--yes"], 2, "AG0339"),
        (["{run}:1", "--field", "output", "--all-fields", "--reason", "x", "--yes"], 2, "AG0339"),
        (["{run}:1", "--field", "nonsense", "--reason", "x", "--yes"], 2, "AG0341"),
        (["{run}:1", "--field", "intent", "--reason", "x", "--yes"], 2, "AG0340"),
        (["{run}:99", "--field", "output", "--reason", "x", "--yes"], 2, "AG0340"),
        (["{run}:start", "--field", "output", "--reason", "x", "--yes"], 2, "AG0342"),
        (["{run}:1", "--field", "output", "--reason", "x"], 2, "AG0303"),
        (["{run}:1", "--field", "output", "--yes"], 2, "AG0308"),
    ],
)
def test_what_cannot_be_erased_is_refused_and_nothing_changes(
    agentgov: Cli, repo: Path, state_dir: Path, args: list[str], code: int, error: str
) -> None:
    run = _play(agentgov, repo)
    before = len(Record(repo, StateHome(state_dir)).entries)
    said = agentgov(repo, "redact", *(arg.format(run=run) for arg in args), code=code)
    assert error in said.err
    assert len(Record(repo, StateHome(state_dir)).entries) == before
    assert traces(CANARY, _git_folder(repo))


@pytest.mark.parametrize(
    "at", ["before the entry", "after the entry", "in the middle", "before the mark goes"]
)
def test_an_erasure_that_was_cut_short_is_finished_by_the_next_command(
    agentgov: Cli, repo: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    run = _play(agentgov, repo)

    def die(*args: Any, **kwargs: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        if at == "before the entry":
            patch.setattr("agentgov.ledger.stream.Stream.append", die)
        elif at == "after the entry":
            patch.setattr("agentgov.ledger.stream.Stream.seal", die)
        elif at == "in the middle":
            patch.setattr("agentgov.ledger.payload_erase._remove_objects", die)
        else:
            patch.setattr("agentgov.report.search_index.remove_index", die)
        args = ["redact", f"{run}:1", "--all-fields", "--reason", "x", "--yes"]
        agentgov(repo, *args, code=130)
    assert erasure.is_unfinished(Record(repo, StateHome(state_dir)).repo.layout)
    agentgov(repo, "log")
    record = Record(repo, StateHome(state_dir))
    assert not erasure.is_unfinished(record.repo.layout)
    was_entered = any(entry.kind == "payload.erased" for entry in record.entries)
    assert was_entered == (at != "before the entry")
    assert bool(traces(CANARY, _git_folder(repo), state_dir)) != was_entered


def test_a_mark_that_an_agent_leaves_destroys_nothing(agentgov: Cli, repo: Path, state_dir: Path) -> None:
    _play(agentgov, repo)
    layout = Record(repo, StateHome(state_dir)).repo.layout
    (layout.root / "erasing").write_bytes(b'{"everything": true}')
    agentgov(repo, "log")
    assert not erasure.is_unfinished(layout)
    assert traces(CANARY, _git_folder(repo))


def test_an_agent_cannot_erase_or_prune(agentgov: Cli, repo: Path) -> None:
    run = _play(agentgov, repo)
    agent = f"{sys.executable} -m agentgov"
    script = (
        f"{agent} redact {run}:1 --all-fields --reason x --yes 2>err1; echo $? > code1;"
        f"{agent} prune --older-than 1d --yes 2>err2; echo $? > code2"
    )
    agentgov.shell(repo, script, "--workspace", "in-place")
    assert [(repo / name).read_text().strip() for name in ("code1", "code2")] == ["10", "10"]
    assert "AG0314" in (repo / "err1").read_text()
    assert traces(CANARY, _git_folder(repo))


def test_a_call_of_a_run_that_goes_on_can_be_erased(agentgov: Cli, repo: Path, state_dir: Path) -> None:
    steps = [bash(f"echo {CANARY}"), bash("touch here; until test -e go; do sleep 0.05; done; echo other")]
    command = [sys.executable, "-m", "agentgov", "run", "--workspace", "in-place", *demo(repo, steps)]
    with subprocess.Popen(command, cwd=repo, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            while not (repo / "here").exists():
                assert process.poll() is None, process.communicate()
                time.sleep(0.05)
            said = agentgov(repo, "redact", ":1", "--all-fields", "--reason", "x", "--yes", "--json").json
            assert all(item["destroyed"] for item in said["erased"])
            assert traces(CANARY, _git_folder(repo), state_dir) == []
            due = agentgov(repo, "prune", "--older-than", "1d", "--dry-run", "--json").json
            assert due["pruned"] == []
        finally:
            (repo / "go").touch()
            process.communicate()
        assert process.returncode == 0
    shown = agentgov(repo, "show", f"{said['run']}:2").out
    assert "other" in shown
    assert traces(CANARY, _git_folder(repo), state_dir) == []
    agentgov(repo, "verify")


def _pass(monkeypatch: pytest.MonkeyPatch, days: int) -> None:
    """Let days go by for everything that asks for the time."""
    real = SystemClock.now_us
    monkeypatch.setattr(SystemClock, "now_us", lambda self: real(self) + days * 86_400 * 1_000_000)


def test_nothing_is_pruned_before_its_time(agentgov: Cli, repo: Path) -> None:
    _play(agentgov, repo)
    assert "nothing to prune" in agentgov(repo, "prune").out
    assert agentgov(repo, "prune", "--json").json["pruned"] == []


def test_content_past_its_time_goes_and_the_chain_stays(
    agentgov: Cli, repo: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = _play(agentgov, repo)
    before = [entry.prev for entry in Record(repo, StateHome(state_dir)).entries]
    _pass(monkeypatch, 401)
    younger = _play(agentgov, repo)
    dry = agentgov(repo, "prune", "--dry-run", "--json").json
    assert {(item["run"], item["class"]) for item in dry["pruned"]} == {(run, "args"), (run, "output")}
    assert dry["destroyed"] == 0
    assert "would go; nothing was changed" in agentgov(repo, "prune", "--dry-run").out
    said = agentgov(repo, "prune", "--yes", "--json").json
    assert said["destroyed"] == sum(item["count"] for item in said["pruned"]) == 6
    record = Record(repo, StateHome(state_dir))
    assert [entry.prev for entry in record.entries[: len(before)]] == before
    stones = [entry for entry in record.entries if entry.kind == "payload.pruned"]
    assert {(stone.run, stone.body["class"], stone.body["cause"]) for stone in stones} == {
        (run, "args", "retention"),
        (run, "output", "retention"),
    }
    assert all(stone.body["before"] <= stone.seq for stone in stones)
    # Lists of changes and intents stay for ever by default.
    assert all(
        record.payloads.get(step_run.run, step.changes) is not None
        for step_run in record.runs.values()
        for step in step_run.steps
        if step.changes is not None
    )
    assert "canary" in agentgov(repo, "show", f"{younger}:1").out
    shown = agentgov(repo, "show", f"{run}:1").out
    assert "canary" not in shown
    assert "output    (pruned, entry " in shown
    assert agentgov(repo, "prune", "--json").json["pruned"] == []
    agentgov(repo, "log")
    subprocess.run(["git", "-C", str(record.repo.layout.store), "fsck", "--strict"], check=True)


def test_verify_holds_after_a_prune(agentgov: Cli, repo: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _play(agentgov, repo)
    _pass(monkeypatch, 401)
    agentgov(repo, "prune", "--yes")
    said = agentgov(repo, "verify", "--json")
    assert said.code == 0, said.out


def test_an_age_and_classes_can_be_named(
    agentgov: Cli, repo: Path, state_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _play(agentgov, repo)
    _pass(monkeypatch, 20)
    assert agentgov(repo, "prune", "--older-than", "3w", "--json").json["pruned"] == []
    said = agentgov(repo, "prune", "--older-than", "2w", "--class", "output", "--yes", "--json").json
    assert [item["class"] for item in said["pruned"]] == ["output"]
    stones = [e for e in Record(repo, StateHome(state_dir)).entries if e.kind == "payload.pruned"]
    assert [stone.body["cause"] for stone in stones] == ["operator"]
    assert "AG0343" in agentgov(repo, "prune", "--older-than", "soon", code=2).err
    assert "AG0343" in agentgov(repo, "prune", "--older-than", "0d", code=2).err
    assert "AG0344" in agentgov(repo, "prune", "--class", "output", code=2).err
    assert "AG0303" in agentgov(repo, "prune", "--older-than", "2w", code=2).err


def test_how_long_is_kept_is_read_from_the_protected_branch(
    agentgov: Cli, repo: Path, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    _play(agentgov, repo)
    _pass(monkeypatch, 10)
    (repo / ".agentgov.toml").write_text("[retention]\noutput_days = 5\nargs_days = 0\n")
    assert agentgov(repo, "prune", "--dry-run", "--json").json["pruned"] == []
    git(repo, "add", ".agentgov.toml")
    git(repo, "commit", "-q", "-m", "keep for five days")
    due = agentgov(repo, "prune", "--dry-run", "--json").json["pruned"]
    assert [item["class"] for item in due] == ["output"]


def test_a_run_whose_copy_still_exists_keeps_what_leads_to_it(
    agentgov: Cli, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = agentgov.play(repo, [bash(f"echo {CANARY}")], "--workspace", "clone")
    _pass(monkeypatch, 401)
    said = agentgov(repo, "prune", "--yes", "--json").json
    assert [item["class"] for item in said["pruned"]] == ["output"]
    assert said["kept_runs"] == [run]
    agentgov(repo, "drop", run, "--yes")
    said = agentgov(repo, "prune", "--yes", "--json").json
    assert [item["class"] for item in said["pruned"]] == ["args"]
