"""Synchronising, step by step: archives of ended records, several who are at it at once, slow remotes."""

from __future__ import annotations

import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from agentgov.clock import Clock, FixedClock, Random, SystemClock
from agentgov.errors import AgentgovError, BrokenRecordError, ExitCode
from agentgov.git import CatFile, Git, Repository, discover
from agentgov.harness.syncing import Syncing, choose, sync_quickly
from agentgov.layout import StateHome
from agentgov.ledger import sync
from agentgov.ledger.archive import ARCHIVE_REF, ListedHead, read_list
from agentgov.ledger.entry import Draft
from agentgov.ledger.records import find_records
from agentgov.ledger.remote import find_remote
from agentgov.ledger.seal import SealStore
from agentgov.ledger.stream import Stream
from tests.conftest import GitRunner, MakeRepo

MACHINE = "0" * 64
Clone = Callable[..., tuple[Repository, str]]


@pytest.fixture
def remote(tmp_path: Path, git: GitRunner, make_repo: MakeRepo) -> Path:
    """A bare repository with one branch."""
    path = tmp_path / "remote.git"
    git(tmp_path, "clone", "-q", "--bare", make_repo(tmp_path / "start"), path)
    return path


@pytest.fixture
def clone(tmp_path: Path, git: GitRunner, remote: Path, state: StateHome, clock: Clock, rng: Random) -> Clone:
    """Makes clones with a record of their own, ended or not."""
    count = 0

    def make(*, ended: bool = False) -> tuple[Repository, str]:
        nonlocal count
        count += 1
        path = tmp_path / f"clone{count}"
        git(tmp_path, "clone", "-q", remote, path)
        repository = discover(path)
        with Stream.open(repository, state, clock=clock, random=rng, machine=MACHINE) as stream:
            stream.append([Draft("log.heartbeat", None, {})], stream.log_signer())
            stream.seal()
            if ended:
                body = {"next": None, "reason": "retired"}
                stream.append([Draft("log.end", None, body)], stream.log_signer())
                stream.seal()
            return repository, stream.stream_id

    return make


@pytest.fixture
def sender(state: StateHome, clock: Clock) -> Callable[..., Syncing]:
    """Synchronises a clone up to where it is asked."""

    def make(
        made: tuple[Repository, str],
        *,
        mirror: str | None = None,
        streams: frozenset[str] | None = frozenset(),
    ) -> Syncing:
        repository, stream_id = made
        doing = Syncing(repository, state, clock, choose(repository, state, None, mirror), stream_id)
        doing.look()
        doing.fetch(streams)
        return doing

    return make


def listed(repository: Repository, commit: str | None) -> dict[str, ListedHead]:
    assert commit is not None
    with CatFile(Git(repository.common_dir)) as objects:
        return read_list(objects, commit)


def test_only_ended_records_that_are_vouched_for_are_archived(
    clone: Clone, sender: Callable[..., Syncing], git: GitRunner, remote: Path
) -> None:
    ended, unwitnessed, going = clone(ended=True), clone(ended=True), clone()
    for made in (ended, unwitnessed, going):
        doing = sender(made)
        doing.send(doing.plan())
        assert doing.exit_code is ExitCode.OK
    doing = sender(going, streams=None)
    doing.archive(lambda stream_id, seal: None if stream_id == ended[1] else "no witness has seen it")
    assert [head.stream_id for head in doing.archived] == [ended[1]]
    assert doing.unarchived == [(unwitnessed[1], "no witness has seen it")]
    doing.send(doing.plan())
    tip = git(remote, "rev-parse", ARCHIVE_REF)
    assert set(listed(going[0], tip)) == {ended[1]}
    # The record is reachable from the archive alone, and found there by whoever verifies everything.
    git(remote, "update-ref", "-d", f"refs/agentgov/ledger/{ended[1]}")
    git(remote, "gc", "-q", "--prune=now")
    doing = sender(going, streams=None)
    assert doing.findings == ()
    fresh = clone()
    sender(fresh, streams=None)
    places = {place.stream_id: place.where for place in find_records(fresh[0])}
    assert places[ended[1]] == "origin's archive"


def test_archives_made_by_two_at_once_become_one(
    clone: Clone, sender: Callable[..., Syncing], git: GitRunner, remote: Path
) -> None:
    first, second = clone(ended=True), clone(ended=True)
    for made in (first, second):
        doing = sender(made)
        doing.send(doing.plan())
    one, two = sender(first), sender(second)
    for doing in (one, two):
        doing.archive(lambda stream_id, seal: None)
    one.send(one.plan())
    two.send(two.plan())
    assert [item.ref for item in two.refused] == [ARCHIVE_REF]
    again = sender(second)
    assert again.findings == ()
    again.archive(lambda stream_id, seal: None)
    again.send(again.plan())
    assert again.refused == []
    assert set(listed(second[0], git(remote, "rev-parse", ARCHIVE_REF))) == {first[1], second[1]}


