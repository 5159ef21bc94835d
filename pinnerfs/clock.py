"""Boot time in µs: a real clock, which may run faster or slower, and a manual one."""

from __future__ import annotations

import errno
import time
from typing import Protocol

__all__ = ["LAST_MOMENT", "Clock", "ManualClock", "RealClock"]

# µs: a kernel's boot time is an s64 of ns (ktime_t), which ends after 292 years.
LAST_MOMENT = ((1 << 63) - 1) // 1000

# No system call waits as long as a slow clock may need.
LONGEST_WAIT = 24 * 3600.0  # seconds


class Clock(Protocol):
    """A clock of a device."""

    def now(self) -> int:
        """Return boot time in µs. It never falls, and it stops at LAST_MOMENT."""

    def wait_for(self, moment: int) -> float | None:
        """Return how many seconds to wait for `moment`, at most a day. None: only `advance` brings it."""

    def advance(self, step: int) -> int:
        """Advance by `step` µs and return the new time.

        Raise OSError: EPERM if time passes by itself, EOVERFLOW after LAST_MOMENT.
        """


class RealClock:
    """CLOCK_BOOTTIME, beginning at `start` µs and running `speed` times as fast."""

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
        raise OSError(errno.EPERM, "time passes by itself: only a manual clock (--clock manual) can be advanced")


class ManualClock:
    """A clock that stands still until it is advanced."""

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
                f"boot time is {self._now} us, and {step} us more is after its end at {LAST_MOMENT} us (292 years)",
            )
        self._now += step
        return self._now
