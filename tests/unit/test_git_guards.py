"""Each guard of `gitcall`: what an agent can write into a repository or an environment changes nothing.

Every hostile setting is first shown to work on plain git, so that a test cannot pass by attacking nothing.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from agentgov.git import CatFile, Git, discover
from tests.conftest import GitRunner, MakeRepo


@pytest.fixture
def trap(tmp_path: Path) -> Path:
    """A program that leaves a mark beside itself when it is run."""
    script = tmp_path / "trap.sh"
    script.write_text(
        f"#!/bin/sh\necho sprung >> '{tmp_path}/sprung'\ncat >/dev/null 2>&1 </dev/null\nexit 0\n"
    )
    script.chmod(0o755)
    return script


def sprung(trap: Path) -> bool:
    mark = trap.parent / "sprung"
    was = mark.exists()
    mark.unlink(missing_ok=True)
    return was


def test_replace_refs_do_not_change_what_is_read(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo(files={"a": "true\n"})
    real = git(repo, "rev-parse", "HEAD:a")
    fake = git(repo, "hash-object", "-w", "--stdin", input=b"false\n")
    git(repo, "replace", real, fake)
    assert git(repo, "cat-file", "blob", real) == "false"
    found = discover(repo)
    assert found.git().run("cat-file", "blob", real).stdout == b"true\n"
    with CatFile(found.git()) as objects:
        assert objects.read(real) == ("blob", b"true\n")


def test_grafts_do_not_change_history(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo(commits=3)
    (repo / ".git/info").mkdir(exist_ok=True)
    (repo / ".git/info/grafts").write_text(git(repo, "rev-parse", "HEAD") + "\n")
    assert git(repo, "rev-list", "--count", "HEAD") == "1"
    assert discover(repo).git().text("rev-list", "--count", "HEAD") == "3"


def test_a_doctored_commit_graph_does_not_change_a_tree(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo(files={"a": "1\n"}, commits=1)
    honest_tree = git(repo, "rev-parse", "HEAD^{tree}")
    (repo / "a").write_text("2\n")
    git(repo, "commit", "-qam", "second")
    second_tree = git(repo, "rev-parse", "HEAD^{tree}")
    git(repo, "commit-graph", "write", "--reachable")
    graph = repo / ".git/objects/info/commit-graph"
    graph.chmod(0o644)
    data = graph.read_bytes()
    assert bytes.fromhex(honest_tree) in data
    graph.write_bytes(data.replace(bytes.fromhex(honest_tree), bytes.fromhex(second_tree)))
    assert git(repo, "log", "-1", "--format=%T", "HEAD^") == second_tree
    assert discover(repo).git().text("log", "-1", "--format=%T", "HEAD^") == honest_tree


def test_fsmonitor_of_the_repository_is_not_run(make_repo: MakeRepo, git: GitRunner, trap: Path) -> None:
    repo = make_repo()
    git(repo, "config", "core.fsmonitor", str(trap))
    git(repo, "status", check=False)
    assert sprung(trap)
    found = discover(repo)
    found.git(with_work_tree=True).run("status")
    assert not sprung(trap)


def test_external_diff_and_text_conversion_are_not_run(
    make_repo: MakeRepo, git: GitRunner, trap: Path
) -> None:
    repo = make_repo(files={"a": "1\n", ".gitattributes": "a diff=evil\n"})
    (repo / "a").write_text("2\n")
    found = discover(repo)
    for key in ("diff.external", "diff.evil.command", "diff.evil.textconv"):
        git(repo, "config", key, str(trap))
        git(repo, "diff", check=False)
        assert sprung(trap), key
        shown = found.git(with_work_tree=True).run("diff")
        assert not sprung(trap), key
        assert b"+2" in shown.stdout
        git(repo, "config", "--unset", key)


def test_hooks_are_not_run(make_repo: MakeRepo, git: GitRunner, trap: Path) -> None:
    repo = make_repo()
    hooks = repo / ".git/hooks"
    hooks.mkdir(exist_ok=True)
    (hooks / "reference-transaction").symlink_to(trap)
    git(repo, "update-ref", "refs/heads/x", "HEAD")
    assert sprung(trap)
    discover(repo).git().run("update-ref", "refs/heads/y", "HEAD")
    assert not sprung(trap)
    (hooks / "reference-transaction").unlink()
    elsewhere = repo / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "reference-transaction").symlink_to(trap)
    git(repo, "config", "core.hooksPath", str(elsewhere))
    git(repo, "update-ref", "refs/heads/z", "HEAD")
    assert sprung(trap)
    discover(repo).git().run("update-ref", "refs/heads/w", "HEAD")
    assert not sprung(trap)


def test_a_partial_clones_ext_promisor_is_not_run(make_repo: MakeRepo, git: GitRunner, trap: Path) -> None:
    repo = make_repo()
    git(repo, "config", "core.repositoryFormatVersion", "1")
    git(repo, "config", "extensions.partialClone", "evil")
    git(repo, "config", "remote.evil.url", f"ext::{trap} %S")
    git(repo, "config", "remote.evil.promisor", "true")
    # The repository's own permission is stronger than `-c protocol.allow=never`.
    git(repo, "config", "protocol.ext.allow", "always")
    missing = "1" * 40
    git(repo, "-c", "protocol.allow=never", "cat-file", "-t", missing, check=False)
    assert sprung(trap)
    found = discover(repo)
    assert not found.git().run("cat-file", "-t", missing, check=False).ok
    assert not found.git().run("fetch", "evil", check=False).ok
    with CatFile(found.git()) as objects:
        assert objects.info(missing) is None
    assert not sprung(trap)


def test_no_lazy_fetch_even_where_a_transport_is_allowed(
    make_repo: MakeRepo, git: GitRunner, tmp_path: Path
) -> None:
    repo = make_repo(files={"a": "1\n"})
    git(repo, "config", "uploadpack.allowFilter", "true")
    partial = tmp_path / "partial"
    git(tmp_path, "clone", "-q", "--no-checkout", "--filter=blob:none", f"file://{repo}", str(partial))
    blob = git(repo, "rev-parse", "HEAD:a")
    config = {"protocol.file.allow": "always"}
    assert not discover(partial).git().run("cat-file", "-e", blob, config=config, check=False).ok
    git(partial, "cat-file", "-e", blob)


def test_a_named_transport_works_and_no_other(make_repo: MakeRepo, git: GitRunner, tmp_path: Path) -> None:
    source = make_repo()
    target = make_repo(files={"b": "b\n"})
    caller = discover(target).git()
    refspec = "refs/heads/main:refs/heads/theirs"
    assert not caller.run("fetch", str(source), refspec, check=False).ok
    caller.run("fetch", str(source), refspec, config={"protocol.file.allow": "always"})
    assert discover(target).ref("refs/heads/theirs") == git(source, "rev-parse", "HEAD")


def test_the_alternate_refs_command_is_not_run(
    make_repo: MakeRepo, git: GitRunner, trap: Path, tmp_path: Path
) -> None:
    source = make_repo(commits=2)
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", "--shared", str(source), str(clone))
    git(clone, "config", "core.alternateRefsCommand", str(trap))
    other = make_repo(files={"o": "o\n"})
    fetch = ["fetch", str(other), "refs/heads/main:refs/heads/o"]
    git(clone, *fetch, check=False)
    assert sprung(trap)
    git(clone, "update-ref", "-d", "refs/heads/o")
    discover(clone).git().run(*fetch, config={"protocol.file.allow": "always"})
    assert not sprung(trap)


def test_a_signing_program_is_not_run_by_log(make_repo: MakeRepo, git: GitRunner, trap: Path) -> None:
    repo = make_repo()
    commit = git(repo, "cat-file", "commit", "HEAD")
    head, _, message = commit.partition("\n\n")
    signed = (
        f"{head}\ngpgsig -----BEGIN PGP SIGNATURE-----\n \n x\n -----END PGP SIGNATURE-----\n\n{message}\n"
    )
    oid = git(repo, "hash-object", "-t", "commit", "-w", "--stdin", input=signed.encode())
    git(repo, "config", "log.showSignature", "true")
    git(repo, "config", "gpg.program", str(trap))
    git(repo, "log", "-1", oid, check=False)
    assert sprung(trap)
    discover(repo).git().run("log", "-1", oid)
    assert not sprung(trap)


def test_signing_and_background_maintenance_are_off(make_repo: MakeRepo, git: GitRunner, trap: Path) -> None:
    repo = make_repo()
    git(repo, "config", "commit.gpgSign", "true")
    git(repo, "config", "gpg.program", str(trap))
    discover(repo).git(with_work_tree=True).run("commit", "--allow-empty", "-m", "x")
    assert not sprung(trap)


def test_git_variables_of_the_environment_are_ignored(
    make_repo: MakeRepo, git: GitRunner, monkeypatch: pytest.MonkeyPatch, trap: Path, tmp_path: Path
) -> None:
    repo = make_repo(files={"a": "1\n"})
    other = make_repo(files={"b": "2\n"})
    head = git(repo, "rev-parse", "HEAD")
    hostile = {
        "GIT_DIR": str(other / ".git"),
        "GIT_WORK_TREE": str(other),
        "GIT_INDEX_FILE": str(tmp_path / "index"),
        "GIT_OBJECT_DIRECTORY": str(other / ".git/objects"),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": "core.fsmonitor",
        "GIT_CONFIG_VALUE_0": str(trap),
        "GIT_CONFIG_PARAMETERS": f"'core.fsmonitor'='{trap}'",
        "GIT_EXTERNAL_DIFF": str(trap),
        "GIT_SSH_COMMAND": str(trap),
        "GIT_NAMESPACE": "evil",
        "GIT_TRACE": str(tmp_path / "trace"),
    }
    for name, value in hostile.items():
        monkeypatch.setenv(name, value)
    found = discover(repo)
    assert found.work_tree == repo
    assert found.head_commit() == head
    (repo / "a").write_text("changed\n")
    assert b"+changed" in found.git(with_work_tree=True).run("diff").stdout
    assert found.config("core.fsmonitor") is None
    assert not sprung(trap)
    assert not (tmp_path / "trace").exists()
    assert not (tmp_path / "index").exists()
    assert not [name for name in Git(None).environment() if name in hostile]


def test_the_place_of_the_users_configuration_counts(
    make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    repo = make_repo()
    place = tmp_path / "elsewhere"
    place.write_text("[user]\n\tname = Grace\n[safe]\n\tdirectory = *\n")
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(place))
    assert discover(repo).config("user.name") == "Grace"


def test_a_hostile_core_worktree_is_not_used(make_repo: MakeRepo, git: GitRunner, tmp_path: Path) -> None:
    repo = make_repo()
    found = discover(repo)
    git(repo, "config", "core.worktree", str(tmp_path))
    top = found.git().text("rev-parse", "--show-toplevel")
    assert top == str(repo / ".git")
    mine = found.git(with_work_tree=True).text("rev-parse", "--show-toplevel")
    assert mine == str(repo)


def test_the_users_index_is_out_of_reach_without_a_work_tree(make_repo: MakeRepo, tmp_path: Path) -> None:
    repo = make_repo()
    found = discover(repo)
    with pytest.raises(ValueError, match="index file of its own"):
        found.git().run("ls-files")
    before = (repo / ".git/index").read_bytes()
    own = found.git(index_file=tmp_path / "own-index")
    own.run("read-tree", "HEAD")
    assert own.lines_z("ls-files", "-z") == [b"README.md"]
    assert (repo / ".git/index").read_bytes() == before


def test_status_does_not_write_the_users_index(make_repo: MakeRepo) -> None:
    repo = make_repo()
    before = (repo / ".git/index").read_bytes()
    os.utime(repo / "README.md", (1_700_000_000, 1_700_000_000))
    discover(repo).git(with_work_tree=True).run("status")
    assert (repo / ".git/index").read_bytes() == before


def test_paths_are_literal(make_repo: MakeRepo) -> None:
    repo = make_repo(files={"*": "star\n", "b": "b\n"})
    found = discover(repo).git(with_work_tree=True)
    assert found.lines_z("ls-files", "-z", "--", "*") == [b"*"]


@pytest.mark.parametrize(
    "raw_rev", ["--help", "--all", "-h", "--output=x", "", "a\x00b", "HEAD..HEAD", "nope"]
)
def test_a_revision_is_never_an_option(make_repo: MakeRepo, raw_rev: str) -> None:
    repo = make_repo()
    assert discover(repo).resolve(raw_rev) is None


def test_only_harmless_commands_run_without_the_guards(make_repo: MakeRepo) -> None:
    with pytest.raises(ValueError, match="must not run without the guards"):
        Git(discover(make_repo()).git_dir).plain("status")


def test_plain_git_would_have_obeyed_the_environment(make_repo: MakeRepo) -> None:
    repo = make_repo(files={"a": "1\n"})
    other = make_repo(files={"b": "2\n"})
    shown = subprocess.run(
        ["git", "rev-parse", "--absolute-git-dir"],
        cwd=repo,
        env={**os.environ, "GIT_DIR": str(other / ".git")},
        capture_output=True,
        check=True,
    )
    assert shown.stdout.decode().strip() == str(other / ".git")
