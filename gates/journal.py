"""Records a landing in the clone's record.

Rule kept here: the intent is sealed before the branch moves, so a crash leaves either no trace or one that
says what to look for.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from agentgov.errors import BrokenRecordError
from agentgov.gates.landing import Landing
from agentgov.gates.tiers import Tier
from agentgov.ids import RunId
from agentgov.ledger.checkpoint import Checkpoint
from agentgov.ledger.entry import Draft
from agentgov.ledger.payloads import PayloadStore
from agentgov.ledger.stream import Stream


@dataclass(frozen=True)
class StreamJournal:
    """A `Journal` over a stream and its payloads.

    Attributes:
        policy: the digest of the rules that were asked.
        approvals: the record's numbers of the approvals that count.
    """

    stream: Stream
    payloads: PayloadStore
    run: RunId
    policy: str
    tier: Tier
    approvals: Sequence[int]
    self_approved: bool

    def intent(self, landing: Landing) -> None:
        """Enters promote.intent; the branch's name is a payload."""
        target = self.payloads.put(
            self.run, "args", "target", landing.target.encode("utf-8", "surrogateescape")
        )
        self.payloads.sync()
        self._append(
            "promote.intent",
            {
                "approvals": sorted(set(self.approvals)),
                "base": landing.base,
                "delta": landing.result_delta,
                "head": landing.result_commit,
                "old": landing.old,
                "policy": self.policy,
                "result": landing.result_tree,
                "self_approved": self.self_approved,
                "target": target,
                "tier": self.tier,
            },
        )

    def seal(self) -> Checkpoint:
        """Seals, and returns the head.

        Raises:
            BrokenRecordError: AG0116, when somebody else sealed the intent and the head cannot be read back.
        """
        checkpoint = self.stream.seal()
        if checkpoint is None:
            # Another process sealed between the append and here: one more entry makes a head of our own.
            self.stream.append([Draft("log.heartbeat", None, {})], self.stream.log_signer())
            checkpoint = self.stream.seal()
        if checkpoint is None:
            raise BrokenRecordError(
                "the record could not be sealed before the landing", id="AG0116", where=self.stream.origin
            )
        return checkpoint

    def done(self, commit: str) -> None:
        """Enters promote.done, and seals."""
        self._append("promote.done", {"commit": commit})
        self.stream.seal()

    def failed(self, reason: str) -> None:
        """Enters promote.failed, and seals."""
        self._append("promote.failed", {"reason": reason})
        self.stream.seal()

    def _append(self, kind: str, body: dict[str, object]) -> None:
        self.stream.append([Draft(kind, self.run, body)], self.stream.log_signer())
