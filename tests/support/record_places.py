"""What tests of records in several places share: pushing, restoring, naming witnesses."""

from __future__ import annotations

import shutil
from pathlib import Path

from tests.conftest import GitRunner
from tests.e2e.conftest import Cli


def push(repo: Path, git: GitRunner, *options: str) -> None:
    git(repo, "push", "-q", *options, "origin", "refs/agentgov/ledger/*:refs/agentgov/ledger/*")


def stream_of(repo: Path) -> str:
    return (repo / ".git/agentgov/stream").read_text().strip()


def name_witness(repo: Path, git: GitRunner, line: str, quorum: str = "ci") -> None:
    """Put a witness on the protected branch."""
    folder = repo / ".agentgov"
    folder.mkdir(exist_ok=True)
    (folder / "witnesses").write_text(f"{line}\nquorum {quorum}\n")
    git(repo, "add", ".agentgov")
    git(repo, "commit", "-q", "-m", "name a witness")


def new_key(agentgov: Cli, folder: Path, name: str = "ci") -> tuple[Path, str]:
    said = agentgov(folder, "witness", "new-key", name, "-o", folder.parent / f"{name}.key")
    return folder.parent / f"{name}.key", said.out.splitlines()[0]


def restore(repo: Path, folder: Path) -> None:
    """Put an earlier image of the machine back, as a backup does: same places, earlier content."""
    for path in (repo / ".git").iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    shutil.copytree(folder / "image.git", repo / ".git", symlinks=True, dirs_exist_ok=True)
    shutil.rmtree(Path.home() / ".local")
    shutil.copytree(folder / "image.local", Path.home() / ".local", symlinks=True)
