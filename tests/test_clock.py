"""The real clock and the manual one."""

from __future__ import annotations

import errno
import threading
import time

import pytest

from pinnerfs.clock import LAST_MOMENT, ManualClock, RealClock


class Boottime:
    """A CLOCK_BOOTTIME that a test sets."""

    def __init__(self) -> None:
        self.nanoseconds = 5_000_000_000_000

    def __call__(self, clock: int) -> int:
        assert clock == time.CLOCK_BOOTTIME
        return self.nanoseconds


@pytest.fixture
def boottime(monkeypatch: pytest.MonkeyPatch) -> Boottime:
    """The machine's clock. It stands still until the test changes it."""
    clock = Boottime()
    monkeypatch.setattr(time, "clock_gettime_ns", clock)
    return clock


def test_a_real_clock_begins_at_its_start(boottime: Boottime) -> None:
    """A real clock counts µs from its start, whatever the machine's uptime is."""
    clock = RealClock(start=30_000_000)
    assert clock.now() == 30_000_000
    boottime.nanoseconds += 1_999
    assert clock.now() == 30_000_001
    boottime.nanoseconds += 1
    assert clock.now() == 30_000_002


@pytest.mark.parametrize(("speed", "passed"), [(10.0, 10_000_000), (0.5, 500_000), (1e-3, 1_000)])
def test_a_scaled_clock(boottime: Boottime, speed: float, passed: int) -> None:
    """A scaled clock runs `speed` times as fast."""
    clock = RealClock(start=7, speed=speed)
    boottime.nanoseconds += 1_000_000_000
    assert clock.now() == 7 + passed


def test_a_real_clock_is_exact_for_years(boottime: Boottime) -> None:
    """After ten years there is no rounding error."""
    clock = RealClock()
    boottime.nanoseconds += 10 * 365 * 24 * 3600 * 10**9 + 1_000
    assert clock.now() == 10 * 365 * 24 * 3600 * 10**6 + 1


@pytest.mark.parametrize(("speed", "seconds"), [(1.0, 2.0), (10.0, 0.2), (0.5, 4.0)])
def test_how_long_to_wait(boottime: Boottime, speed: float, seconds: float) -> None:
    """A wait is in seconds of real time. It is 0 for a moment in the past."""
    clock = RealClock(start=1_000_000, speed=speed)
    assert clock.wait_for(3_000_000) == pytest.approx(seconds)
    assert clock.wait_for(999_999) == 0.0


@pytest.mark.parametrize("speed", [1e-9, 5e-324])
def test_the_longest_wait(boottime: Boottime, speed: float) -> None:
    """However slow the clock is, a wait is at most a day."""
    wait = RealClock(speed=speed).wait_for(1 << 62)
    assert wait == 24 * 3600
    assert wait <= threading.TIMEOUT_MAX


@pytest.mark.parametrize("speed", [1.0, 3.7, 1000.0])
def test_a_wait_is_exact(boottime: Boottime, speed: float) -> None:
    """After the wait the clock shows the moment, to the µs."""
    clock = RealClock(speed=speed)
    wait = clock.wait_for(1_234_567)
    assert wait is not None
    boottime.nanoseconds += round(wait * 1e9) + 1
    assert clock.now() in (1_234_567, 1_234_568)


@pytest.mark.parametrize("speed", [1.0, 10.0, 0.5])
def test_a_slip(boottime: Boottime, speed: float) -> None:
    """A real clock goes back, stands still for the rest, and goes on at its speed. A wait counts the rest."""
    clock = RealClock(start=3_000_000, speed=speed)
    boottime.nanoseconds += 100 * 10**9
    clock.slip(5_000_000, rest=0.25)
    assert clock.slipped == 3_000_000 + int(100.25 * speed * 10**6) - 5_000_000
    for _ in range(5):
        assert clock.now() == 5_000_000
        boottime.nanoseconds += 50_000_000
    assert clock.now() == 5_000_000
    assert clock.wait_for(7_000_000) == pytest.approx(2 / speed)
    boottime.nanoseconds += 10**9
    assert clock.now() == 5_000_000 + int(speed * 10**6)
    slipped = clock.slipped
    clock.slip(clock.now(), rest=1)
    assert clock.slipped == slipped + int(speed * 10**6)
    assert clock.wait_for(clock.now()) == pytest.approx(1)


def test_a_clock_that_goes_back_after_a_slip(boottime: Boottime) -> None:
    """A real clock never shows less than the moment of its last slip."""
    clock = RealClock()
    boottime.nanoseconds += 100 * 10**9
    clock.slip(40_000_000, rest=0)
    boottime.nanoseconds -= 50 * 10**9
    assert clock.now() == 40_000_000
    boottime.nanoseconds += 51 * 10**9
    assert clock.now() == 41_000_000


@pytest.mark.parametrize(("max_lag", "budget"), [(None, 0.25), (4.0, 1.0), (1e6, 250_000.0)])
def test_the_budget_of_a_real_clock(max_lag: float | None, budget: float) -> None:
    """Requests may work for a quarter of the longest wait, which is a second by default."""
    assert (RealClock() if max_lag is None else RealClock(max_lag=max_lag)).budget == budget


def test_a_real_clock_cannot_be_advanced() -> None:
    """Advancing a real clock is EPERM. The message names the manual clock."""
    with pytest.raises(OSError, match="only a manual clock") as caught:
        RealClock().advance(5)
    assert caught.value.errno == errno.EPERM


def test_a_real_clock_follows_the_machine() -> None:
    """The machine's clock drives a real clock."""
    clock = RealClock()
    first = clock.now()
    time.sleep(0.002)
    assert clock.now() >= first + 2_000


def test_a_manual_clock() -> None:
    """A manual clock stands still until it is advanced, which returns the new time."""
    clock = ManualClock(start=5)
    assert (clock.now(), clock.now()) == (5, 5)
    assert clock.advance(10) == 15
    assert clock.now() == 15


def test_a_manual_clock_goes_back() -> None:
    """A manual clock goes back to where an advance ended. That is no slip."""
    clock = ManualClock(start=5)
    clock.advance(10)
    clock.slip(7, rest=0)
    assert (clock.now(), clock.slipped) == (7, 0)


def test_no_wait_for_a_manual_clock() -> None:
    """However long the wait, a manual clock does not reach a moment."""
    assert ManualClock().wait_for(1) is None


def test_the_end_of_a_manual_clock() -> None:
    """A manual clock ends at the last µs of a kernel's boot time. It refuses a longer step as a whole."""
    assert LAST_MOMENT == 9_223_372_036_854_775
    clock = ManualClock(LAST_MOMENT - 5)
    with pytest.raises(OSError) as refusal:
        clock.advance(6)
    assert refusal.value.errno == errno.EOVERFLOW
    assert refusal.value.strerror == (
        "boot time is 9223372036854770 us, and 6 us more is after its end at 9223372036854775 us (292 years)"
    )
    assert clock.advance(5) == clock.now() == LAST_MOMENT


def test_the_end_of_a_real_clock(boottime: Boottime) -> None:
    """A fast clock stops at the last µs of a kernel's boot time."""
    clock = RealClock(speed=1000)
    for years, wanted in ((0.25, 250), (0.3, None), (200, None)):
        boottime.nanoseconds = 5_000_000_000_000 + int(years * 365 * 24 * 3600 * 10**9)
        assert clock.now() == (LAST_MOMENT if wanted is None else wanted * 365 * 24 * 3600 * 10**6)
