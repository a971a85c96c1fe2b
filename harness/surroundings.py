"""What a recorder stands between: the agent's process, the workspace's watcher, the person who hears of it.

Rules kept here:
- Interfaces and settings only: the recorder is tested against stand-ins of these.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol


class Agent(Protocol):
    """The agent's process, under its supervisor."""

    @property
    def supervisor_pid(self) -> int:
        """The ancestor of all of the agent's processes."""

    @property
    def fd(self) -> int:
        """A descriptor that becomes readable when there is news."""

    def handle(self) -> bool:
        """Take in the news; True once the agent has ended and nothing of it is left."""

    def signal(self, number: int) -> bool:
        """Pass on a signal that this process got; False when it means that the run is to end."""

    def terminate(self) -> None:
        """Ask the supervisor to end the agent; :meth:`handle` tells when it has."""


class Watched(Protocol):
    """The snapshotter's watcher."""

    @property
    def fd(self) -> int | None:
        """A descriptor that is readable after a change; None without a watcher."""


class Told(Protocol):
    """Who hears what happens while the run lasts."""

    def asks(self, ask: dict[str, Any]) -> None:
        """A call waits for a person."""

    def denied(self, n: int, what: str, rules: Sequence[str], where: str) -> None:
        """A call was denied."""

    def warning(self, text: str) -> None:
        """Something is not as it should be."""


@dataclass(frozen=True, slots=True)
class Options:
    """How a recorder behaves.

    Attributes:
        ask_seconds: How long a person has to answer.
        intent: What the run is for.
        check_peers: Whether hooks must come from the agent's processes; off only where the kernel cannot
        tell.
        guard: Says what keeps the agent's calls from being recorded, if anything does.
    """

    ask_seconds: float
    intent: str | None = None
    check_peers: bool = True
    guard: Callable[[], str | None] | None = None
