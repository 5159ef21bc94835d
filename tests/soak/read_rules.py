"""The rules for a read of `longterm_pinner` under concurrent reads, writes and time.

The k-th read returns the k-th newest record at some moment between the call and its return. A threshold write clears
the ring at some moment between its call and its return. Every caller notes its calls in a log that all processes
share. Times are CLOCK_BOOTTIME in ns.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["RING_SIZE", "WRITERS", "CallLog", "ReadRule", "RunningClockRule", "ScriptedClockRule", "now"]

RING_SIZE = 4096
WRITERS = 8
# For each writer: when its last write began and ended, and when its current write began (or 0).
BEGAN, ENDED, RUNNING = range(3)
# The number of script steps that began, the number that ended, and then the ring's records after each step.
STEPS_BEGUN = 3 * WRITERS
STEPS_ENDED = STEPS_BEGUN + 1
STEPS = STEPS_BEGUN + 2


def now() -> int:
    """Return the time of the daemon's clock."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class CallLog:
    """64-bit numbers in a file that several processes share."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(1 << 20))
        with open(path, "r+b") as file:
            self.numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def write_begins(self, writer: int) -> int:
        """Note that a valid threshold write begins. Pass the result to `write_ended`."""
        began = self.numbers[3 * writer + RUNNING] = now()
        return began

    def write_ended(self, writer: int, began: int) -> None:
        """Note that the write returned."""
        self.numbers[3 * writer + ENDED] = now()
        self.numbers[3 * writer + BEGAN] = began
        self.numbers[3 * writer + RUNNING] = 0

    def step_begins(self, newest: int, oldest: int) -> None:
        """Note that a script step begins. After it, the ring has the records from `oldest` to `newest`."""
        step = self.numbers[STEPS_BEGUN]
        self.numbers[STEPS + 2 * step] = newest
        self.numbers[STEPS + 2 * step + 1] = oldest
        self.numbers[STEPS_BEGUN] = step + 1

    def step_ended(self) -> None:
        """Note that the step ended."""
        self.numbers[STEPS_ENDED] = self.numbers[STEPS_BEGUN]


class ReadRule(Protocol):
    """A check of the reads of one reader."""

    def before(self) -> tuple[int, int]:
        """Return what `check` needs to know from before the read."""

    def check(self, before: tuple[int, int], position: int, number: int | None, known: int) -> int:
        """Return what the read proves about its moment; `known` is the result of the reader's last read, or 0.

        `number` is the record's number modulo `wrap`, or None at the end. ValueError if no moment allows this read.
        """


@dataclass(frozen=True)
class RunningClockRule:
    """Rules for a running clock: a record every `every` ns, the first at `hold`.

    Boot time began between `earliest` and `latest`. A read proves the number of the newest record.
    """

    log: CallLog
    every: int
    hold: int
    wrap: int
    earliest: int
    latest: int

    def newest(self, moment: int, origin: int) -> int:
        """Return the number of the newest record, or -1."""
        return max(-1, (moment - origin - self.hold) // self.every)

    def before(self) -> tuple[int, int]:
        """Return the moment, and the last moment whose records must be gone."""
        cleared = max(self.log.numbers[3 * writer + BEGAN] for writer in range(WRITERS))
        return now(), cleared

    def check(self, before: tuple[int, int], position: int, number: int | None, known: int) -> int:
        began, cleared = before
        ended = now()
        if number is None:
            self._check_end(began, ended, position)
            return known
        low, high = max(known, self.newest(began, self.latest)), self.newest(ended, self.earliest)
        newest = low + (number + position - low) % self.wrap
        if newest > high:
            raise ValueError(f"read {position} found record {number}: the newest was one of {low} to {high}")
        if position >= RING_SIZE:
            raise ValueError(f"read {position} found record {number} behind the ring's end")
        gone = self.newest(cleared, self.latest) if cleared else -1
        if newest - position <= gone:
            raise ValueError(f"read {position} found record {newest - position}: all up to {gone} were thrown away")
        return newest

    def _check_end(self, began: int, ended: int, position: int) -> None:
        """Check a read that met the end: its position must be past all records since the last possible write."""
        least = min(RING_SIZE, self.newest(began, self.latest) + 1)
        for writer in range(WRITERS):
            running, done = (self.log.numbers[3 * writer + part] for part in (RUNNING, ENDED))
            if 0 < running <= ended or done >= ended:
                return  # it may have cleared the ring just before
            if done:
                least = min(least, self.newest(max(began, done), self.latest) - self.newest(done, self.earliest))
        if position < least:
            raise ValueError(f"read {position} met the end: there were {least} records at least")


@dataclass(frozen=True)
class ScriptedClockRule:
    """Rules for a clock that moves only in steps of a script. A read proves which steps were done."""

    log: CallLog
    wrap: int

    def before(self) -> tuple[int, int]:
        """Return the last step that was done for sure."""
        return self.log.numbers[STEPS_ENDED] - 1, 0

    def check(self, before: tuple[int, int], position: int, number: int | None, known: int) -> int:
        steps = range(max(known, before[0]), self.log.numbers[STEPS_BEGUN])
        for step in steps:
            newest, oldest = (self.log.numbers[STEPS + 2 * step + part] for part in (0, 1))
            record = newest - position
            there = record >= oldest and position < RING_SIZE
            if number == (record % self.wrap if there else None):
                return step
        raise ValueError(f"read {position} found record {number}, which is there after none of {steps}")
