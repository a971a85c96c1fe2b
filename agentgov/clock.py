"""Time and randomness as arguments: production passes the system's, tests pass fixed ones.

Rules: wall time is integer microseconds since 1970 UTC and no evidence of order; durations come from the
monotonic clock only.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Protocol

Random = Callable[[int], bytes]
"""Returns that many random bytes; `os.urandom` in production."""


class Clock(Protocol):
    """Where the time comes from."""

    def now_us(self) -> int:
        """Wall time in microseconds since 1970 UTC."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary origin."""
        ...


class SystemClock:
    """The machine's own clocks."""

    def now_us(self) -> int:
        """Wall time in microseconds since 1970 UTC."""
        return time.time_ns() // 1000

    def monotonic(self) -> float:
        """Seconds that never go back, from an arbitrary origin."""
        return time.monotonic()


class FixedClock:
    """A clock that moves by one step at each reading of the wall time, and not otherwise.

    Args:
        start_us: The first reading, in microseconds since 1970 UTC.
        step_us: How far each reading is from the one before, in microseconds.
    """

    def __init__(self, start_us: int = 1_700_000_000_000_000, step_us: int = 0) -> None:
        self._start_us = start_us
        self._now_us = start_us
        self._step_us = step_us

    def now_us(self) -> int:
        """The current reading; the next one is a step later."""
        now = self._now_us
        self._now_us += self._step_us
        return now

    def monotonic(self) -> float:
        """Seconds since the first reading; reading it does not move the clock."""
        return (self._now_us - self._start_us) / 1_000_000

    def advance(self, delta_us: int) -> None:
        """Move the clock by hand, forward or back, in microseconds."""
        self._now_us += delta_us
