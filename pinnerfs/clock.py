"""Boot time in µs: a real clock, which may run faster or slower, and a manual one."""

from __future__ import annotations

import errno
import math
import time
from typing import Protocol

__all__ = ["LAST_MOMENT", "MAX_LAG", "Clock", "ManualClock", "RealClock"]

# µs: a kernel's boot time is an s64 of ns (ktime_t), which ends after 292 years.
LAST_MOMENT = ((1 << 63) - 1) // 1000

MAX_LAG = 1.0  # seconds

# A reader waits for a step that is in progress, for the work of a request before it slips, and for other requests.
# This share of the longest wait is for the work.
BUDGET = 0.25

# No system call waits as long as a slow clock may need.
LONGEST_WAIT = 24 * 3600.0  # seconds


class Clock(Protocol):
    """A clock of a device."""

    speed: float  # how fast time passes by itself, in units of real time
    budget: float  # seconds that a request may spend on due events before the clock slips
    slipped: int  # µs that all slips took off

    def now(self) -> int:
        """Return boot time in µs. It falls only by `slip`, and it stops at LAST_MOMENT."""

    def wait_for(self, moment: int) -> float | None:
        """Return how many seconds to wait for `moment`, at most a day. Return None if time passes only by `advance`."""

    def advance(self, step: int) -> int:
        """Advance by `step` µs and return the new time.

        Raise OSError: EPERM if time passes by itself, EOVERFLOW after LAST_MOMENT.
        """

    def slip(self, moment: int, rest: float) -> None:
        """Go back to `moment` (µs), stand still there for `rest` seconds, and go on."""


class RealClock:
    """CLOCK_BOOTTIME, beginning at `start` µs and running `speed` times as fast.

    `max_lag` is the longest that a reader waits, in seconds.
    """

    def __init__(self, start: int = 0, speed: float = 1.0, max_lag: float = MAX_LAG) -> None:
        self.speed = speed
        self.budget = max_lag * BUDGET
        self.slipped = 0
        self._earliest = start  # in a rest, `_running` returns less
        self._origin = start
        self._began = time.clock_gettime_ns(time.CLOCK_BOOTTIME)

    def _running(self) -> int:
        passed = time.clock_gettime_ns(time.CLOCK_BOOTTIME) - self._began
        return self._origin + int(passed * self.speed) // 1000

    def now(self) -> int:
        return min(LAST_MOMENT, max(self._earliest, self._running()))

    def wait_for(self, moment: int) -> float | None:
        return min(max(0.0, (moment - self._running()) / self.speed / 1e6), LONGEST_WAIT)

    def advance(self, step: int) -> int:
        raise OSError(errno.EPERM, "time passes by itself: only a manual clock (--clock manual) can be advanced")

    def slip(self, moment: int, rest: float) -> None:
        lost = self._running() - moment + int(rest * self.speed * 1e6)
        self._origin -= lost
        self.slipped += lost
        self._earliest = moment


class ManualClock:
    """A clock that stands still until it is advanced. Its requests have nothing due, so they need no budget."""

    speed = 0.0
    budget = math.inf
    slipped = 0

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

    def slip(self, moment: int, rest: float) -> None:
        self._now = moment
