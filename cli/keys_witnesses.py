"""What the keys commands know of witnesses: their policy on the protected branch, and what they have seen."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from agentgov.cli.session import Session

if TYPE_CHECKING:
    from agentgov.ledger.anchors import Anchor
    from agentgov.ledger.tlog_policy import Policy
    from agentgov.ledger.verify_anchors import Quorum

WITNESSES_FILE = ".agentgov/witnesses"


def read_policy(session: Session, commit: str) -> Policy | None:
    """The witnesses' policy of a commit; None when it has none.

    Raises:
        ConfigError: it cannot be read.
    """
    from agentgov.gates.adoption import read_at
    from agentgov.ledger.tlog_policy import Policy

    raw = read_at(session.repo, commit, WITNESSES_FILE)
    return None if raw is None else Policy.parse(raw, where=WITNESSES_FILE)


def quorum_of(session: Session, commit: str) -> Quorum | None:
    """Which witnesses are enough; None when the protected branch names none: then nobody's word counts."""
    policy = read_policy(session, commit)
    return None if policy is None else policy.is_met


def seen_by_witnesses(session: Session, commit: str, stream_id: str, problems: list[str]) -> Sequence[Anchor]:
    """The heads of a record that trusted witnesses have seen, checked; what is wrong goes to `problems`."""
    from agentgov.ledger.anchor_store import read_anchors

    policy = read_policy(session, commit)
    if policy is None:
        return ()
    anchors, found = read_anchors(session.repo, stream_id, policy, None)
    problems += found
    return anchors
