"""64 readers and 8 threshold writers at once: each read must be one that the kernel's rule allows."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.mount.support import DEADLINE, FIRST_PAGE, FRAMES, FRAMES_OF_MEMORY, Mount, Mounts, environment, scenario
from tests.soak.read_rules import RING_SIZE, WRITERS, CallLog, now
from tests.soak.usage import Usage, WatchedMount

PROCESSES = 8
READERS = 64
HOLD = 400_000  # µs
SAMPLES = 5

# A record every EVERY µs.
SCENARIO = """
format = 1
name = "load"
description = "for the tests"

[memory]
size = "128MiB"
base_pfn = 0x8000
region = [
    { name = "all", size = "64MiB", migratetype = "Movable", flags = ["uptodate", "lru", "swapbacked"] },
    { name = "other", size = "64MiB" },
]

[stack.driver]
frames = ["pin_it+0x10/0x20", "drv_map+0x4/0x8 [drv]", "drv_ioctl+0x100/0x200"]

[[task]]
name = "driver"
stack = "driver"
region = "all"
phase = [{ for = "8000h", every = "EVERYus", hold = "400ms" }]
"""
# And 16,000 pins a second, each too short for a record.
BUSY = """
[[task]]
name = "busy"
stack = "driver"
region = "other"
pages = 16
phase = [{ for = "8000h", every = "1ms", hold = "900us" }]
"""


class ClientProcesses:
    """Processes with readers and writers, and their reports."""

    def __init__(self, device: Mount, log: Path, rule: dict[str, int], seconds: int) -> None:
        self._seconds = seconds
        self._wanted = {
            "path": str(device.path),
            "log": str(log),
            "rule": rule | {"wrap": FRAMES_OF_MEMORY},
            "first": FIRST_PAGE,
            "hold": HOLD,
            "frames": FRAMES,
            "readers": READERS // PROCESSES,
            "seconds": seconds,
        }
        self.processes: list[subprocess.Popen[str]] = []

    @contextmanager
    def at_work(self, writers: Sequence[int]) -> Iterator[None]:
        """Yield until all processes have ended, and kill the rest."""
        try:
            for place in range(PROCESSES):
                wanted = self._wanted | {"writers": list(writers[place::PROCESSES])}
                command = [sys.executable, "-m", "tests.soak.clients", json.dumps(wanted)]
                process = subprocess.Popen(
                    command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
                )
                self.processes.append(process)
            yield
        except BaseException:
            self._end()
            raise

    def _end(self) -> None:
        for process in self.processes:
            process.kill()
            process.communicate(timeout=DEADLINE)

    def results(self) -> Counter[str]:
        """Return the sums of the reports. Fail on a violation or a timeout."""
        counts: Counter[str] = Counter()
        problems: list[str] = []
        deadline = time.monotonic() + self._seconds + 2 * DEADLINE
        try:
            for process in self.processes:
                out, err = process.communicate(timeout=max(1.0, deadline - time.monotonic()))
                assert process.returncode == 0 and not err, err
                result: dict[str, Any] = json.loads(out)
                counts.update(result["counts"])
                problems += result["problems"]
        finally:
            self._end()
        assert problems == [], problems
        return counts


def beginning(device: Mount) -> tuple[int, int]:
    """Return the bounds of the moment at which a running device's boot time began, in ns of CLOCK_BOOTTIME."""
    earliest, latest = 0, 1 << 62
    for _ in range(50):
        before = now()
        shown = int(device.control("clock")) * 1000
        earliest, latest = max(earliest, before - shown - 1000), min(latest, now() - shown)
    return earliest, latest


