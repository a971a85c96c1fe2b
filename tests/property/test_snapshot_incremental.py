"""Random file operations: the incremental tree is the tree of a fresh full scan, always."""

# Names here are bytes that need not be text.
# ruff: noqa: PTH101, PTH102, PTH104, PTH108, PTH112, PTH114, PTH116, PTH118, PTH211

from __future__ import annotations

import os
import random
import shutil
import stat
import subprocess
from pathlib import Path

import pytest

from agentgov.rollback.ignore import IgnoreRules, PatternList
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.snapshot import Snapshotter
from agentgov.rollback.treeform import MODE_DIR
from agentgov.rollback.watch import Watcher

NAMES = [b"a", b"b", b"c", b"d.log", b"x y", b"n\nl", b"\xff\xfe", b"build", b".env", b".gitignore"]
NAMES += [b".GIT", b".git", "\u00e9".encode(), b"k.key"]
CONTENTS = [b"", b"x\n", b"*.log\nbuild/\n", b"b\n", b"!a\n"]
RULES = b"build/\n*.log\n"


def _is_folder(path: bytes) -> bool:
    return os.path.isdir(path) and not os.path.islink(path)


class Chaos:
    """Does one random thing to a tree at a time, as a hostile but ordinary user of the file system."""

    def __init__(self, root: Path, rng: random.Random, names: list[bytes] = NAMES) -> None:
        self.root = os.fsencode(root)
        self.rng = rng
        self.names = names
        self.files: list[bytes] = []
        self.folders: list[bytes] = []

    def look(self) -> None:
        self.files, self.folders = [], [self.root]
        for folder, below, names in os.walk(self.root):
            if folder == self.root and b".git" in below and b".git" not in self.names:
                below.remove(b".git")
            for name in (*below, *names):
                path = os.path.join(folder, name)
                (self.folders if _is_folder(path) else self.files).append(path)
        self.files.sort()
        self.folders.sort()

    def step(self) -> None:
        self.look()
        act = self.rng.choice(
            [
                self.write,
                self.write,
                self.append,
                self.rewrite,
                self.delete,
                self.make_folder,
                self.delete_folder,
                self.rename_folder,
                self.rename_file,
                self.link,
                self.mode,
                self.swap_kind,
                self.fifo,
                self.exchange,
            ]
        )
        act()

    def somewhere(self) -> bytes:
        return os.path.join(self.rng.choice(self.folders), self.rng.choice(self.names))

    def content(self) -> bytes:
        return (
            self.rng.choice(CONTENTS)
            if self.rng.random() < 0.4
            else self.rng.randbytes(self.rng.randrange(30))
        )

    def remove(self, path: bytes) -> None:
        if _is_folder(path):
            shutil.rmtree(path)
        elif os.path.lexists(path):
            os.unlink(path)

    def put(self, path: bytes, content: bytes) -> None:
        with open(path, "wb") as file:
            file.write(content)

    def a_file(self) -> bytes | None:
        regular = [path for path in self.files if stat.S_ISREG(os.lstat(path).st_mode)]
        return self.rng.choice(regular) if regular else None

    def write(self) -> None:
        path = self.somewhere()
        if not _is_folder(path):
            if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
                os.unlink(path)
            self.put(path, self.content())

    def append(self) -> None:
        if path := self.a_file():
            with open(path, "ab") as file:
                file.write(self.content())

    def rewrite(self) -> None:
        """Another content of the same size under the old mtime."""
        if path := self.a_file():
            st = os.stat(path)
            with open(path, "rb") as file:
                old = file.read()
            self.put(path, old[::-1])
            os.utime(path, ns=(st.st_atime_ns, st.st_mtime_ns))

    def delete(self) -> None:
        if self.files:
            os.unlink(self.rng.choice(self.files))

    def make_folder(self) -> None:
        path = self.somewhere()
        if not os.path.lexists(path):
            os.mkdir(path)
            for name in self.rng.sample(self.names, self.rng.randrange(4)):
                self.put(os.path.join(path, name), self.content())

    def delete_folder(self) -> None:
        if len(self.folders) > 1:
            self.remove(self.rng.choice(self.folders[1:]))

    def rename_folder(self) -> None:
        if len(self.folders) > 1:
            old, new = self.rng.choice(self.folders[1:]), self.somewhere()
            if old != new and not new.startswith(old + b"/") and not old.startswith(new + b"/"):
                self.remove(new)
                os.rename(old, new)

    def rename_file(self) -> None:
        if self.files:
            old, new = self.rng.choice(self.files), self.somewhere()
            if old != new and not old.startswith(new + b"/"):
                self.remove(new)
                os.rename(old, new)

    def link(self) -> None:
        path = self.somewhere()
        self.remove(path)
        os.symlink(self.rng.choice([b"a", b"../b", b"/etc", b"nowhere", b".", b"\xff"]), path)

    def mode(self) -> None:
        if path := self.a_file():
            os.chmod(path, self.rng.choice([0o644, 0o755, 0o600]))

    def swap_kind(self) -> None:
        if self.files:
            path = self.rng.choice(self.files)
            os.unlink(path)
            os.mkdir(path)
            self.put(os.path.join(path, b"in"), self.content())

    def fifo(self) -> None:
        path = self.somewhere()
        if not os.path.lexists(path):
            os.mkfifo(path)

    def exchange(self) -> None:
        if len(self.folders) > 2:
            one, two = self.rng.sample(self.folders[1:], 2)
            between = self.root + b"/between"
            if not one.startswith(two + b"/") and not two.startswith(one + b"/"):
                os.rename(one, between)
                os.rename(two, one)
                os.rename(between, two)


