"""Which adapter a command gets.

Rules kept here:
- The agent is known by the command's own name or by what the user says; never guessed from the environment.
- A name that nobody knows is an error, not a run without hooks.
"""

from __future__ import annotations

from collections.abc import Sequence

from agentgov.errors import UsageError
from agentgov.harness.capture.base import Capture
from agentgov.harness.capture.claude import ClaudeCapture
from agentgov.harness.capture.demo import DemoCapture
from agentgov.harness.capture.plain import PlainCapture

FILES_ONLY = "files-only"


def adapters() -> tuple[Capture, ...]:
    """Return an adapter of each agent with hooks."""
    return (ClaudeCapture(), DemoCapture())


def find_capture(argv: Sequence[str], agent: str | None = None) -> Capture:
    """Return the adapter for a command.

    Args:
        argv: The command.
        agent: The name the user gave; "files-only" asks for no hooks.

    Raises:
        UsageError: Nobody knows that name.
    """
    if agent == FILES_ONLY:
        return PlainCapture.named_after(argv)
    known = adapters()
    for capture in known:
        if capture.name == agent or (agent is None and capture.recognise(argv)):
            return capture
    if agent is not None:
        names = ", ".join(capture.name for capture in known)
        raise UsageError(
            f"no adapter for an agent named {agent!a}", id="AG0065", hint=f"known: {names}, {FILES_ONLY}"
        )
    return PlainCapture.named_after(argv)
