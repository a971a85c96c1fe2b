"""Repositories are found and described as git sees them; objects are checked against their names."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError, BrokenRecordError, IncompleteError, UsageError
from agentgov.git import (
    EMPTY_TREE,
    CatFile,
    Git,
    RemoteBranch,
    Submodule,
    branch_ref,
    check_oid,
    check_refname,
    discover,
    git_version,
    hash_object,
    is_refname,
    parse_gitmodules,
    short_ref,
)
from tests.conftest import GitRunner, MakeRepo


def error_id(raised: pytest.ExceptionInfo[AgentgovError]) -> str:
    return raised.value.id


def test_a_subfolder_belongs_to_its_repository(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo(files={"src/deep/x.py": "1\n"})
    found = discover(repo / "src/deep")
    assert found.work_tree == repo
    assert found.git_dir == found.common_dir == repo / ".git"
    assert found.objects_dir == repo / ".git/objects"
    assert (found.object_format, found.is_bare, found.is_shallow) == ("sha1", False, False)
    assert found.head_commit() == git(repo, "rev-parse", "HEAD")
    assert found.head_branch() == "refs/heads/main"
    assert found.layout.root == repo / ".git/agentgov"


def test_a_linked_work_tree_shares_the_common_folder(
    make_repo: MakeRepo, git: GitRunner, tmp_path: Path
) -> None:
    repo = make_repo()
    linked = tmp_path / "linked"
    git(repo, "worktree", "add", "-q", "-b", "side", str(linked))
    found = discover(linked)
    assert found.work_tree == linked
    assert found.git_dir == repo / ".git/worktrees/linked"
    assert found.common_dir == repo / ".git"
    assert found.head_branch() == "refs/heads/side"
    assert found.layout == discover(repo).layout


def test_odd_folder_names_are_found(make_repo: MakeRepo, tmp_path: Path) -> None:
    for name in (b"new\nline", b"bytes-\xff", b"-c x"):
        repo = make_repo(Path(os.fsdecode(os.fsencode(tmp_path) + b"/" + name)))
        found = discover(repo)
        assert found.work_tree == repo
        assert found.head_commit() is not None


def test_a_sha256_repository_says_so(git: GitRunner, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--object-format=sha256", "r")
    repo = tmp_path / "r"
    git(repo, "commit", "-q", "--allow-empty", "-m", "x")
    found = discover(repo)
    assert found.object_format == "sha256"
    head = found.require_head_commit()
    assert len(head) == 64
    with CatFile(found.git()) as objects:
        kind, data = objects.read(head)
        assert kind == "commit"
        assert hash_object(b"commit", data, "sha256") == head


def test_a_shallow_clone_says_so(make_repo: MakeRepo, git: GitRunner, tmp_path: Path) -> None:
    repo = make_repo(commits=3)
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{repo}", "shallow")
    assert discover(tmp_path / "shallow").is_shallow


def test_no_repository_is_AG0010(tmp_path: Path) -> None:
    with pytest.raises(UsageError) as raised:
        discover(tmp_path)
    assert error_id(raised) == "AG0010"


@pytest.mark.parametrize("setting", ["all", "explicit"])
def test_a_bare_repository_is_AG0011(git: GitRunner, tmp_path: Path, setting: str) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    git(tmp_path, "config", "--global", "safe.bareRepository", setting)
    with pytest.raises(UsageError) as raised:
        discover(tmp_path / "bare.git")
    assert error_id(raised) == "AG0011"


def test_a_bare_repository_is_found_where_that_is_enough(git: GitRunner, tmp_path: Path) -> None:
    git(tmp_path, "init", "-q", "--bare", "bare.git")
    found = discover(tmp_path / "bare.git", bare_ok=True)
    assert found.is_bare
    assert found.work_tree is None
    with pytest.raises(UsageError) as raised:
        found.git(with_work_tree=True)
    assert error_id(raised) == "AG0011"


def test_no_commit_yet_is_AG0012(make_repo: MakeRepo) -> None:
    found = discover(make_repo(commits=0))
    assert found.head_commit() is None
    assert found.head_branch() == "refs/heads/main"
    with pytest.raises(UsageError) as raised:
        found.require_head_commit()
    assert error_id(raised) == "AG0012"


@pytest.mark.parametrize(
    "said", ["git version 2.37.9", "git version 1.8.3.1", "git version two", "", "git version"]
)
def test_an_old_or_unreadable_git_is_AG0013(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str
) -> None:
    fake = tmp_path / "git"
    fake.write_text(f"#!/bin/sh\necho '{said}'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UsageError) as raised:
        git_version()
    assert error_id(raised) == "AG0013"


@pytest.mark.parametrize("said", ["2.38.0", "2.39.5 (Apple Git-154)", "2.47.1.windows.2", "3.0.0-rc1"])
def test_a_new_enough_git_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str) -> None:
    fake = tmp_path / "git"
    fake.write_text(f"#!/bin/sh\necho 'git version {said}'\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_version() == said.split()[0]


def test_a_missing_git_is_AG0007(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AgentgovError) as raised:
        git_version()
    assert error_id(raised) == "AG0007"
    with pytest.raises(AgentgovError) as raised:
        Git(None).run("version")
    assert error_id(raised) == "AG0007"


def test_another_users_repository_is_AG0014_with_the_command_that_helps(
    make_repo: MakeRepo, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    repo = make_repo(files={"sub/x": "1\n"})
    pretended = Git.environment

    def as_another_user(self: Git, **options: object) -> dict[str, str]:
        # Git's own switch for its tests: it then takes every folder for another user's.
        return {**pretended(self, **options), "GIT_TEST_ASSUME_DIFFERENT_OWNER": "1"}  # type: ignore[arg-type]

    monkeypatch.setattr(Git, "environment", as_another_user)
    with pytest.raises(UsageError) as raised:
        discover(repo / "sub")
    assert error_id(raised) == "AG0014"
    assert raised.value.hint[0].endswith(f"git config --global --add safe.directory {repo}")
    git(repo, "config", "--global", "--add", "safe.directory", str(repo))
    assert discover(repo / "sub").work_tree == repo


def test_a_failing_command_is_AG0008_and_printable(make_repo: MakeRepo) -> None:
    found = discover(make_repo())
    with pytest.raises(AgentgovError) as raised:
        found.git().run("cat-file", "-t", "bad\x1b[31mname")
    assert error_id(raised) == "AG0008"
    assert "\x1b" not in str(raised.value)
    assert not found.git().run("cat-file", "-t", "bad", check=False).ok


def test_a_command_that_hangs_is_AG0009(
    make_repo: MakeRepo, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = discover(make_repo())
    fake = tmp_path / "bin/git"
    fake.parent.mkdir()
    fake.write_text("#!/bin/sh\nexec sleep 60\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", f"{fake.parent}:{os.environ['PATH']}")
    with pytest.raises(AgentgovError) as raised:
        found.git().run("rev-parse", "HEAD", timeout_seconds=0.05)
    assert error_id(raised) == "AG0009"


def test_refs_and_revisions_resolve(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo(commits=2)
    found = discover(repo)
    assert found.resolve("main~1") == git(repo, "rev-parse", "main~1")
    assert found.resolve("absent") is None
    assert found.ref("refs/heads/main") == git(repo, "rev-parse", "main")
    assert found.ref("refs/heads/absent") is None
    git(repo, "checkout", "-q", "--detach")
    assert found.head_branch() is None


def test_the_remotes_default_branch_wins(make_repo: MakeRepo, git: GitRunner, tmp_path: Path) -> None:
    repo = make_repo()
    git(repo, "branch", "-m", "trunk")
    git(tmp_path, "clone", "-q", str(repo), "clone")
    clone = tmp_path / "clone"
    git(clone, "checkout", "-q", "-b", "topic")
    found = discover(clone)
    assert found.remotes() == ["origin"]
    assert found.remote_default() == RemoteBranch("origin", "refs/remotes/origin/trunk", "refs/heads/trunk")
    assert found.default_branch() == "refs/heads/trunk"


def test_without_a_remote_the_default_branch_is_a_known_name_or_the_current_one(
    make_repo: MakeRepo, git: GitRunner
) -> None:
    repo = make_repo()
    git(repo, "checkout", "-q", "-b", "topic")
    found = discover(repo)
    assert found.remote_default() is None
    assert found.default_branch() == "refs/heads/main"
    git(repo, "branch", "-D", "main")
    assert found.default_branch() == "refs/heads/topic"
    git(repo, "checkout", "-q", "--detach")
    git(repo, "branch", "-D", "topic")
    assert found.default_branch() is None


def test_settings_are_the_users_and_not_the_guards(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    git(repo, "config", "commit.gpgSign", "yes")
    git(repo, "config", "core.hooksPath", "my hooks")
    git(repo, "config", "--add", "x.many", "one")
    git(repo, "config", "--add", "x.many", "two\nlines")
    found = discover(repo)
    assert found.config("user.email") == "alice@example.org"
    assert found.config("core.hooksPath") == "my hooks"
    assert found.config_bool("commit.gpgSign")
    assert found.config_bool("x.absent", default=True)
    assert found.config_all("x.many") == ["one", "two\nlines"]
    assert found.config("x.absent") is None
    assert found.config("no section") is None


def test_submodules_are_read_from_the_commit(make_repo: MakeRepo, git: GitRunner) -> None:
    modules = (
        '[submodule "b"]\n\tpath = lib/b\n\turl = ../b.git\n[submodule "a a"]\n\tpath = a\n\turl = "x y"\n'
    )
    found = discover(make_repo(files={".gitmodules": modules}))
    assert found.submodules(found.require_head_commit()) == [
        Submodule("a a", "a", "x y"),
        Submodule("b", "lib/b", "../b.git"),
    ]
    plain = discover(make_repo())
    assert plain.submodules(plain.require_head_commit()) == []


def test_gitmodules_follow_no_include(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text('[submodule "evil"]\n\tpath = evil\n')
    assert parse_gitmodules(f"[include]\n\tpath = {other}\n".encode()) == []


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"path = x\n", b"[submodule\n"])
def test_gitmodules_that_are_none_are_AG0019(raw: bytes) -> None:
    with pytest.raises(UsageError) as raised:
        parse_gitmodules(raw)
    assert error_id(raised) == "AG0019"


def test_objects_are_named_as_git_names_them(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    for data in (b"", b"x", bytes(range(256)) * 50):
        assert hash_object(b"blob", data, "sha1") == git(repo, "hash-object", "--stdin", input=data)
    assert hash_object(b"tree", b"", "sha1") == EMPTY_TREE["sha1"]
    assert hash_object(b"tree", b"", "sha256") == EMPTY_TREE["sha256"]


def test_many_objects_come_through_one_reader(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    contents = [b"", b"\n", b"no end", b"a\nb\n", bytes(200_000)]
    oids = [git(repo, "hash-object", "-w", "--stdin", input=data) for data in contents]
    with CatFile(discover(repo).git()) as objects:
        for oid, data in zip(oids * 2, contents * 2, strict=True):
            assert objects.read(oid) == ("blob", data)
            assert objects.info(oid) == ("blob", len(data))


def test_threads_may_share_a_reader(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    contents = [b"%d" % number * 1000 for number in range(4)]
    oids = [git(repo, "hash-object", "-w", "--stdin", input=data) for data in contents]
    wrong: list[str] = []
    with CatFile(discover(repo).git()) as objects:

        def read(oid: str, data: bytes) -> None:
            wrong.extend(oid for _ in range(50) if objects.read(oid) != ("blob", data))

        threads = [threading.Thread(target=read, args=pair) for pair in zip(oids, contents, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert wrong == []


def test_an_object_that_appears_later_is_found(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    late = hash_object(b"blob", b"late\n", "sha1")
    with CatFile(discover(repo).git()) as objects:
        with pytest.raises(IncompleteError) as raised:
            objects.read(late)
        assert error_id(raised) == "AG0017"
        git(repo, "hash-object", "-w", "--stdin", input=b"late\n")
        assert objects.read(late) == ("blob", b"late\n")


def test_content_under_a_wrong_name_is_refused(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo(files={"a": "true\n", "b": "evil\n"})
    real, fake = git(repo, "rev-parse", "HEAD:a"), git(repo, "rev-parse", "HEAD:b")
    git(repo, "repack", "-adq")
    index = next((repo / ".git/objects/pack").glob("*.idx"))
    index.chmod(0o644)
    data = index.read_bytes()
    # Version 2: 8 bytes of header, 256 counts of 4 bytes, the names, their checksums, their offsets.
    count = int.from_bytes(data[1028:1032], "big")
    names = [data[1032 + 20 * i : 1052 + 20 * i].hex() for i in range(count)]
    offsets = 1032 + 24 * count

    def place(oid: str) -> slice:
        start = offsets + 4 * names.index(oid)
        return slice(start, start + 4)

    swapped = bytearray(data)
    swapped[place(real)], swapped[place(fake)] = data[place(fake)], data[place(real)]
    index.write_bytes(swapped)
    assert git(repo, "cat-file", "blob", real) == "evil"
    with CatFile(discover(repo).git()) as objects, pytest.raises(BrokenRecordError) as raised:
        objects.read(real)
    assert error_id(raised) == "AG0018"


def test_an_unreadable_object_is_refused_and_the_reader_goes_on(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo(files={"a": "a\n", "b": "b\n"})
    broken, whole = git(repo, "rev-parse", "HEAD:a"), git(repo, "rev-parse", "HEAD:b")
    loose = repo / ".git/objects" / broken[:2] / broken[2:]
    loose.chmod(0o644)
    loose.write_bytes(b"not zlib")
    with CatFile(discover(repo).git()) as objects:
        with pytest.raises((BrokenRecordError, IncompleteError)):
            objects.read(broken)
        assert objects.read(whole) == ("blob", b"b\n")


def test_a_closed_reader_leaves_no_process(make_repo: MakeRepo) -> None:
    found = discover(make_repo())
    objects = CatFile(found.git())
    head = found.require_head_commit()
    objects.read(head)
    process = objects._process
    assert process is not None
    objects.close()
    assert process.returncode is not None
    assert objects.read(head)[0] == "commit"
    objects.close()


@pytest.mark.parametrize(
    "raw", ["", "HEAD", "abc", "A" * 40, "g" * 40, "0" * 39, "0" * 41, "0" * 40 + "\n", "-" + "0" * 39]
)
def test_what_is_not_an_object_name_is_AG0015(raw: str) -> None:
    with pytest.raises(UsageError) as raised:
        check_oid(raw)
    assert error_id(raised) == "AG0015"


GOOD_REFS = [
    "refs/heads/main",
    "refs/heads/a/b",
    "refs/agentgov/ledger/0a",
    "refs/heads/ä",
    "refs/heads/@",
    "refs/heads/a.b",
]
BAD_REFS = [
    "",
    "HEAD",
    "main",
    "refs/heads",
    "refs/heads/",
    "refs/heads//a",
    "refs/heads/.a",
    "refs/heads/a.lock",
    "refs/heads/a.lock/b",
    "refs/heads/a..b",
    "refs/heads/a b",
    "refs/heads/a~1",
    "refs/heads/a^",
    "refs/heads/a:b",
    "refs/heads/a?",
    "refs/heads/a*",
    "refs/heads/a[",
    "refs/heads/a\\b",
    "refs/heads/a@{0}",
    "refs/heads/a.",
    "refs/heads/a\x00",
    "refs/heads/a\n",
    "refs/heads/a\x7f",
]


@pytest.mark.parametrize("ref", GOOD_REFS)
def test_ref_names_that_git_accepts_are_accepted(make_repo: MakeRepo, git: GitRunner, ref: str) -> None:
    assert check_refname(ref) == ref
    git(make_repo(), "check-ref-format", ref)


@pytest.mark.parametrize("ref", [*BAD_REFS, "refs/heads/-a", "refs/-x/a", "refs/heads/" + "a" * 2000])
def test_other_ref_names_are_AG0016(ref: str) -> None:
    assert not is_refname(ref)
    with pytest.raises(UsageError) as raised:
        check_refname(ref)
    assert error_id(raised) == "AG0016"


@pytest.mark.parametrize(
    "ref", [ref for ref in BAD_REFS if "\x00" not in ref and ref not in ("HEAD", "main", "refs/heads")]
)
def test_ref_names_refused_here_are_refused_by_git(make_repo: MakeRepo, git: GitRunner, ref: str) -> None:
    with pytest.raises(AssertionError, match="check-ref-format"):
        git(make_repo(), "check-ref-format", ref)


def test_branch_names_become_refs_and_back() -> None:
    assert branch_ref("main") == branch_ref("refs/heads/main") == "refs/heads/main"
    assert short_ref("refs/heads/a/b") == "a/b"
    assert short_ref("refs/remotes/origin/a") == "origin/a"
    assert short_ref("refs/agentgov/x") == "refs/agentgov/x"
    with pytest.raises(UsageError):
        branch_ref("--force")
