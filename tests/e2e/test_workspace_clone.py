"""A run's clone: what it carries over, what it refuses to, and that the user's repository stays as it was."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgov.config import WorkspaceTable
from agentgov.errors import AgentgovError, IncompleteError
from agentgov.git import discover
from agentgov.harness import workspace
from agentgov.harness.workspace import Workspace
from agentgov.ids import RunId
from agentgov.layout import StateHome
from tests.conftest import GitRunner, MakeRepo

RUN = RunId("7kq2f")
CloneMaker = Callable[..., Workspace]


@pytest.fixture
def clone(state: StateHome) -> CloneMaker:
    def make(repo: Path, run: RunId = RUN, **options: Any) -> Workspace:
        options.setdefault("settings", WorkspaceTable())
        options.setdefault("env", {"PATH": os.environ["PATH"]})
        options.setdefault("mode", "clone")
        return workspace.prepare(
            discover(repo), run, start=repo, headless=True, another_run_live=False, state=state, **options
        )

    return make


def fingerprint(top: Path, *, without: tuple[str, ...] = ()) -> dict[str, tuple[int, str]]:
    found = {}
    for folder, _, files in os.walk(top):
        for name in files:
            path = Path(folder) / name
            key = str(path.relative_to(top))
            if not key.startswith(without):
                info = path.lstat()
                content = os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
                found[key] = (stat.S_IMODE(info.st_mode), hashlib.sha256(content).hexdigest())
    return found


def test_a_clone_has_the_commit_on_a_branch_of_the_same_name(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker
) -> None:
    repo = make_repo(commits=2)
    git(repo, "switch", "-q", "-c", "topic/a")
    made = clone(repo)
    assert made.place == "clone"
    assert made.root.name == repo.name
    assert git(made.root, "symbolic-ref", "HEAD") == "refs/heads/topic/a" == made.base_branch
    assert git(made.root, "rev-parse", "HEAD") == git(repo, "rev-parse", "HEAD") == made.base
    assert git(made.root, "status", "--porcelain") == ""
    assert git(made.root, "fsck", "--full", "--no-dangling") == ""


def test_branches_and_tags_of_every_kind_are_carried(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker
) -> None:
    repo = make_repo(commits=2)
    git(repo, "branch", "other", "HEAD~1")
    git(repo, "tag", "light")
    git(repo, "tag", "-a", "-m", "x", "heavy")
    git(repo, "tag", "-a", "-m", "y", "nested", "heavy")
    git(repo, "tag", "blob", git(repo, "rev-parse", "HEAD:README.md"))
    git(repo, "tag", "tree", git(repo, "rev-parse", "HEAD^{tree}"))
    before = git(repo, "for-each-ref", "refs/heads", "refs/tags")
    made = clone(repo)
    assert git(made.root, "for-each-ref", "refs/heads", "refs/tags") == before


def test_gc_prune_now_in_the_main_repository_breaks_nothing(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, state: StateHome
) -> None:
    repo = make_repo(commits=3)
    git(repo, "switch", "-q", "-c", "gone")
    (repo / "new.txt").write_text("new\n")
    git(repo, "add", "new.txt")
    git(repo, "commit", "-q", "-m", "only here")
    git(repo, "tag", "-a", "-m", "note", "gone-too")
    git(repo, "tag", "blob", git(repo, "hash-object", "-w", "--stdin", input=b"odd"))
    made = clone(repo)
    git(repo, "switch", "-q", "main")
    git(repo, "branch", "-q", "-D", "gone")
    git(repo, "tag", "-d", "gone-too", "blob")
    git(repo, "reset", "-q", "--hard", "HEAD~2")
    git(repo, "reflog", "expire", "--expire=now", "--all")
    git(repo, "gc", "-q", "--prune=now")
    assert git(made.root, "cat-file", "-p", "HEAD:new.txt") == "new"
    assert git(made.root, "cat-file", "-p", "blob") == "odd"
    assert "note" in git(made.root, "cat-file", "-p", "gone-too")
    assert git(made.root, "fsck", "--full", "--strict", "--no-dangling") == ""
    assert workspace.drop(state, RUN)
    assert not made.root.exists()
    assert git(repo, "for-each-ref", "refs/agentgov") == ""
    assert not workspace.drop(state, RUN)


def test_the_users_repository_is_byte_identical_after_a_run_in_a_clone(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, state: StateHome
) -> None:
    repo = make_repo(files={"a.txt": "a\n", ".gitignore": "ignored/\n", "b.txt": "b\n"}, commits=2)
    (repo / "ignored").mkdir()
    (repo / "ignored" / "x").write_text("x")
    (repo / "a.txt").write_text("stashed\n")
    git(repo, "stash", "-q")
    (repo / "b.txt").write_text("staged\n")
    git(repo, "add", "b.txt")
    (repo / "b.txt").write_text("worked\n")
    (repo / "untracked").write_text("u")
    before = fingerprint(repo, without=(".git/objects",))
    made = clone(repo, settings=WorkspaceTable(carry=("ignored",)))
    (made.root / "a.txt").write_text("by the agent\n")
    (made.root / "ignored" / "x").write_text("by the agent")
    git(made.root, "commit", "-q", "-am", "agent")
    during = fingerprint(repo, without=(".git/objects", ".git/refs/agentgov"))
    assert during == before
    workspace.drop(state, RUN)
    assert fingerprint(repo, without=(".git/objects",)) == before
    assert made.left_out_dirty == 2


@pytest.mark.parametrize(
    "form", ["path", "file", "relative", "link", "dotgit", "instead", "push", "worktree", "ssh"]
)
def test_no_remote_reaches_the_users_repository(
    form: str, make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path
) -> None:
    repo = make_repo()
    link = tmp_path / "link"
    link.symlink_to(repo)
    worktree = tmp_path / "wt"
    git(repo, "worktree", "add", "-q", "-b", "wt", str(worktree))
    urls = {
        "path": str(repo),
        "file": f"file://{repo}",
        "relative": f"../{repo.name}",
        "link": str(link),
        "dotgit": str(repo / ".git"),
        "instead": "short:x",
        "push": "https://example.org/x",
        "worktree": str(worktree),
        "ssh": f"ssh://me@localhost{repo}",
    }
    git(repo, "remote", "add", "up", urls[form])
    git(repo, "remote", "add", "fine", "https://example.org/fine.git")
    git(repo, "config", f"url.{repo}.insteadOf", "short:x")
    if form == "push":
        git(repo, "remote", "set-url", "--push", "up", str(repo))
    made = clone(repo)
    assert git(made.root, "remote") == "fine"
    assert str(repo) not in (made.git_dir / "config").read_text()
    assert any("remote up is left out" in line for line in made.warnings)


def test_other_remotes_are_carried_with_their_branches(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path
) -> None:
    upstream = make_repo(tmp_path / "upstream", commits=2)
    repo = tmp_path / "mine"
    git(tmp_path, "clone", "-q", str(upstream), str(repo))
    git(repo, "remote", "set-url", "origin", "../upstream")
    made = clone(repo)
    assert git(made.root, "remote", "get-url", "origin") == str(upstream)
    assert git(made.root, "rev-parse", "--abbrev-ref", "main@{upstream}") == "origin/main"
    assert git(made.root, "symbolic-ref", "refs/remotes/origin/HEAD") == "refs/remotes/origin/main"
    git(made.root, "fetch", "-q", "origin")


def test_identity_eol_and_excludes_are_carried_and_signing_is_off(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker
) -> None:
    repo = make_repo()
    for key, value in {
        "user.name": 'Bob "the\\ builder" Ünïcode',
        "user.email": "bob@example.org",
        "core.autocrlf": "input",
        "commit.gpgsign": "true",
        "alias.st": "status",
        "core.hooksPath": ".husky",
        "http.extraHeader": "AUTHORIZATION: basic c2VjcmV0",
    }.items():
        git(repo, "config", key, value)
    (repo / ".git" / "info").mkdir(exist_ok=True)
    (repo / ".git" / "info" / "exclude").write_text("secret.txt\n")
    (repo / ".git" / "info" / "attributes").write_text("*.md -text\n")
    (repo / ".husky").mkdir()
    (repo / ".husky" / "pre-commit").write_text("#!/bin/sh\nexit 1\n")
    (repo / ".husky" / "pre-commit").chmod(0o755)
    made = clone(repo)
    assert git(made.root, "config", "user.name") == 'Bob "the\\ builder" Ünïcode'
    assert git(made.root, "config", "core.autocrlf") == "input"
    assert git(made.root, "config", "alias.st") == "status"
    assert "c2VjcmV0" not in (made.git_dir / "config").read_text()
    (made.root / "secret.txt").write_text("x")
    assert git(made.root, "status", "--porcelain") == ""
    assert git(made.root, "check-attr", "text", "README.md").endswith("unset")
    git(made.root, "commit", "-q", "--allow-empty", "-m", "works")
    assert any("pre-commit" in line for line in made.warnings)


def test_an_identity_that_only_holds_for_the_original_folder_is_carried(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, home: Path
) -> None:
    repo = make_repo()
    (home / "work.inc").write_text("[user]\n\tname = Work Me\n")
    with open(home / ".gitconfig", "a") as file:
        file.write(f'[includeIf "gitdir:{repo}/"]\n\tpath = {home}/work.inc\n')
    assert git(clone(repo).root, "config", "user.name") == "Work Me"


def test_without_an_identity_a_fallback_is_stated(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, home: Path
) -> None:
    repo = make_repo()
    (home / ".gitconfig").write_text("[user]\n\tuseConfigOnly = true\n")
    made = clone(repo)
    assert any("no user.name" in line for line in made.warnings)
    git(made.root, "commit", "-q", "--allow-empty", "-m", "works")
    assert git(made.root, "log", "-1", "--format=%an <%ae>") == "agentgov run <agentgov@localhost>"


def test_a_run_from_a_subfolder_starts_in_the_same_subfolder(make_repo: MakeRepo, clone: CloneMaker) -> None:
    repo = make_repo(files={"sub/dir/x": "1"})
    made = clone(repo / "sub" / "dir")
    assert made.cwd == made.root / "sub" / "dir"
    assert (made.cwd / "x").read_text() == "1"


def test_a_linked_worktree_gives_its_own_head(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path
) -> None:
    repo = make_repo(commits=2)
    linked = tmp_path / "linked"
    git(repo, "worktree", "add", "-q", "-b", "side", str(linked), "HEAD~1")
    made = clone(linked)
    assert made.base_branch == "refs/heads/side"
    assert git(made.root, "rev-parse", "HEAD") == git(linked, "rev-parse", "HEAD")
    assert git(made.root, "status", "--porcelain") == ""


def test_a_detached_head_stays_detached(make_repo: MakeRepo, git: GitRunner, clone: CloneMaker) -> None:
    repo = make_repo(commits=2)
    git(repo, "switch", "-q", "--detach", "HEAD~1")
    made = clone(repo)
    assert made.base_branch is None
    assert git(made.root, "rev-parse", "HEAD") == made.base
    assert git(made.root, "symbolic-ref", "-q", "HEAD", check=False) == ""


def test_a_shallow_repository_works(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path
) -> None:
    upstream = make_repo(tmp_path / "upstream", commits=4)
    git(tmp_path, "clone", "-q", "--depth=2", f"file://{upstream}", "shallow")
    made = clone(tmp_path / "shallow")
    assert git(made.root, "rev-list", "--count", "HEAD") == "2"
    assert git(made.root, "fsck", "--no-dangling") == ""


def test_a_partial_clone_works_and_can_fetch_what_it_lacks(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path
) -> None:
    upstream = make_repo(tmp_path / "upstream", files={"a": "one\n"}, commits=1)
    (upstream / "a").write_text("two\n")
    git(upstream, "commit", "-q", "-am", "two")
    git(upstream, "config", "uploadpack.allowFilter", "true")
    git(upstream, "config", "uploadpack.allowAnySHA1InWant", "true")
    git(tmp_path, "clone", "-q", "--filter=blob:none", f"file://{upstream}", "partial")
    made = clone(tmp_path / "partial")
    assert git(made.root, "status", "--porcelain") == ""
    assert git(made.root, "show", "HEAD~1:a") == "one"


def test_a_partial_clone_that_lacks_the_commits_own_files_is_refused_clearly(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path, state: StateHome
) -> None:
    upstream = make_repo(tmp_path / "upstream", files={"a": "one\n"})
    git(upstream, "config", "uploadpack.allowFilter", "true")
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{upstream}", "partial")
    with pytest.raises(IncompleteError) as caught:
        clone(tmp_path / "partial")
    assert caught.value.id == "AG0036"
    assert any("git checkout HEAD" in hint for hint in caught.value.hint)
    assert not (state.workspaces / RUN).exists()
    assert git(tmp_path / "partial", "for-each-ref", "refs/agentgov") == ""


def test_a_sparse_checkout_stays_sparse(make_repo: MakeRepo, git: GitRunner, clone: CloneMaker) -> None:
    repo = make_repo(files={"in/a": "1", "out/b": "2", "top": "3"})
    git(repo, "sparse-checkout", "set", "--cone", "in")
    made = clone(repo)
    assert (made.root / "in" / "a").exists()
    assert not (made.root / "out").exists()
    assert git(made.root, "status", "--porcelain") == ""
    assert git(made.root, "sparse-checkout", "list") == "in"


def test_a_sha256_repository_works(git: GitRunner, clone: CloneMaker, tmp_path: Path) -> None:
    repo = tmp_path / "wide"
    repo.mkdir()
    git(repo, "init", "-q", "--object-format=sha256")
    (repo / "a").write_text("a")
    git(repo, "add", "a")
    git(repo, "commit", "-q", "-m", "a")
    git(repo, "tag", "-a", "-m", "t", "v1")
    made = clone(repo)
    assert len(made.base) == 64
    assert git(made.root, "fsck", "--no-dangling") == ""
    assert git(made.root, "status", "--porcelain") == ""


def test_odd_folder_names_work(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path
) -> None:
    for number, name in enumerate(["with space", "ünï", "new\nline", '"quoted', "#hash"]):
        repo = make_repo(tmp_path / name / "repo é\n#", files={"dir\n1/ü": "x"})
        made = clone(repo, run=RunId(f"7kq2{number}"))
        assert git(made.root, "fsck", "--no-dangling") == ""
        assert (made.root / "dir\n1" / "ü").read_text() == "x"


def test_a_repository_that_borrows_itself_can_be_borrowed_from(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path
) -> None:
    first = make_repo(tmp_path / "first", commits=2)
    git(tmp_path, "clone", "-q", "--shared", str(first), "second")
    made = clone(tmp_path / "second")
    assert git(made.root, "log", "--oneline").count("\n") == 1
    assert str(first / ".git" / "objects") in (made.git_dir / "objects/info/alternates").read_text()


def test_submodules_are_populated_and_work_offline(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path, state: StateHome
) -> None:
    inner = make_repo(tmp_path / "inner", files={"lib.c": "int x;\n"})
    repo = make_repo(tmp_path / "outer")
    git(repo, "submodule", "-q", "add", str(inner), "vendor/inner")
    git(repo, "commit", "-q", "-m", "with a submodule")
    made = clone(repo)
    assert (made.root / "vendor/inner/lib.c").read_text() == "int x;\n"
    assert git(made.root, "status", "--porcelain") == ""
    assert git(made.root, "submodule", "status").startswith(" ")
    sub = repo / ".git/modules/vendor/inner"
    assert "refs/agentgov/held/" in git(sub, "for-each-ref")
    (made.root / "vendor/inner/lib.c").write_text("int y;\n")
    git(made.root / "vendor/inner", "commit", "-q", "-am", "change")
    assert (repo / "vendor/inner/lib.c").read_text() == "int x;\n"
    workspace.drop(state, RUN)
    assert "refs/agentgov/held/" not in git(sub, "for-each-ref")


def test_a_submodule_that_is_not_there_is_named(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path
) -> None:
    inner = make_repo(tmp_path / "inner")
    outer = make_repo(tmp_path / "outer")
    git(outer, "submodule", "-q", "add", str(inner), "sub")
    git(outer, "commit", "-q", "-m", "with a submodule")
    git(tmp_path, "clone", "-q", str(outer), "fresh")
    made = clone(tmp_path / "fresh")
    assert any("submodule sub is empty" in line for line in made.warnings)
    assert git(made.root, "status", "--porcelain") == ""


def test_lfs_files_stay_pointers_and_that_is_said(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, home: Path
) -> None:
    repo = make_repo(files={".gitattributes": "*.bin -text\n", "big.bin": "version https://git-lfs\n"})
    (repo / ".gitattributes").write_text("*.bin filter=lfs diff=lfs merge=lfs -text\n")
    git(repo, "commit", "-q", "-am", "lfs")
    with open(home / ".gitconfig", "a") as file:
        file.write(
            '[filter "lfs"]\n\tprocess = no-such-program\n\tsmudge = no-such-program\n\trequired = true\n'
        )
    made = clone(repo)
    assert (made.root / "big.bin").read_text() == "version https://git-lfs\n"
    assert any("1 files under git-lfs are pointers" in line for line in made.warnings)


def test_line_ends_follow_the_attributes_and_the_clone_is_clean(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker
) -> None:
    repo = make_repo(files={".gitattributes": "*.bat text eol=crlf\n", "run.bat": "a\r\nb\r\n"})
    made = clone(repo)
    assert (made.root / "run.bat").read_bytes() == b"a\r\nb\r\n"
    assert git(made.root, "status", "--porcelain") == ""


def test_a_run_has_one_workspace(make_repo: MakeRepo, clone: CloneMaker) -> None:
    repo = make_repo()
    clone(repo)
    with pytest.raises(AgentgovError) as caught:
        clone(repo)
    assert caught.value.id == "AG0037"


def test_two_runs_at_once_share_a_repository(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, state: StateHome
) -> None:
    repo = make_repo()
    one, two = clone(repo), clone(repo, run=RunId("abcde"))
    assert one.root != two.root
    workspace.drop(state, RUN)
    git(repo, "gc", "-q", "--prune=now")
    assert git(two.root, "fsck", "--no-dangling") == ""


@pytest.mark.parametrize(("kind", "id"), [("none", "AG0010"), ("bare", "AG0011"), ("empty", "AG0012")])
def test_what_cannot_be_cloned_is_refused_clearly(
    kind: str, id: str, tmp_path: Path, git: GitRunner, clone: CloneMaker
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    if kind != "none":
        git(place, "init", "-q", *(["--bare"] if kind == "bare" else []))
    with pytest.raises(AgentgovError) as caught:
        clone(place)
    assert caught.value.id == id


def test_auto_is_in_place_for_a_person_and_a_clone_otherwise() -> None:
    assert workspace.choose_place("auto", headless=False, another_run_live=False) == "in-place"
    assert workspace.choose_place("auto", headless=True, another_run_live=False) == "clone"
    assert workspace.choose_place("auto", headless=False, another_run_live=True) == "clone"
    assert workspace.choose_place("in-place", headless=True, another_run_live=True) == "in-place"


def test_in_place_touches_nothing_and_states_the_fallback_identity(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, home: Path
) -> None:
    repo = make_repo()
    (home / ".gitconfig").write_text("")
    before = fingerprint(repo)
    made = clone(repo, mode="in-place")
    assert made.root == repo
    assert made.env["GIT_AUTHOR_NAME"] == "agentgov run"
    assert fingerprint(repo) == before


def test_the_users_global_hooks_are_not_called_lost(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, home: Path
) -> None:
    repo = make_repo()
    hook = home / "hooks" / "post-commit"
    hook.parent.mkdir()
    hook.write_text("#!/bin/sh\ntouch hooked\n")
    hook.chmod(0o755)
    git(repo, "config", "--global", "core.hooksPath", str(hook.parent))
    made = clone(repo)
    assert made.warnings == ()
    git(made.root, "commit", "-q", "--allow-empty", "-m", "x")
    assert (made.root / "hooked").exists()


def test_a_repository_in_a_folder_of_any_name_works(
    make_repo: MakeRepo, git: GitRunner, clone: CloneMaker, tmp_path: Path, state: StateHome
) -> None:
    made = clone(make_repo(tmp_path / "manifest.json"))
    assert git(made.root, "status", "--porcelain") == ""
    assert workspace.drop(state, RUN)
