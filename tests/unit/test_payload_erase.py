"""What an erasure destroys, wherever the bytes lie, and what it leaves alone."""

from __future__ import annotations

import base64
import os
import subprocess
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from agentgov.errors import AgentgovError
from agentgov.git import Git, discover
from agentgov.ids import RunId
from agentgov.layout import Layout
from agentgov.ledger import object_removal, payload_fold
from agentgov.ledger.packing import PACKS_PER_LEVEL
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.redaction import Redactor
from agentgov.ledger.store_packing import pack_store
from agentgov.rollback.objects import ObjectStore
from tests.conftest import GitRunner

RUN, OTHER = RunId("7kq2f"), RunId("5bd0a")
SECRET = b"the-canary-that-must-go-9f8e7d"
SPELLED = base64.b64encode(SECRET)


@pytest.fixture(params=["sha1", "sha256"])
def layout(tmp_path: Path, git: GitRunner, request: pytest.FixtureRequest) -> Layout:
    repo = tmp_path / "repo"
    repo.mkdir()
    git(repo, "init", "-q", f"--object-format={request.param}")
    layout = discover(repo).layout
    layout.create()
    return layout


def _store(layout: Layout) -> PayloadStore:
    repository = discover(layout.common_dir.parent)
    return PayloadStore(layout, layout.store, repository.object_format, Redactor(), os.urandom)


def _bytes_in(store: Path) -> Iterator[bytes]:
    """Every byte of a repository: each file, each loose object inflated, each packed object whole."""
    for path in store.rglob("*"):
        if path.is_file():
            raw = path.read_bytes()
            yield raw
            try:
                yield zlib.decompressobj().decompress(raw)
            except zlib.error:
                continue
    if (store / "HEAD").exists():
        yield subprocess.run(
            ["git", "-C", str(store), "cat-file", "--batch", "--batch-all-objects", "--unordered"],
            capture_output=True,
            check=True,
        ).stdout


def _is_anywhere(layout: Layout, needle: bytes = SPELLED) -> bool:
    places = [layout.store, layout.payloads]
    return any(needle in data for place in places for data in _bytes_in(place))


def _fsck(layout: Layout) -> None:
    subprocess.run(["git", "-C", str(layout.store), "fsck", "--strict", "--full"], check=True)


def _put(store: PayloadStore, run: RunId = RUN) -> tuple[str, list[str]]:
    others = [store.put(run, "output", "output", b"before")]
    victim = store.put(run, "output", "output", SECRET)
    others += [store.put(run, "output", "output", b"after"), store.put(run, "args", "args", b"{}")]
    store.sync()
    return victim, others


def _assert_gone(layout: Layout, victim: str, others: list[str]) -> None:
    assert not _is_anywhere(layout)
    again = _store(layout)
    assert again.get(RUN, victim) is None
    assert all(again.get(RUN, other) is not None for other in others)
    again.close()


def test_a_loose_payload_is_overwritten_and_the_others_stay(layout: Layout) -> None:
    store = _store(layout)
    victim, others = _put(store)
    assert _is_anywhere(layout)
    removed = store.erase({RUN: [victim]})
    assert removed.digests == {victim}
    assert removed.kept == ()
    _assert_gone(layout, victim, others)


def test_a_file_that_a_live_recorder_writes_to_goes_on_being_written(layout: Layout) -> None:
    recorder, other = _store(layout), _store(layout)
    victim, others = _put(recorder)
    assert recorder.get(RUN, victim) is not None
    other.erase({RUN: [victim]})
    others.append(recorder.put(RUN, "output", "output", b"later"))
    recorder.sync()
    assert recorder.get(RUN, victim) is None
    _assert_gone(layout, victim, others)
    recorder.fold(RUN)
    _assert_gone(layout, victim, others)


def test_a_folded_payload_leaves_no_object_that_held_it(layout: Layout) -> None:
    store = _store(layout)
    victim, others = _put(store)
    store.fold(RUN)
    more = _put(store)
    store.fold(RUN)
    assert _is_anywhere(layout)
    removed = store.erase({RUN: [victim, more[0]]})
    assert removed.digests == {victim, more[0]}
    _assert_gone(layout, victim, [*others, *more[1]])
    _fsck(layout)