def test_an_archive_that_was_rewritten_is_told(
    clone: Clone, sender: Callable[..., Syncing], git: GitRunner, remote: Path
) -> None:
    made = clone(ended=True)
    doing = sender(made)
    doing.send(doing.plan())
    doing = sender(made)
    doing.archive(lambda stream_id, seal: None)
    doing.send(doing.plan())
    tip = git(remote, "rev-parse", ARCHIVE_REF)
    git(remote, "update-ref", ARCHIVE_REF, git(remote, "commit-tree", f"{tip}^{{tree}}", "-m", "x"))
    doing = sender(made)
    assert [(found.code, found.ref) for found in doing.findings] == [("forked", ARCHIVE_REF)]
    assert doing.exit_code is ExitCode.BROKEN
    assert ARCHIVE_REF not in doing.plan().targets


def test_a_record_whose_seal_is_forged_is_left_out_of_lists(
    clone: Clone, sender: Callable[..., Syncing], git: GitRunner, remote: Path
) -> None:
    made = clone()
    doing = sender(made)
    doing.send(doing.plan())
    # Another record's seals under a name of their own.
    git(remote, "update-ref", f"refs/agentgov/ledger/{'f' * 32}", f"refs/agentgov/ledger/{made[1]}")
    doing = sender(made, mirror="records", streams=None)
    doing.mirror()
    assert doing.skipped == [("f" * 32, "this seal belongs to another record")]
    assert doing.mirrored is not None
    assert set(listed(made[0], doing.mirrored.commit)) == {made[1]}


def test_a_mirror_that_others_changed_meanwhile_is_made_upon_theirs(
    clone: Clone, sender: Callable[..., Syncing], git: GitRunner, remote: Path
) -> None:
    first, second = clone(), clone()
    one, two = sender(first, mirror="records"), sender(second, mirror="records")
    one.mirror()
    # What the second one saw is old by now.
    two.mirror()
    tip = git(remote, "rev-parse", "refs/heads/records")
    assert set(listed(second[0], tip)) == {first[1], second[1]}


def test_a_mirror_that_names_what_a_record_contradicts_is_refused(
    clone: Clone, sender: Callable[..., Syncing], git: GitRunner, remote: Path
) -> None:
    made, other = clone(), clone()
    doing = sender(made, mirror="records")
    doing.mirror()
    # The mirror says that this clone's record ends in another one's seal.
    tip = git(remote, "rev-parse", "refs/heads/records")
    text = git(remote, "cat-file", "blob", f"{tip}:streams").split()
    seal = other[0].ref(f"refs/agentgov/ledger/{other[1]}")
    assert seal is not None
    git(other[0].common_dir, "push", "-q", remote, f"{seal}:refs/agentgov/ledger/{other[1]}")
    line = f"{text[0]} {int(text[1]) + 5} {text[2]} {seal}\n"
    blob = git(remote, "hash-object", "-w", "--stdin", input=line.encode())
    tree = git(remote, "mktree", input=f"100644 blob {blob}\tstreams\n".encode())
    lie = git(remote, "commit-tree", tree, "-p", tip, "-p", seal, "-m", "x")
    git(remote, "update-ref", "refs/heads/records", lie)
    doing = sender(made, mirror="records")
    with pytest.raises(BrokenRecordError) as caught:
        doing.mirror()
    assert caught.value.id == "AG0486"


def test_what_the_remote_names_and_does_not_give_is_incomplete(
    clone: Clone, sender: Callable[..., Syncing], monkeypatch: pytest.MonkeyPatch
) -> None:
    made, other = clone(), clone()
    doing = sender(other)
    doing.send(doing.plan())
    monkeypatch.setattr("agentgov.ledger.remote.Remote.fetch", lambda self, refs: None)
    doing = sender(made, streams=None)
    assert [found.code for found in doing.findings] == ["missing"]
    assert doing.exit_code is ExitCode.INCOMPLETE


def test_a_record_of_a_shallow_clone_is_synchronised(
    tmp_path: Path, git: GitRunner, remote: Path, state: StateHome, clock: Clock, rng: Random
) -> None:
    path = tmp_path / "shallow"
    git(tmp_path, "clone", "-q", "--depth=1", f"file://{remote}", path)
    repository = discover(path)
    with Stream.open(repository, state, clock=clock, random=rng, machine=MACHINE) as stream:
        stream.seal()
        doing = Syncing(repository, state, clock, choose(repository, state, None, None), stream.stream_id)
    doing.look()
    doing.fetch(None)
    doing.send(doing.plan())
    assert doing.exit_code is ExitCode.OK
    assert doing.plan().targets  # The offer is the old one: a plan is made from what was seen.
    doing.look()
    assert doing.plan().is_empty


def test_nothing_leaves_quickly_before_a_person_agreed(
    clone: Clone, state: StateHome, remote: Path, git: GitRunner
) -> None:
    repository, stream_id = clone()
    done = sync_quickly(repository, state, SystemClock(), stream_id)
    assert isinstance(done, AgentgovError)
    assert done.id == "AG0495"
    assert git(remote, "for-each-ref", "refs/agentgov") == ""
    chosen = choose(repository, state, None, None)
    sync.remember_agreement(repository, state, chosen.agreement)
    done = sync_quickly(repository, state, SystemClock(), stream_id)
    assert isinstance(done, Syncing)
    assert len(done.sent) == 1
    assert git(remote, "for-each-ref", "refs/agentgov") != ""


