"""A rollback is decided by three trees, and the user's own work is never part of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.plan import Plan, make_plan, plan_rollback
from agentgov.rollback.trees import FILE, FOLDER, GITLINK, LINK, PROGRAM, Node, edit_tree, lookup

Files = dict[bytes, bytes]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    store = ObjectStore(tmp_path / "store.git", None, "sha1", durable=False)
    store.ensure()
    return store


def tree(store: ObjectStore, files: Files) -> str:
    """Contents "*name" are programs, "@name" links, b"" empty folders, anything else files."""
    nodes = {}
    for path, content in files.items():
        mode = {b"*": PROGRAM, b"@": LINK, b"": FOLDER}.get(content[:1], FILE)
        nodes[path] = Node(
            mode, store.empty_tree if mode == FOLDER else store.write(b"blob", content.lstrip(b"*@"))
        )
    return edit_tree(store, None, nodes)


def planned(store: ObjectStore, *, last: Files, current: Files, target: Files) -> Plan:
    return plan_rollback(store, tree(store, current), tree(store, target), tree(store, last))


def actions(plan: Plan) -> list[tuple[bytes, str]]:
    return [(action.path, action.verb) for action in plan.actions]


def conflicts(plan: Plan) -> list[tuple[bytes, str, bytes]]:
    return [(conflict.path, conflict.reason, conflict.what) for conflict in plan.conflicts]


def test_every_kind_of_action_is_named(store: ObjectStore) -> None:
    now = {b"a": b"1", b"b": b"1", b"c": b"1", b"d": b"1", b"e": b"1", b"f/x": b"1", b"h": b""}
    then = {b"a": b"2", b"b": b"*1", b"c": b"@1", b"d/y": b"1", b"f": b"1", b"g": b"", b"i/j/k": b"1"}
    plan = planned(store, last=now, current=now, target=then)
    assert actions(plan) == [
        (b"a", "change"),
        (b"b", "mode"),
        (b"c", "replace"),
        (b"d", "delete"),
        (b"d/y", "create"),
        (b"e", "delete"),
        (b"f", "create"),
        (b"f/x", "delete"),
        (b"i/j/k", "create"),
    ]
    assert plan.removed_folders == (b"h", b"f")
    assert plan.new_folders == (b"d", b"g", b"i", b"i/j")
    assert plan.conflicts == ()
    assert list(plan.lines()) == [
        "~ a",
        "~ b  executable",
        "~ c  file -> link",
        "- d",
        "+ d/y",
        "- e",
        "+ f",
        "- f/x",
        "+ i/j/k",
        "- h/",
        "- f/",
        "+ d/",
        "+ g/",
        "+ i/",
        "+ i/j/",
    ]


def test_the_users_edits_elsewhere_are_kept(store: ObjectStore) -> None:
    plan = planned(
        store,
        last={b"agent": b"2", b"mine": b"1", b"dropped": b"1"},
        current={b"agent": b"2", b"mine": b"edited", b"added": b"new"},
        target={b"agent": b"1", b"mine": b"1", b"dropped": b"1"},
    )
    assert actions(plan) == [(b"agent", "change")]
    assert plan.kept == (b"added", b"dropped", b"mine")
    assert plan.conflicts == ()
    assert "  mine  kept: you changed it, and this does not touch it" in plan.lines()


def test_an_edit_that_the_rollback_would_undo_is_a_conflict(store: ObjectStore) -> None:
    plan = planned(store, last={b"a": b"2"}, current={b"a": b"edited"}, target={b"a": b"1"})
    assert actions(plan) == []
    assert conflicts(plan) == [(b"a", "edited", b"a")]
    conflict = plan.conflicts[0]
    assert conflict.last is not None
    assert conflict.current is not None
    assert conflict.target is not None
    assert list(plan.lines()) == ["! a  you changed it since"]


@pytest.mark.parametrize(
    ("last", "current", "target"),
    [
        ({b"a": b"2"}, {}, {b"a": b"1"}),
        ({}, {b"a": b"mine"}, {b"a": b"1"}),
        ({b"a": b"2"}, {b"a": b"mine"}, {}),
        ({b"a": b"2"}, {b"a": b"*2"}, {b"a": b"1"}),
        ({b"a": b"2"}, {b"a/b": b"mine"}, {b"a": b"1"}),
        ({}, {b"a/b": b"mine"}, {b"a": b"1"}),
        ({}, {b"a": b"mine"}, {b"a/b": b"1"}),
        ({b"a/x": b"2"}, {b"a/x": b"2", b"a/b": b"mine"}, {b"a": b"1"}),
    ],
)
def test_every_way_to_lose_an_edit_is_a_conflict(
    store: ObjectStore, last: Files, current: Files, target: Files
) -> None:
    assert planned(store, last=last, current=current, target=target).conflicts


def test_an_edit_that_already_is_the_target_is_no_conflict(store: ObjectStore) -> None:
    plan = planned(store, last={b"a": b"2"}, current={b"a": b"1"}, target={b"a": b"1"})
    assert plan.is_empty
    assert plan.conflicts == ()


def test_a_folder_with_the_users_new_file_stays(store: ObjectStore) -> None:
    plan = planned(
        store,
        last={b"d/a": b"1", b"x": b"1"},
        current={b"d/a": b"1", b"d/mine": b"m", b"x": b"1"},
        target={b"x": b"1"},
    )
    assert actions(plan) == [(b"d/a", "delete")]
    assert plan.removed_folders == ()


def test_a_folder_that_the_target_has_empty_stays(store: ObjectStore) -> None:
    now = {b"d/a": b"1"}
    plan = planned(store, last=now, current=now, target={b"d": b""})
    assert (actions(plan), plan.removed_folders, plan.new_folders) == ([(b"d/a", "delete")], (), ())


def test_submodules_and_gits_own_names_are_never_written(store: ObjectStore) -> None:
    link = Node(GITLINK, "1" * 40)
    current = tree(store, {b"a": b"1"})
    target = edit_tree(
        store, current, {b"sub": link, b"x/.git/config": Node(FILE, store.write(b"blob", b"x"))}
    )
    plan = plan_rollback(store, current, target)
    assert conflicts(plan) == [
        (b"sub", "unsupported", b"sub"),
        (b"x/.git/config", "unsupported", b"x/.git/config"),
    ]
    assert plan.actions == ()


def test_the_look_up_of_what_is_in_the_way_is_asked_for_new_names_only() -> None:
    asked: list[tuple[bytes, bool]] = []

    def look(path: bytes, folder: bool) -> bytes | None:
        asked.append((path, folder))
        return b"new/o.o" if path == b"new/a" else None

    one, two = Node(FILE, "1" * 40), Node(FILE, "2" * 40)
    plan = make_plan(
        "b",
        "t",
        {b"new/a": (None, one), b"old": (one, two), b"gone": (one, None)},
        {},
        lambda path: False,
        lambda path: path == b"new",
        look,
    )
    assert asked == [(b"new/a", False), (b"new", True)]
    assert conflicts(plan) == [(b"new/a", "in-the-way", b"new/o.o")]


def test_lines_are_safe_to_print(store: ObjectStore) -> None:
    name = b"a\x1b]8;;x\x07\n\xe2\x80\xae\xff"
    plan = planned(store, last={}, current={}, target={name: b"1"})
    (line,) = plan.lines()
    assert line.isprintable()


def test_edit_tree_builds_what_was_asked(store: ObjectStore) -> None:
    one = Node(FILE, store.write(b"blob", b"1"))
    first = edit_tree(store, None, {b"a/b/c": one, b"a/d": one, b"e": one})
    assert lookup(store, first, b"a/b/c") == one
    assert lookup(store, first, b"e/x") is None
    second = edit_tree(store, first, {b"a/b/c": None, b"e": None, b"e/f": one, b"gone/x": None})
    assert sorted(path for path, _, _ in store.leaves(second)) == [b"a/d", b"e/f"]
    assert edit_tree(store, second, {b"a/d": None, b"e/f": None}) == store.empty_tree
    assert edit_tree(store, first, {}) == first
