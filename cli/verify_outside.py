"""What a verification takes from elsewhere: who is trusted.

Rules kept here:

- Trust is read from the protected branch, never from the work tree, or from the file that was named.
- A named file is all that counts: the branch's is then not read.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentgov.cli.session import Session
from agentgov.errors import UsageError
from agentgov.git import Repository
from agentgov.ledger.anchors import Anchor
from agentgov.ledger.people import People
from agentgov.ledger.revocation import REVOKED_FILE
from agentgov.ledger.verify_anchors import Quorum

MAX_TRUST_BYTES: Final = 4 * 1024 * 1024


@dataclass
class Outside:
    """Who is trusted, and what others have seen of one record."""

    people: People | None = None
    anchors: Sequence[Anchor] = ()
    quorum: Quorum | None = None
    notes: list[str] = field(default_factory=list)


def look_outside(session: Session, stream_id: str, trust: Path | None) -> Outside:
    """Gather what is known about a record from elsewhere.

    Args:
        session: The command's session.
        stream_id: Which record.
        trust: A file that says who is trusted; the protected branch's when None.

    Raises:
        UsageError: AG0351, when the file cannot be read.
    """
    return Outside(people=find_people(session.repo, trust))


def find_people(repo: Repository, trust: Path | None) -> People | None:
    """Who is trusted: by the file, else by the protected branch; None when there is no trust file.

    Raises:
        UsageError: AG0351, when the file cannot be read.
    """
    if trust is not None:
        return People.parse(read_text(trust))
    from agentgov.gates.adoption import read_at
    from agentgov.harness.people import read_trust

    commit = protected_commit(repo)
    signers = None if commit is None else read_trust(repo, commit)
    if commit is None or signers is None:
        return None
    revoked = read_at(repo, commit, REVOKED_FILE)
    return People.parse(signers, None if revoked is None else revoked.decode("utf-8", "replace"))


def protected_commit(repo: Repository) -> str | None:
    """The commit that trust is read from: the remote's default branch, else the default branch."""
    remote = repo.remote_default()
    if remote is not None and (commit := repo.ref(remote.tracking)) is not None:
        return commit
    branch = repo.default_branch()
    return None if branch is None else repo.ref(branch)


def read_text(path: Path) -> str:
    """The text of a file that a person named.

    Raises:
        UsageError: AG0351, when it cannot be read or is too large.
    """
    try:
        with path.open("rb") as file:
            raw = file.read(MAX_TRUST_BYTES + 1)
    except OSError as error:
        raise UsageError(
            f"this file cannot be read: {error.strerror}", id="AG0351", where=str(path)
        ) from None
    if len(raw) > MAX_TRUST_BYTES:
        raise UsageError("this file is too large to be a trust file", id="AG0351", where=str(path))
    return raw.decode("utf-8", "replace").replace("\r\n", "\n")
