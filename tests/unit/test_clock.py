"""The fixed clock moves as told and not otherwise; the system's never goes back in `monotonic`."""

from __future__ import annotations

from agentgov.clock import Clock, FixedClock, SystemClock


def test_a_fixed_clock_moves_by_its_step_at_each_reading() -> None:
    clock = FixedClock(1_000, 10)
    assert [clock.now_us(), clock.now_us(), clock.now_us()] == [1_000, 1_010, 1_020]
    assert clock.monotonic() == clock.monotonic() == 30 / 1_000_000


def test_a_fixed_clock_can_be_moved_by_hand() -> None:
    clock = FixedClock(1_000)
    clock.advance(5)
    assert clock.now_us() == 1_005
    clock.advance(-10)
    assert clock.now_us() == 995


def test_the_system_clock_is_in_microseconds_and_monotonic() -> None:
    clock: Clock = SystemClock()
    # 2020-01-01 and 2100-01-01: milliseconds or nanoseconds would lie outside.
    assert 1_577_836_800_000_000 < clock.now_us() < 4_102_444_800_000_000
    first = clock.monotonic()
    assert clock.monotonic() >= first