@pytest.mark.parametrize("seed", range(24))
def test_incremental_tree_is_the_scanned_tree(tmp_path: Path, seed: int) -> None:
    if Watcher.open() is None:
        pytest.skip("no inotify here")
    rng = random.Random(seed)
    root = tmp_path / "work"
    root.mkdir()
    chaos = Chaos(root, rng)
    for _ in range(25):
        chaos.step()
    chaos.look()
    tracked = [os.path.relpath(path, chaos.root) for path in chaos.files if rng.random() < 0.3]
    rules = IgnoreRules(root, [PatternList(RULES)])
    store = ObjectStore(tmp_path / "a.git", None, "sha256" if seed % 2 else "sha1", durable=False)
    store.ensure()
    ours = Snapshotter(root, store, rules, tracked=tracked)
    ours.start()
    last = set()
    for _ in range(20):
        for _ in range(rng.choice([0, 1, 1, 2, 5, 12])):
            chaos.step()
        incremental = ours.take(full=rng.random() < 0.1)
        fresh = Snapshotter(root, store, rules, tracked=tracked, watch=False)
        scanned = fresh.start()
        fresh.close()
        assert set(store.leaves(incremental.tree)) == set(store.leaves(scanned.tree))
        assert incremental.tree == scanned.tree
        assert incremental.skipped == scanned.skipped
        last.add(incremental.tree)
    assert len(last) > 3
    ours.close()


@pytest.mark.parametrize("seed", range(4))
def test_watched_and_unwatched_snapshotters_agree(tmp_path: Path, seed: int) -> None:
    rng = random.Random(1000 + seed)
    root = tmp_path / "work"
    root.mkdir()
    chaos = Chaos(root, rng)
    rules = IgnoreRules(root, [PatternList(RULES)])
    store = ObjectStore(tmp_path / "a.git", None, durable=False)
    store.ensure()
    watched = Snapshotter(root, store, rules, tracked=[])
    scanning = Snapshotter(root, store, rules, tracked=[], watch=False)
    assert watched.start() == scanning.start()
    for _ in range(12):
        chaos.step()
        one, two = watched.take(), scanning.take()
        assert (one.tree, one.skipped, two.how) == (two.tree, two.skipped, "full")
    watched.close()
    scanning.close()


@pytest.mark.parametrize("seed", range(8))
def test_the_files_are_those_that_git_add_takes(tmp_path: Path, seed: int) -> None:
    rng = random.Random(2000 + seed)
    root = tmp_path / "work"
    command = ["git", "-C", str(root)]
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    # Names that git refuses, and rules that change under way (ours are pinned), are tested elsewhere.
    plain = [name for name in NAMES if name not in (b".git", b".GIT", b".gitignore")]
    chaos = Chaos(root, rng, plain)
    (root / ".git/info/exclude").write_bytes(RULES)
    for _ in range(20):
        chaos.step()
    subprocess.run([*command, "add", "-f", "-A"], check=True)
    tracked = subprocess.run([*command, "ls-files", "-z"], check=True, stdout=subprocess.PIPE).stdout
    store = ObjectStore(tmp_path / "a.git", None, durable=False)
    store.ensure()
    ours = Snapshotter(
        root,
        store,
        IgnoreRules(root, [PatternList(RULES)]),
        tracked=tracked.split(b"\0")[:-1],
        secret_patterns=(),
    )
    index = tmp_path / "index"
    for _ in range(10):
        for _ in range(rng.choice([1, 2, 6])):
            chaos.step()
        shutil.copy(root / ".git/index", index)
        environment = {**os.environ, "GIT_INDEX_FILE": str(index)}
        subprocess.run([*command, "add", "-A"], check=True, env=environment)
        listed = subprocess.run(
            [*command, "ls-files", "-s", "-z"], check=True, env=environment, stdout=subprocess.PIPE
        )
        theirs = set()
        for row in listed.stdout.split(b"\0")[:-1]:
            head, _, path = row.partition(b"\t")
            mode, oid, _ = head.split(b" ")
            theirs.add((path, int(mode, 8), oid.decode()))
        taken = ours.take().tree
        assert {leaf for leaf in store.leaves(taken) if leaf[1] != MODE_DIR} == theirs
    ours.close()
