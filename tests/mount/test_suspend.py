"""Clocks that jump: the boot clock by hours at once, as after a suspend, and the system's clock to and fro."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, Mount, Mounts, environment, newest_first, pinnerfs, scenario

HOUR = 3600 * 10**9  # ns

# pinnerfs with the machine's clocks in the hands of a test: a file of two numbers, the boot time and the time of day.
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
    """Both clocks, in ns, standing still until they are set."""

    boot = day = 0

    def __init__(self, file: Path) -> None:
        self.file = file
        self.set(boot=5 * HOUR, day=500_000 * HOUR)

    def set(self, boot: int | None = None, day: int | None = None) -> None:
        """Set one, or both."""
        self.boot = self.boot if boot is None else boot
        self.day = self.day if day is None else day
        # In one write of always the same length, so that a reader sees the old ones or the new ones.
        descriptor = os.open(self.file, os.O_WRONLY | os.O_CREAT)
        os.write(descriptor, b"%030d %030d" % (self.boot, self.day))
        os.close(descriptor)


@pytest.fixture
def clocks(tmp_path: Path) -> Clocks:
    """Clocks for the daemons of this test."""
    return Clocks(tmp_path / "clocks")


def _mount(mounts: Mounts, clocks: Clocks, source: Path, *options: str) -> Mount:
    device = mounts.add("mnt")
    words = [clocks.file, "mount", source, device.path, "--log", device.log, *options]
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


def _most_memory(device: Mount) -> int:
    """The most that the daemon has had of memory so far, in KiB."""
    status = Path(f"/proc/{device.pid}/status").read_text()
    return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")))


def test_hours_at_once(mount: Mounts, clocks: Clocks) -> None:
    """After a jump of four hours, with 720000 pins due, the next read is right, in seconds and some MiB more."""
    device = _mount(mount, clocks, scenario(mount.folder, every="20ms", hold="400ms"))
    clocks.set(boot=clocks.boot + HOUR // 60)
    assert device.stats()["pins"] == 3001
    before, began = _most_memory(device), time.monotonic()
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
    assert _most_memory(device) - before < 32 << 10


def test_a_boot_clock_that_falls(mount: Mounts, clocks: Clocks) -> None:
    """Should it ever, then what is in the books stays, and they go on when it is later than it was."""
    device = _mount(mount, clocks, scenario(mount.folder))
    start = clocks.boot
    clocks.set(boot=start + 10 * 10**9)
    assert device.read_all() == newest_first(10)
    clocks.set(boot=start + 3 * 10**9)
    assert device.read_all() == newest_first(10)
    clocks.set(boot=start + 12 * 10**9)
    assert device.read_all() == newest_first(12)


def test_the_time_of_day_is_set_back(mount: Mounts, clocks: Clocks) -> None:
    """Boot time and records take no notice; the time of a change of a file is what the clock then says."""
    device = _mount(mount, clocks, scenario(mount.folder))
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


def test_a_machine_of_another_uptime(mount: Mounts) -> None:
    """In a time namespace whose boot clock is a year ahead the device's own clock begins at 0 all the same."""
    year = str(365 * 24 * 3600)
    trial = subprocess.run(["unshare", "-T", "--boottime", year, "true"], capture_output=True, check=False)
    if trial.returncode:
        pytest.skip(f"no time namespace: {trial.stderr.decode().strip()}")
    device = mount.add("mnt")
    script = f'"$0" -m pinnerfs mount {scenario(mount.folder)} {device.path} && cut -d. -f1 /proc/uptime'
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
