"""A change to a work tree is whole or not at all, whatever fails at whatever moment."""

from __future__ import annotations

import errno
import os
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import agentgov.files
from agentgov.errors import AgentgovError, ConflictError, DivergedError, IncompleteError
from agentgov.rollback import journal, moves, worktree
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.plan import Plan, plan_rollback
from agentgov.rollback.restore import apply_plan, recover, uncaptured
from agentgov.rollback.trees import FILE, FOLDER, LINK, PROGRAM, Node, edit_tree
from agentgov.rollback.worktree import WorkTree

State = dict[bytes, tuple[int, bytes]]

OLD: State = {
    b"same.txt": (FILE, b"untouched\n"),
    b"changed.txt": (FILE, b"old\n"),
    b"mode.sh": (FILE, b"#!/bin/sh\n"),
    b"gone.txt": (FILE, b"gone\n"),
    b"was-file": (FILE, b"file\n"),
    b"was-folder/deep/a": (FILE, b"a\n"),
    b"was-folder/b": (FILE, b"b\n"),
    b"link": (LINK, b"changed.txt"),
    b"file-to-link": (FILE, b"x"),
    b"vanishing/x/y/z": (FILE, b"z"),
    b"empty-gone": (FOLDER, b""),
    b"empties/file": (FILE, b"last one"),
    b"caf\xe9 \n": (FILE, b"name that is not UTF-8"),
}
NEW: State = {
    b"same.txt": (FILE, b"untouched\n"),
    b"changed.txt": (FILE, b"new\n"),
    b"mode.sh": (PROGRAM, b"#!/bin/sh\n"),
    b"created.txt": (FILE, b"created\n"),
    b"was-file/now/folder": (FILE, b"f\n"),
    b"was-folder": (FILE, b"a file now\n"),
    b"link": (LINK, b"../somewhere/else"),
    b"file-to-link": (LINK, b"same.txt"),
    b"new/deep/down": (FILE, b"down"),
    b"empty-new": (FOLDER, b""),
    b"empties": (FOLDER, b""),
    b"caf\xe9 \n": (FILE, b"changed, too"),
}