@pytest.mark.parametrize(
    "garbage", [b"", b"{}", b"[]\n", b"\xff", b'{"classes":5,"mirror":"","remote":"","v":1}\n']
)
def test_an_agreement_that_cannot_be_read_is_asked_for_again(
    clone: Clone, state: StateHome, garbage: bytes
) -> None:
    repository, _ = clone()
    agreement = choose(repository, state, None, None).agreement
    sync.remember_agreement(repository, state, agreement)
    assert sync.is_agreed(repository, state, agreement)
    (path,) = (state.root / "sync").iterdir()
    path.write_bytes(garbage)
    assert not sync.is_agreed(repository, state, agreement)


def test_an_agreement_covers_less_and_never_more(clone: Clone, state: StateHome) -> None:
    repository, _ = clone()
    agreed = sync.Agreement("https://example.org/x", ("args", "changes"), "refs/heads/records")
    sync.remember_agreement(repository, state, agreed)
    same = sync.Agreement(agreed.remote, ("changes",))
    assert sync.is_agreed(repository, state, agreed)
    assert sync.is_agreed(repository, state, same)
    for wider in (
        sync.Agreement("https://example.org/y", ("changes",)),
        sync.Agreement(agreed.remote, ("args", "changes", "output"), agreed.mirror),
        sync.Agreement(agreed.remote, ("changes",), "refs/heads/other"),
    ):
        assert not sync.is_agreed(repository, state, wider)


def test_a_remote_that_never_answers_is_given_up(
    clone: Clone, state: StateHome, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, stream_id = clone()
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        git(repository.common_dir, "config", "remote.origin.url", f"git://127.0.0.1:{port}/x.git")
        monkeypatch.setattr(sync, "QUICK_SECONDS", 0.3)
        agreement = choose(repository, state, None, None).agreement
        sync.remember_agreement(repository, state, agreement)
        done = sync_quickly(repository, state, SystemClock(), stream_id)
    assert isinstance(done, AgentgovError)
    assert done.id == "AG0494"


def test_a_pack_larger_than_the_limit_fills_no_disk(
    clone: Clone, git: GitRunner, remote: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    repository, _ = clone()
    work = tmp_path / "big"
    git(tmp_path, "clone", "-q", remote, work)
    (work / "big").write_bytes(incompressible(3_000_000))
    git(work, "add", "big")
    git(work, "commit", "-q", "-m", "big")
    git(work, "push", "-q", "origin", f"HEAD:refs/agentgov/ledger/{'a' * 32}")
    monkeypatch.setattr("agentgov.ledger.remote.MAX_PACK_BYTES", 1_000_000)
    before = sum(path.stat().st_size for path in repository.objects_dir.rglob("*") if path.is_file())
    with pytest.raises(AgentgovError) as caught:
        find_remote(repository, None).fetch([f"refs/agentgov/ledger/{'a' * 32}"])
    assert caught.value.id == "AG0482"
    git(repository.common_dir, "prune", "--expire=now")
    after = sum(path.stat().st_size for path in repository.objects_dir.rglob("*") if path.is_file())
    assert after < before + 1_100_000


def incompressible(count: int) -> bytes:
    """Bytes that do not compress."""
    import random

    return random.Random(1).randbytes(count)


def test_the_time_that_is_left_is_shared_by_all_exchanges(clone: Clone, state: StateHome) -> None:
    repository, _ = clone()
    clock = FixedClock()
    chosen = choose(repository, state, None, None, left_seconds=lambda: 0.0 * clock.monotonic())
    with pytest.raises(AgentgovError) as caught:
        chosen.remote.offer()
    assert caught.value.id == "AG0494"


def test_a_seal_of_gigabytes_is_not_read(
    clone: Clone, git: GitRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agentgov.ledger.seal.MAX_OBJECT_BYTES", 10_000)
    repository, _ = clone()
    blob = git(repository.common_dir, "hash-object", "-w", "--stdin", input=b"\x00" * 20_000)
    names = ("checkpoint", "entries", "proof", "signatures")
    tree = git(
        repository.common_dir,
        "mktree",
        input="".join(f"100644 blob {blob}\t{name}\n" for name in names).encode(),
    )
    commit = git(repository.common_dir, "commit-tree", tree, "-m", "x")
    store = SealStore(Git(repository.common_dir), "a" * 32, "sha1")
    with pytest.raises(BrokenRecordError) as caught:
        store.read(commit)
    store.close()
    assert caught.value.id == "AG0018"
    assert "20000 bytes" in caught.value.message
    with pytest.raises(AgentgovError) as refused:
        store.write(entries=b"x" * 10_001, signatures=b"", checkpoint=b"", proof=b"", parent=None, ts=0)
    assert refused.value.id == "AG0451"
