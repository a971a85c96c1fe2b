"""`rollback`: back to exactly the snapshot after a call, and nothing of the user's lost on the way."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli, bash, write

STEPS: list[dict[str, Any]] = [
    bash("echo two >> a.txt"),
    write("new/deep/b.txt", "b\n"),
    bash("chmod +x a.txt; ln -s a.txt link; mkdir -p empty/inner"),
    bash("rm -rf important2; rm gone"),
    bash("rm -r new; ln -sfn new link; rmdir empty/inner; chmod -x a.txt"),
    bash("rm link; mkdir link; echo x > link/file; printf '\\377\\000' > raw; echo z > a.txt"),
    {"tool": "Read", "input": {"file_path": "a.txt"}},
]


def picture(root: Path) -> dict[str, Any]:
    """Every path below a folder but git's own: bytes, link, executable bit, or folder."""
    found: dict[str, Any] = {}
    for place, folders, names in os.walk(root):
        if Path(place) == root:
            folders.remove(".git")
        for name in [*folders, *names]:
            path = Path(place) / name
            key = str(path.relative_to(root))
            if path.is_symlink():
                found[key] = ("link", str(path.readlink()))
            elif path.is_dir():
                found[key] = "folder"
            else:
                found[key] = (path.read_bytes(), bool(path.stat().st_mode & stat.S_IXUSR))
    return found


