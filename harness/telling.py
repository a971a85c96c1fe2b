"""Telling a person, who may not be there any more.

Rule kept here: a terminal that was closed, or a full disk behind standard error, never ends or fails a run.
"""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agentgov.harness.request import Reporter, RunInfo, RunOutcome
from agentgov.ids import RunId


class Undisturbed:
    """Hands everything on to a reporter, and goes on when that cannot write."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter

    def first_use(self, record: Path) -> None:
        """Hand on."""
        with contextlib.suppress(OSError):
            self._reporter.first_use(record)

    def policy(self, source: str, digest: str, *, changed: bool) -> None:
        """Hand on."""
        with contextlib.suppress(OSError):
            self._reporter.policy(source, digest, changed=changed)

    def recovered(self, run: RunId) -> None:
        """Hand on."""
        with contextlib.suppress(OSError):
            self._reporter.recovered(run)

    def started(self, info: RunInfo) -> None:
        """Hand on."""
        with contextlib.suppress(OSError):
            self._reporter.started(info)

    def warning(self, text: str) -> None:
        """Hand on."""
        with contextlib.suppress(OSError):
            self._reporter.warning(text)

    def asks(self, ask: dict[str, Any]) -> None:
        """Hand on."""
        with contextlib.suppress(OSError):
            self._reporter.asks(ask)

    def denied(self, n: int, what: str, rules: Sequence[str], where: str) -> None:
        """Hand on."""
        with contextlib.suppress(OSError):
            self._reporter.denied(n, what, rules, where)

    def finished(self, outcome: RunOutcome) -> None:
        """Hand on."""
        with contextlib.suppress(OSError):
            self._reporter.finished(outcome)
