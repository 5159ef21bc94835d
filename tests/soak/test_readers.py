"""Readers that open and close at full speed, are killed, or get signals: the daemon keeps no open file."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from tests.mount.support import DEADLINE, Mounts, environment, scenario
from tests.soak.usage import WatchedMount

PROCESSES, THREADS = 4, 16

# Opens, reads and closes a file in ARGV[2] threads, for ARGV[3] seconds.
HOPPER = """
import os, sys, threading, time
path, end = sys.argv[1], time.monotonic() + float(sys.argv[3])
def hop():
    while time.monotonic() < end:
        file = os.open(path, os.O_RDONLY)
        os.read(file, 4096)
        os.close(file)
threads = [threading.Thread(target=hop) for _ in range(int(sys.argv[2]))]
for thread in threads:
    thread.start()
"""

# Copies a file to stdout under 5000 signals a second.
SIGNALLED = """
import os, signal, sys
signal.signal(signal.SIGALRM, lambda number, frame: None)
file = os.open(sys.argv[1], os.O_RDONLY)
signal.setitimer(signal.ITIMER_REAL, 0.0002, 0.0002)
records = list(iter(lambda: os.read(file, 4096), b""))
signal.setitimer(signal.ITIMER_REAL, 0)
sys.stdout.buffer.write(b"".join(records))
"""


@contextmanager
def processes(script: str, *arguments: str | Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run processes with a script, and kill the rest at the end."""
    command = [sys.executable, "-c", script, *map(str, arguments)]
    with ExitStack() as stack:
        started = []
        for _ in range(PROCESSES):
            process = subprocess.Popen(
                command, env=environment(), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE
            )
            started.append(stack.enter_context(process))
            stack.callback(process.kill)
        yield started


def test_what_is_closed_is_soon_gone(
    mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """While many threads open and close, the daemon keeps no file that was closed long ago."""
    seconds = amount(1, 10)
    watched = WatchedMount(mount, scenario(mount.directory), "--clock", "manual")
    most = 0
    with processes(HOPPER, watched.mount.records, str(THREADS), str(seconds)) as hoppers:
        deadline = time.monotonic() + seconds + DEADLINE
        while any(hopper.poll() is None for hopper in hoppers):
            assert time.monotonic() < deadline
            most = max(most, watched.usage().handles)
        assert [hopper.communicate() for hopper in hoppers] == [(b"", b"")] * PROCESSES
    # Each thread has one file open, and one that it just closed.
    assert 0 < most <= 2 * PROCESSES * THREADS
    watched.settled(0)
    tell(f"{PROCESSES * THREADS} threads open and close for {seconds} s: at most {most} files open in the daemon")


def test_readers_that_are_killed(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """Readers that are killed during a call leave no open file, and other readers do not wait for them."""
    rounds = amount(2, 40)
    watched = WatchedMount(mount, scenario(mount.directory), "--clock", "manual", "--start", "100s")
    expected = watched.mount.read_all()
    before = watched.usage()
    for _ in range(rounds):
        with processes(HOPPER, watched.mount.records, str(THREADS), "600") as hoppers:
            deadline = time.monotonic() + DEADLINE
            while watched.usage().handles < THREADS // 2:
                assert time.monotonic() < deadline
            for hopper in hoppers:
                hopper.kill()
        assert watched.mount.read_all() == expected
    after = watched.settled(0)
    assert abs(after.objects - before.objects) < 200, (before, after)
    tell(f"{rounds * PROCESSES} processes of {THREADS} readers killed; before: {before}; after: {after}")


def test_signals_do_not_disturb_a_reader(
    mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """A read that meets a signal still returns its record, and no record is skipped."""
    rounds = amount(1, 10)
    device = mount(scenario(mount.directory, every="1ms"), "--start", "10s")
    expected = b"".join(device.read_all())
    for _ in range(rounds):
        with processes(SIGNALLED, device.records) as readers:
            for reader in readers:
                out, err = reader.communicate(timeout=DEADLINE)
                assert (reader.returncode, err) == (0, b"")
                assert out == expected
    tell(f"{rounds * PROCESSES * 4096} records read under 5000 signals a second")
