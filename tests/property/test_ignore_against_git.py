"""Generated ignore files: the same answers as `git check-ignore`."""

# ruff: noqa: PTH118

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path

import pytest

from agentgov.git import discover
from agentgov.rollback.ignore import IgnoreRules

NAMES = [
    "a",
    "b",
    "ab",
    "foo",
    "foo.o",
    "x y",
    "[a]",
    "a]b",
    "-",
    "a!",
    "#x",
    "b.c.o",
    "foo ",
    " a",
    "\u00e9",
    "\\",
]
PIECES = [
    "a",
    "b",
    "foo",
    "*",
    "**",
    "?",
    "[ab]",
    "[!a]",
    "[a-c]",
    "[]a]",
    "[[:alpha:]]",
    "[^[:digit:]b]",
    "\\*",
]
PIECES += [
    "\\a",
    "/",
    ".o",
    ".",
    "!",
    "\\!",
    "#",
    " ",
    "\\ ",
    "[",
    "]",
    "[a",
    "-",
    "[a-",
    "**/",
    "/**",
    "o",
    "\\",
    "[[:x:]]",
]


def _pattern(rng: random.Random) -> str:
    text = "".join(rng.choice(PIECES) for _ in range(rng.randint(1, 5)))
    text = "!" + text if rng.random() < 0.25 else text
    text = text + "/" if rng.random() < 0.15 else text
    return "/" + text if rng.random() < 0.15 else text


@pytest.mark.parametrize("seed", range(40))
def test_same_answers_as_git(tmp_path: Path, home: Path, seed: int) -> None:
    rng = random.Random(seed)
    root = tmp_path / "work"
    subprocess.run(["git", "init", "-q", str(root)], check=True)
    folders = [""]
    paths: list[tuple[str, bool]] = []
    for _ in range(10):
        path = os.path.join(rng.choice(folders), rng.choice(NAMES))
        if path.count("/") < 4 and not (root / path).exists():
            (root / path).mkdir()
            folders.append(path)
            paths.append((path, True))
    for _ in range(25):
        path = os.path.join(rng.choice(folders), rng.choice(NAMES))
        if not (root / path).exists():
            (root / path).write_text("x")
            paths.append((path, False))
    for folder in rng.sample(folders, min(3, len(folders))):
        ending = rng.choice(["\n", "\r\n"])
        text = ending.join(_pattern(rng) for _ in range(rng.randint(1, 5)))
        (root / folder / ".gitignore").write_bytes(text.encode() + rng.choice([b"", b"\n"]))
    (root / ".git/info").mkdir(exist_ok=True)
    (root / ".git/info/exclude").write_text(_pattern(rng) + "\n")
    (home / ".config/git").mkdir(parents=True)
    (home / ".config/git/ignore").write_text(_pattern(rng) + "\n")
    ignore_case = seed % 5 == 0
    subprocess.run(["git", "-C", str(root), "config", "core.ignorecase", str(ignore_case)], check=True)

    rules = IgnoreRules.pin(root, discover(root))
    asked = "\0".join(path for path, _ in paths).encode()
    command = ["git", "-C", str(root), "check-ignore", "-z", "--stdin", "--no-index", "-v", "-n"]
    done = subprocess.run(command, input=asked, stdout=subprocess.PIPE, check=False)
    answers = done.stdout.split(b"\0")
    for number, (path, is_dir) in enumerate(paths):
        pattern = answers[4 * number + 2]
        expected = bool(pattern) and not pattern.startswith(b"!")
        assert rules.is_ignored(path.encode(), is_dir) is expected, (path, pattern)