@pytest.mark.parametrize(
    "pack",
    [
        ["repack", "-a", "-d", "-q"],
        ["gc", "--prune=now", "-q"],
        ["repack", "-a", "-d", "-q", "--write-midx", "--write-bitmap-index"],
    ],
)
def test_a_packed_payload_is_taken_out_of_its_pack(layout: Layout, pack: list[str]) -> None:
    store = _store(layout)
    victim, others = _put(store)
    store.fold(RUN)
    subprocess.run(["git", "-C", str(layout.store), *pack], check=True)
    subprocess.run(["git", "-C", str(layout.store), "commit-graph", "write", "--reachable"], check=True)
    assert not list(layout.store.glob("objects/??"))
    _store(layout).erase({RUN: [victim]})
    _assert_gone(layout, victim, others)
    _fsck(layout)


def test_erasing_and_the_stores_own_packing_go_together(layout: Layout) -> None:
    object_format = discover(layout.common_dir.parent).object_format
    lock = layout.payloads / "fold.lock"
    kept: list[str] = []
    for _ in range(2 * PACKS_PER_LEVEL):
        store = _store(layout)
        victim, others = _put(store)
        store.fold(RUN)
        pack_store(layout.store, lock, object_format, at_least=0)
        store.erase({RUN: [victim]})
        pack_store(layout.store, lock, object_format, at_least=0)
        kept += others
        _assert_gone(layout, victim, kept)
        store.close()
    _fsck(layout)


def test_a_kept_pack_an_unreachable_pack_and_a_reflog_do_not_hold_it(layout: Layout) -> None:
    store = _store(layout)
    victim, others = _put(store)
    store.fold(RUN)
    git = Git(layout.store)
    git.run("config", "core.logAllRefUpdates", "always")
    git.run("repack", "-a", "-d", "-q")
    pack = next(layout.store.glob("objects/pack/*.pack"))
    pack.with_suffix(".keep").touch()
    # An erasure that was cut off after its refs: the pack's objects are unreachable now.
    folded = payload_fold.FoldedPayloads(
        layout, layout.store, "sha1" if len(git.text("for-each-ref").split()[0]) == 40 else "sha256"
    )
    folded.drop({RUN: [victim]})
    folded.close()
    assert _is_anywhere(layout)
    _store(layout).erase({RUN: [victim]})
    _assert_gone(layout, victim, others)
    assert not list(layout.store.glob(f"logs/**/{RUN}/output"))
    _fsck(layout)


def test_what_a_crash_left_half_written_goes_too(layout: Layout) -> None:
    store = _store(layout)
    victim, others = _put(store)
    loose = next((layout.payloads / RUN).iterdir()).read_bytes()
    store.fold(RUN)
    objects = layout.store / "objects"
    header = b"blob %d\0" % len(loose)
    (objects / "tmp_obj_x").write_bytes(zlib.compress(header + loose)[:-20])
    (objects / "ab").mkdir(exist_ok=True)
    (objects / "ab" / "tmp_obj_y").write_bytes(zlib.compress(header + loose))
    (objects / "pack").mkdir(exist_ok=True)
    (objects / "pack" / "tmp_pack_z").write_bytes(loose)
    live = objects / "tmp_obj_1_2_3"
    live.write_bytes(zlib.compress(b"blob 5\0hello"))
    # Objects of a fold that was cut off before its refs.
    orphan = Git(layout.store).text("hash-object", "-w", "--stdin", input=b"x\t\n" + loose)
    _store(layout).erase({RUN: [victim]})
    _assert_gone(layout, victim, others)
    assert live.exists()
    assert Git(layout.store).run("cat-file", "-e", orphan, check=False).returncode


