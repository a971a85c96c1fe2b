"""The bundled demonstration agent: Claude's hook dialect, spoken by a script instead of a model.

Rules kept here:
- It goes the whole way of a real agent: the same hook client, the same settings file, the same shell line.
- It is never recognised by itself; only ``agentgov demo`` and the tests ask for it by name.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from agentgov.harness.capture.claude import ClaudeCapture


class DemoCapture(ClaudeCapture):
    """A scripted agent that takes ``--settings FILE`` as its last option."""

    name = "demo"
    program = "agentgov-demo-agent"

    def recognise(self, argv: Sequence[str]) -> bool:
        """Only by name."""
        return False

    def is_headless(self, argv: Sequence[str]) -> bool:
        """It has no person to talk to."""
        return True

    def version_command(self, argv: Sequence[str]) -> Sequence[str] | None:
        """It is a part of agentgov and has no version of its own."""
        return None

    def with_settings(self, argv: Sequence[str], program_at: int, settings: Path) -> list[str]:
        """Name the settings at the end."""
        return [*argv, "--settings", str(settings)]
