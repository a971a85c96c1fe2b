"""What git does not have comes along as copies, or is named."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgov.config import WorkspaceTable
from agentgov.git import discover
from agentgov.harness import workspace
from agentgov.harness.environment import find_imports_from
from agentgov.harness.workspace import Workspace
from agentgov.ids import RunId
from agentgov.layout import StateHome
from tests.conftest import GitRunner, MakeRepo

RUN = RunId("7kq2f")
CloneMaker = Callable[..., Workspace]


@pytest.fixture
def clone(state: StateHome) -> CloneMaker:
    def make(repo: Path, *carry: str, **options: Any) -> Workspace:
        options.setdefault("env", {"PATH": os.environ["PATH"]})
        return workspace.prepare(
            discover(repo),
            RUN,
            start=repo,
            mode="clone",
            headless=True,
            another_run_live=False,
            state=state,
            settings=WorkspaceTable(carry=carry),
            **options,
        )

    return make


@pytest.fixture
def repo(make_repo: MakeRepo) -> Path:
    top: Path = make_repo(
        files={".gitignore": "node_modules/\n.env*\n.venv\nbuild/\n*.pyc\n__pycache__/\n", "a": "a\n"}
    )
    modules = top / "node_modules"
    (modules / "lib" / "node_modules").mkdir(parents=True)
    (modules / "lib" / "run.js").write_text("js")
    (modules / "lib" / "run.js").chmod(0o755)
    (modules / "lib" / ".env").write_text("not meant")
    (modules / ".bin").mkdir()
    (modules / ".bin" / "run").symlink_to("../lib/run.js")
    (modules / "absolute").symlink_to(modules / "lib")
    (modules / "outside").symlink_to("/usr/bin/env")
    (top / ".env").write_text("KEY=1")
    (top / "pkg").mkdir()
    (top / "pkg" / ".env.local").write_text("KEY=2")
    (top / "build").mkdir()
    (top / "build" / "keep.json").write_text("{}")
    (top / "build" / "big.o").write_text("o")
    (top / "__pycache__").mkdir()
    (top / "__pycache__" / "x.pyc").write_text("")
    return top


def test_what_is_missing_is_named_with_the_line_to_add(repo: Path, clone: CloneMaker) -> None:
    made = clone(repo)
    assert made.missing_ignored == (".env", "build/", "node_modules/", "pkg/.env.local")
    warning = next(line for line in made.warnings if line.startswith("not in the copy"))
    assert "node_modules/" in warning
    assert 'carry = [".env", "build/"' in warning
    assert made.carried == ()


def test_node_modules_with_its_links_is_copied_and_never_shared(
    repo: Path, clone: CloneMaker, git: GitRunner
) -> None:
    made = clone(repo, "node_modules", ".env*")
    copy = made.root / "node_modules"
    assert set(made.carried) >= {"node_modules/", ".env"}
    assert (copy / ".bin" / "run").readlink() == Path("../lib/run.js")
    assert (copy / ".bin" / "run").read_text() == "js"
    assert os.access(copy / "lib" / "run.js", os.X_OK)
    assert (copy / "absolute").readlink() == copy / "lib"
    assert (copy / "outside").readlink() == Path("/usr/bin/env")
    assert (made.root / "pkg" / ".env.local").read_text() == "KEY=2"
    for path in (copy / "lib" / "run.js", made.root / ".env"):
        assert path.stat().st_nlink == 1
        path.write_text("by the agent")
    assert (repo / ".env").read_text() == "KEY=1"
    assert (repo / "node_modules" / "lib" / "run.js").read_text() == "js"
    assert git(made.root, "status", "--porcelain") == ""
    assert set(made.missing_ignored) == {"build/"}


def test_a_pattern_without_a_slash_does_not_look_inside_ignored_folders(
    repo: Path, clone: CloneMaker
) -> None:
    made = clone(repo, ".env")
    assert not (made.root / "node_modules").exists()
    assert (made.root / ".env").read_text() == "KEY=1"


def test_a_pattern_with_a_slash_reaches_into_an_ignored_folder(repo: Path, clone: CloneMaker) -> None:
    made = clone(repo, "build/keep.json")
    assert sorted(path.name for path in (made.root / "build").iterdir()) == ["keep.json"]


def test_worktreeinclude_counts_too_and_negation_works(repo: Path, clone: CloneMaker) -> None:
    (repo / ".worktreeinclude").write_text("# what agents need\n.env*\n!.env.local\n")
    made = clone(repo)
    assert (made.root / ".env").exists()
    assert not (made.root / "pkg" / ".env.local").exists()


def test_odd_names_are_carried(make_repo: MakeRepo, clone: CloneMaker) -> None:
    repo = make_repo(files={".gitignore": "secret*\n"})
    names = ["secret\nline", "secret ü", ":secret", "secret\udcff"]
    (repo / ".gitignore").write_text("secret*\n:secret\n")
    for name in names:
        (repo / name).write_text(name.encode("utf-8", "surrogateescape").hex())
    made = clone(repo, "secret*", ":secret")
    assert sorted(made.carried) == sorted(names)
    for name in names:
        assert (made.root / name).exists()


def test_what_is_no_regular_file_is_named(make_repo: MakeRepo, clone: CloneMaker) -> None:
    repo = make_repo(files={".gitignore": "run/\n"})
    (repo / "run").mkdir()
    (repo / "run" / "x").write_text("x")
    os.mkfifo(repo / "run" / "pipe")
    made = clone(repo, "run")
    assert any("run/pipe is no regular file" in line for line in made.warnings)
    assert (made.root / "run" / "x").exists()


def test_a_link_in_the_commit_does_not_lead_a_copy_out_of_the_workspace(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path
) -> None:
    repo = make_repo(files={".gitignore": "out\n", "a": "a"})
    outside = tmp_path / "outside"
    outside.mkdir()
    (repo / "dir").symlink_to(outside)
    git(repo, "add", "dir")
    git(repo, "commit", "-q", "-m", "link")
    (repo / "dir").unlink()
    (repo / "dir").mkdir()
    (repo / "dir" / "out").write_text("x")
    made = clone(repo, "out")
    assert list(outside.iterdir()) == []
    assert any("leads out of it" in line for line in made.warnings)


def test_include_dirty_copies_content_and_not_the_index(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker
) -> None:
    repo = make_repo(
        files={
            "changed": "1\n",
            "staged": "1\n",
            "deleted": "1\n",
            "file": "1\n",
            "exec": "1\n",
            ".gitignore": "no\n",
        }
    )
    (repo / "changed").write_text("2\n")
    (repo / "staged").write_text("2\n")
    git(repo, "add", "staged")
    (repo / "staged").write_text("3\n")
    (repo / "deleted").unlink()
    (repo / "file").unlink()
    (repo / "file").mkdir()
    (repo / "file" / "inner").write_text("now a folder\n")
    (repo / "exec").chmod(0o755)
    (repo / "new").write_text("new\n")
    (repo / "link").symlink_to("new")
    (repo / "no").write_text("ignored")
    made = clone(repo, include_dirty=True)
    assert (made.root / "changed").read_text() == "2\n"
    assert (made.root / "staged").read_text() == "3\n"
    assert not (made.root / "deleted").exists()
    assert (made.root / "file" / "inner").read_text() == "now a folder\n"
    assert os.access(made.root / "exec", os.X_OK)
    assert (made.root / "link").readlink() == Path("new")
    assert not (made.root / "no").exists()
    assert git(made.root, "diff", "--cached") == ""
    assert made.left_out_dirty == 0
    assert made.included_dirty == 8


def test_uncommitted_files_left_out_are_counted(make_repo: MakeRepo, clone: CloneMaker) -> None:
    repo = make_repo()
    (repo / "README.md").write_text("changed\n")
    (repo / "new").write_text("x")
    assert clone(repo).left_out_dirty == 2


def test_setup_commands_run_in_the_clone_up_to_the_first_failure(
    make_repo: MakeRepo, clone: CloneMaker
) -> None:
    made = clone(make_repo())
    env = {"PATH": os.environ["PATH"], "GIT_DIR": "/nowhere"}
    results = workspace.run_setup(
        made, ["pwd; git rev-parse --git-dir", "echo no >&2; exit 3", "touch never"], env
    )
    assert [result.returncode for result in results] == [0, 3]
    assert results[0].output.decode() == f"{made.root}\n.git\n"
    assert results[1].output == b"no\n"
    assert not results[1].ok
    assert not (made.root / "never").exists()


def test_read_only_folders_in_a_workspace_can_be_dropped(
    make_repo: MakeRepo, clone: CloneMaker, state: StateHome
) -> None:
    made = clone(make_repo())
    cache = made.root / "cache" / "mod"
    cache.mkdir(parents=True)
    (cache / "file").write_text("x")
    cache.chmod(0o555)
    assert workspace.drop(state, RUN)
    assert list(state.workspaces.iterdir()) == []


def test_an_editable_install_is_named(tmp_path: Path) -> None:
    tree = tmp_path / "tree"
    tree.mkdir()
    site = tmp_path / "venv" / "lib" / "python3.11" / "site-packages"
    info = site / "mine-1.0.dist-info"
    info.mkdir(parents=True)
    env = {"VIRTUAL_ENV": str(tmp_path / "venv"), "PATH": "/nowhere"}
    said = {"url": tree.as_uri(), "dir_info": {"editable": False}}
    (info / "direct_url.json").write_text(json.dumps(said))
    assert find_imports_from(tree, env) == []
    (info / "direct_url.json").write_text(json.dumps({**said, "dir_info": {"editable": True}}))
    assert "imports mine from the original" in find_imports_from(tree, env)[0]
    (info / "direct_url.json").write_text("not json")
    assert find_imports_from(tree, env) == []
    (site / "__editable__.other-2.pth").write_text(f"{tree}/src\n")
    assert "imports other from" in find_imports_from(tree, env)[0]


def test_an_environment_inside_the_tree_and_a_pythonpath_are_named(tmp_path: Path) -> None:
    (tmp_path / ".venv" / "bin").mkdir(parents=True)
    env = {"VIRTUAL_ENV": str(tmp_path / ".venv"), "PATH": "/nowhere", "PYTHONPATH": f"{tmp_path}/src"}
    found = find_imports_from(tmp_path, env)
    assert len(found) == 2
    assert "lies in the original" in found[0]
    assert "PYTHONPATH" in found[1]