@pytest.mark.parametrize(
    ("every", "busy", "times"), [(200, BUSY, (1, 200)), (1000, "", (1, 100))], ids=["busy", "calm"]
)
def test_many_readers_and_writers(
    mount: Mounts,
    amount: Callable[[int, int], int],
    tell: Callable[[str], None],
    every: int,
    busy: str,
    times: tuple[int, int],
) -> None:
    """Each read follows the rule, each errno is right, no thread hangs, and the daemon does not grow."""
    seconds = amount(*times)
    source = mount.directory / "load.toml"
    source.write_text(SCENARIO.replace("EVERY", str(every)) + busy)
    watched = WatchedMount(mount, source, "--start", "60s", "--max-lag", "1h")
    device = watched.mount
    before = watched.usage()
    earliest, latest = beginning(device)
    log = mount.directory / "log"
    CallLog(log)
    rule = {"every": every * 1000, "hold": HOLD * 1000, "earliest": earliest, "latest": latest}
    clients = ClientProcesses(device, log, rule, seconds)
    curve: list[Usage] = []
    with clients.at_work(range(WRITERS)):
        start = time.monotonic()
        for sample in range(1, SAMPLES + 1):
            time.sleep(max(0.0, start + seconds * sample / SAMPLES - time.monotonic()))
            curve.append(watched.usage())
    counts = clients.results()
    after = watched.settled(0)
    assert after.descriptors == before.descriptors
    assert max(one.handles for one in curve) <= 2 * (READERS + WRITERS)
    assert abs(after.objects - before.objects) < 500, (before, after)
    # The daemon caches the texts of two rings; after that nothing may grow.
    assert after.rss - before.rss < 16 << 10, (before, after)
    assert after.rss - curve[1].rss < amount(16, 2) << 10, curve
    assert counts["records"] > 100 * seconds and counts["ends"] and counts["too small"] and counts["refused"]
    tell(
        f"{seconds} s, {READERS} readers, {WRITERS} writers: {dict(counts)}; boot time known to {latest - earliest} ns"
    )
    for name, usage in (
        ("before", before),
        ("after a fifth", curve[0]),
        ("at the end", curve[-1]),
        ("after", after),
    ):
        tell(f"{name}: {usage}")


def test_readers_of_a_script(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """With known clock steps and threshold writes, each read returns the state after one of them."""
    seconds = amount(1, 40)
    watched = WatchedMount(mount, scenario(mount.directory, every="1ms"), "--clock", "manual", "--start", "3s")
    device = watched.mount
    log = CallLog(mount.directory / "log")
    time_us = 3_000_000
    oldest = 0

    def newest() -> int:
        return (time_us - HOLD) // 1000 if time_us >= HOLD else -1

    log.step_begins(newest(), oldest)
    log.step_ended()
    clients = ClientProcesses(device, mount.directory / "log", {}, seconds)
    draw = random.Random(6)
    steps = 0
    with clients.at_work([]):
        stop = time.monotonic() + seconds
        while time.monotonic() < stop and steps < 60_000:
            steps += 1
            if draw.random() < 0.02:
                oldest = newest() + 1
                log.step_begins(newest(), oldest)
                device.threshold.write_bytes(b"5000")
            else:
                step = draw.choice((0, 1, 999, 1000, 7003, 50_000, 2_000_000))
                time_us += step
                oldest = max(oldest, newest() - RING_SIZE + 1)
                log.step_begins(newest(), oldest)
                device.advance(f"{step}us")
            log.step_ended()
    counts = clients.results()
    watched.settled(0)
    assert int(device.control("clock")) == time_us
    assert device.stats()["longterm_records"] == newest() + 1
    assert counts["records"] > 100 * seconds
    tell(f"{steps} steps in {seconds} s, {READERS} readers: {dict(counts)}")


def test_one_descriptor_for_all(mount: Mounts, tell: Callable[[str], None]) -> None:
    """Threads that read one descriptor at once get each record exactly once."""
    device = mount(scenario(mount.directory, every="1ms"), "--start", "10s")
    expected = device.read_all()
    seen: list[bytes] = []

    def read(file: int) -> None:
        seen.extend(iter(lambda: os.read(file, 4096), b""))

    with device.opened() as file:
        threads = [threading.Thread(target=read, args=(file,), daemon=True) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(DEADLINE)
        assert not any(thread.is_alive() for thread in threads)
    assert len(expected) == RING_SIZE
    assert sorted(seen) == sorted(expected)
    tell(f"{len(threads)} threads, one descriptor, {len(seen)} records")
