"""A record held against another copy of it, and a memory that is given up."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import GitRunner, MakeRepo
from tests.e2e.conftest import Cli
from tests.support.record_places import push, restore, stream_of


@pytest.fixture
def repo(make_repo: MakeRepo, agentgov: Cli) -> Path:
    """A repository with one finished run."""
    made = make_repo(files={"a.txt": "one\n"})
    agentgov.shell(made, "echo two >> a.txt")
    return made


@pytest.fixture
def remote(repo: Path, git: GitRunner, tmp_path: Path) -> Path:
    """A bare repository that `origin` names, with a branch and the record."""
    bare = tmp_path / "remote.git"
    git(tmp_path, "init", "-q", "--bare", "-b", "main", bare)
    git(repo, "remote", "add", "origin", bare)
    git(repo, "push", "-q", "origin", "main")
    push(repo, git)
    return bare


def test_verify_against_a_remote_that_has_the_same(repo: Path, remote: Path, agentgov: Cli) -> None:
    said = agentgov(repo, "verify", "--against", "origin")
    assert "as origin: the same" in said.out


def test_verify_against_a_remote_names_the_entry_at_which_two_copies_part(
    repo: Path, remote: Path, agentgov: Cli, git: GitRunner, tmp_path: Path
) -> None:
    # The whole machine was restored from an image: both go on with the same key.
    shutil.copytree(Path.home() / ".local", tmp_path / "image.local", symlinks=True)
    shutil.copytree(repo / ".git", tmp_path / "image.git", symlinks=True)
    size = agentgov(repo, "verify", "--json").json["entries"]
    agentgov.shell(repo, "echo one way >> a.txt")
    push(repo, git)
    restore(repo, tmp_path)
    agentgov.shell(repo, "echo another way >> a.txt")
    report = agentgov(repo, "verify", "--against", "origin", "--json", code=12).json
    (fork, *_) = [finding for finding in report["findings"] if finding["code"] == "fork"]
    assert fork["seq"] == size
    assert f"part at entry {size}" in fork["why"]


def test_verify_against_a_remote_that_has_more_names_what_is_missing_here(
    repo: Path, remote: Path, agentgov: Cli, git: GitRunner, tmp_path: Path
) -> None:
    shutil.copytree(Path.home() / ".local", tmp_path / "image.local", symlinks=True)
    shutil.copytree(repo / ".git", tmp_path / "image.git", symlinks=True)
    size = agentgov(repo, "verify", "--json").json["entries"]
    agentgov.shell(repo, "echo more >> a.txt")
    push(repo, git)
    restore(repo, tmp_path)
    report = agentgov(repo, "verify", "--against", "origin", "--json", code=12).json
    (short, *_) = [finding for finding in report["findings"] if finding["code"] == "shorter"]
    assert short["seq"] == size
    assert "seen by origin and are missing here" in short["why"]


def test_a_restored_clone_that_sees_what_it_lost_begins_anew(
    repo: Path, remote: Path, agentgov: Cli, git: GitRunner, tmp_path: Path
) -> None:
    # The backup holds the repository, not the state folder: what was seen since is remembered there.
    shutil.copytree(repo / ".git", tmp_path / "image.git", symlinks=True)
    agentgov.shell(repo, "echo more >> a.txt")
    agentgov(repo, "verify")
    for path in (repo / ".git").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(tmp_path / "image.git", repo / ".git", symlinks=True, dirs_exist_ok=True)
    agentgov(repo, "verify", code=12)
    said = agentgov(repo, "ledger", "restart", "--yes", "--json").json
    assert (said["ended"], said["hindrance"]["id"]) == (False, "AG0230")
    agentgov(repo, "verify")
    agentgov.shell(repo, "echo on >> a.txt")
    # The old one stays what it is: shorter than it was seen.
    agentgov(repo, "verify", "--all", code=12)


def test_verify_against_a_remote_that_was_cut_back_says_so(
    repo: Path, remote: Path, agentgov: Cli, git: GitRunner
) -> None:
    agentgov(repo, "verify", "--against", "origin")
    stream = stream_of(repo)
    git(remote, "update-ref", f"refs/agentgov/ledger/{stream}", f"refs/agentgov/ledger/{stream}~1")
    assert "cut back" in agentgov(repo, "verify", "--against", "origin", code=12).err


def test_verify_against_a_head_seen_earlier(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    ref = f"refs/agentgov/ledger/{stream_of(repo)}"
    head = repo.parent / "head.note"
    head.write_text(git(repo, "cat-file", "blob", f"{ref}:checkpoint") + "\n")
    agentgov(repo, "verify", "--against", head)
    head.write_text(head.read_text().replace("\n", "\n ", 1))
    assert "AG0462" in agentgov(repo, "verify", "--against", head, code=12).err


def test_verify_against_a_bundle(repo: Path, agentgov: Cli, git: GitRunner) -> None:
    ref = f"refs/agentgov/ledger/{stream_of(repo)}"
    git(repo, "bundle", "create", "-q", repo.parent / "record.bundle", ref)
    before = sorted((repo / ".git").rglob("*"))
    said = agentgov(repo, "verify", "--against", repo.parent / "record.bundle")
    assert "as record.bundle: the same" in said.out
    assert [path for path in sorted((repo / ".git").rglob("*")) if path not in before] == []


@pytest.mark.parametrize(
    "raw", [b"", b"# v2 git bundle\nnonsense", b"c2sp.org/tlog-proof@v1\n", b"\xff" * 99]
)
def test_verify_against_a_file_that_says_nothing_is_not_ok(repo: Path, agentgov: Cli, raw: bytes) -> None:
    (repo.parent / "file").write_bytes(raw)
    assert "AG0462" in agentgov(repo, "verify", "--against", repo.parent / "file", code=12).err


def test_verify_against_what_is_not_there(repo: Path, agentgov: Cli) -> None:
    assert "AG0479" in agentgov(repo, "verify", "--against", "nothing", code=2).err


def test_forgetting_is_entered_and_written_down(repo: Path, agentgov: Cli) -> None:
    agentgov(repo, "verify")
    agentgov(repo, "verify", "--forget")
    (line,) = (Path.home() / ".local/state/agentgov/pins/forgotten").read_text().splitlines()
    assert stream_of(repo) in line
    tail = b"".join(path.read_bytes() for path in (repo / ".git/agentgov/wal").iterdir())
    assert b'"kind":"pin.forgotten"' in tail
    assert line.split()[3].encode() in tail


def test_a_record_that_was_cut_passes_only_after_forgetting(
    repo: Path, agentgov: Cli, git: GitRunner
) -> None:
    stream = stream_of(repo)
    agentgov(repo, "verify")
    git(repo, "update-ref", f"refs/agentgov/ledger/{stream}", f"refs/agentgov/ledger/{stream}~1")
    for path in (repo / ".git/agentgov/wal").iterdir():
        path.unlink()
    size = int(git(repo, "cat-file", "blob", f"refs/agentgov/ledger/{stream}:checkpoint").split("\n")[1])
    (repo / f".git/agentgov/wal/{size:016d}").touch()
    agentgov(repo, "verify", code=12)
    said = agentgov(repo, "verify", "--forget", code=None)
    assert said.code != 12
    assert "is forgotten" in said.err


def test_forgetting_what_was_never_seen_is_an_error(repo: Path, agentgov: Cli) -> None:
    assert "AG0352" in agentgov(repo, "verify", "--forget", "--record", "0" * 32, code=2).err
