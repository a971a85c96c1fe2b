"""Snapshots of one workspace: what is in them, what is not, and when everything is looked at."""

# ruff: noqa: PTH118

from __future__ import annotations

import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from agentgov.errors import AgentgovError
from agentgov.git import discover
from agentgov.rollback import reading, scan, statcache
from agentgov.rollback.ignore import IgnoreRules, PatternList
from agentgov.rollback.leftout import Skip
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.snapshot import Snapshotter, known_objects, tracked_paths

Leaves = dict[bytes, tuple[int, bytes]]


class Workspace:
    """A folder, a store and the snapshotters made on them."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "work"
        self.root.mkdir()
        self.store = ObjectStore(folder / "store.git", None, durable=False)
        self.store.ensure()
        self.made: list[Snapshotter] = []

    def write(self, files: Mapping[str, str | bytes]) -> None:
        for name, text in files.items():
            path = self.root / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(text if isinstance(text, bytes) else text.encode())

    def snapshotter(self, rules: bytes = b"", **options: Any) -> Snapshotter:
        pinned = IgnoreRules(self.root, [PatternList(rules)])
        made = Snapshotter(self.root, self.store, pinned, **{"tracked": (), **options})
        self.made.append(made)
        return made

    def leaves(self, tree: str) -> Leaves:
        return {
            path: (mode, b"" if mode == 0o40000 else self.store.blob(oid))
            for path, mode, oid in self.store.leaves(tree)
        }


def listing(read: list[bytes]) -> Callable[..., Any]:
    """The real capture, which also lists the names it reads."""

    def capture(*args: Any) -> Any:
        read.append(args[1])
        return reading.capture(*args)

    return capture


@pytest.fixture
def workspace(tmp_path: Path) -> Iterator[Workspace]:
    made = Workspace(tmp_path)
    yield made
    for snapshotter in made.made:
        snapshotter.close()


def test_bytes_modes_links_and_empty_folders_are_captured_as_they_are(workspace: Workspace) -> None:
    workspace.write({"crlf.txt": b"a\r\nb\r\n", "d/run.sh": "#!/bin/sh\n"})
    (workspace.root / "d/run.sh").chmod(0o755)
    (workspace.root / "link").symlink_to("d/run.sh")
    (workspace.root / "out").symlink_to("/etc")
    (workspace.root / "empty").mkdir()
    taken = workspace.snapshotter().start()
    assert taken.how == "full"
    assert taken.skipped == ()
    assert workspace.leaves(taken.tree) == {
        b"crlf.txt": (0o100644, b"a\r\nb\r\n"),
        b"d/run.sh": (0o100755, b"#!/bin/sh\n"),
        b"empty": (0o40000, b""),
        b"link": (0o120000, b"d/run.sh"),
        b"out": (0o120000, b"/etc"),
    }


def test_tree_is_the_tree_that_git_add_makes(
    make_repo: Callable[..., Path], git: Callable[..., str], tmp_path: Path
) -> None:
    root = make_repo(
        files={"a.txt": "a\n", "d/b.txt": "b\n", "d/e/c.log": "log\n", ".gitignore": "*.log\nout/\n"}
    )
    git(root, "add", "-f", "d/e/c.log")
    (root / "new").mkdir()
    (root / "new" / "x.py").write_text("x\n")
    (root / "new" / "y.log").write_text("ignored\n")
    (root / "out").mkdir()
    (root / "out" / "z").write_text("ignored\n")
    (root / "d" / "b.txt").unlink()
    (root / "a-link").symlink_to("a.txt")
    repo = discover(root)
    before = (repo.git_dir / "index").read_bytes()
    store = ObjectStore(tmp_path / "s.git", repo.objects_dir, durable=False)
    store.ensure()
    taken = Snapshotter(
        root,
        store,
        IgnoreRules.pin(root, repo),
        tracked=tracked_paths(repo.git(with_work_tree=True)),
        base_known=known_objects(repo.git(), repo.require_head_commit()),
    ).start()
    assert (repo.git_dir / "index").read_bytes() == before
    git(root, "add", "-A")
    assert taken.tree == git(root, "write-tree")


def test_known_objects_are_those_of_the_commit_and_no_name_adds_one(
    make_repo: Callable[..., Path], git: Callable[..., str]
) -> None:
    trap = "100644 blob " + "1" * 40 + "\tx"
    root = make_repo(files={trap: "a\n", "d/b": "b\n"})
    repo = discover(root)
    known = known_objects(repo.git(), repo.require_head_commit())
    names = ("HEAD^{tree}", "HEAD:d", "HEAD:d/b", f"HEAD:{trap}")
    assert known == {git(root, "rev-parse", name) for name in names}


def test_no_change_gives_the_same_tree_and_looks_at_nothing(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write({"a": "1", "d/b": "2"})
    snapshotter = workspace.snapshotter()
    started = snapshotter.start()
    if not snapshotter.is_watching:
        pytest.skip("no inotify here")
    assert not snapshotter.pending()
    monkeypatch.setattr(scan.Scanner, "full", None)
    monkeypatch.setattr(scan.Scanner, "apply", None)
    taken = snapshotter.take()
    assert (taken.tree, taken.how) == (started.tree, "incremental")


def test_only_changed_folders_are_written(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    workspace.write({f"d{n}/e/f{n}": str(n) for n in range(30)})
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    if not snapshotter.is_watching:
        pytest.skip("no inotify here")
    written: list[bytes] = []
    write = ObjectStore.write

    def counting(self: ObjectStore, kind: bytes, data: bytes, known: Any = ()) -> str:
        written.append(kind)
        return write(self, kind, data, known)

    monkeypatch.setattr(ObjectStore, "write", counting)
    workspace.write({"d3/e/f3": "changed"})
    assert snapshotter.pending()
    assert snapshotter.take().how == "incremental"
    assert sorted(written) == [b"blob", b"tree", b"tree", b"tree"]


def test_files_of_a_new_folder_are_seen_even_when_its_watch_came_late(workspace: Workspace) -> None:
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    for number in range(20):
        workspace.write({f"new{number}/deep/er/f": str(number)})
    taken = snapshotter.take()
    assert len(workspace.leaves(taken.tree)) == 20
    workspace.write({"new7/deep/er/g": "later"})
    assert b"new7/deep/er/g" in workspace.leaves(snapshotter.take().tree)


def test_a_renamed_folder_is_watched_under_its_new_name(workspace: Workspace) -> None:
    workspace.write({"old/sub/f": "1", "other/x": "2"})
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    (workspace.root / "old").rename(workspace.root / "new")
    assert set(workspace.leaves(snapshotter.take().tree)) == {b"new/sub/f", b"other/x"}
    workspace.write({"new/sub/f": "changed", "old/sub/f": "again"})
    assert workspace.leaves(snapshotter.take().tree)[b"new/sub/f"] == (0o100644, b"changed")
    workspace.write({"old/sub/f": "and again"})
    assert workspace.leaves(snapshotter.take().tree)[b"old/sub/f"] == (0o100644, b"and again")


def test_an_edit_that_restores_size_and_mtime_is_seen(workspace: Workspace) -> None:
    workspace.write({"f": "one"})
    path = workspace.root / "f"
    os.utime(path, ns=(10**18, 10**18))
    watched, scanning = workspace.snapshotter(), workspace.snapshotter(watch=False)
    first = watched.start()
    assert scanning.start().tree == first.tree
    path.write_bytes(b"two")
    os.utime(path, ns=(10**18, 10**18))
    assert workspace.leaves(watched.take().tree) == {b"f": (0o100644, b"two")}
    assert workspace.leaves(scanning.take().tree) == {b"f": (0o100644, b"two")}


def test_a_racy_file_is_read_again_by_a_full_reconcile(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write({"f": "one"})
    # A clock far behind the file's times: nothing that was read then can be trusted by its times.
    racy = workspace.snapshotter(watch=False, now_ns=lambda: 0)
    racy.start()
    calm = workspace.snapshotter(watch=False, now_ns=lambda: 2**62)
    calm.start()
    read: list[bytes] = []
    monkeypatch.setattr(scan, "capture", listing(read))
    calm.take()
    assert read == []
    racy.take()
    assert read == [b"f"]


def test_another_name_of_a_changed_file_is_looked_at(workspace: Workspace) -> None:
    workspace.write({"a/one": "1", "c": "x"})
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    (workspace.root / "b").mkdir()
    os.link(workspace.root / "a/one", workspace.root / "b/two")
    snapshotter.take()
    with open(workspace.root / "b/two", "ab") as file:
        file.write(b"2")
    leaves = workspace.leaves(snapshotter.take().tree)
    assert leaves[b"a/one"][1] == leaves[b"b/two"][1] == b"12"
    with open(workspace.root / "a/one", "ab") as file:
        file.write(b"3")
    (workspace.root / "a/one").unlink()
    assert workspace.leaves(snapshotter.take().tree) == {
        b"a": (0o40000, b""),
        b"b/two": (0o100644, b"123"),
        b"c": (0o100644, b"x"),
    }


def test_a_write_through_a_link_from_outside_is_found_by_a_full_reconcile(
    workspace: Workspace, tmp_path: Path
) -> None:
    workspace.write({"a": "1"})
    os.link(workspace.root / "a", tmp_path / "outside")
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    (tmp_path / "outside").write_text("2")
    assert workspace.leaves(snapshotter.take(full=True).tree) == {b"a": (0o100644, b"2")}


def test_a_folder_swapped_for_a_link_never_leads_outside(workspace: Workspace, tmp_path: Path) -> None:
    secret = tmp_path / "outside"
    (secret / "sub").mkdir(parents=True)
    (secret / "sub" / "f").write_text("not ours")
    workspace.write({"d/sub/f": "ours"})
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    workspace.write({"d/sub/f": "ours, changed"})
    shutil.rmtree(workspace.root / "d")
    (workspace.root / "d").symlink_to(secret)
    for taken in (snapshotter.take(), snapshotter.take(full=True)):
        assert workspace.leaves(taken.tree) == {b"d": (0o120000, os.fsencode(secret))}


def test_nothing_named_git_is_captured_at_any_depth(workspace: Workspace) -> None:
    workspace.write(
        {"sub/.git/config": "x", "sub/f": "dirty", "m/.git": "gitdir: elsewhere", ".GIT/x": "1", "a": ""}
    )
    taken = workspace.snapshotter().start()
    assert set(workspace.leaves(taken.tree)) == {b"sub/f", b"m", b"a"}
    assert taken.skipped == (Skip(b".GIT", "git-name", None),)


@pytest.mark.parametrize("name", [b"git~1", b".git ", b".Git.", b".g\xe2\x80\x8cit", b".git:x"])
def test_no_spelling_of_git_is_captured(workspace: Workspace, name: bytes) -> None:
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    (workspace.root / os.fsdecode(name)).write_text("x")
    workspace.write({".gitignore": "", "git": "", "github": "1"})
    for taken in (snapshotter.take(), snapshotter.take(full=True)):
        assert set(workspace.leaves(taken.tree)) == {b".gitignore", b"git", b"github"}
        assert taken.skipped == (Skip(name, "git-name", None),)


def test_nested_repositories_and_submodules_are_captured_as_folders(
    make_repo: Callable[..., Path], git: Callable[..., str], workspace: Workspace
) -> None:
    inner = make_repo(workspace.root / "lib", files={"in.txt": "1\n"})
    (inner / "in.txt").write_text("dirty\n")
    subprocess.run(["git", "init", "-q", str(workspace.root / "empty-repo")], check=True)
    taken = workspace.snapshotter(rules=b"lib\n", tracked=[b"lib"]).start()
    assert workspace.leaves(taken.tree) == {
        b"lib/in.txt": (0o100644, b"dirty\n"),
        b"empty-repo": (0o40000, b""),
    }


def test_ignored_folders_are_pruned_but_tracked_files_in_them_kept(workspace: Workspace) -> None:
    workspace.write(
        {"build/keep": "1", "build/drop": "2", "node_modules/x/y": "3", "a.log": "4", "b.log": "5"}
    )
    snapshotter = workspace.snapshotter(
        rules=b"build/\nnode_modules\n*.log\n", tracked=[b"build/keep", b"b.log"]
    )
    expected = {b"build/keep": (0o100644, b"1"), b"b.log": (0o100644, b"5")}
    assert workspace.leaves(snapshotter.start().tree) == expected
    workspace.write({"build/drop": "22", "build/new": "2", "node_modules/x/y": "33", "build/sub/x": "1"})
    assert workspace.leaves(snapshotter.take().tree) == expected
    workspace.write({"build/keep": "11"})
    assert workspace.leaves(snapshotter.take().tree)[b"build/keep"] == (0o100644, b"11")


def test_an_agent_hides_nothing_by_extending_gitignore(workspace: Workspace) -> None:
    workspace.write({".gitignore": "*.tmp\n", "seen.txt": "1", "x.tmp": "ignored"})
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    workspace.write({".gitignore": "*\n", "seen.txt": "2", "evil.py": "3", "d/.gitignore": "*\n", "d/e": "4"})
    taken = snapshotter.take()
    assert taken.how == "full"
    assert set(workspace.leaves(taken.tree)) == {
        b".gitignore",
        b"seen.txt",
        b"evil.py",
        b"d/.gitignore",
        b"d/e",
    }
    assert workspace.leaves(snapshotter.take(full=True).tree) == workspace.leaves(taken.tree)


def test_secrets_specials_and_large_files_are_left_out_and_named(workspace: Workspace) -> None:
    workspace.write(
        {".env": "KEY=1", "c/id_ed25519": "k", "c/id_ed25519.pub": "p", ".env.example": "KEY=", "t.pem": "t"}
    )
    workspace.write({"big": b"x" * 2000, "tracked-big": b"y" * 2000, "small": "s"})
    os.mkfifo(workspace.root / "pipe")
    snapshotter = workspace.snapshotter(max_file_bytes=1000, tracked=[b"t.pem", b"tracked-big"])
    taken = snapshotter.start()
    assert set(workspace.leaves(taken.tree)) == {
        b"c/id_ed25519.pub",
        b".env.example",
        b"t.pem",
        b"tracked-big",
        b"small",
    }
    left_out = (
        Skip(b".env", "secret", 5),
        Skip(b"big", "too-large", 2000),
        Skip(b"c/id_ed25519", "secret", 1),
        Skip(b"pipe", "special", None),
    )
    assert taken.skipped == left_out
    assert snapshotter.take(full=True).skipped == left_out
    (workspace.root / "pipe").unlink()
    (workspace.root / "big").write_bytes(b"x")
    shutil.rmtree(workspace.root / "c")
    taken = snapshotter.take()
    assert taken.skipped == left_out[:1]
    assert b"big" in workspace.leaves(taken.tree)


def test_a_large_file_is_streamed_and_equal(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("agentgov.rollback.reading._STREAM_FROM", 1000)
    monkeypatch.setattr("agentgov.rollback.reading._CHUNK", 333)
    data = bytes(range(256)) * 40
    workspace.write({"f": data})
    assert workspace.leaves(workspace.snapshotter().start().tree) == {b"f": (0o100644, data)}


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_an_unreadable_file_keeps_its_last_content_and_is_named(workspace: Workspace) -> None:
    workspace.write({"f": "1", "d/g": "2"})
    snapshotter = workspace.snapshotter()
    first = snapshotter.start()
    (workspace.root / "f").chmod(0)
    (workspace.root / "d").chmod(0)
    try:
        for taken in (snapshotter.take(), snapshotter.take(full=True)):
            assert taken.tree == first.tree
            assert {(s.path, s.reason) for s in taken.skipped} == {(b"f", "unreadable"), (b"d", "unreadable")}
    finally:
        (workspace.root / "d").chmod(0o755)


def test_a_file_that_never_stops_changing_is_noted(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write({"f": "1"})
    count = iter(range(100))
    plain = os.read

    def growing(fd: int, size: int) -> bytes:
        data = plain(fd, size)
        (workspace.root / "f").write_text("x" * next(count))
        return data

    snapshotter = workspace.snapshotter()
    monkeypatch.setattr("agentgov.rollback.reading.os.read", growing)
    taken = snapshotter.start()
    monkeypatch.undo()
    assert [(s.path, s.reason) for s in taken.skipped] == [(b"f", "changing")]
    (workspace.root / "f").write_text("still")
    taken = snapshotter.take()
    assert workspace.leaves(taken.tree) == {b"f": (0o100644, b"still")}
    assert taken.skipped == ()


def test_overflow_of_the_queue_means_a_full_reconcile(workspace: Workspace) -> None:
    limit = Path("/proc/sys/fs/inotify/max_queued_events")
    if not limit.exists() or int(limit.read_text()) > 40_000:
        pytest.skip("no inotify here, or a queue too long to fill")
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    for number in range(int(limit.read_text()) // 2 + 10):
        (workspace.root / f"f{number % 50}").write_text(str(number))
        (workspace.root / f"f{number % 50}").unlink()
    workspace.write({"late/f": "1"})
    taken = snapshotter.take()
    assert taken.how == "full"
    assert set(workspace.leaves(taken.tree)) == {b"late/f"}
    workspace.write({"late/f": "2"})
    taken = snapshotter.take()
    assert (taken.how, workspace.leaves(taken.tree)) == ("incremental", {b"late/f": (0o100644, b"2")})


def test_a_watch_that_cannot_be_set_means_full_scans(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write({"d/e/f": "1"})
    snapshotter = workspace.snapshotter()
    if snapshotter._watcher is None:
        pytest.skip("no inotify here")
    monkeypatch.setattr(snapshotter._watcher._libc, "inotify_add_watch", lambda *_: -1, raising=False)
    snapshotter.start()
    workspace.write({"d/e/f": "2"})
    assert not snapshotter.is_watching
    assert snapshotter.pending()
    taken = snapshotter.take()
    assert (taken.how, workspace.leaves(taken.tree)) == ("full", {b"d/e/f": (0o100644, b"2")})


def test_names_are_bytes(workspace: Workspace) -> None:
    names = [b"n\nl", b"\xff\xfe", b"'\"$(x)", b" ", b"-rf", b"\x01"]
    for name in names:
        with open(os.path.join(os.fsencode(workspace.root), name), "wb") as file:
            file.write(name)
    taken = workspace.snapshotter().start()
    assert workspace.leaves(taken.tree) == {name: (0o100644, name) for name in names}


def test_a_very_deep_tree_is_cut_and_named(workspace: Workspace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scan, "MAX_DEPTH", 5)
    workspace.write({"/".join("abcdefgh") + "/f": "1", "x": "2"})
    taken = workspace.snapshotter().start()
    assert taken.skipped == (Skip(b"a/b/c/d/e/f", "too-deep", None),)
    assert set(workspace.leaves(taken.tree)) == {b"a/b/c/d/e", b"x"}


def test_the_store_inside_the_workspace_is_not_captured(tmp_path: Path) -> None:
    store = ObjectStore(tmp_path / "elsewhere" / "store.git", None, durable=False)
    store.ensure()
    (tmp_path / "f").write_text("1")
    snapshotter = Snapshotter(tmp_path, store, IgnoreRules(tmp_path, []), tracked=())
    first = snapshotter.start()
    assert snapshotter.take(full=True).tree == first.tree
    snapshotter.close()


def test_a_failed_write_leaves_nothing_believed_stored(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write({"d/f": "1"})
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    workspace.write({"d/f": "2", "g": "3"})

    def full_disk(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("agentgov.rollback.objects.os.rename", full_disk)
        with pytest.raises(AgentgovError, match="No space left") as caught:
            snapshotter.take()
        assert caught.value.id == "AG0156"
    assert snapshotter.pending()
    taken = snapshotter.take()
    assert taken.how == "full"
    assert workspace.leaves(taken.tree) == {b"d/f": (0o100644, b"2"), b"g": (0o100644, b"3")}
    assert not list(workspace.store.dir.glob("objects/**/tmp_obj_*"))


def test_a_second_start_reads_only_what_changed(
    workspace: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.write({f"d{n}/f": str(n) for n in range(9)})
    cache = tmp_path / "cache"
    later = time.time_ns() + 10**10
    first = workspace.snapshotter(cache_path=cache, now_ns=lambda: later)
    tree = first.start().tree
    first.close()
    workspace.write({"d3/f": "changed"})
    read: list[bytes] = []
    monkeypatch.setattr(scan, "capture", listing(read))
    again = workspace.snapshotter(cache_path=cache).start().tree
    assert read == [b"f"]
    assert again != tree
    assert workspace.leaves(again)[b"d3/f"] == (0o100644, b"changed")


def test_a_cache_is_not_believed_about_objects_that_are_gone(workspace: Workspace, tmp_path: Path) -> None:
    workspace.write({"f": "1"})
    later = time.time_ns() + 10**10
    first = workspace.snapshotter(cache_path=tmp_path / "cache", now_ns=lambda: later)
    tree = first.start().tree
    first.close()
    shutil.rmtree(workspace.store.dir)
    workspace.store.ensure()
    assert workspace.snapshotter(cache_path=tmp_path / "cache").start().tree == tree
    assert workspace.leaves(tree) == {b"f": (0o100644, b"1")}


@pytest.mark.parametrize("harm", ["flip", "cut", "empty", "noise", "other-root"])
def test_a_cache_that_does_not_hold_is_no_cache(workspace: Workspace, tmp_path: Path, harm: str) -> None:
    workspace.write({"f": "1", "d/g": "2"})
    later = time.time_ns() + 10**10
    cache = tmp_path / "cache"
    first = workspace.snapshotter(cache_path=cache, now_ns=lambda: later)
    tree = first.start().tree
    first.close()
    raw = bytearray(cache.read_bytes())
    root = workspace.root.stat()
    assert statcache.load(cache, root, "sha1")
    if harm == "flip":
        raw[-1] ^= 1
    harmed = {"cut": raw[:-9], "empty": b"", "noise": b"\xff" * 100}.get(harm, raw)
    cache.write_bytes(bytes(harmed))
    assert statcache.load(cache, tmp_path.stat() if harm == "other-root" else root, "sha1") == {}
    assert workspace.snapshotter(cache_path=cache).start().tree == tree


def test_a_writer_in_the_background_never_breaks_a_snapshot(workspace: Workspace) -> None:
    workspace.write({"d/f": "start"})
    snapshotter = workspace.snapshotter()
    snapshotter.start()
    stop = threading.Event()

    def write() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            folder = workspace.root / f"d{number % 3}"
            folder.mkdir(exist_ok=True)
            (folder / "f").write_text("x" * (number % 5000))
            if number % 7 == 0:
                shutil.rmtree(folder)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        for _ in range(30):
            workspace.leaves(snapshotter.take().tree)
    finally:
        stop.set()
        writer.join()
    last = snapshotter.take()
    fresh = workspace.snapshotter(watch=False).start()
    assert (last.tree, last.skipped) == (fresh.tree, fresh.skipped)
