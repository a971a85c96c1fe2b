"""Generated contents: the line map and the new lines turn the old content into the new one."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from agentgov.rollback.changes import describe, parse_payload, to_payload
from agentgov.rollback.linediff import Hunk
from agentgov.rollback.objects import ObjectStore
from agentgov.rollback.treeform import MODE_FILE

LINES = [
    b"a\n",
    b"b\n",
    b"}\n",
    b"\n",
    b"return x\n",
    b"\r\n",
    b"@@ -1 +1 @@\n",
    b"+x\n",
    b"-x\n",
    b"--- a\n",
]


def _content(rng: random.Random) -> bytes:
    data = b"".join(rng.choice(LINES) for _ in range(rng.randrange(14)))
    return data + rng.choice([b"", b"", b"end", b"a"])


def _edited(rng: random.Random, old: bytes) -> bytes:
    lines = old.splitlines(keepends=True)
    for _ in range(rng.randint(1, 3)):
        at = rng.randrange(len(lines) + 1)
        lines[at : at + rng.randrange(3)] = [rng.choice(LINES) for _ in range(rng.randrange(3))]
    return b"".join(lines)


def _split(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _apply(old: bytes, new: bytes, hunks: tuple[Hunk, ...]) -> bytes:
    before, after = _split(old), _split(new)
    out: list[bytes] = []
    at = 0
    for hunk in hunks:
        start = hunk.old_start - (1 if hunk.old_count else 0)
        out += before[at:start]
        assert len(out) == hunk.new_start - (1 if hunk.new_count else 0)
        out += after[len(out) : len(out) + hunk.new_count]
        at = start + hunk.old_count
    return b"".join(out + before[at:])


@pytest.mark.parametrize("seed", range(30))
def test_the_line_map_rebuilds_the_new_content(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    store = ObjectStore(tmp_path / "s.git", None, durable=False)
    store.ensure()
    old = {b"f%d" % n: _content(rng) for n in range(30)}
    old[b"dir\n\xff"] = _content(rng)
    new = {name: _edited(rng, data) for name, data in old.items()}
    trees = [
        store.write_tree((MODE_FILE, name, store.write(b"blob", data)) for name, data in files.items())
        for files in (old, new)
    ]
    changes = describe(store, *trees)
    assert {change.path for change in changes} == {name for name in old if old[name] != new[name]}
    for change in changes:
        assert change.hunks is not None
        assert _apply(old[change.path], new[change.path], change.hunks) == new[change.path]
        assert all(hunk.old_count or hunk.new_count for hunk in change.hunks)
        assert sum(hunk.new_count - hunk.old_count for hunk in change.hunks) == len(
            _split(new[change.path])
        ) - len(_split(old[change.path]))
    assert parse_payload(to_payload(changes)).files == tuple(changes)


@pytest.mark.parametrize("seed", range(10))
def test_the_line_map_is_no_longer_than_gits(tmp_path: Path, seed: int) -> None:
    rng = random.Random(500 + seed)
    store = ObjectStore(tmp_path / "s.git", None, durable=False)
    store.ensure()
    old = _content(rng)
    new = _edited(rng, old)
    trees = [store.write_tree([(MODE_FILE, b"f", store.write(b"blob", data))]) for data in (old, new)]
    command = ["git", "-C", str(store.dir), "diff", "--numstat", "--minimal", *trees]
    shown = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout.split()
    added = int(shown[0]) if shown else 0
    hunks = [hunk for change in describe(store, *trees) for hunk in change.hunks or ()]
    # Histogram may keep a few common lines less than the minimum does; never fewer edits than the minimum.
    assert sum(hunk.new_count for hunk in hunks) >= added
