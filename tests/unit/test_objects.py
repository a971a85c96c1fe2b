"""The private object store: git reads what it writes, and it believes nothing that it did not check."""

from __future__ import annotations

import os
import random
import subprocess
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from agentgov.errors import BrokenRecordError, ConflictError, IncompleteError, UsageError
from agentgov.ids import RunId
from agentgov.rollback import durable
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.shadow import ShadowHistory, ShadowStep
from agentgov.rollback.treeform import (
    MODE_DIR,
    MODE_EXEC,
    MODE_FILE,
    MODE_LINK,
    Delta,
    encode_tree,
    parse_tree,
)

Git = Callable[..., str]


def marking(seen: list[str], mark: str, real: Callable[..., Any]) -> Callable[..., Any]:
    def marked(*args: Any) -> Any:
        result = real(*args)
        seen.append(mark)
        return result

    return marked


def breaking(real: Callable[..., Any], budget: list[int]) -> Callable[..., Any]:
    def broken(*args: Any, **options: Any) -> Any:
        budget[0] -= 1
        if budget[0] < 0:
            raise OSError(5, "Input/output error")
        return real(*args, **options)

    return broken


def make_store(folder: Path, object_format: str = "sha1", *, durable: bool = False) -> ObjectStore:
    store = ObjectStore(folder / "store.git", None, object_format, durable=durable)
    store.ensure()
    return store


@pytest.mark.parametrize("object_format", ["sha1", "sha256"])
@pytest.mark.parametrize("is_durable", [True, False])
def test_git_reads_what_is_written(tmp_path: Path, git: Git, object_format: str, is_durable: bool) -> None:
    store = make_store(tmp_path, object_format, durable=is_durable)
    with store.batch():
        blob = store.write(b"blob", b"text\n")
        sub = store.write_tree([(MODE_FILE, b"f", blob)])
        tree = store.write_tree(
            [
                (MODE_DIR, b"a", sub),
                (MODE_EXEC, b"a.sh", blob),
                (MODE_LINK, b"a-", blob),
                (MODE_DIR, b"e", store.empty_tree),
            ]
        )
        store.write(b"tree", b"")
        commit = store.write_commit(
            tree, (), "one", author="A", email="a@localhost", ts_us=1_700_000_000_000_000
        )
    store.set_ref("refs/agentgov/test", commit)
    assert git(store.dir, "fsck", "--strict", "--full") == ""
    assert git(store.dir, "ls-tree", "--name-only", commit).split("\n") == ["a-", "a.sh", "a", "e"]
    assert git(store.dir, "cat-file", "-p", f"{commit}:a/f") == "text"
    assert git(store.dir, "rev-parse", "refs/agentgov/test") == commit == store.ref("refs/agentgov/test")
    git(store.dir, "pack-refs", "--all")
    git(store.dir, "repack", "-a", "-d", "-q")
    assert not list(store.dir.glob("objects/??/*"))
    assert store.ref("refs/agentgov/test") == commit
    assert store.read(blob) == ("blob", b"text\n")
    store.close()


def test_what_only_lies_in_the_users_objects_is_copied(
    make_repo: Callable[..., Path], git: Git, tmp_path: Path
) -> None:
    repo = make_repo(files={"held.txt": "held\n"})
    loose = git(repo, "hash-object", "-w", "--stdin", input=b"loose\n")
    held = git(repo, "rev-parse", "HEAD:held.txt")
    store = ObjectStore(tmp_path / "s.git", repo / ".git/objects", durable=False)
    store.ensure()
    assert store.write(b"blob", b"held\n", known={held}) == held
    assert store.write(b"blob", b"loose\n", known={held}) == loose
    git(repo, "gc", "--prune=now", "-q")
    assert store.read(held) == ("blob", b"held\n")
    assert store.read(loose) == ("blob", b"loose\n")
    assert (store.dir / "objects" / loose[:2] / loose[2:]).exists()
    assert not (store.dir / "objects" / held[:2] / held[2:]).exists()
    store.close()


