"""Any command without hooks: only what it does to files is seen.

Rules kept here:
- It never claims to see a call; its changes are recorded as unattributed.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

from agentgov.calls import Verdict
from agentgov.harness.capture.base import BrokenEventError, CaptureContext, HookAnswer, HookEvent, Prepared
from agentgov.ids import is_token


class PlainCapture:
    """A command that agentgov has no adapter for."""

    program = ""

    def __init__(self, name: str = "command") -> None:
        self.name = name

    @classmethod
    def named_after(cls, argv: Sequence[str]) -> PlainCapture:
        """Return an adapter that bears the program's name, if that may stand in the record."""
        name = Path(argv[0]).name if argv else ""
        return cls(name) if is_token(name) else cls()

    def recognise(self, argv: Sequence[str]) -> bool:
        """Any command will do."""
        return True

    def is_headless(self, argv: Sequence[str]) -> bool:
        """Nothing is known: the terminal decides."""
        return False

    def version_command(self, argv: Sequence[str]) -> Sequence[str] | None:
        """Running an unknown program only to ask for its version could do anything."""
        return None

    def parse_version(self, raw_output: bytes) -> str | None:
        """There is none."""
        return None

    def prepare(self, argv: Sequence[str], context: CaptureContext) -> Prepared:
        """Leave the command as it is."""
        return Prepared(argv=list(argv), hooks=False)

    def parse(self, event: str, raw: bytes) -> HookEvent:
        """No event is expected.

        Raises:
            BrokenEventError: Always.
        """
        raise BrokenEventError("this run has no hooks")

    def settled_calls(self, event: HookEvent, open_ids: Collection[str]) -> set[str]:
        """There are no calls."""
        return set()

    def ran_calls(self, transcripts: Collection[str], since_us: int) -> set[str]:
        """Nothing is known of them."""
        return set()

    def model_of(self, event: HookEvent) -> str | None:
        """Nothing is known of it."""
        return None

    def answer(self, event: str, verdict: Verdict | None, message: str) -> HookAnswer:
        """There is nobody to answer."""
        return HookAnswer()
