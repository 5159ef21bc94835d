"""Readers and threshold writers in one process, at full speed; they report every violation.

Run as a module: takes JSON with what is wanted, and prints JSON with what came.
"""

from __future__ import annotations

import errno
import json
import os
import random
import re
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tests.soak.read_rules import CallLog, ReadRule, RunningClockRule, ScriptedClockRule

BASE_PFN = 0x8000
# All thresholds are below the holds' duration, so records keep coming.
VALUES = (b"5000", b"399999", b"0x493e0", b"0100000", b"300000\n", b"+7777")
SHOWN = {b"5000\n", b"399999\n", b"300000\n", b"32768\n", b"7777\n"}
REFUSED = {b"-1": errno.EINVAL, b"5000 us": errno.EINVAL, b"\n": errno.EINVAL, b"18446744073709551616": errno.ERANGE}
PATIENCE = 20  # seconds that a thread may take longer
ENOUGH = 20  # problems that are reported


class Shared:
    """The state that the threads share."""

    def __init__(self, wanted: dict[str, Any]) -> None:
        directory = Path(wanted["path"], "page_pinner")
        self.records, self.threshold = directory / "longterm_pinner", directory / "threshold"
        self.log = CallLog(Path(wanted["log"]))
        rule: dict[str, int] = wanted["rule"]
        self.rule: ReadRule = (
            RunningClockRule(self.log, **rule) if "every" in rule else ScriptedClockRule(self.log, **rule)
        )
        self.wrap: int = rule["wrap"]
        self.first: int = wanted["first"]
        frames = "".join(f" {frame}\n" for frame in wanted["frames"])
        head = rf"Page pinned ts {wanted['hold']} us count 1\nPFN (\d+) Block (\d+) type Movable "
        self.record = re.compile((head + re.escape(f"Flags 0x80014(uptodate|lru|swapbacked)\n{frames}\n")).encode())
        self.end = time.monotonic() + wanted["seconds"]
        self.counts: Counter[str] = Counter()
        self.problems: list[str] = []

    def over(self) -> bool:
        return time.monotonic() >= self.end or len(self.problems) >= ENOUGH


class Reader:
    """A reader. It remembers the newest record that it has seen."""

    def __init__(self, shared: Shared, way: int) -> None:
        self.shared = shared
        self.way = way
        self.known = 0
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        """Open, read and close the file until the end."""
        ways = (self._cat, self._cat, self._cat, self._stay, self._small, self._head, self._threshold, self._cat)
        while not (self.counts and self.shared.over()):
            file = os.open(self.shared.records, os.O_RDONLY)
            try:
                for position in ways[self.way % len(ways)](file):
                    if position % 8 == 7 and self.shared.over():
                        break
            finally:
                os.close(file)
            self.counts["opens"] += 1

    def _read(self, file: int, position: int, size: int = 131072) -> bool:
        """Read once, and return whether a record came."""
        before = self.shared.rule.before()
        text = os.read(file, size)
        number = None if not text else self._number(text)
        self.known = self.shared.rule.check(before, position, number, self.known)
        self.counts["records" if text else "ends"] += 1
        return bool(text)

    def _number(self, text: bytes) -> int:
        match = self.shared.record.fullmatch(text)
        if match is None or int(match[1]) >> 10 != int(match[2]):
            raise ValueError(f"no record: {text!r}")
        return (int(match[1]) - BASE_PFN - self.shared.first) % self.shared.wrap

    def _cat(self, file: int) -> Iterator[int]:
        position = 0
        while self._read(file, position):
            position += 1
            yield position

    def _stay(self, file: int) -> Iterator[int]:
        """Read at the end of the file until the position is past the ring."""
        for position in range(5000):
            self._read(file, position)
            yield position

    def _small(self, file: int) -> Iterator[int]:
        """Read with a buffer that is too small: the position must stay."""
        for position in range(200):
            try:
                assert os.read(file, 64) == b""
                self.counts["ends"] += 1
            except OSError as error:
                if error.errno != errno.ENOMEM:
                    raise
                self.counts["too small"] += 1
                self._read(file, position)
            yield position

    def _head(self, file: int) -> Iterator[int]:
        for position in range(3):
            self._read(file, position, 4096)
            yield position

    def _threshold(self, file: int) -> Iterator[int]:
        """Read the threshold: it must be one of the written values, whole."""
        self._read(file, 0)
        attribute = os.open(self.shared.threshold, os.O_RDONLY)
        try:
            text = os.read(attribute, 4096)
        finally:
            os.close(attribute)
        if text not in SHOWN:
            raise ValueError(f"no threshold: {text!r}")
        self.counts["thresholds"] += 1
        yield 0


class Writer:
    """A threshold writer: bursts of writes, and pauses in which records come."""

    def __init__(self, shared: Shared, place: int) -> None:
        self.shared = shared
        self.place = place
        self.draw = random.Random(place)
        self.counts: Counter[str] = Counter()

    def run(self) -> None:
        pause = threading.Event()
        while not (self.counts and self.shared.over()):
            for _ in range(self.draw.choice((1, 1, 1, 30))):
                self._write()
                self._be_refused()
            pause.wait(max(0.0, min(self.draw.uniform(0, 4), self.shared.end - time.monotonic())))

    def _write(self) -> None:
        value = self.draw.choice(VALUES)
        flags = os.O_WRONLY | self.draw.choice((0, os.O_TRUNC))
        file = os.open(self.shared.threshold, flags)
        try:
            began = self.shared.log.write_begins(self.place)
            length = os.write(file, value)
            self.shared.log.write_ended(self.place, began)
        finally:
            os.close(file)
        if length != len(value):
            raise ValueError(f"a write of {len(value)} bytes returned {length}")
        self.counts["writes"] += 1

    def _be_refused(self) -> None:
        """Write a bad value, which must change and clear nothing."""
        value, wanted = self.draw.choice(list(REFUSED.items()))
        file = os.open(self.shared.threshold, os.O_WRONLY)
        try:
            os.write(file, value)
        except OSError as error:
            came = error.errno
        else:
            came = 0
        finally:
            os.close(file)
        if came != wanted:
            raise ValueError(f"a write of {value!r} returned errno {came}, wanted {wanted}")
        self.counts["refused"] += 1


def _run(shared: Shared, one: Reader | Writer) -> None:
    try:
        one.run()
    except Exception as problem:
        shared.problems.append(f"{type(one).__name__}: {type(problem).__name__}: {problem}")


def main() -> None:
    wanted = json.loads(sys.argv[1])
    shared = Shared(wanted)
    clients: list[Reader | Writer] = [Reader(shared, way) for way in range(wanted["readers"])]
    clients += [Writer(shared, place) for place in wanted["writers"]]
    threads = [threading.Thread(target=_run, args=(shared, one), daemon=True) for one in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(max(0.0, shared.end + PATIENCE - time.monotonic()))
    stuck = sum(thread.is_alive() for thread in threads)
    if stuck:
        shared.problems.append(f"{stuck} threads hang")
    for one in clients:
        shared.counts.update(one.counts)
        if not one.counts:
            shared.problems.append(f"{type(one).__name__}: came to nothing")
    print(json.dumps({"counts": shared.counts, "problems": shared.problems[:ENOUGH]}), flush=True)
    os._exit(0)  # do not wait for threads that hang


if __name__ == "__main__":
    main()
