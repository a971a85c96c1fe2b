"""`apply` and `drop`: the result into the user's tree, uncommitted, and the copy gone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash, write

LINES = "".join(f"line {number}\n" for number in range(1, 21))


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return make_repo(files={"a.txt": LINES, "b.txt": "b\n", "c.txt": "c\n"})


STEPS = [
    bash("sed -i 's/line 2$/LINE 2/' a.txt; rm b.txt; chmod +x c.txt"),
    write("new/f.txt", "f\n"),
]


def test_apply_brings_the_result_into_the_tree_and_leaves_index_and_history(
    agentgov: Cli, repo: Path, git: GitRunner
) -> None:
    agentgov.play(repo, STEPS)
    head, index = git(repo, "rev-parse", "HEAD"), git(repo, "ls-files", "-s")
    said = agentgov(repo, "apply")
    assert "4 files changed in your working tree, uncommitted" in said.err
    assert git(repo, "status", "--porcelain") == " M a.txt\n D b.txt\n M c.txt\n?? new/"
    assert (git(repo, "rev-parse", "HEAD"), git(repo, "ls-files", "-s")) == (head, index)
    again = agentgov(repo, "apply")
    assert "nothing to change" in again.err
    agentgov(repo, "verify")


def test_apply_merges_with_what_the_user_has_changed_meanwhile(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS)
    (repo / "a.txt").write_text(LINES.replace("line 19\n", "mine 19\n"))
    (repo / "mine.txt").write_text("m\n")
    assert agentgov(repo, "apply", "--json").json["changed"] == 4
    assert (repo / "a.txt").read_text() == LINES.replace("line 19\n", "mine 19\n").replace(
        "line 2\n", "LINE 2\n"
    )
    assert (repo / "mine.txt").read_text() == "m\n"


def test_one_conflict_refuses_the_whole(agentgov: Cli, repo: Path, git: GitRunner) -> None:
    run = agentgov.play(repo, STEPS)
    (repo / "a.txt").write_text(LINES.replace("line 2\n", "mine 2\n"))
    before = git(repo, "status", "--porcelain")
    said = agentgov(repo, "apply", code=15)
    assert said.err.startswith("error[AG0078]: not applied, nothing was changed")
    assert "a.txt" in said.err
    assert f"agentgov diff {run}" in said.err
    assert git(repo, "status", "--porcelain") == before
    assert (repo / "b.txt").exists()
    planned = agentgov(repo, "apply", "--dry-run", "--json").json
    assert [found["path"] for found in planned["conflicts"]] == ["a.txt"]


def test_an_untracked_file_in_the_way_is_a_conflict(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS)
    (repo / "new").mkdir()
    (repo / "new" / "f.txt").write_text("mine\n")
    agentgov(repo, "apply", code=15)
    assert (repo / "new" / "f.txt").read_text() == "mine\n"
    assert (repo / "b.txt").exists()


def test_a_dry_run_of_apply_changes_nothing(agentgov: Cli, repo: Path, git: GitRunner) -> None:
    agentgov.play(repo, STEPS)
    entries = agentgov(repo, "status", "--json").json["record"]["entries"]
    said = agentgov(repo, "apply", "--dry-run")
    assert said.out.splitlines() == [
        "~ a.txt", "- b.txt", "~ c.txt  executable", "+ new/f.txt", "+ new/",
    ]  # fmt: skip
    actions = agentgov(repo, "apply", "--dry-run", "--json").json["actions"]
    assert {action["path"] for action in actions} == {"a.txt", "b.txt", "c.txt", "new/f.txt"}
    assert git(repo, "status", "--porcelain") == ""
    assert agentgov(repo, "status", "--json").json["record"]["entries"] == entries


def test_what_a_run_in_place_made_is_there_already(agentgov: Cli, repo: Path) -> None:
    run = agentgov.play(repo, STEPS, "--workspace", "in-place")
    said = agentgov(repo, "apply", code=2)
    assert said.err.startswith("error[AG0076]: ")
    assert f"agentgov rollback {run}:start" in said.err


def test_apply_after_rollback_brings_what_is_left(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS)
    agentgov(repo, "rollback", ":1", "--yes")
    agentgov(repo, "apply")
    assert "LINE 2" in (repo / "a.txt").read_text()
    assert not (repo / "new").exists()


def test_after_drop_the_copy_is_gone_and_everything_can_still_be_read_and_taken(
    agentgov: Cli, repo: Path, git: GitRunner
) -> None:
    said = agentgov(repo, "run", "--json", "--", "sh", "-c", "echo x > x")
    copy = Path(said.summary["workspace"])
    assert copy.is_dir()
    refused = agentgov(repo, "drop", code=2)
    assert "--yes" in refused.err
    assert copy.is_dir()
    before = agentgov(repo, "show").out, agentgov(repo, "diff").out
    agentgov(repo, "drop", "--yes")
    assert not copy.exists()
    assert git(repo, "for-each-ref", "refs/agentgov/held") == ""
    assert (agentgov(repo, "show").out, agentgov(repo, "diff").out) == before
    assert agentgov(repo, "log").out.rstrip().endswith("files only, dropped")
    agentgov(repo, "verify")
    agentgov(repo, "apply")
    assert (repo / "x").read_text() == "x\n"
    again = agentgov(repo, "drop", "--yes", "--json").json
    assert again["removed"] is False


def test_dropping_a_run_in_place_removes_nothing_of_the_users(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS, "--workspace", "in-place")
    agentgov(repo, "drop", "--yes")
    assert (repo / "new" / "f.txt").read_text() == "f\n"
    assert (repo / "a.txt").exists()


def test_a_repository_with_crlf_gets_normalised_blobs_and_crlf_files(
    agentgov: Cli, make_repo: MakeRepo, git: GitRunner
) -> None:
    repo = make_repo(
        files={".gitattributes": "*.txt text eol=crlf\n", "a.txt": "one\r\ntwo\r\n", "b.txt": "b\r\n"}
    )
    assert git(repo, "show", "HEAD:a.txt") == "one\ntwo"
    run = agentgov.play(repo, [bash("printf 'three\\r\\n' >> a.txt; printf 'n\\r\\n' > new.txt")])
    agentgov(repo, "apply")
    assert (repo / "a.txt").read_bytes() == b"one\r\ntwo\r\nthree\r\n"
    assert (repo / "new.txt").read_bytes() == b"n\r\n"
    git(repo, "checkout", "-q", "-b", "side")
    git(repo, "stash", "-q", "-u")
    git(repo, "checkout", "-q", "main")
    agentgov(repo, "promote", run, "--into", "side")
    assert git(repo, "show", "side:a.txt") == "one\ntwo\nthree"
    assert git(repo, "show", "side:new.txt") == "n"
    assert git(repo, "diff", "--name-only", "main", "side").split() == ["a.txt", "new.txt"]
