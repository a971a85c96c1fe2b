"""The private store is packed: few loose objects, each still there, and none that cannot be erased."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentgov.errors import AgentgovError
from agentgov.files import FileLock
from agentgov.git import Git, Repository, discover
from agentgov.ledger.object_removal import OwnObjects
from agentgov.ledger.pack_index import _Names
from agentgov.ledger.packing import PACKS_PER_LEVEL, PackMerger
from agentgov.ledger.store_packing import pack_store
from agentgov.rollback.objects import ObjectStore
from tests.conftest import GitRunner, MakeRepo


class Store:
    """A private store with objects in it."""

    def __init__(self, repository: Repository) -> None:
        self.repository = repository
        self.layout = repository.layout
        self.layout.create()
        self.objects = ObjectStore(self.layout.store, repository.objects_dir, repository.object_format)
        self.objects.ensure()
        self.written: dict[str, bytes] = {}

    def write(self, count: int, size: int = 50) -> None:
        with self.objects.batch():
            for _ in range(count):
                data = b"%d\n" % len(self.written) * size
                self.written[self.objects.write(b"blob", data)] = data

    def pack(self, at_least: int = 1) -> int:
        lock = self.layout.payloads / "fold.lock"
        return pack_store(self.layout.store, lock, self.repository.object_format, at_least=at_least)

    def loose(self) -> list[Path]:
        return [path for path in (self.layout.store / "objects").glob("??/*") if path.is_file()]

    def check(self) -> None:
        fresh = ObjectStore(self.layout.store, self.repository.objects_dir, self.repository.object_format)
        try:
            for store in (fresh, self.objects):
                assert all(store.blob(oid) == data for oid, data in self.written.items())
        finally:
            fresh.close()


@pytest.fixture
def store(make_repo: MakeRepo) -> Callable[[], Store]:
    return lambda: Store(discover(make_repo()))


def test_many_loose_objects_become_one_pack_and_all_are_there(
    store: Callable[[], Store], git: GitRunner
) -> None:
    made = store()
    made.write(1000)
    users = made.repository.objects_dir
    before = sorted(users.rglob("*"))
    assert made.pack(at_least=3000) == 0
    assert made.pack(at_least=300) == 1000
    assert made.loose() == []
    made.check()
    assert sorted(users.rglob("*")) == before
    git(made.layout.store, "fsck", "--full", "--strict")


def test_what_is_written_again_after_packing_is_there_once_more_or_still(store: Callable[[], Store]) -> None:
    made = store()
    made.write(300)
    made.pack()
    with made.objects.batch():
        for data in list(made.written.values())[:10]:
            made.objects.write(b"blob", data)
    made.write(20)
    made.pack()
    made.check()


def test_packs_of_the_store_are_merged_too(store: Callable[[], Store], git: GitRunner) -> None:
    made = store()
    for _ in range(PACKS_PER_LEVEL):
        made.write(300)
        assert made.pack() > 0
    assert len(list((made.layout.store / "objects/pack").glob("*.pack"))) == 1
    made.check()
    git(made.layout.store, "fsck", "--full", "--strict")


def test_nothing_is_packed_while_somebody_folds_or_erases(store: Callable[[], Store]) -> None:
    made = store()
    made.write(300)
    with FileLock(made.layout.payloads / "fold.lock"):
        assert made.pack() == 0
    assert made.pack() == 300


def test_an_object_that_was_packed_can_be_erased(store: Callable[[], Store]) -> None:
    made = store()
    made.write(300)
    made.pack()
    victim = next(iter(made.written))
    OwnObjects(made.layout.store, "sha1").remove([victim])
    del made.written[victim]
    made.check()
    assert not Git(made.layout.store).run("cat-file", "-e", victim, check=False).ok


def test_everything_stays_loose_when_packing_fails(
    store: Callable[[], Store], monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store()
    made.write(300)
    monkeypatch.setattr(PackMerger, "_objects_in", lambda self, name: set())
    with pytest.raises(AgentgovError) as caught:
        made.pack()
    assert caught.value.id == "AG0491"
    assert len(made.loose()) == 300


def test_large_objects_and_a_store_that_is_not_there_are_left_alone(
    store: Callable[[], Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = store()
    made.write(300)
    monkeypatch.setattr("agentgov.ledger.store_packing.LARGE_BYTES", 1)
    assert made.pack() == 0
    made.check()
    assert pack_store(tmp_path / "none", tmp_path / "lock", "sha1") == 0


def test_the_store_knows_what_it_holds_loose_packed_and_not_at_all(
    store: Callable[[], Store], git: GitRunner
) -> None:
    made = store()
    made.write(300)
    borrowed = git(made.repository.common_dir, "rev-parse", "HEAD^{tree}")
    assert all(made.objects.holds(oid) for oid in made.written)
    made.pack()
    assert all(made.objects.holds(oid) for oid in made.written)
    assert not made.objects.holds("0" * 40)
    assert not made.objects.holds("f" * 40)
    assert not made.objects.holds(borrowed)
    victim = next(iter(made.written))
    OwnObjects(made.layout.store, "sha1").remove([victim])
    assert not made.objects.holds(victim)


@pytest.mark.parametrize(
    "raw", [b"", b"\xfftOc\x00\x00\x00\x02", b"\xfftOc\x00\x00\x00\x02" + b"\xff" * 2000, b"x" * 3000]
)
def test_an_index_in_another_form_holds_nothing(store: Callable[[], Store], raw: bytes) -> None:
    made = store()
    made.write(3)
    (made.layout.store / "objects/pack" / f"pack-{'0' * 40}.idx").write_bytes(raw)
    assert not made.objects.holds("f" * 40)
    assert all(made.objects.holds(oid) for oid in made.written)


@given(st.sets(st.binary(min_size=20, max_size=20), max_size=60), st.binary(min_size=20, max_size=20))
def test_a_name_is_found_exactly_when_it_is_in_the_index(names: set[bytes], other: bytes) -> None:
    listed = _Names(b"".join(sorted(names)), 20)
    assert all(name in listed for name in names)
    assert (other in listed) == (other in names)
    assert list(listed) == sorted(names)
    assert listed[:3] == sorted(names)[:3]
