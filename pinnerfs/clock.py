"""Boot time in µs from clocks with one face: real, scaled (a real one that runs faster or slower), manual."""

from __future__ import annotations

import errno
import time
from typing import Protocol

__all__ = ["LAST_MOMENT", "Clock", "ManualClock", "RealClock"]

# µs: a kernel's boot time is an s64 of ns (ktime_t), and so ends after 292 years.
LAST_MOMENT = ((1 << 63) - 1) // 1000

# A slow clock has times to wait for that no system call takes.
LONGEST_WAIT = 24 * 3600.0  # seconds


class Clock(Protocol):
    """What the daemon asks of a clock."""

    def now(self) -> int:
        """Boot time in µs; it never falls, and at LAST_MOMENT it stands still."""

    def wait_for(self, moment: int) -> float | None:
        """How many seconds to wait for `moment`, at most a day; None where only an advance brings it about."""

    def advance(self, step: int) -> int:
        """Go on by `step` µs and return the new time. OSError EPERM where time goes on by itself, EOVERFLOW past the
        last moment."""


class RealClock:
    """Time as it passes (CLOCK_BOOTTIME), from `start` µs on and `speed` times as fast."""

    def __init__(self, start: int = 0, speed: float = 1.0) -> None:
        self._start = start
        self._speed = speed
        self._origin = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now(self) -> int:
        passed = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._origin
        return min(LAST_MOMENT, self._start + int(passed * self._speed) // 1000)

    def wait_for(self, moment: int) -> float | None:
        return min(max(0.0, (moment - self.now()) / self._speed / 1e6), LONGEST_WAIT)

    def advance(self, step: int) -> int:
        raise OSError(errno.EPERM, "time goes on by itself here: only a manual clock (--clock manual) can be advanced")


class ManualClock:
    """Time stands still until someone advances it."""

    def __init__(self, start: int = 0) -> None:
        self._now = start

    def now(self) -> int:
        return self._now

    def wait_for(self, moment: int) -> float | None:
        return None

    def advance(self, step: int) -> int:
        if self._now + step > LAST_MOMENT:
            raise OSError(
                errno.EOVERFLOW,
                f"boot time is {self._now} us and cannot go on by {step} us: it ends at {LAST_MOMENT} us (292 years)",
            )
        self._now += step
        return self._now
