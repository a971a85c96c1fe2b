"""Writes seals into a repository as they are, whatever is in them, as a forger would."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

from agentgov.ledger.seal import Seal, ledger_ref


def publish(repo: Path, stream_id: str, seals: Sequence[Seal]) -> None:
    """Put these seals, and no others, on a record's ref."""
    parent: list[str] = []
    for seal in seals:
        files = {
            "checkpoint": seal.checkpoint,
            "entries": seal.entries,
            "proof": seal.proof,
            "signatures": seal.signatures,
        }
        listing = "".join(
            f"100644 blob {_git(repo, 'hash-object', '-w', '--stdin', data=data)}\t{name}\n"
            for name, data in files.items()
        )
        tree = _git(repo, "mktree", data=listing.encode())
        commit = _git(repo, "commit-tree", tree, *parent, "-m", "seal")
        parent = ["-p", commit]
    if parent:
        _git(repo, "update-ref", ledger_ref(stream_id), parent[1])
    else:
        _git(repo, "update-ref", "-d", ledger_ref(stream_id))


def _git(repo: Path, *args: str, data: bytes = b"") -> str:
    done = subprocess.run(["git", *args], cwd=repo, input=data, capture_output=True, check=True)
    return done.stdout.decode().strip()
