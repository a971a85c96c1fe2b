"""What every test may use: a sealed home, real repositories in temporary folders, a fixed clock.

Rules: no test reads the user's git configuration, environment or home; nothing needs a network; a repository
made here has fixed names and dates, so that its object ids are the same everywhere.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

import pytest
from hypothesis import HealthCheck, settings

from agentgov.clock import FixedClock, Random
from agentgov.layout import StateHome

GIT_CONFIG = """\
[user]
    name = Alice Example
    email = alice@example.org
[init]
    defaultBranch = main
[gc]
    auto = 0
[maintenance]
    auto = false
[advice]
    detachedHead = false
[protocol "file"]
    allow = always
"""
FIXED_DATE = "2026-01-02T03:04:05Z"

# A busy machine is not a failure; a failing example is printed in a form that can be replayed.
settings.register_profile(
    "agentgov", deadline=None, database=None, print_blob=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("agentgov")


class MakeRepo(Protocol):
    """Makes a repository with `commits` commits; each file's text stands in the first one."""

    def __call__(
        self, path: Path | None = None, files: Mapping[str, str | bytes] | None = None, commits: int = 1
    ) -> Path: ...


GitRunner = Callable[..., str]


@pytest.fixture(autouse=True)
def home(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home folder that holds a git configuration and nothing else; the environment points nowhere else."""
    root = tmp_path_factory.mktemp("home")
    for name in list(os.environ):
        if name.startswith(("GIT_", "XDG_", "SSH_", "AGENTGOV_", "CLAUDE", "ANTHROPIC_")):
            monkeypatch.delenv(name)
    config = root / ".gitconfig"
    config.write_text(GIT_CONFIG)
    monkeypatch.setenv("HOME", str(root))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(root / ".config"))
    monkeypatch.setenv("XDG_STATE_HOME", str(root / ".local" / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(root / ".cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(root / ".local" / "share"))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    # A repository above the temporary folder must not be found from a test's folder without one.
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(root.parent))
    monkeypatch.setenv("GIT_AUTHOR_DATE", FIXED_DATE)
    monkeypatch.setenv("GIT_COMMITTER_DATE", FIXED_DATE)
    monkeypatch.setenv("LC_ALL", "C.UTF-8")
    monkeypatch.setenv("TZ", "UTC")
    monkeypatch.setenv("COLUMNS", "100")
    for name in ("NO_COLOR", "FORCE_COLOR", "TERM_PROGRAM", "CI"):
        monkeypatch.delenv(name, raising=False)
    return root


@pytest.fixture
def git() -> GitRunner:
    """Runs the user's own git in a repository, as the user would; returns the output without the last LF."""

    def run(repo: Path, *args: str | Path, input: bytes | None = None, check: bool = True) -> str:
        done = subprocess.run(
            ["git", *map(str, args)], cwd=repo, input=input, capture_output=True, check=False, timeout=60
        )
        if check and done.returncode != 0:
            raise AssertionError(f"git {args}: {done.returncode}: {done.stderr.decode(errors='replace')}")
        return done.stdout.decode("utf-8", "surrogateescape").removesuffix("\n")

    return run


@pytest.fixture
def make_repo(tmp_path: Path, git: GitRunner) -> MakeRepo:
    """Makes repositories under the test's temporary folder."""
    count = 0

    def make(
        path: Path | None = None, files: Mapping[str, str | bytes] | None = None, commits: int = 1
    ) -> Path:
        nonlocal count
        count += 1
        repo = path if path is not None else tmp_path / ("repo" if count == 1 else f"repo{count}")
        repo.mkdir(parents=True, exist_ok=True)
        git(repo, "init", "-q", "-b", "main")
        for name, content in (files if files is not None else {"README.md": "hello\n"}).items():
            target = repo / name
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(content.encode() if isinstance(content, str) else content)
        for number in range(1, commits + 1):
            git(repo, "add", "-A", ".")
            git(repo, "commit", "-q", "--allow-empty", "-m", f"commit {number}")
        return repo

    return make


@pytest.fixture
def state(tmp_path: Path) -> StateHome:
    """A state folder of its own, made already."""
    home = StateHome(tmp_path / "state")
    home.create()
    return home


@pytest.fixture
def clock() -> FixedClock:
    """A clock that starts at a fixed moment and moves by a millisecond at each reading."""
    return FixedClock(1_767_323_045_000_000, 1_000)


@pytest.fixture
def rng() -> Random:
    """Random bytes that are the same in every run: SHA-256 in counter mode."""
    counter = 0

    def draw(size_bytes: int) -> bytes:
        nonlocal counter
        out = b""
        while len(out) < size_bytes:
            out += hashlib.sha256(b"test" + counter.to_bytes(8, "big")).digest()
            counter += 1
        return out[:size_bytes]

    return draw