class Setup:
    """A work tree in state OLD and the plan to bring it to NEW."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "tree"
        self.journal = folder / "journal"
        self.store = ObjectStore(folder / "store.git", None, "sha1", durable=False)
        self.store.ensure()
        write_state(self.root, OLD)
        self.old, self.new = (store_state(self.store, state) for state in (OLD, NEW))
        self.plan = plan_rollback(self.store, self.old, self.new)

    def apply(self) -> Any:
        return apply_plan(self.root, self.store, self.plan, self.journal)


@pytest.fixture
def setup(tmp_path: Path) -> Setup:
    return Setup(tmp_path)


def write_state(root: Path, state: State) -> None:
    for name, (mode, data) in state.items():
        path = root / os.fsdecode(name)
        (path if mode == FOLDER else path.parent).mkdir(parents=True, exist_ok=True)
        if mode == LINK:
            path.symlink_to(os.fsdecode(data))
        elif mode != FOLDER:
            path.write_bytes(data)
            path.chmod(0o755 if mode == PROGRAM else 0o644)


def store_state(store: ObjectStore, state: State) -> str:
    nodes = {
        name: Node(mode, store.empty_tree if mode == FOLDER else store.write(b"blob", data))
        for name, (mode, data) in state.items()
    }
    return edit_tree(store, None, nodes)


def read_state(root: Path) -> State:
    """What is on disk, in the form of a State: every file, link and empty folder."""
    found: State = {}
    for path in root.rglob("*"):
        name, status = os.fsencode(path.relative_to(root)), path.lstat()
        if stat.S_ISLNK(status.st_mode):
            found[name] = (LINK, os.fsencode(path.readlink()))
        elif stat.S_ISREG(status.st_mode):
            found[name] = (PROGRAM if status.st_mode & 0o100 else FILE, path.read_bytes())
        elif not any(path.iterdir()):
            found[name] = (FOLDER, b"")
    return found


class FaultyOs:
    """The `os` module, failing at its n-th call that touches a file system."""

    STEPS = frozenset(
        (
            "open",
            "write",
            "fsync",
            "fdatasync",
            "pwrite",
            "link",
            "rename",
            "unlink",
            "mkdir",
            "rmdir",
            "symlink",
        )
    ) | {"fchmod", "readlink", "stat"}

    def __init__(self, fail_at: int, fail: Callable[[], None]) -> None:
        self.count = 0
        self._fail_at = fail_at
        self._fail = fail

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in self.STEPS:
            return real

        def step(*args: Any, **kwargs: Any) -> Any:
            self.count += 1
            if self.count == self._fail_at:
                self._fail()
            return real(*args, **kwargs)

        return step

    def install(self, patch: pytest.MonkeyPatch) -> None:
        for module in (worktree, journal, moves, agentgov.files):
            patch.setattr(module, "os", self)


class PowerCutError(BaseException):
    """Nothing may catch it, as nothing survives a power cut."""


def cut_power() -> None:
    raise PowerCutError


def fill_disk() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


def steps_of(folder: Path, patch: pytest.MonkeyPatch) -> int:
    """How many steps an undisturbed change takes."""
    setup = Setup(folder)
    counter = FaultyOs(0, cut_power)
    with patch.context() as patched:
        counter.install(patched)
        setup.apply()
    return counter.count


def numbered(tmp_path: Path, count: int) -> Iterator[tuple[int, Setup]]:
    for number in range(1, count + 1):
        folder = tmp_path / str(number)
        folder.mkdir()
        yield number, Setup(folder)


def test_a_plan_brings_the_tree_exactly_to_the_target(setup: Setup) -> None:
    outcome = setup.apply()
    assert read_state(setup.root) == NEW
    assert (outcome.state, outcome.left, outcome.edited, outcome.saved) == ("done", (), (), ())
    assert not setup.journal.exists()


def test_going_there_and_back_gives_the_same_tree(setup: Setup) -> None:
    setup.apply()
    back = plan_rollback(setup.store, setup.new, setup.old)
    apply_plan(setup.root, setup.store, back, setup.journal)
    assert read_state(setup.root) == OLD


def test_an_empty_plan_touches_nothing(setup: Setup) -> None:
    plan = plan_rollback(setup.store, setup.old, setup.old)
    assert plan.is_empty
    before = setup.root.stat().st_mtime_ns
    assert apply_plan(setup.root, setup.store, plan, setup.journal).changed == 0
    assert setup.root.stat().st_mtime_ns == before


def test_untouched_files_keep_times_and_inode(setup: Setup) -> None:
    os.utime(setup.root / "same.txt", ns=(1, 2))
    before = (setup.root / "same.txt").lstat()
    setup.apply()
    after = (setup.root / "same.txt").lstat()
    assert (before.st_mtime_ns, before.st_ino, before.st_ctime_ns) == (
        after.st_mtime_ns,
        after.st_ino,
        after.st_ctime_ns,
    )


def test_a_changed_file_keeps_its_permissions(setup: Setup) -> None:
    (setup.root / "changed.txt").chmod(0o600)
    (setup.root / "mode.sh").chmod(0o640)
    setup.apply()
    assert stat.S_IMODE((setup.root / "changed.txt").stat().st_mode) == 0o600
    assert stat.S_IMODE((setup.root / "mode.sh").stat().st_mode) == 0o750


def test_a_power_cut_at_any_step_leaves_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "count").mkdir()
    total = steps_of(tmp_path / "count", monkeypatch)
    assert total > 100
    seen = set()
    for number, setup in numbered(tmp_path, total):
        with monkeypatch.context() as patched:
            FaultyOs(number, cut_power).install(patched)
            with pytest.raises(PowerCutError):
                setup.apply()
        outcome = recover(setup.journal)
        state = read_state(setup.root)
        assert state in (OLD, NEW), f"step {number}"
        if outcome is not None:
            assert (outcome.state == "done") == (state == NEW), f"step {number}"
        assert not setup.journal.exists()
        seen.add(state == NEW)
    assert seen == {True, False}


def test_a_second_power_cut_during_recovery_is_survived(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "count").mkdir()
    total = steps_of(tmp_path / "count", monkeypatch)
    for number, setup in numbered(tmp_path, total):
        with monkeypatch.context() as patched:
            FaultyOs(number, cut_power).install(patched)
            with pytest.raises(PowerCutError):
                setup.apply()
        for again in range(1, 200, 7):
            with monkeypatch.context() as patched:
                FaultyOs(again, cut_power).install(patched)
                try:
                    recover(setup.journal)
                except PowerCutError:
                    continue
                break
        recover(setup.journal)
        assert read_state(setup.root) in (OLD, NEW), f"step {number}"


def test_an_error_at_any_step_leaves_old_or_new(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "count").mkdir()
    total = steps_of(tmp_path / "count", monkeypatch)
    for number, setup in numbered(tmp_path, total):
        error: Exception | None = None
        with monkeypatch.context() as patched:
            FaultyOs(number, fill_disk).install(patched)
            try:
                setup.apply()
            except (AgentgovError, OSError) as caught:
                error = caught
        if isinstance(error, ConflictError):
            assert error.id == "AG0175"
            assert not setup.journal.exists(), f"step {number}"
            assert read_state(setup.root) == OLD, f"step {number}"
        recover(setup.journal)
        assert read_state(setup.root) in (OLD, NEW), f"step {number}"


def test_a_disk_that_stays_full_leaves_the_old_state(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    class FullOs(FaultyOs):
        def __getattr__(self, name: str) -> Any:
            if name == "write":
                return lambda *args: fill_disk()
            return getattr(os, name)

    with monkeypatch.context() as patched:
        patched.setattr(worktree, "os", FullOs(0, fill_disk))
        with pytest.raises(ConflictError, match="No space left"):
            setup.apply()
    assert read_state(setup.root) == OLD
    assert not setup.journal.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_an_unwritable_folder_leaves_the_old_state(setup: Setup) -> None:
    (setup.root / "was-folder").chmod(0o555)
    try:
        with pytest.raises(ConflictError) as caught:
            setup.apply()
    finally:
        (setup.root / "was-folder").chmod(0o755)
    assert caught.value.id == "AG0175"
    assert read_state(setup.root) == OLD


def test_taking_back_keeps_a_folders_permissions(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    (setup.root / "vanishing").chmod(0o700)
    with monkeypatch.context() as patched:
        patched.setattr(moves.Change, "_place", lambda self, step: fill_disk())
        with pytest.raises(ConflictError):
            setup.apply()
    assert read_state(setup.root) == OLD
    assert stat.S_IMODE((setup.root / "vanishing").stat().st_mode) == 0o700


KILLED = """
import os, signal, sys
from pathlib import Path
import agentgov.files
from agentgov.rollback import journal, moves, worktree
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.plan import plan_rollback
from agentgov.rollback.restore import apply_plan

