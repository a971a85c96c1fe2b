"""What a verification takes from elsewhere: who is trusted, and what witnesses and authorities have seen.

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
from agentgov.ledger.anchor_store import read_anchors
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
        ConfigError: AG0402 or AG0464, when what says who is a witness is not understood.
    """
    from agentgov.harness.witnesses import read_authorities, read_witnesses

    people = find_people(session, trust)
    policy = read_witnesses(session.repo, session.state, trust)
    # A single file of trust lines holds no certificates: the branch's are not read beside it.
    authorities = (
        None
        if trust is not None and not trust.is_dir()
        else read_authorities(session.repo, session.state, trust)
    )
    anchors, problems = read_anchors(session.repo, stream_id, policy, authorities)
    return Outside(people, anchors, None if policy is None else policy.is_met, problems)


def find_people(session: Session, trust: Path | None) -> People | None:
    """Who is trusted: by the file or folder, else by the protected branch; None when there is no trust file.

    Args:
        session: The command's session.
        trust: A trust file, or a folder such as `.agentgov` that holds it and the file of revoked keys.

    Raises:
        UsageError: AG0351, when the file cannot be read.
        ConfigError: AG0421 or AG0422, when it is not understood.
    """
    if trust is None:
        from agentgov.harness.people import read_people

        return read_people(session.repo, session.state)
    if not trust.is_dir():
        return People.parse(read_text(trust))
    revoked = trust / REVOKED_FILE.rpartition("/")[2]
    return People.parse(
        read_text(trust / "allowed_signers"), read_text(revoked) if revoked.exists() else None
    )


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