def snapshots(repo: Path, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Play the steps without agentgov, in a copy; return what lies there before them and after each."""
    import shutil

    from agentgov.harness.demo_agent import run_tool

    copy = repo.parent / "played"
    shutil.copytree(repo, copy, symlinks=True, ignore=shutil.ignore_patterns("agentgov"))
    monkeypatch.chdir(copy)
    pictures = [picture(copy)]
    for step in STEPS:
        run_tool(step["tool"], step["input"])
        pictures.append(picture(copy))
    return pictures


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    return make_repo(files={"a.txt": "one\n", "gone": "g\n", "important2/x": "x\n", ".gitignore": "*.o\n"})


@pytest.mark.parametrize("place", ["clone", "in-place"])
def test_rollback_to_each_call_gives_exactly_what_lay_there(
    agentgov: Cli, repo: Path, place: str, monkeypatch: pytest.MonkeyPatch, git: GitRunner
) -> None:
    expected = snapshots(repo, monkeypatch)
    run = agentgov.play(repo, STEPS, "--workspace", place)
    root = Path(agentgov(repo, "rollback", ":start", "--dry-run", "--json").json["root"])
    assert (root == repo) == (place == "in-place")
    assert picture(root) == expected[-1]
    head, index = git(repo, "rev-parse", "HEAD"), (repo / ".git" / "index").read_bytes()
    order = [*range(len(STEPS), 0, -1), 3, 6, "start", 5, 2]
    for point in order:
        agentgov(repo, "rollback", f":{point}", "--yes")
        assert picture(root) == expected[0 if point == "start" else int(point)], point
    assert git(repo, "rev-parse", "HEAD") == head
    assert (repo / ".git" / "index").read_bytes() == index
    agentgov(repo, "verify")
    said = agentgov(repo, "show").out
    assert "  then rolled back to :3" in said
    # What counts as the result now is what is there.
    changed = {file["path"] for file in agentgov(repo, "diff", run, "--json").json["files"]}
    assert changed == {"a.txt", "new/deep/b.txt"}


def test_a_dry_run_changes_nothing_and_says_what_would(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS[:3], "--workspace", "in-place")
    before = picture(repo)
    entries = agentgov(repo, "status", "--json").json["record"]["entries"]
    said = agentgov(repo, "rollback", ":1", "--dry-run")
    assert "- new/deep/b.txt" in said.out.splitlines()
    planned = agentgov(repo, "rollback", ":1", "--dry-run", "--json").json
    assert {action["path"] for action in planned["actions"]} == {"a.txt", "new/deep/b.txt", "link"}
    assert picture(repo) == before
    assert agentgov(repo, "status", "--json").json["record"]["entries"] == entries
    assert agentgov(repo, "rollback", ":3", "--dry-run").out == "nothing would change\n"


def test_without_a_terminal_a_yes_is_demanded_and_nothing_changes(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS[:1], "--workspace", "in-place")
    said = agentgov(repo, "rollback", ":start", code=2)
    assert "--yes" in said.err
    assert (repo / "a.txt").read_text() == "one\ntwo\n"


def test_a_later_edit_of_the_user_is_a_conflict_and_nothing_is_touched(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS[:2], "--workspace", "in-place")
    (repo / "a.txt").write_text("mine\n")
    before = picture(repo)
    said = agentgov(repo, "rollback", ":start", "--yes", code=15)
    assert said.err.startswith("error[AG0075]: ")
    assert "a.txt" in said.err
    assert picture(repo) == before
    planned = agentgov(repo, "rollback", ":start", "--dry-run", "--json").json
    assert [found["path"] for found in planned["conflicts"]] == ["a.txt"]
    assert "! a.txt" in agentgov(repo, "rollback", ":start", "--dry-run").out


def test_edits_elsewhere_and_ignored_files_are_kept(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS[:2], "--workspace", "in-place")
    (repo / "mine.txt").write_text("mine\n")
    (repo / "important2" / "x").write_text("edited\n")
    (repo / "new" / "deep" / "b.o").write_text("built\n")
    said = agentgov(repo, "rollback", ":start", "--yes", "--json").json
    assert set(said["kept"]) == {"mine.txt", "important2/x"}
    assert (repo / "mine.txt").read_text() == "mine\n"
    assert (repo / "important2" / "x").read_text() == "edited\n"
    assert (repo / "new" / "deep" / "b.o").read_text() == "built\n"
    assert not (repo / "new" / "deep" / "b.txt").exists()
    assert (repo / "a.txt").read_text() == "one\n"
    # The user's edits are entered, as nobody's.
    steps = agentgov(repo, "show", "--json").json["unattributed"]
    assert {file["path"] for step in steps for file in step["files"]} == {"mine.txt", "important2/x"}


def test_what_was_there_before_can_be_had_back(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS[:2], "--workspace", "in-place")
    before = picture(repo)
    agentgov(repo, "rollback", ":start", "--yes")
    assert picture(repo) != before
    agentgov(repo, "rollback", ":2", "--yes")
    assert picture(repo) == before
    agentgov(repo, "rollback", ":end", "--yes")
    assert picture(repo) == before


def test_a_rollback_to_where_it_is_says_so(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS[:1], "--workspace", "in-place")
    said = agentgov(repo, "rollback", ":1", "--yes")
    assert "is at :1 already" in said.err
    assert "back at" not in said.err


def test_a_moment_that_is_not_there_is_refused(agentgov: Cli, repo: Path) -> None:
    run = agentgov.play(repo, STEPS[:1])
    for ref in (":9", f"{run}:0", run, f"{run}:1..1", ":", "x"):
        said = agentgov(repo, "rollback", ref, "--yes", code=2)
        assert said.err.startswith("error[AG0")


def test_a_copy_that_is_gone_cannot_be_rolled_back(agentgov: Cli, repo: Path) -> None:
    agentgov.play(repo, STEPS[:1])
    agentgov(repo, "drop", "--yes")
    said = agentgov(repo, "rollback", ":start", "--yes", code=3)
    assert said.err.startswith("error[AG0070]: ")
    assert "agentgov diff" in said.err


def test_a_rollback_that_was_cut_short_is_finished_or_undone_by_the_next_command(
    agentgov: Cli, repo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    agentgov.play(repo, STEPS[:3], "--workspace", "in-place")
    after, count = picture(repo), 0

    class CutError(BaseException):
        pass

    real = os.rename

    def cut(*args: Any, **kwargs: Any) -> None:
        nonlocal count
        count += 1
        if count == 3:
            raise CutError
        real(*args, **kwargs)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", cut)
        with pytest.raises(CutError):
            agentgov(repo, "rollback", ":start", "--yes")
    agentgov(repo, "rollback", ":3", "--yes")
    assert picture(repo) == after
    agentgov(repo, "verify")
