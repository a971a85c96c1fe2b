"""Reads seals and unsealed entries of a repository by plain git (docs/format.md, "Seals")."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from tests.reference.record import RawSeal
from tests.reference.refused import Refused


def cat(repo: Path, name: str) -> bytes:
    """The bytes of one object."""
    env = {**os.environ, "GIT_NO_REPLACE_OBJECTS": "1"}
    done = subprocess.run(
        ["git", "cat-file", "-p", name], cwd=repo, capture_output=True, check=False, env=env
    )
    if done.returncode != 0:
        raise Refused("missing", name)
    return done.stdout


def read_seals(repo: Path, stream: str) -> list[RawSeal]:
    """All seals of a stream, the oldest first."""
    return [
        RawSeal(*(cat(repo, f"{commit}:{name}") for name in ("entries", "signatures", "checkpoint", "proof")))
        for commit in reversed(_commits(repo, f"refs/agentgov/ledger/{stream}"))
    ]


def read_tail(common_dir: Path, sealed: int) -> list[tuple[bytes, bytes]]:
    """The entries that are not sealed: line and base64 of the signature."""
    found = []
    for segment in sorted((common_dir / "agentgov" / "wal").glob("[0-9]" * 16)):
        written = segment.read_bytes().split(b"\x00")[0]
        for seq, record in enumerate(written.split(b"\n")[:-1], int(segment.name)):
            line, _, raw_signature = record.rpartition(b"\t")
            if seq >= sealed:
                found.append((line, raw_signature))
    return found


def _commits(repo: Path, name: str) -> list[str]:
    commits, commit = [], name
    while commit:
        header = cat(repo, commit).split(b"\n\n")[0].decode().split("\n")
        commits.append(commit)
        parents = [line.split(" ")[1] for line in header if line.startswith("parent ")]
        commit = parents[0] if parents else ""
    return commits
