"""Calls that wait for a person: held open, listed, answered once.

Rules kept here:
- No answer in time is no.
- An answer counts once, and only from outside the agent's processes.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from agentgov.harness.clients import Client
from agentgov.harness.messages import summary_of
from agentgov.harness.session import LiveCall
from agentgov.harness.wire import BrokenRequestError


@dataclass(frozen=True, slots=True)
class Ask:
    """One call that waits.

    Attributes:
        live: The call.
        client: The hook that is held open.
        event: The hook event's name, for the answer.
        deadline: When no answer becomes no, monotonic seconds.
    """

    live: LiveCall
    client: Client
    event: str
    deadline: float


class Asks:
    """All calls of a run that wait for a person."""

    def __init__(self, run: str, intent: str | None) -> None:
        self._run = run
        self._intent = intent
        self._asks: dict[int, Ask] = {}

    def __len__(self) -> int:
        return len(self._asks)

    def add(self, ask: Ask) -> None:
        """Hold a call."""
        self._asks[ask.live.n] = ask

    def take(self, n: int) -> Ask | None:
        """Stop holding a call."""
        return self._asks.pop(n, None)

    def take_of(self, client: Client) -> Ask | None:
        """Stop holding the call of a hook that hung up."""
        ask = next((ask for ask in self._asks.values() if ask.client is client), None)
        return None if ask is None else self.take(ask.live.n)

    def take_expired(self, now: float) -> Sequence[Ask]:
        """Stop holding the calls whose time is up."""
        expired = [ask for ask in self._asks.values() if ask.deadline <= now]
        for ask in expired:
            del self._asks[ask.live.n]
        return expired

    def take_all(self) -> Sequence[Ask]:
        """Stop holding any call."""
        asks = list(self._asks.values())
        self._asks.clear()
        return asks

    def next_deadline(self) -> float | None:
        """When the next call's time is up."""
        return min((ask.deadline for ask in self._asks.values()), default=None)

    def to_json(self, now: float) -> dict[str, Any]:
        """Return what ``agentgov pending`` lists."""
        return {"v": 1, "run": self._run, "pending": [self.describe(ask, now) for ask in self._asks.values()]}

    def describe(self, ask: Ask, now: float) -> dict[str, Any]:
        """Return one waiting call as a person needs to see it."""
        live = ask.live
        return {
            "id": f"{self._run}:{live.n}",
            "n": live.n,
            "tool": live.call.tool,
            "what": summary_of(live.call),
            "actor": live.actor,
            "actor_type": live.call.actor_type,
            "effects": list(live.verdict.effects),
            "rules": list(live.verdict.rules),
            "where": live.verdict.where,
            "reason": live.verdict.reason,
            "intent": self._intent,
            "left_seconds": max(0, int(ask.deadline - now)),
        }


def parse_answer_request(raw: bytes) -> tuple[int, bool]:
    """Read a person's answer, ``{"answer": "allow"|"deny", "n": N}``.

    Returns:
        The call's number, and whether it may run.

    Raises:
        BrokenRequestError: It is not one.
    """
    try:
        fields = json.loads(raw)
    except (ValueError, RecursionError):
        raise BrokenRequestError("the answer is not JSON") from None
    n = fields.get("n") if isinstance(fields, dict) else None
    if type(n) is not int or fields.get("answer") not in ("allow", "deny"):
        raise BrokenRequestError("the answer names no call, or is neither allow nor deny")
    return n, fields["answer"] == "allow"
