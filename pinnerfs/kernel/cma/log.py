"""The kernel log: lines with their boot time, and the rate limit of printk_ratelimit()."""

from __future__ import annotations

from collections import deque

__all__ = ["KernelLog", "RateLimit"]

LINES = 4096
INTERVAL, BURST = 5_000_000, 10  # DEFAULT_RATELIMIT_INTERVAL in µs, DEFAULT_RATELIMIT_BURST


class KernelLog:
    """The newest lines of the log."""

    def __init__(self) -> None:
        self._lines: deque[str] = deque(maxlen=LINES)

    def print(self, now: int, text: str) -> None:
        """Add a line at a boot time in µs."""
        self._lines.append(f"[{now // 10**6:5}.{now % 10**6:06}] {text}\n")

    def text(self) -> str:
        """Return all lines, as `dmesg` shows them."""
        return "".join(self._lines)


class RateLimit:
    """The limit of one place in the code: 10 lines in 5 seconds. Imitates `___ratelimit` of lib/ratelimit.c."""

    def __init__(self, log: KernelLog, function: str) -> None:
        self._log, self._function = log, function
        self._begin: int | None = None
        self._printed = self._missed = 0

    def allows(self, now: int) -> bool:
        """Tell whether a line may be printed now. The first one after a pause tells how many were suppressed."""
        if self._begin is None:
            self._begin = now
        if now > self._begin + INTERVAL:
            if self._missed:
                self._log.print(now, f"{self._function}: {self._missed} callbacks suppressed")
                self._missed = 0
            self._begin, self._printed = now, 0
        if self._printed < BURST:
            self._printed += 1
            return True
        self._missed += 1
        return False

    def miss(self, lines: int) -> None:
        """Count lines that come at the same moment as one that may not be printed."""
        self._missed += lines
