"""Jumps of the boot clock, as after a suspend, and of the time of day."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, Mount, Mounts, environment, newest_first, pinnerfs, scenario

HOUR = 3600 * 10**9  # ns

# Runs pinnerfs with clocks that the test sets, by a file with two numbers: boot time and time of day.
PINNERFS = """
import os, sys, time
clocks = os.open(sys.argv.pop(1), os.O_RDONLY)
boot, day = time.CLOCK_BOOTTIME, time.CLOCK_REALTIME
def read(clock):
    assert clock in (boot, day)
    return int(os.pread(clocks, 100, 0).split()[clock == day])
time.clock_gettime_ns = read
time.time_ns = lambda: read(day)
time.time = lambda: read(day) / 1e9
from pinnerfs.cli import main
main()
"""


class Clocks:
    """The boot time and the time of day in ns. They change only when a test sets them."""

    boot = day = 0

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(boot=5 * HOUR, day=500_000 * HOUR)

    def set(self, boot: int | None = None, day: int | None = None) -> None:
        """Set one or both of the clocks."""
        self.boot = self.boot if boot is None else boot
        self.day = self.day if day is None else day
        # One write of constant length, so that a reader gets both old or both new numbers.
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"%030d %030d" % (self.boot, self.day))
        os.close(descriptor)


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    """Return the clocks for the daemons of this test."""
    return Clocks(tmp_path / "clocks")


def _mount(mounts: Mounts, clocks: Clocks, source: Path, max_lag: str = "1h") -> Mount:
    device = mounts.add("mnt")
    words = [clocks.file, "mount", source, device.path, "--log", device.log, "--max-lag", max_lag]
    done = subprocess.run(
        [sys.executable, "-c", PINNERFS, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    mounts.watch(device)
    return device


def _peak_memory(device: Mount) -> int:
    """Return the daemon's peak memory in KiB."""
    status = Path(f"/proc/{device.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def test_a_jump_of_hours(mount: Mounts, clocks: Clocks) -> None:
    """After a jump of four hours with 720,000 pins, reads are correct, and the daemon needs less than 32 MiB more."""
    device = _mount(mount, clocks, scenario(mount.directory, every="20ms", hold="400ms"))
    clocks.set(boot=clocks.boot + HOUR // 60)
    assert device.stats()["pins"] == 3001
    before, began = _peak_memory(device), time.monotonic()
    clocks.set(boot=clocks.boot + 4 * HOUR - HOUR // 60)
    assert device.read_all() == newest_first(720_000 - 19, first=720_000 - 19 - 4096)
    assert time.monotonic() - began < DEADLINE
    assert (
        device.stats().items()
        >= {
            "pins": 720_001,
            "releases": 719_981,
            "longterm_records": 719_981,
            "records_overwritten": 719_981 - 4096,
            "records_now": 4096,
            "pinned_now": 20,
            "pinned_now_in_cma": 0,
        }.items()
    )
    assert _peak_memory(device) - before < 32 << 10


def test_a_jump_of_more_than_can_be_applied(mount: Mounts, clocks: Clocks) -> None:
    """After eight hours with 2.9 billion pins, the first reader gets an answer. The clock shows what was reached."""
    device = _mount(mount, clocks, scenario(mount.directory, every="10us", hold="2us"), max_lag="1s")
    device.expected.append("WARNING the clock slipped by ")
    clocks.set(boot=clocks.boot + 8 * HOUR)
    first = int(device.control("clock"))
    assert 0 < first < 8 * 3600 * 10**6
    # The clock stands still until boot time has passed.
    assert int(device.control("clock")) == first
    assert device.stats()["pins"] == first // 10 + 1
    assert device.stats()["clock_slipped"] >= 8 * 3600 * 10**6 - first
    deadline = time.monotonic() + DEADLINE
    while (later := int(device.control("clock"))) == first:
        assert time.monotonic() < deadline
        clocks.set(boot=clocks.boot + 10**9)
    assert first < later < 8 * 3600 * 10**6


def test_the_boot_clock_goes_back(mount: Mounts, clocks: Clocks) -> None:
    """If the boot clock goes back, the records stay, and new ones come once it passes its old time."""
    device = _mount(mount, clocks, scenario(mount.directory))
    start = clocks.boot
    clocks.set(boot=start + 10 * 10**9)
    assert device.read_all() == newest_first(10)
    clocks.set(boot=start + 3 * 10**9)
    assert device.read_all() == newest_first(10)
    clocks.set(boot=start + 12 * 10**9)
    assert device.read_all() == newest_first(12)


def test_the_time_of_day_is_set_back(mount: Mounts, clocks: Clocks) -> None:
    """The time of day does not affect clock and records, but it sets a file's change time."""
    device = _mount(mount, clocks, scenario(mount.directory))
    clocks.set(boot=clocks.boot + 5 * 10**9)
    before = device.control("clock")
    first = device.threshold.stat().st_mtime_ns
    clocks.set(day=clocks.day - 100_000 * HOUR)
    assert device.control("clock") == before == "5000000\n"
    assert device.read_all() == newest_first(5)
    assert device.threshold.stat().st_mtime_ns == first
    device.threshold.chmod(0o600)
    assert device.threshold.stat().st_ctime_ns == clocks.day < first
    clocks.set(boot=clocks.boot + 10**9, day=clocks.day + 200_000 * HOUR)
    assert device.read_all() == newest_first(6)


def test_a_long_uptime(mount: Mounts) -> None:
    """The clock starts at 0 even if the machine's boot time is a year."""
    year = str(365 * 24 * 3600)
    probe = subprocess.run(["unshare", "-T", "--boottime", year, "true"], capture_output=True, check=False)
    if probe.returncode:
        pytest.skip(f"no time namespace: {probe.stderr.decode().strip()}")
    device = mount.add("mnt")
    script = f'"$0" -m pinnerfs mount {scenario(mount.directory)} {device.path} && cut -d. -f1 /proc/uptime'
    done = subprocess.run(
        ["unshare", "-T", "--boottime", year, "sh", "-c", script, sys.executable],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) > int(year)
    mount.watch(device)
    assert int(device.control("clock")) < DEADLINE * 10**6
    assert pinnerfs("umount", device.path).returncode == 0
