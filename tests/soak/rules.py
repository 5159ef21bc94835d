"""What a read of `longterm_pinner` may return while others read, write and let time pass: judged from outside.

The k-th read is the k-th newest record as the ring stands at some moment between the call and its return. A threshold
write empties the ring at some moment between its call and its return. Whoever calls says so on a board that all
processes share. Times are CLOCK_BOOTTIME in ns.
"""

from __future__ import annotations

import mmap
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

__all__ = ["RING_SIZE", "WRITERS", "Board", "RealRule", "Rule", "ScriptRule", "now"]

RING_SIZE = 4096
WRITERS = 8
# Of each writer: where its last write began and ended, and where one began that has not ended yet (or 0).
BEGAN, ENDED, RUNNING = range(3)
# How many steps of a script have begun, and how many have ended; then what the ring holds after each of them.
STEPS_BEGUN = 3 * WRITERS
STEPS_ENDED = STEPS_BEGUN + 1
STEPS = STEPS_BEGUN + 2


def now() -> int:
    """The clock that the daemon goes by."""
    return time.clock_gettime_ns(time.CLOCK_BOOTTIME)


class Board:
    """Numbers of 64 bits in a file, shared by all who open it."""

    def __init__(self, path: Path) -> None:
        if not path.exists():
            path.write_bytes(bytes(1 << 20))
        with open(path, "r+b") as file:
            self.numbers = memoryview(mmap.mmap(file.fileno(), 0)).cast("q")

    def write_begins(self, writer: int) -> int:
        """To be called before a threshold write that will be accepted; the result goes to `write_ended`."""
        began = self.numbers[3 * writer + RUNNING] = now()
        return began

    def write_ended(self, writer: int, began: int) -> None:
        """To be called when it has returned."""
        self.numbers[3 * writer + ENDED] = now()
        self.numbers[3 * writer + BEGAN] = began
        self.numbers[3 * writer + RUNNING] = 0

    def step_begins(self, newest: int, oldest: int) -> None:
        """To be called before a step of the script: the ring then holds the records from `oldest` to `newest`."""
        step = self.numbers[STEPS_BEGUN]
        self.numbers[STEPS + 2 * step] = newest
        self.numbers[STEPS + 2 * step + 1] = oldest
        self.numbers[STEPS_BEGUN] = step + 1

    def step_ended(self) -> None:
        """To be called when it has been taken."""
        self.numbers[STEPS_ENDED] = self.numbers[STEPS_BEGUN]


class Rule(Protocol):
    """Judges the reads of one reader after the other."""

    def before(self) -> tuple[int, int]:
        """To be called before a read, for `judge`."""

    def judge(self, before: tuple[int, int], position: int, number: int | None, known: int) -> int:
        """What the read tells of the moment at which it happened; `known` is what the reader's last one told, or 0.

        `number` is the record's, modulo `wrap`, or None at the end. ValueError says why no moment allows it.
        """


@dataclass(frozen=True)
class RealRule:
    """Time passes: a record each `every` ns, the first at `hold`; boot time began between `earliest` and `latest`.

    What is known is the number of the newest record.
    """

    board: Board
    every: int
    hold: int
    wrap: int
    earliest: int
    latest: int

    def newest(self, moment: int, origin: int) -> int:
        """The number of the newest record; -1 where there is none yet."""
        return max(-1, (moment - origin - self.hold) // self.every)

    def before(self) -> tuple[int, int]:
        """The moment, and the one up to which all records are gone for sure."""
        cleared = max(self.board.numbers[3 * writer + BEGAN] for writer in range(WRITERS))
        return now(), cleared

    def judge(self, before: tuple[int, int], position: int, number: int | None, known: int) -> int:
        began, cleared = before
        ended = now()
        if number is None:
            self._judge_end(began, ended, position)
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

    def _judge_end(self, began: int, ended: int, position: int) -> None:
        """The end is there for a position behind all records since the last write that may have come before."""
        least = min(RING_SIZE, self.newest(began, self.latest) + 1)
        for writer in range(WRITERS):
            running, done = (self.board.numbers[3 * writer + part] for part in (RUNNING, ENDED))
            if 0 < running <= ended or done >= ended:
                return  # it may have emptied the ring just before
            if done:
                least = min(least, self.newest(max(began, done), self.latest) - self.newest(done, self.earliest))
        if position < least:
            raise ValueError(f"read {position} met the end: there were {least} records at least")


@dataclass(frozen=True)
class ScriptRule:
    """Time stands still between steps of a script. What is known is which steps had been taken."""

    board: Board
    wrap: int

    def before(self) -> tuple[int, int]:
        """The last step that has been taken for sure."""
        return self.board.numbers[STEPS_ENDED] - 1, 0

    def judge(self, before: tuple[int, int], position: int, number: int | None, known: int) -> int:
        steps = range(max(known, before[0]), self.board.numbers[STEPS_BEGUN])
        for step in steps:
            newest, oldest = (self.board.numbers[STEPS + 2 * step + part] for part in (0, 1))
            record = newest - position
            there = record >= oldest and position < RING_SIZE
            if number == (record % self.wrap if there else None):
                return step
        raise ValueError(f"read {position} found record {number}, which is there after none of {steps}")
