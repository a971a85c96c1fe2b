"""What a step changed: statuses, modes, line maps, and the payload's form."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from agentgov.errors import BrokenRecordError
from agentgov.rollback import changes, linediff
from agentgov.rollback.changes import describe, parse_payload, to_payload
from agentgov.rollback.leftout import Skip
from agentgov.rollback.linediff import Hunk, parse_patch, trimmed
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.treeform import MODE_EXEC, MODE_FILE, MODE_LINK

Files = Mapping[bytes, tuple[int, bytes]]


@pytest.fixture
def store(tmp_path: Path) -> ObjectStore:
    made = ObjectStore(tmp_path / "s.git", None, durable=False)
    made.ensure()
    return made


def tree(store: ObjectStore, files: Files) -> str:
    return store.write_tree((mode, name, store.write(b"blob", data)) for name, (mode, data) in files.items())


def test_statuses_modes_and_maps(store: ObjectStore) -> None:
    old = tree(
        store,
        {
            b"bin": (MODE_FILE, b"\0\1"),
            b"edit": (MODE_FILE, b"a\nb\nc\n"),
            b"gone": (MODE_FILE, b"x\ny"),
            b"kind": (MODE_FILE, b"t"),
            b"link": (MODE_LINK, b"to"),
            b"run": (MODE_FILE, b"#!\n"),
            b"same": (MODE_FILE, b"s"),
        },
    )
    new = tree(
        store,
        {
            b"bin": (MODE_FILE, b"\0\2"),
            b"edit": (MODE_FILE, b"a\nB\nB2\nc\n"),
            b"empty": (MODE_FILE, b""),
            b"kind": (MODE_LINK, b"t"),
            b"link": (MODE_LINK, b"other"),
            b"new": (MODE_FILE, b"1\n2\n"),
            b"run": (MODE_EXEC, b"#!\n"),
            b"same": (MODE_FILE, b"s"),
        },
    )
    found = {c.path: (c.status, c.old_mode, c.new_mode, c.hunks) for c in describe(store, old, new)}
    assert found == {
        b"bin": ("M", MODE_FILE, MODE_FILE, None),
        b"edit": ("M", MODE_FILE, MODE_FILE, (Hunk(2, 1, 2, 2),)),
        b"empty": ("A", None, MODE_FILE, ()),
        b"gone": ("D", MODE_FILE, None, (Hunk(1, 2, 0, 0),)),
        b"kind": ("T", MODE_FILE, MODE_LINK, None),
        b"link": ("M", MODE_LINK, MODE_LINK, None),
        b"new": ("A", None, MODE_FILE, (Hunk(0, 0, 1, 2),)),
        b"run": ("M", MODE_FILE, MODE_EXEC, ()),
    }
    assert describe(store, old, old) == []


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (b"a\nb\n", b"a\nx\nb\n", Hunk(1, 0, 2, 1)),
        (b"a\nx\nb\n", b"a\nb\n", Hunk(2, 1, 1, 0)),
        (b"a\nb", b"a\nb\n", Hunk(2, 1, 2, 1)),
        (b"a\nb\n", b"a\nb", Hunk(2, 1, 2, 1)),
        (b"a", b"b\na", Hunk(0, 0, 1, 1)),
        (b"xa\nb\n", b"ya\nb\n", Hunk(1, 1, 1, 1)),
        (b"a\r\n", b"a\n", Hunk(1, 1, 1, 1)),
        (b"", b"a", Hunk(0, 0, 1, 1)),
        (b"a\na\n", b"a\na\na\n", Hunk(2, 0, 3, 1)),
    ],
)
def test_one_place_needs_no_diff(old: bytes, new: bytes, expected: Hunk) -> None:
    assert trimmed(old, new) == [expected]


def test_lines_that_stay_in_the_middle_are_left_to_git() -> None:
    assert trimmed(b"a\nb\nc\n", b"x\nb\ny\n") is None


def test_at_most_one_git_per_step(store: ObjectStore, monkeypatch: pytest.MonkeyPatch) -> None:
    spawned: list[int] = []

    def counting(*args: Any) -> Any:
        spawned.append(len(args[3]))
        return linediff.by_git(*args)

    monkeypatch.setattr(changes, "by_git", counting)
    old = tree(store, {b"f%d" % n: (MODE_FILE, b"a\nb\nc%d\n" % n) for n in range(9)})
    new = tree(store, {b"f%d" % n: (MODE_FILE, b"x\nb\ny%d\n" % n) for n in range(9)})
    found = describe(store, old, new)
    assert spawned == [9]
    assert {change.hunks for change in found} == {(Hunk(1, 1, 1, 1), Hunk(3, 1, 3, 1))}


def test_a_users_diff_driver_is_not_run(store: ObjectStore, home: Path, tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    attributes = home / "attributes"
    attributes.write_text("* diff=evil\n")
    with (home / ".gitconfig").open("a") as file:
        file.write(f"[core]\n\tattributesFile = {attributes}\n[diff]\n\texternal = touch {ran}\n")
        file.write(f'[diff "evil"]\n\tcommand = touch {ran}\n\ttextconv = touch {ran};cat\n\tbinary = true\n')
    old = tree(store, {b"f": (MODE_FILE, b"a\nb\nc\n")})
    new = tree(store, {b"f": (MODE_FILE, b"x\nb\ny\n")})
    assert describe(store, old, new)[0].hunks == (Hunk(1, 1, 1, 1), Hunk(3, 1, 3, 1))
    assert not ran.exists()


def test_content_that_looks_like_a_patch_is_content(store: ObjectStore) -> None:
    old = b"a\n-- a/f\n@@ -1 +1 @@\nindex " + b"1" * 40 + b".." + b"2" * 40 + b"\nz\n"
    new = b"x\n-- a/f\n@@ -9 +9 @@\nindex " + b"1" * 40 + b".." + b"3" * 40 + b"\nz\n"
    trees = [tree(store, {b"f": (MODE_FILE, data)}) for data in (old, new)]
    assert describe(store, *trees)[0].hunks == (Hunk(1, 1, 1, 1), Hunk(3, 2, 3, 2))
    assert parse_patch(b"") == {}


def test_payload_round_trip_and_form(store: ObjectStore) -> None:
    old = tree(store, {b"a": (MODE_FILE, b"1\n")})
    new = tree(store, {b"a": (MODE_FILE, b"2\n"), b"\xff\n": (MODE_FILE, b"3")})
    found = describe(store, old, new)
    skipped = [Skip(b".env", "secret", 5), Skip(b"pipe", "special", None)]
    raw = to_payload(found, skipped, {b"a": [7, 3]})
    value = json.loads(raw)
    assert value["v"] == 1
    assert value["files"][0] == {
        "path": "a",
        "status": "M",
        "old": found[0].old,
        "new": found[0].new,
        "old_mode": "100644",
        "new_mode": "100644",
        "hunks": [[1, 1, 1, 1]],
        "calls": [3, 7],
    }
    assert value["files"][1]["path"] == {"b64": "/wo="}
    parsed = parse_payload(raw)
    assert parsed.files == tuple(found)
    assert parsed.skipped == tuple(skipped)
    assert parsed.calls == {b"a": (3, 7)}


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("path", "../x"),
        ("path", "/x"),
        ("path", ""),
        ("path", {"b64": "YQ=="}),
        ("status", "R"),
        ("status", "A"),
        ("old", "zz"),
        ("old", None),
        ("new_mode", "100666"),
        ("hunks", [[1, 1, 1]]),
        ("hunks", [[1, 1, 1, -1]]),
        ("hunks", [[1, 1, 1, True]]),
        ("hunks", 5),
        ("calls", [2, 1]),
        ("calls", ["1"]),
        ("more", 1),
    ],
)
def test_payloads_of_another_form_are_refused(store: ObjectStore, key: str, value: object) -> None:
    trees = [tree(store, {b"a": (MODE_FILE, data)}) for data in (b"1\n", b"2\n")]
    body = json.loads(to_payload(describe(store, *trees)))
    body["files"][0][key] = value
    with pytest.raises(BrokenRecordError):
        parse_payload(json.dumps(body, sort_keys=True, separators=(",", ":")).encode())


@pytest.mark.parametrize("raw", [b"", b"[]", b"{}", b"\xff", b'{"files":[],"skipped":[],"v":2}', b"[" * 5000])
def test_noise_is_refused(raw: bytes) -> None:
    with pytest.raises(BrokenRecordError):
        parse_payload(raw)
    with pytest.raises(BrokenRecordError):
        parse_payload(b' {"files":[],"skipped":[],"v":1}')
