"""A live recorder with nothing to say is heard from every ten minutes."""

from __future__ import annotations

from pathlib import Path

from agentgov.clock import FixedClock
from agentgov.harness.recorder import HEARTBEAT_SECONDS
from tests.support.recording import LiveRecorder, Rig

SECOND = 1_000_000


def test_an_idle_recorder_enters_a_heartbeat_every_600_seconds_and_a_busy_one_does_not(
    tmp_path: Path,
) -> None:
    assert HEARTBEAT_SECONDS == 600
    rig, clock = Rig(), FixedClock()
    with LiveRecorder(rig, tmp_path / "s", clock=clock) as live:

        def beats(seconds: float) -> int:
            """Let time pass; two questions, so that one whole turn lies behind the first."""
            clock.advance(int(seconds * SECOND))
            live.ask("status")
            live.ask("status")
            return rig.kinds().count("log.heartbeat")

        assert beats(599) == 0
        assert beats(1) == 1
        assert beats(599) == 1
        assert beats(1) == 2
        # What is entered counts as a sign of life: the ten minutes begin anew.
        assert beats(300) == 2
        live.hook("PreToolUse")
        assert beats(599) == 2
        assert beats(1) == 3
        assert beats(6000) == 4
    assert rig.kinds()[:2] == ["log.heartbeat", "log.heartbeat"]
