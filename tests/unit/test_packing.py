"""Seals are few packs: nothing lost beside any clean-up, nothing of the user's touched."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.clock import Clock, Random
from agentgov.git import Repository, discover, hash_object
from agentgov.layout import StateHome
from agentgov.ledger.entry import Draft
from agentgov.ledger.packfile import encode_pack, release, write_kept
from agentgov.ledger.packing import PACKS_PER_LEVEL, PackMerger
from agentgov.ledger.stream import Stream
from tests.conftest import GitRunner, MakeRepo

MACHINE = "0" * 64


class Record:
    """A record in which each entry is sealed."""

    def __init__(self, repo: Path, state: StateHome, clock: Clock, rng: Random) -> None:
        self.repository: Repository = discover(repo)
        self.state, self.clock, self.rng = state, clock, rng
        self.stream = self.open()

    def open(self) -> Stream:
        return Stream.open(self.repository, self.state, clock=self.clock, random=self.rng, machine=MACHINE)

    def seal(self, count: int = 1, *, merged: bool = True) -> None:
        for _ in range(count):
            self.stream.append([Draft("log.heartbeat", None, {})], self.stream.log_signer())
            self.stream.seal()
            assert not merged or self.stream.unmerged is None

    def loose(self) -> set[Path]:
        return {path for path in self.repository.objects_dir.glob("??/*") if path.is_file()}

    def packs(self) -> list[Path]:
        return sorted(self.repository.objects_dir.glob("pack/*.pack"))

    def kept(self) -> list[Path]:
        return sorted(self.repository.objects_dir.glob("pack/*.keep"))

    def size(self) -> int:
        """How many entries can be read, all of them sealed."""
        with self.open() as again:
            assert again.sealed_size == again.head().size
            return sum(1 for _ in again.entries())


def test_seals_leave_no_loose_object_and_nothing_held(
    make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random, git: GitRunner
) -> None:
    repo = make_repo()
    made = Record(repo, state, clock, rng)
    own = made.loose()
    made.seal(3)
    assert made.loose() == own
    assert len(made.packs()) == 3
    assert made.kept() == []
    assert made.size() == 4
    git(repo, "fsck", "--full", "--strict")


def test_packs_of_ours_are_merged_so_that_they_stay_few_and_the_users_are_not(
    make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random, git: GitRunner
) -> None:
    repo = make_repo()
    git(repo, "repack", "-adq")
    (users,) = discover(repo).objects_dir.glob("pack/*.pack")
    made = Record(repo, state, clock, rng)
    made.seal(PACKS_PER_LEVEL - 1)
    assert len(made.packs()) == PACKS_PER_LEVEL
    made.seal()
    assert len(made.packs()) == 2
    assert users in made.packs()
    made.seal(PACKS_PER_LEVEL**2 - PACKS_PER_LEVEL)
    assert len(made.packs()) == 2
    assert users in made.packs()
    assert made.size() == PACKS_PER_LEVEL**2 + 1
    git(repo, "fsck", "--full", "--strict")


@pytest.mark.parametrize("mark", ["keep", "midx"])
def test_a_pack_that_somebody_holds_on_to_is_left_alone(
    make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random, git: GitRunner, mark: str
) -> None:
    repo = make_repo()
    made = Record(repo, state, clock, rng)
    made.seal(3)
    before = made.packs()
    if mark == "keep":
        for pack in before:
            pack.with_suffix(".keep").write_text("mine\n")
    else:
        git(repo, "multi-pack-index", "write")
    made.seal(PACKS_PER_LEVEL)
    assert set(before) <= set(made.packs())
    assert len(made.kept()) == (3 if mark == "keep" else 0)
    assert made.size() == PACKS_PER_LEVEL + 4
    git(repo, "fsck", "--full", "--strict")


@pytest.mark.parametrize("format_", ["sha1", "sha256"])
def test_gc_clone_fetch_and_fsck_lose_nothing(
    tmp_path: Path, state: StateHome, clock: Clock, rng: Random, git: GitRunner, format_: str
) -> None:
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "-q", f"--object-format={format_}")
    git(repo, "commit", "-q", "--allow-empty", "-m", "start")
    made = Record(repo, state, clock, rng)
    made.seal(6)
    git(repo, "gc", "-q", "--prune=now")
    assert made.size() == 7
    made.seal(6)
    git(repo, "repack", "-adfq")
    git(repo, "gc", "-q", "--aggressive", "--prune=now")
    made.seal(4)
    git(repo, "fsck", "--full", "--strict")
    git(tmp_path, "clone", "-q", "--mirror", "repo", "mirror.git")
    git(tmp_path / "mirror.git", "fsck", "--full", "--strict")
    ref = f"refs/agentgov/ledger/{made.stream.stream_id}"
    assert git(tmp_path / "mirror.git", "rev-parse", ref) == git(repo, "rev-parse", ref)
    git(tmp_path, "init", "-q", "--bare", f"--object-format={format_}", "other.git")
    git(tmp_path / "other.git", "-c", "fetch.fsckObjects=true", "fetch", "-q", str(repo), f"{ref}:{ref}")
    assert git(tmp_path / "other.git", "rev-list", "--count", ref) == "16"
    assert made.size() == 17


def test_sealing_and_merging_beside_a_running_gc_lose_nothing(
    make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random, git: GitRunner
) -> None:
    repo = make_repo()
    made = Record(repo, state, clock, rng)
    stop = threading.Event()
    failed: list[str] = []

    def collect() -> None:
        while not stop.is_set():
            done = subprocess.run(
                ["git", "gc", "-q", "--prune=now"], cwd=repo, capture_output=True, check=False
            )
            if done.returncode != 0:
                failed.append(done.stderr.decode())

    thread = threading.Thread(target=collect)
    thread.start()
    try:
        # The clean-up may take an unfinished pack from under a merge: then the next seal merges.
        made.seal(40, merged=False)
    finally:
        stop.set()
        thread.join()
    assert failed == []
    assert made.size() == 41
    git(repo, "fsck", "--full", "--strict")


def test_a_clean_up_between_writing_and_naming_takes_nothing(make_repo: MakeRepo, git: GitRunner) -> None:
    repo = make_repo()
    repository = discover(repo)
    name = write_kept(repository.git(), [("blob", b"x"), ("blob", b"y" * 100_000)], "sha1")
    oid = hash_object(b"blob", b"x", "sha1")
    git(repo, "gc", "-q", "--prune=now")
    assert git(repo, "cat-file", "-p", oid) == "x"
    release(repository.git(), name)
    git(repo, "gc", "-q", "--prune=now")
    assert subprocess.run(
        ["git", "cat-file", "-e", oid], cwd=repo, check=False, capture_output=True
    ).returncode


def test_what_a_crash_left_held_is_released_by_the_next_writer(
    make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random
) -> None:
    made = Record(make_repo(), state, clock, rng)
    write_kept(made.repository.git(), [("blob", b"never named")], "sha1")
    (mine,) = made.kept()
    made.seal()
    assert made.kept() == []
    assert mine.with_suffix(".pack").exists()


@given(st.lists(st.tuples(st.sampled_from(["blob", "tree"]), st.binary(max_size=3000)), max_size=8))
def test_a_pack_begins_with_its_count_and_ends_with_its_hash(objects: list[tuple[str, bytes]]) -> None:
    pack = encode_pack(objects, "sha256")  # type: ignore[arg-type]
    assert pack[:12] == b"PACK\x00\x00\x00\x02" + len(objects).to_bytes(4, "big")
    assert len(pack) > 12 + 32 - 1


@pytest.mark.parametrize("size", [0, 1, 15, 16, 2047, 2048, 2**18 - 1, 2**18, 5_000_000])
def test_git_reads_back_every_size_of_object(make_repo: MakeRepo, git: GitRunner, size: int) -> None:
    repo = make_repo()
    data = b"\x00" * size
    release(discover(repo).git(), write_kept(discover(repo).git(), [("blob", data)], "sha1"))
    assert git(repo, "cat-file", "-s", hash_object(b"blob", data, "sha1")) == str(size)
    git(repo, "fsck", "--full", "--strict")


@pytest.mark.parametrize("step", ["fsync_dir", "write_atomic"])
def test_a_crash_while_merging_leaves_objects_twice_and_never_not_at_all(
    make_repo: MakeRepo,
    state: StateHome,
    clock: Clock,
    rng: Random,
    git: GitRunner,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
) -> None:
    repo = make_repo()
    made = Record(repo, state, clock, rng)
    made.seal(PACKS_PER_LEVEL - 1)
    before = set(made.packs())

    def crash(path: Path, *_: object) -> None:
        raise OSError(5, "power cut", str(path))

    with monkeypatch.context() as patch:
        patch.setattr(f"agentgov.ledger.packing.{step}", crash)
        made.stream.append([Draft("log.heartbeat", None, {})], made.stream.log_signer())
        assert made.stream.seal() is not None
        assert isinstance(made.stream.unmerged, OSError)
    assert before < set(made.packs())
    git(repo, "fsck", "--full", "--strict")
    made.seal()
    assert len(made.packs()) <= 3
    assert made.size() == PACKS_PER_LEVEL + 2
    git(repo, "fsck", "--full", "--strict")


def test_packs_stay_when_git_packed_something_else(
    make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = Record(make_repo(), state, clock, rng)
    made.seal(PACKS_PER_LEVEL - 1)
    before = set(made.packs())
    calls: list[str] = []

    def lie(self: PackMerger, name: str) -> set[str]:
        calls.append(name)
        return set() if len(calls) > PACKS_PER_LEVEL else real(self, name)

    real = PackMerger._objects_in
    monkeypatch.setattr(PackMerger, "_objects_in", lie)
    made.stream.append([Draft("log.heartbeat", None, {})], made.stream.log_signer())
    assert made.stream.seal() is not None
    assert getattr(made.stream.unmerged, "id", None) == "AG0491"
    assert before < set(made.packs())


@pytest.mark.parametrize("garbage", [None, b"0 ../../../../etc/passwd\n\xff\n0 " + b"a" * 40 + b"\n"])
def test_the_list_of_packs_may_be_lost_or_garbage(
    make_repo: MakeRepo, state: StateHome, clock: Clock, rng: Random, git: GitRunner, garbage: bytes | None
) -> None:
    repo = make_repo()
    made = Record(repo, state, clock, rng)
    made.seal(4)
    hints = made.repository.layout.root / "packs"
    if garbage is None:
        hints.unlink()
    else:
        hints.write_bytes(garbage)
    made.seal(PACKS_PER_LEVEL)
    assert len(made.packs()) == 5
    assert made.size() == PACKS_PER_LEVEL + 5
    git(repo, "fsck", "--full", "--strict")