def test_an_object_that_is_there_is_freshened(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    oid = store.write(b"blob", b"x")
    path = store.dir / "objects" / oid[:2] / oid[2:]
    os.utime(path, (1, 1))
    store.write(b"blob", b"x")
    assert path.stat().st_mtime > 1_000_000_000


@pytest.mark.parametrize("harm", ["other", "cut", "noise", "size"])
def test_a_swapped_object_is_an_error_and_never_another_content(tmp_path: Path, harm: str) -> None:
    store = make_store(tmp_path)
    oid = store.write(b"blob", b"right")
    path = store.dir / "objects" / oid[:2] / oid[2:]
    raw = path.read_bytes()
    path.unlink()
    harmed = {"other": zlib.compress(b"blob 5\0wrong"), "cut": raw[:-4], "noise": b"\0" * 30}
    path.write_bytes(harmed.get(harm, zlib.compress(b"blob 9\0right")))
    with pytest.raises(BrokenRecordError) as caught:
        store.read(oid)
    assert caught.value.id == "AG0151"


def test_a_missing_object_is_named(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(IncompleteError) as caught:
        store.read("1" * 40)
    assert (caught.value.id, caught.value.where) == ("AG0152", "1" * 40)
    store.close()


def test_a_blob_is_not_taken_for_a_tree(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    with pytest.raises(BrokenRecordError) as caught:
        store.tree(store.write(b"blob", b"x"))
    assert caught.value.id == "AG0153"


@pytest.mark.parametrize(
    "raw",
    [
        b"100644 a",
        b"100644 a\x00short",
        b"x a\x00" + b"1" * 20,
        b"100644 \x00" + b"1" * 20,
        b"100644 ..\x00" + b"1" * 20,
        b"100644 a/b\x00" + b"1" * 20,
        (b"100644 a\x00" + b"1" * 20) * 2,
    ],
)
def test_malformed_trees_are_refused(raw: bytes) -> None:
    with pytest.raises(BrokenRecordError) as caught:
        parse_tree(raw, "sha1", "here")
    assert caught.value.id == "AG0150"


def test_trees_are_read_as_they_were_written() -> None:
    rng = random.Random(1)
    names = {rng.randbytes(rng.randint(1, 9)).replace(b"\0", b"0").replace(b"/", b"-") for _ in range(200)}
    rows = [(rng.choice([MODE_DIR, MODE_FILE]), name, f"{rng.getrandbits(160):040x}") for name in names]
    assert parse_tree(encode_tree(rows), "sha1", "") == {name: (mode, oid) for mode, name, oid in rows}


def test_diff_names_leaves_and_treats_an_empty_folder_as_one(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    blob = store.write(b"blob", b"1")
    other = store.write(b"blob", b"2")
    folder = store.write_tree([(MODE_FILE, b"x", blob)])
    same = store.write_tree([(MODE_FILE, b"s", blob)])
    store.write(b"tree", b"")
    empty = store.empty_tree
    old = store.write_tree(
        [
            (MODE_DIR, b"d", folder),
            (MODE_DIR, b"same", same),
            (MODE_FILE, b"f", blob),
            (MODE_DIR, b"e", empty),
        ]
    )
    new = store.write_tree(
        [
            (MODE_DIR, b"d", empty),
            (MODE_DIR, b"same", same),
            (MODE_DIR, b"f", folder),
            (MODE_DIR, b"e", folder),
        ]
    )
    assert list(store.diff(old, new)) == [
        Delta(b"d", None, None, MODE_DIR, empty),
        Delta(b"d/x", MODE_FILE, blob, None, None),
        Delta(b"e", MODE_DIR, empty, None, None),
        Delta(b"e/x", None, None, MODE_FILE, blob),
        Delta(b"f", MODE_FILE, blob, None, None),
        Delta(b"f/x", None, None, MODE_FILE, blob),
    ]
    assert list(store.diff(old, old)) == []
    assert [delta.path for delta in store.diff(None, old)] == [b"d/x", b"e", b"f", b"same/s"]
    changed = store.write_tree([(MODE_EXEC, b"x", other)])
    assert list(store.diff(folder, changed)) == [Delta(b"x", MODE_FILE, blob, MODE_EXEC, other)]


def test_a_failed_batch_leaves_no_object_and_no_litter(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    oids = []

    def fail() -> None:
        with store.batch():
            oids.append(store.write(b"blob", b"x"))
            assert store.read(oids[0]) == ("blob", b"x")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    oid = oids[0]
    assert not list(store.dir.glob("objects/??/*"))
    assert not list(store.dir.glob("objects/tmp*"))
    with pytest.raises(IncompleteError):
        store.read(oid)
    store.close()


@pytest.mark.parametrize("count", [3, 60])
def test_objects_are_flushed_before_they_have_their_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    store = make_store(tmp_path, durable=True)
    seen: list[str] = []
    for name, mark, real in (
        ("fsync_paths", "flush", durable.fsync_paths),
        ("syncfs", "flush", durable.syncfs),
        ("os.rename", "name", os.rename),
    ):
        monkeypatch.setattr(f"agentgov.rollback.objects.{name}", marking(seen, mark, real))
    with store.batch():
        for number in range(count):
            store.write(b"blob", b"%d" % number)
        assert seen == []
    first, last = seen.index("name"), len(seen) - seen[::-1].index("name")
    assert set(seen[first:last]) == {"name"}
    assert seen[0] == seen[-1] == "flush"
    assert seen.count("name") == count


def test_many_paths_are_flushed_together_and_each_failure_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [tmp_path / f"file{number}" for number in range(40)]
    for file in files:
        file.touch()
    paths = [os.fsencode(file) for file in files]
    flushed: set[int] = set()
    real = os.fsync

    def fsync(fd: int) -> None:
        flushed.add(os.fstat(fd).st_ino)
        real(fd)

    monkeypatch.setattr("agentgov.rollback.durable.os.fsync", fsync)
    durable.fsync_paths(paths)
    assert flushed == {file.stat().st_ino for file in files}
    durable.fsync_paths([])
    for missing in ([b"gone"], [*paths, b"gone"]):
        with pytest.raises(FileNotFoundError):
            durable.fsync_paths(missing)


def test_a_forked_process_flushes_with_threads_of_its_own(tmp_path: Path) -> None:
    store = make_store(tmp_path, durable=True)

    def write(first: int) -> None:
        with store.batch():
            for number in range(first, first + 4):
                store.write(b"blob", b"%d" % number)

    write(0)
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            write(10)
            code = 0
        finally:
            os._exit(code)
    assert os.waitpid(pid, 0)[1] == 0


def test_a_crash_at_any_write_leaves_a_store_that_git_finds_sound(
    tmp_path: Path, git: Git, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(40):
        store = ObjectStore(tmp_path / f"s{number}.git", None)
        store.ensure()
        budget = [number]
        with monkeypatch.context() as patched:
            for name in ("open", "write", "rename", "mkdir"):
                patched.setattr(f"agentgov.rollback.objects.os.{name}", breaking(getattr(os, name), budget))
            try:
                with store.batch():
                    blobs = [store.write(b"blob", b"%d" % n) for n in range(3)]
                    tree = store.write_tree((MODE_FILE, b"%d" % n, oid) for n, oid in enumerate(blobs))
                done = True
            except OSError:
                done = False
        assert git(store.dir, "fsck", "--full", "--no-dangling") == ""
        if done:
            assert len(store.tree(tree)) == 3
            return
        with store.batch():
            blobs = [store.write(b"blob", b"%d" % n) for n in range(3)]
            tree = store.write_tree((MODE_FILE, b"%d" % n, oid) for n, oid in enumerate(blobs))
        assert git(store.dir, "ls-tree", "--name-only", tree).split() == ["0", "1", "2"]
    pytest.fail("the writes never came to their end")


@pytest.mark.parametrize(
    "name",
    [
        "refs/heads/main",
        "refs/agentgov/../x",
        "refs/agentgov/a.lock",
        "refs/agentgov//x",
        "refs/agentgov/a b",
    ],
)
def test_only_own_refs_are_written(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_store(tmp_path).set_ref(name, "1" * 40)
    assert caught.value.id == "AG0154"


def test_a_locked_ref_is_left_alone(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.set_ref("refs/agentgov/x", "1" * 40)
    lock = store.dir / "refs/agentgov/x.lock"
    lock.touch()
    with pytest.raises(ConflictError) as caught:
        store.set_ref("refs/agentgov/x", "2" * 40)
    assert caught.value.id == "AG0155"
    assert store.ref("refs/agentgov/x") == "1" * 40
    assert lock.exists()


def test_shadow_history_serves_log_diff_and_blame(tmp_path: Path, git: Git) -> None:
    store = make_store(tmp_path)
    contents = [b"one\n", b"one\ntwo\n", b"one\ntwo\n", b"zero\none\ntwo\n"]
    trees = [store.write_tree([(MODE_FILE, b"f", store.write(b"blob", data))]) for data in contents]
    steps = [ShadowStep(tree, f"call {n}: edit", 1_700_000_000_000_000 + n) for n, tree in enumerate(trees)]
    shadow = ShadowHistory(store, RunId("7kq2f"))
    heads = [shadow.commit(*step) for step in steps]
    assert heads[1] == heads[2]
    assert git(store.dir, "log", "--format=%s", shadow.ref).split("\n") == [
        "call 3: edit",
        "call 1: edit",
        "call 0: edit",
    ]
    blame = git(store.dir, "blame", "-s", "-l", shadow.ref, "--", "f").split("\n")
    assert [line.lstrip("^")[:39] for line in blame] == [heads[n][:39] for n in (3, 0, 1)]
    assert git(store.dir, "diff", "--stat", heads[0], heads[3]).endswith("2 insertions(+)")
    again = make_store(tmp_path / "again")
    assert ShadowHistory(store, RunId("7kq2f")).commit(*steps[3]) == heads[3]
    for data in contents:
        again.write_tree([(MODE_FILE, b"f", again.write(b"blob", data))])
    assert ShadowHistory(again, RunId("7kq2f")).rebuild(steps) == heads[3]
    assert again.ref(shadow.ref) == heads[3]
    git(store.dir, "gc", "--prune=now", "-q")
    assert [store.read(store.tree(tree)[b"f"][1])[1] for tree in trees] == contents
    store.close()


def test_files_made_ahead_are_used_and_the_rest_removed(tmp_path: Path) -> None:
    store = make_store(tmp_path)
    store.prepare(5)
    assert len(list(store.dir.glob("objects/tmp_obj_*"))) == 5
    oids = [store.write(b"blob", b"%d" % number) for number in range(3)]
    assert len(list(store.dir.glob("objects/tmp_obj_*"))) == 2
    store.close()
    assert not list(store.dir.glob("objects/tmp_obj_*"))
    assert [store.blob(oid) for oid in oids] == [b"0", b"1", b"2"]


def test_an_unfinished_store_is_completed(tmp_path: Path, git: Git) -> None:
    store = make_store(tmp_path)
    (store.dir / "HEAD").unlink()
    (store.dir / "objects/pack").rmdir()
    store.ensure()
    assert git(store.dir, "rev-parse", "--is-bare-repository") == "true"
    subprocess.run(["git", "-C", str(store.dir), "fsck"], check=True, capture_output=True)
