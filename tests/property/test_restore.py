"""For any two trees and any interruption: what is on disk is one of them."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from agentgov.errors import AgentgovError
from agentgov.rollback import journal, moves, worktree
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.plan import plan_rollback
from agentgov.rollback.restore import apply_plan, recover, uncaptured
from agentgov.rollback.trees import FILE, FOLDER, LINK, PROGRAM, Node, edit_tree
from agentgov.rollback.worktree import WorkTree

State = dict[str, tuple[int, bytes]]
NAMES = st.sampled_from(["a", "b", "c"])
CONTENTS = st.sampled_from([b"1", b"2", b"3\n"])


def _clear(state: State, path: str) -> None:
    for other in [name for name in state if name == path or name.startswith(path + "/")]:
        del state[other]
    parts = path.split("/")
    for end in range(1, len(parts)):
        state.pop("/".join(parts[:end]), None)


@st.composite
def states(draw: st.DrawFn) -> State:
    state: State = {}
    for _ in range(draw(st.integers(0, 6))):
        path = "/".join(draw(st.lists(NAMES, min_size=1, max_size=3)))
        mode = draw(st.sampled_from([FILE, FILE, PROGRAM, LINK, FOLDER]))
        _clear(state, path)
        state[path] = (mode, b"" if mode == FOLDER else draw(CONTENTS))
    return state


def build(root: Path, state: State) -> None:
    root.mkdir(exist_ok=True)
    for name, (mode, data) in state.items():
        path = root / name
        (path if mode == FOLDER else path.parent).mkdir(parents=True, exist_ok=True)
        if mode == LINK:
            path.symlink_to(os.fsdecode(data))
        elif mode != FOLDER:
            path.write_bytes(data)
            path.chmod(0o755 if mode == PROGRAM else 0o644)


def read(root: Path) -> State:
    found: State = {}
    for path in root.rglob("*"):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = (LINK, os.fsencode(path.readlink()))
        elif path.is_file():
            found[name] = (PROGRAM if path.stat().st_mode & 0o100 else FILE, path.read_bytes())
        elif not any(path.iterdir()):
            found[name] = (FOLDER, b"")
    return found


def stored(store: ObjectStore, state: State) -> str:
    nodes = {
        name.encode(): Node(mode, store.empty_tree if mode == FOLDER else store.write(b"blob", data))
        for name, (mode, data) in state.items()
    }
    return edit_tree(store, None, nodes)


class CutError(BaseException):
    pass


class CuttingOs:
    """The `os` module, ending the process (as it were) at its n-th change."""

    def __init__(self, left: int) -> None:
        self.left = left

    def __getattr__(self, name: str) -> Any:
        real = getattr(os, name)
        if name not in ("link", "rename", "unlink", "mkdir", "rmdir", "symlink", "write", "pwrite"):
            return real

        def step(*args: Any, **kwargs: Any) -> Any:
            self.left -= 1
            if self.left == 0:
                raise CutError
            return real(*args, **kwargs)

        return step


@pytest.fixture
def folder() -> Any:
    path = Path(tempfile.mkdtemp())
    yield path
    shutil.rmtree(path)


def fresh(folder: Path) -> tuple[Path, ObjectStore]:
    shutil.rmtree(folder)
    folder.mkdir()
    store = ObjectStore(folder / "store.git", None, "sha1", durable=False)
    store.ensure()
    return folder / "tree", store


RELAXED = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))


@RELAXED
@given(old=states(), new=states(), cut=st.integers(1, 80))
def test_an_interrupted_change_ends_in_one_of_both(folder: Path, old: State, new: State, cut: int) -> None:
    root, store = fresh(folder)
    build(root, old)
    plan = plan_rollback(store, stored(store, old), stored(store, new))
    with pytest.MonkeyPatch.context() as patch:
        for module in (worktree, journal, moves):
            patch.setattr(module, "os", CuttingOs(cut))
        try:
            apply_plan(root, store, plan, folder / "journal")
        except CutError:
            pass
        else:
            assert read(root) == new
    recover(folder / "journal")
    assert read(root) in (old, new)
    assert not (folder / "journal").exists()


@RELAXED
@given(last=states(), user=states(), target=states())
def test_no_edit_of_the_users_is_ever_lost(folder: Path, last: State, user: State, target: State) -> None:
    """`current` is `last` with some of the user's files put over it."""
    current = dict(last)
    for path, entry in user.items():
        _clear(current, path)
        current[path] = entry
    root, store = fresh(folder)
    build(root, current)
    now, then, before = (stored(store, state) for state in (current, target, last))
    with WorkTree(root, "sha1") as tree:
        plan = plan_rollback(store, now, then, before, uncaptured(tree, store, now))
    if plan.conflicts:
        with pytest.raises(AgentgovError):
            apply_plan(root, store, plan, folder / "journal")
        assert read(root) == current
        return
    apply_plan(root, store, plan, folder / "journal")
    after = read(root)
    for path in {**last, **current, **target}:
        edited = current.get(path) != last.get(path) and (
            _is_file(current.get(path)) or _is_file(last.get(path))
        )
        expected = target.get(path)
        if edited and current.get(path) != expected:
            expected = current.get(path)
        if _is_file(expected) or _is_file(after.get(path)):
            assert after.get(path) == expected, path


def _is_file(entry: tuple[int, bytes] | None) -> bool:
    return entry is not None and entry[0] != FOLDER