folder, old, new, fail_at = Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4])
STEPS = "open write fsync pwrite link rename unlink mkdir rmdir symlink".split()
store = ObjectStore(folder / "store.git", None, "sha1", durable=False)
plan = plan_rollback(store, old, new)

class Killer:
    count = 0
    def __getattr__(self, name):
        real = getattr(os, name)
        if name not in STEPS:
            return real
        def step(*args, **kwargs):
            Killer.count += 1
            if Killer.count == fail_at:
                os.kill(os.getpid(), signal.SIGKILL)
            return real(*args, **kwargs)
        return step

for module in (worktree, journal, moves, agentgov.files):
    module.os = Killer()
apply_plan(folder / "tree", store, plan, folder / "journal")
"""


def test_a_real_kill_leaves_old_or_new(tmp_path: Path) -> None:
    for number, setup in numbered(tmp_path, 12):
        done = subprocess.run(
            [
                sys.executable,
                "-c",
                KILLED,
                str(setup.root.parent),
                setup.old,
                setup.new,
                str(number * 17),
            ],
            check=False,
            capture_output=True,
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stderr.decode()
        recover(setup.journal)
        assert read_state(setup.root) in (OLD, NEW)


def test_recovery_without_a_journal_does_nothing(tmp_path: Path) -> None:
    assert recover(tmp_path / "journal") is None


def test_recovery_says_that_the_work_tree_is_gone(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(moves.Change, "go", lambda change: cut_power())
        with pytest.raises(PowerCutError):
            setup.apply()
    setup.root.rename(setup.root.with_name("moved"))
    with pytest.raises(IncompleteError) as caught:
        recover(setup.journal)
    assert caught.value.id == "AG0179"
    setup.root.with_name("moved").rename(setup.root)
    recover(setup.journal)
    assert read_state(setup.root) == NEW


def test_recovery_that_cannot_go_on_keeps_the_journal(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(moves.Change, "_finish", lambda change: cut_power())
        with pytest.raises(PowerCutError):
            setup.apply()
    with monkeypatch.context() as patched:
        patched.setattr(moves.Change, "_finish", lambda change: fill_disk())
        with pytest.raises(AgentgovError) as caught:
            recover(setup.journal)
    assert caught.value.id == "AG0177"
    assert setup.journal.exists()
    recover(setup.journal)
    assert read_state(setup.root) == NEW


def test_an_unfinished_change_must_be_recovered_first(setup: Setup) -> None:
    setup.journal.write_text("anything")
    with pytest.raises(ConflictError, match="unfinished"):
        setup.apply()
    with pytest.raises(AgentgovError, match="cannot be read"):
        recover(setup.journal)


def test_a_file_edited_after_the_plan_stops_it(setup: Setup) -> None:
    (setup.root / "gone.txt").write_bytes(b"precious")
    with pytest.raises(DivergedError):
        setup.apply()
    assert read_state(setup.root) == {**OLD, b"gone.txt": (FILE, b"precious")}


@pytest.mark.parametrize("name", ["changed.txt", "gone.txt", "was-file", "vanishing/x/y/z"])
def test_a_file_edited_at_the_last_moment_is_not_lost(
    setup: Setup, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moves.Change.go

    def edit_then_go(change: moves.Change) -> None:
        (setup.root / name).write_bytes(b"precious")
        real(change)

    monkeypatch.setattr(moves.Change, "go", edit_then_go)
    with pytest.raises(ConflictError) as caught:
        setup.apply()
    assert caught.value.id == "AG0175"
    assert read_state(setup.root) == {**OLD, os.fsencode(name): (FILE, b"precious")}


@pytest.mark.parametrize("name", ["created.txt", "empty-new"])
def test_a_file_created_at_the_last_moment_is_not_lost(
    setup: Setup, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = moves.Change.go

    def create_then_go(change: moves.Change) -> None:
        (setup.root / name).write_bytes(b"precious")
        real(change)

    monkeypatch.setattr(moves.Change, "go", create_then_go)
    with pytest.raises(ConflictError):
        setup.apply()
    assert read_state(setup.root) == {**OLD, os.fsencode(name): (FILE, b"precious")}


def test_a_file_edited_while_a_crash_was_unrecovered_is_not_lost(
    setup: Setup, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(moves.Change, "go", lambda change: cut_power())
        with pytest.raises(PowerCutError):
            setup.apply()
    (setup.root / "changed.txt").write_bytes(b"precious")
    outcome = recover(setup.journal)
    assert outcome is not None
    assert outcome.state == "undone"
    assert read_state(setup.root) == {**OLD, b"changed.txt": (FILE, b"precious")}


def test_a_write_through_an_open_file_is_kept(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    with (setup.root / "changed.txt").open("ab") as file:
        real = moves.Change._finish

        def write_then_finish(change: moves.Change) -> None:
            file.write(b"late")
            file.flush()
            real(change)

        monkeypatch.setattr(moves.Change, "_finish", write_then_finish)
        outcome = setup.apply()
    assert len(outcome.saved) == 1
    assert (setup.root / os.fsdecode(outcome.saved[0])).read_bytes() == b"old\nlate"
    assert (setup.root / "changed.txt").read_bytes() == b"new\n"


def test_a_folder_swapped_for_a_link_does_not_lead_out(setup: Setup, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    (outside / "x/y").mkdir(parents=True)
    (outside / "x/y/z").write_bytes(b"z")
    subprocess.run(["rm", "-r", str(setup.root / "vanishing")], check=True)
    (setup.root / "vanishing").symlink_to(outside)
    with pytest.raises(DivergedError):
        setup.apply()
    assert (outside / "x/y/z").read_bytes() == b"z"


@pytest.mark.parametrize(
    "name", [b".git/config", b"sub/.GIT/hooks/x", b"../out", b"a//b", b"git~1/x", b".git./x"]
)
def test_gits_own_and_outside_paths_are_refused(setup: Setup, name: bytes) -> None:
    with WorkTree(setup.root, "sha1") as tree, pytest.raises(ConflictError):
        tree.lstat(name)


def test_a_plan_for_gits_own_folder_is_a_conflict(setup: Setup) -> None:
    bad = store_state(setup.store, {**OLD, b"sub/.git/config": (FILE, b"[core]")})
    plan = plan_rollback(setup.store, setup.old, bad)
    assert [conflict.reason for conflict in plan.conflicts] == ["unsupported"]
    with pytest.raises(ConflictError) as caught:
        apply_plan(setup.root, setup.store, plan, setup.journal)
    assert caught.value.id == "AG0174"


def planned(setup: Setup) -> Plan:
    with WorkTree(setup.root, "sha1") as tree:
        return plan_rollback(
            setup.store, setup.old, setup.new, in_the_way=uncaptured(tree, setup.store, setup.old)
        )


def test_nothing_is_in_the_way_of_a_clean_tree(setup: Setup) -> None:
    assert planned(setup).conflicts == ()


@pytest.mark.parametrize(
    ("extra", "path", "what"),
    [
        ("created.txt", b"created.txt", b"created.txt"),
        ("created.txt/cache/x", b"created.txt", b"created.txt"),
        ("was-folder/deep/ignored.o", b"was-folder", b"was-folder/deep/ignored.o"),
        ("was-folder/.git/HEAD", b"was-folder", b"was-folder/.git"),
        ("new", b"new/deep/down", b"new"),
        ("empty-new", b"empty-new", b"empty-new"),
    ],
)
def test_ignored_files_in_the_way_are_conflicts(setup: Setup, extra: str, path: bytes, what: bytes) -> None:
    (setup.root / extra).parent.mkdir(parents=True, exist_ok=True)
    (setup.root / extra).write_bytes(b"ignored")
    found = [(conflict.path, conflict.reason, conflict.what) for conflict in planned(setup).conflicts]
    assert (path, "in-the-way", what) in found


def test_ignored_files_elsewhere_stay(setup: Setup) -> None:
    for name in ("vanishing/x/ignored.o", "empty-new/ignored.o", "new/other.o"):
        (setup.root / name).parent.mkdir(parents=True, exist_ok=True)
        (setup.root / name).write_bytes(b"ignored")
    assert planned(setup).conflicts == ()
    outcome = setup.apply()
    assert outcome.left == (b"vanishing/x", b"vanishing")
    for name in ("vanishing/x/ignored.o", "empty-new/ignored.o", "new/other.o"):
        assert (setup.root / name).read_bytes() == b"ignored"


def test_a_fifo_in_the_way_does_not_hang(setup: Setup) -> None:
    os.mkfifo(setup.root / "created.txt")
    assert [conflict.reason for conflict in planned(setup).conflicts] == ["in-the-way"]
    with pytest.raises(DivergedError):
        setup.apply()


def test_a_file_system_without_hard_links_is_handled(setup: Setup, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLinks(FaultyOs):
        def __getattr__(self, name: str) -> Any:
            if name == "link":

                def refuse(*args: Any, **kwargs: Any) -> None:
                    raise PermissionError(errno.EPERM, "Operation not permitted")

                return refuse
            return getattr(os, name)

    monkeypatch.setattr(worktree, "os", NoLinks(0, cut_power))
    setup.apply()
    assert read_state(setup.root) == NEW


def test_gits_index_and_head_are_untouched(setup: Setup) -> None:
    subprocess.run(["git", "init", "-q", str(setup.root)], check=True)
    git = setup.root / ".git"
    before = {path: path.read_bytes() for path in git.rglob("*") if path.is_file()}
    setup.apply()
    assert {path: path.read_bytes() for path in git.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("can_sync_all", [True, False])
def test_many_files_are_made_durable_together_or_one_by_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, can_sync_all: bool
) -> None:
    setup = Setup(tmp_path)
    many: State = {b"many/%d/x" % number: (FILE, b"%d" % number) for number in range(60)}
    target = {**NEW, **many}
    plan = plan_rollback(setup.store, setup.old, store_state(setup.store, target))
    asked = []

    def sync(path: bytes) -> bool:
        asked.append(path)
        return can_sync_all

    monkeypatch.setattr(worktree, "syncfs", sync)
    apply_plan(setup.root, setup.store, plan, setup.journal)
    assert asked
    assert read_state(setup.root) == target
