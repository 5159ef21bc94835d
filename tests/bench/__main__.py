"""`make bench`: what pinnerfs costs, as ratios of two things measured side by side in one run.

Never a test: a ratio depends on the machine, and on what else it does meanwhile.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pinnerfs
from pinnerfs.debugfs.mountpoints import unmount

ROUNDS = 7
READS = 2000

# A child that answers each byte with a record's worth of bytes: what a request between two processes costs at least.
ECHO = "import os\nwhile os.read(0, 1): os.write(1, b'x' * 500)"


def _compare(what: str, one: Callable[[], None], other: Callable[[], None]) -> None:
    """Print how many times as long `one` takes as `other`: median, least and most of several rounds in turn."""
    ratios = []
    for _ in range(ROUNDS):
        took = []
        for work in (one, other):
            began = time.perf_counter()
            work()
            took.append(time.perf_counter() - began)
        ratios.append(took[0] / took[1])
    print(f"{what}: {statistics.median(ratios):.2f} times ({min(ratios):.2f} to {max(ratios):.2f})")


def _play(chunk: int) -> Callable[[], None]:
    """A minute of camera-stall, brought up to date every `chunk` µs."""
    scenario = pinnerfs.load("camera-stall")

    def work() -> None:
        simulation = pinnerfs.Simulation(scenario)
        while simulation.now < 60_000_000:
            simulation.advance(chunk)

    return work


def _reads(mountpoint: Path) -> Callable[[], None]:
    path = mountpoint / "page_pinner" / "longterm_pinner"

    def work() -> None:
        left = READS
        while left > 0:
            descriptor = os.open(path, os.O_RDONLY)
            while left > 0 and os.read(descriptor, 4096):
                left -= 1
            os.close(descriptor)

    return work


def _round_trips(child: subprocess.Popen[bytes]) -> Callable[[], None]:
    assert child.stdin is not None and child.stdout is not None
    to, back = child.stdin.fileno(), child.stdout.fileno()

    def work() -> None:
        for _ in range(READS):
            os.write(to, b"?")
            os.read(back, 4096)

    return work


def main() -> None:
    """Measure, and print a line a ratio."""
    _compare("a minute in steps of 1 ms against one step", _play(1000), _play(60_000_000))
    with tempfile.TemporaryDirectory(prefix="pinnerfs-bench-") as folder:
        command = [sys.executable, "-m", "pinnerfs", "mount", "camera-stall", folder, "--clock", "manual"]
        subprocess.run([*command, "--start", "60s"], check=True)
        with subprocess.Popen(
            [sys.executable, "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        ) as child:
            try:
                _compare(
                    "a record read through the mount against a pipe's round trip",
                    _reads(Path(folder)),
                    _round_trips(child),
                )
            finally:
                assert child.stdin is not None
                child.stdin.close()
                unmount(folder)


main()
