"""Attacks on the git objects under the record: swapped, removed, redirected, and read in other ways."""

from __future__ import annotations

import os
import subprocess
import sys
import zlib
from functools import partial
from pathlib import Path

import pytest

from agentgov.errors import ExitCode
from agentgov.git import Git, discover
from agentgov.layout import StateHome
from agentgov.rollback.presence import missing_objects
from tests.conftest import GitRunner
from tests.support.running import Record, run, shell


def _verify(repo: Path, state: StateHome) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-m", "agentgov", "verify"],
        cwd=repo,
        env={**os.environ, "AGENTGOV_HOME": str(state.root)},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    return done.returncode, done.stdout + done.stderr


def _loose(store: Path, kind: bytes) -> list[Path]:
    found = [path for path in store.glob("objects/??/*") if len(path.name) >= 38]
    return sorted(path for path in found if zlib.decompress(path.read_bytes()).startswith(kind))


def _snapshots(repo: Path, state: StateHome) -> list[str]:
    (seen,) = Record(repo, state).runs.values()
    assert seen.start_tree is not None
    assert seen.end_tree is not None
    return [seen.start_tree, seen.end_tree]


@pytest.fixture(params=["sha1", "sha256"])
def recorded(request: pytest.FixtureRequest, tmp_path: Path, git: GitRunner, state: StateHome) -> Path:
    """A repository with a run that wrote two files into two folders, in both forms of object names."""
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "-q", "-b", "main", f"--object-format={request.param}")
    (repo / "a.txt").write_text("one\n")
    git(repo, "add", ".")
    git(repo, "commit", "-q", "-m", "one")
    assert run(repo, state, shell("mkdir d e; echo x > d/f; echo y > e/g")).exit_code == 0
    return repo


@pytest.mark.parametrize("kind", [b"blob", b"tree"])
def test_a_snapshot_with_a_swapped_object_is_not_counted_as_there(
    kind: bytes, recorded: Path, state: StateHome
) -> None:
    store = discover(recorded).layout.store
    find = partial(missing_objects, Git(store))
    snapshots = _snapshots(recorded, state)
    assert find(snapshots) == set()
    reached = set(Git(store).text("rev-list", "--objects", "--no-object-names", snapshots[1]).split())
    mine = [path for path in _loose(store, kind) if path.parent.name + path.name in reached]
    assert len(mine) >= 2
    for path, other in zip(mine, mine[1:] + mine[:1], strict=True):
        whole = path.read_bytes()
        path.chmod(0o600)
        path.write_bytes(other.read_bytes())
        assert find(snapshots) == {snapshots[1]}
        path.write_bytes(whole)
    path.write_bytes(b"")
    code, said = _verify(recorded, state)
    assert code == ExitCode.INCOMPLETE
    assert "snapshots" in said


def test_a_swapped_object_in_a_pack_is_not_counted_as_there(
    recorded: Path, state: StateHome, git: GitRunner
) -> None:
    store = discover(recorded).layout.store
    git(store, "-c", "pack.compression=0", "repack", "-q", "-a", "-d", "--depth=0")
    find = partial(missing_objects, Git(store))
    snapshots = _snapshots(recorded, state)
    assert find(snapshots) == set()
    (pack,) = store.glob("objects/pack/*.pack")
    raw = pack.read_bytes()
    pack.chmod(0o600)
    # Stored without compression, the content of `d/f` stands there as it is.
    assert raw.count(b"x\n") == 1
    at = raw.index(b"x\n")
    damaged = bytearray(raw)
    damaged[at : at + 6] = b"z\n" + zlib.adler32(b"z\n").to_bytes(4, "big")
    pack.write_bytes(damaged)
    assert find(snapshots) == {snapshots[1]}


def test_missing_snapshots_never_pass(recorded: Path, state: StateHome) -> None:
    store = discover(recorded).layout.store
    assert _verify(recorded, state)[0] == ExitCode.OK
    for path in _loose(store, b"blob"):
        path.unlink()
    assert _verify(recorded, state)[0] == ExitCode.INCOMPLETE


def test_replace_refs_grafts_and_a_shallow_file_change_nothing(
    recorded: Path, state: StateHome, git: GitRunner
) -> None:
    ref = git(recorded, "for-each-ref", "--format=%(refname)", "refs/agentgov/ledger")
    tip = git(recorded, "rev-parse", ref)
    git(recorded, "replace", tip, f"{ref}^")
    (recorded / ".git/info").mkdir(exist_ok=True)
    (recorded / ".git/info/grafts").write_text(f"{tip}\n")
    (recorded / ".git/shallow").write_text(f"{tip}\n")
    assert _verify(recorded, state)[0] == ExitCode.OK


def test_a_store_that_borrows_elsewhere_is_incomplete(recorded: Path, state: StateHome) -> None:
    store = discover(recorded).layout.store
    (store / "objects/info/alternates").write_text("/nonexistent\n")
    assert _verify(recorded, state)[0] == ExitCode.INCOMPLETE


def test_a_fetched_record_is_verified_and_never_taken_for_ones_own(
    recorded: Path, state: StateHome, git: GitRunner, tmp_path: Path
) -> None:
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", recorded, clone)
    assert _verify(clone, state)[0] == ExitCode.USAGE
    git(clone, "fetch", "-q", "origin", "refs/agentgov/ledger/*:refs/agentgov/ledger/*")
    code, said = _verify(clone, StateHome(tmp_path / "elsewhere"))
    assert code == ExitCode.UNTRUSTED
    assert "none missing, reordered or altered" in said
    tip = git(clone, "for-each-ref", "--format=%(objectname)", "refs/agentgov/ledger")
    entries = git(clone, "rev-parse", f"{tip}:entries")
    name = f"{entries[:2]}/{entries[2:]}"
    for pack in list((clone / ".git/objects/pack").iterdir()):
        pack.rename(clone / pack.name)
        if pack.suffix == ".pack":
            subprocess.run(
                ["git", "unpack-objects", "-q"], cwd=clone, stdin=(clone / pack.name).open("rb"), check=True
            )
    (clone / ".git/objects" / name).unlink()
    assert _verify(clone, StateHome(tmp_path / "elsewhere"))[0] == ExitCode.INCOMPLETE
