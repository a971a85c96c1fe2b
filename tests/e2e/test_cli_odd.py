"""Surroundings that are not as they should be: an error with a code, never a traceback."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import typer

from agentgov.cli.session import Session
from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash, write

READING = [["log"], ["show"], ["diff"], ["status"], ["verify"], ["apply", "--dry-run"], ["rollback", ":1"]]


def test_a_reader_that_goes_away_is_no_error(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo()
    agentgov.play(repo, [write("big.txt", "line\n" * 200_000)])
    command = f"'{sys.executable}' -m agentgov diff | head -1; exit ${{PIPESTATUS[0]}}"
    done = subprocess.run(["bash", "-c", command], cwd=repo, capture_output=True, text=True, check=False)
    assert done.stdout.startswith("diff --git")
    assert done.stderr == ""
    assert done.returncode == 0


@pytest.mark.parametrize("kind", [KeyboardInterrupt, typer.Abort])
def test_ctrl_c_claims_nothing(
    agentgov: Cli, make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch, kind: type[BaseException]
) -> None:
    def interrupted() -> Session:
        raise kind

    monkeypatch.setattr(Session, "here", interrupted)
    said = agentgov(make_repo(), "log", code=130)
    assert "nothing" not in said.err
    assert "Traceback" not in said.err


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
@pytest.mark.parametrize("args", READING, ids=lambda args: args[0])
def test_a_record_that_may_not_be_read_is_said_so(
    agentgov: Cli, make_repo: MakeRepo, args: list[str]
) -> None:
    repo = make_repo()
    agentgov.shell(repo, "echo x > x")
    folder = repo / ".git" / "agentgov"
    folder.chmod(0)
    try:
        said = agentgov(repo, *args, code=None)
    finally:
        folder.chmod(0o700)
    assert said.code not in (0, 70)
    assert "error[AG0" in said.err
    assert "Traceback" not in said.err


@pytest.mark.parametrize("args", READING, ids=lambda args: args[0])
def test_a_record_that_was_removed_is_missed(agentgov: Cli, make_repo: MakeRepo, args: list[str]) -> None:
    repo = make_repo()
    agentgov.shell(repo, "echo x > x")
    shutil.rmtree(repo / ".git" / "agentgov")
    said = agentgov(repo, *args, code=None)
    assert said.code in (3, 12), said
    assert "Traceback" not in said.err


def test_a_repository_that_moved_is_read_and_goes_on_in_a_record_of_its_own(
    agentgov: Cli, make_repo: MakeRepo, tmp_path: Path
) -> None:
    repo = make_repo()
    first = agentgov.play(repo, [bash("echo x > x")])
    repo.rename(tmp_path / "moved")
    moved = tmp_path / "moved"
    assert agentgov(moved, "log", "--json").json["runs"][0]["run"] == first
    agentgov(moved, "show", first)
    refused = agentgov(moved, "status", code=1).err
    assert "was moved or copied" in refused
    assert "nothing was recorded" not in refused
    agentgov(moved, "verify")
    second = agentgov.play(moved, [bash("echo y > y")])
    assert [run["run"] for run in agentgov(moved, "log", "--json").json["runs"]] == [second, first]
    agentgov(moved, "verify")


def test_without_a_name_a_run_and_a_promotion_say_what_stands_instead(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner, home: Path
) -> None:
    repo = make_repo()
    git(repo, "branch", "feature")
    (home / ".gitconfig").write_text("")
    said = agentgov(repo, "run", "--", "sh", "-c", "echo x > x; git add x; git commit -qm agent")
    assert "no user.name or user.email" in said.err
    landed = agentgov(repo, "promote", "--into", "feature")
    assert "unknown <unknown@localhost>" in landed.err
    assert git(repo, "log", "-1", "--format=%an <%ae>", "feature") == "unknown <unknown@localhost>"


def test_without_a_home_folder_the_error_says_what_to_set(
    agentgov: Cli, make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo()
    for name in ("HOME", "XDG_STATE_HOME", "AGENTGOV_HOME"):
        monkeypatch.delenv(name, raising=False)
    said = agentgov(repo, "log", code=2)
    assert said.err.startswith("error[AG0300]: ")
    assert "AGENTGOV_HOME" in said.err


def test_settings_that_are_wrong_name_the_file_and_stop_the_run(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo(files={".agentgov.toml": "[review]\nrequierd = 1\n"})
    said = agentgov(repo, "run", "--", "touch", "ran", code=125)
    assert "requierd" in said.err
    assert ".agentgov.toml" in said.err
    assert not (repo / ".git" / "agentgov").exists()


def test_file_names_that_are_not_text_survive_every_command(agentgov: Cli, make_repo: MakeRepo) -> None:
    repo = make_repo()
    name = os.fsdecode(b"caf\xe9\n\ttab")
    run = agentgov.shell(repo, r"printf x > \"$(printf 'caf\351\n\ttab')\"".replace('\\"', '"'))
    assert "caf\\xe9\\n\\ttab" in agentgov(repo, "show").out
    (file,) = agentgov(repo, "diff", "--json").json["files"]
    assert file["path"] == {"b64": "Y2Fm6QoJdGFi"}
    agentgov(repo, "apply")
    assert (repo / name).read_text() == "x"
    agentgov(repo, "rollback", f"{run}:start", "--yes")
    agentgov(repo, "verify")


def test_a_run_in_a_repository_with_sha256_works_the_same(
    agentgov: Cli, tmp_path: Path, git: GitRunner
) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256", "-b", "main", "new")
    repo = tmp_path / "new"
    (repo / "a").write_text("a\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "start")
    git(repo, "branch", "feature")
    agentgov.play(repo, [bash("echo b >> a"), bash("echo c >> a")])
    agentgov(repo, "rollback", ":1", "--yes")
    agentgov(repo, "promote", "--into", "feature")
    assert git(repo, "show", "feature:a") == "a\nb"
    agentgov(repo, "verify", "--require", "pinned")


def test_rules_can_be_taken_from_a_named_ref(agentgov: Cli, make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    git(repo, "checkout", "-q", "-b", "strict")
    rule = '[[policy.rule]]\nid = "no-touch"\neffect = "deny"\naction = "exec"\nprograms = ["touch"]\n'
    (repo / ".agentgov.toml").write_text(rule + 'reason = "no touching"\nmatch = ["touch x"]\n')
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "strict")
    git(repo, "checkout", "-q", "main")
    agentgov.play(repo, [bash("touch x")], "--policy-ref", "strict")
    call = agentgov(repo, "show", ":1", "--json").json["call"]
    assert (call["status"], call["rules"]) == ("denied", ["no-touch"])
    agentgov(repo, "run", "--policy-ref", "nowhere", "--", "true", code=125)
