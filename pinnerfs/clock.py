"""Boot time in µs from clocks with one face: real, scaled (a real one that runs faster or slower), manual."""

from __future__ import annotations

import errno
import time
from typing import Protocol

__all__ = ["Clock", "ManualClock", "RealClock"]


class Clock(Protocol):
    """What the daemon asks of a clock."""

    def now(self) -> int:
        """Boot time in µs; it never falls."""

    def wait_for(self, moment: int) -> float | None:
        """How many seconds of real time until `moment`; None where only an advance brings it about."""

    def advance(self, step: int) -> int:
        """Go on by `step` µs and return the new time. OSError EPERM where time goes on by itself."""


class RealClock:
    """Time as it passes (CLOCK_BOOTTIME), from `start` µs on and `speed` times as fast."""

    def __init__(self, start: int = 0, speed: float = 1.0) -> None:
        self._start = start
        self._speed = speed
        self._origin = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def now(self) -> int:
        passed = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._origin
        return self._start + int(passed * self._speed) // 1000

    def wait_for(self, moment: int) -> float | None:
        return max(0.0, (moment - self.now()) / self._speed / 1e6)

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
        self._now += step
        return self._now