def test_a_file_of_a_snapshot_with_the_same_bytes_stays_and_is_named(layout: Layout) -> None:
    store = _store(layout)
    victim, _ = _put(store)
    store.fold(RUN)
    repository = discover(layout.common_dir.parent)
    objects = ObjectStore(layout.store, repository.objects_dir, repository.object_format)
    blob = Git(layout.store).text("rev-parse", f"refs/agentgov/payloads/{RUN}/output:payloads")
    tree = objects.write_tree([(0o100644, b"copy", blob)])
    commit = objects.write_commit(tree, [], "snapshot", author="a", email="e", ts_us=0)
    objects.set_ref("refs/agentgov/shadow/x", commit)
    objects.close()
    removed = _store(layout).erase({RUN: [victim]})
    assert any(blob in line for line in removed.kept)
    _fsck(layout)


def test_another_run_and_another_class_keep_their_objects(layout: Layout) -> None:
    store = _store(layout)
    victim, _ = _put(store)
    elsewhere, others = _put(store, OTHER)
    store.fold(RUN)
    store.fold(OTHER)
    git = Git(layout.store)
    before = git.text("for-each-ref").splitlines()
    store.erase({RUN: [victim]})
    after = git.text("for-each-ref").splitlines()
    assert {line for line in before if f"{RUN}/output" not in line} <= set(after)
    assert store.get(OTHER, elsewhere) is not None
    assert all(store.get(OTHER, other) is not None for other in others)


def test_a_branch_of_which_nothing_is_left_goes(layout: Layout) -> None:
    store = _store(layout)
    digests = [store.put(RUN, "output", "output", SECRET) for _ in range(3)]
    store.fold(RUN)
    store.erase({RUN: digests})
    assert not _is_anywhere(layout)
    assert Git(layout.store).text("for-each-ref") == ""
    assert not list(layout.store.glob("objects/??/*"))
    store.put(RUN, "output", "output", b"new")
    store.fold(RUN)
    _fsck(layout)


def test_a_reader_that_knew_the_old_branch_finds_the_new_one(
    layout: Layout, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(payload_fold, "_CACHED_BLOBS", 0)
    store, reader = _store(layout), _store(layout)
    victim, others = _put(store)
    store.fold(RUN)
    assert reader.get(RUN, victim) is not None
    reader.close()
    store.erase({RUN: [victim]})
    assert reader.get(RUN, victim) is None
    assert all(reader.get(RUN, other) is not None for other in others)


def _crash_after(target: object, name: str, monkeypatch: pytest.MonkeyPatch, calls: list[int]) -> None:
    original: Callable[..., object] = getattr(target, name)

    def counted(*args: object, **kwargs: object) -> object:
        calls[0] -= 1
        if calls[0] < 0:
            raise KeyboardInterrupt
        return original(*args, **kwargs)

    monkeypatch.setattr(target, name, counted)


@pytest.mark.parametrize("packed", [False, True])
def test_after_a_crash_at_any_step_the_same_call_finishes_it(
    layout: Layout, monkeypatch: pytest.MonkeyPatch, packed: bool
) -> None:
    store = _store(layout)
    folded = _put(store)
    store.fold(RUN)
    if packed:
        Git(layout.store).run("repack", "-a", "-d", "-q")
    loose = _put(store)
    store.close()
    for step in range(60):
        with monkeypatch.context() as patch:
            calls = [step]
            _crash_after(os, "pwrite", patch, calls)
            _crash_after(os, "fdatasync", patch, calls)
            _crash_after(Git, "run", patch, calls)
            _crash_after(object_removal, "fsync_dir", patch, calls)
            _crash_after(Path, "unlink", patch, calls)
            try:
                _store(layout).erase({RUN: [folded[0], loose[0]]})
            except KeyboardInterrupt:
                pass
            else:
                break
        again = _store(layout)
        assert all(again.get(RUN, other) is not None for other in (*folded[1], *loose[1]))
        again.close()
    assert step >= 8
    _assert_gone(layout, folded[0], [*folded[1], *loose[1]])
    _assert_gone(layout, loose[0], [])
    _fsck(layout)


def test_what_cannot_be_removed_is_an_error(layout: Layout, monkeypatch: pytest.MonkeyPatch) -> None:
    store = _store(layout)
    victim, _ = _put(store)
    store.fold(RUN)
    monkeypatch.setattr(Path, "unlink", lambda self, missing_ok=False: None)
    with pytest.raises(AgentgovError) as caught:
        store.erase({RUN: [victim]})
    assert caught.value.id == "AG0285"
