"""The real clock and the manual clock of a mount."""

from __future__ import annotations

import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.mount.support import (
    DEADLINE,
    FRAMES_OF_MEMORY,
    Mount,
    Mounts,
    newest_first,
    outcome,
    pinnerfs,
    record,
    scenario,
)


def _cpu_time(device: Mount) -> int:
    """Return the CPU time of the daemon in clock ticks."""
    fields = Path(f"/proc/{device.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_manual_clock_stands_still(mount: Mounts) -> None:
    """Without an advance, the clock and the counters do not change."""
    device = mount()
    before = device.control("clock"), device.control("stats")
    time.sleep(0.2)
    assert (device.control("clock"), device.control("stats")) == before
    assert before[0] == "0\n"


def test_an_advance_applies_all_events(mount: Mounts) -> None:
    """A write to .pinnerfs/advance returns after all events up to the new time are applied."""
    device = mount()
    device.advance("400ms")
    assert device.control("clock") == "400000\n"
    assert device.stats()["longterm_records"] == 1
    device.advance("1us\n")
    device.advance("0s")
    assert device.control("clock") == "400001\n"
    device.advance("1000h")
    assert device.stats()["pins"] == 3600 * 1000 + 1
    assert device.read_all() == newest_first(3600 * 1000 + 1, first=3600 * 1000 - 4095)


@pytest.mark.parametrize(
    ("shell", "script"),
    [
        ("dash", "echo 1000h > $advance"),
        ("bash", "echo 1000h | dd of=$advance status=none"),
        ("bash", f'{sys.executable} -c \'open("../.pinnerfs/advance", "w").write("1000h")\''),
    ],
    ids=["echo of dash", "dd", "Python"],
)
def test_programs_repeat_an_interrupted_advance(mount: Mounts, shell: str, script: str) -> None:
    """An advance ends with EINTR after half a second. Many programs repeat the write until all is done."""
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell}")
    device = mount()
    done = device.shell(f"advance=../.pinnerfs/advance; {script}", shell)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert device.control("clock") == f"{1000 * 3600 * 10**6}\n"
    assert device.stats()["pins"] == 3600 * 1000 + 1


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("5", "advance = '5' must be a number and a unit (us, ms, s, min, h), such as '300ms'"),
        ("", "advance = '' must be a number and a unit"),
        ("-5s", "advance = '-5s' must be"),
        ("5 parsecs", "must be a number and a unit"),
        ("99999999h", "longer than a year"),
        ("9" * 5000 + "s", ""),
        ("\0", "must be a number and a unit"),
        ("5s\n5s", "must be a number and a unit"),
    ],
)
def test_a_refused_advance(mount: Mounts, written: str, reason: str) -> None:
    """An invalid time is EINVAL and does not move the clock; .pinnerfs/error has the reason until the next success."""
    device = mount()
    device.advance("1s")
    with open(device.path / ".pinnerfs" / "advance", "wb", buffering=0) as file:
        assert outcome(lambda: file.write(written.encode() or b"\n")) == -errno.EINVAL
    assert reason in device.control("error")
    assert device.control("error").count("\n") == 1
    assert device.control("clock") == "1000000\n"
    device.advance("1s")
    assert device.control("error") == ""


def test_undecodable_bytes_are_refused(mount: Mounts) -> None:
    """Bytes that are not UTF-8 are EINVAL."""
    device = mount()
    with open(device.path / ".pinnerfs" / "advance", "wb", buffering=0) as file:
        assert outcome(lambda: file.write(b"\xff\xfe")) == -errno.EINVAL
    assert device.control("error") != ""


def test_a_real_clock_cannot_be_advanced(mount: Mounts) -> None:
    """With a real clock the write is EPERM. .pinnerfs/error and `pinnerfs ctl` give the reason."""
    device = mount(manual=False)
    assert outcome(lambda: device.advance("5s")) == -errno.EPERM
    assert "only a manual clock (--clock manual) can be advanced" in device.control("error")
    done = pinnerfs("ctl", device.path, "advance", "5s")
    assert (done.returncode, done.stdout) == (1, "")
    assert "only a manual clock (--clock manual) can be advanced" in done.stderr


def test_a_fast_clock_fills_the_file(mount: Mounts) -> None:
    """With --speed 50, a scenario with one record per second gives 50 records per second."""
    device = mount(None, "--speed", "50", manual=False)
    began = time.monotonic()
    while device.stats()["longterm_records"] < 20:
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.02)
    clock = int(device.control("clock"))
    assert clock >= 19_400_000
    # The newest record is of the last release before the clock's time, which passes during the read.
    newest = device.read_all()[0]
    later = int(device.control("clock"))
    assert newest in [record(number) for number in range((clock - 400_000) // 10**6, later // 10**6 + 1)]


def test_a_real_clock_goes_at_its_speed(mount: Mounts) -> None:
    """The clock counts boot time since the mount, times the speed."""
    device = mount(None, "--speed", "10", "--start", "100s", manual=False)
    before = time.monotonic()
    first = int(device.control("clock"))
    between = time.monotonic()
    time.sleep(0.2)
    almost = time.monotonic()
    second = int(device.control("clock"))
    after = time.monotonic()
    assert first >= 100_000_000
    # Each reading is at some moment between two of these times, and in whole microseconds.
    assert (almost - between) * 10e6 - 1 <= second - first <= (after - before) * 10e6 + 1


def test_events_are_applied_without_requests(mount: Mounts) -> None:
    """The daemon applies events without requests, so a later read has little left to do."""
    device = mount(scenario(mount.directory, every="1ms", hold="2ms"), "--speed", "20", manual=False)
    before, began = _cpu_time(device), time.monotonic()
    while (used := _cpu_time(device) - before) < 20:
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.02)
    assert device.stats()["pins"] > 0
    # The request took less CPU time than the daemon had used before it.
    assert _cpu_time(device) - before < 2 * used


def test_an_idle_daemon_uses_no_cpu(mount: Mounts) -> None:
    """Without due events (a manual clock, or a finished scenario) the daemon uses no CPU time."""
    quiet = mount.directory / "quiet.toml"
    quiet.write_text(scenario(mount.directory).read_text().replace("format = 1", 'format = 1\nduration = "2s"'))
    finished = mount(quiet, "--start", "10s", name="finished", manual=False)
    manual = mount(name="manual")
    # CPU time has a resolution of 10 ms, so also compare the number of context switches.
    for device in (finished, manual):
        deadline = time.monotonic() + DEADLINE
        while True:  # the daemon may still be starting
            before = _cpu_time(device), _switches(device)
            time.sleep(0.5)
            if (_cpu_time(device), _switches(device)) == before:
                break
            assert time.monotonic() < deadline, f"{device.path} is never idle"


def _switches(device: Mount) -> int:
    """Return the number of voluntary context switches of all threads of the daemon."""
    total = 0
    for task in Path(f"/proc/{device.pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def test_a_clock_that_is_too_fast(mount: Mounts) -> None:
    """No machine can follow this clock. Each reader gets its answer, the clock slips, and the mount says so."""
    source = scenario(mount.directory, every="1us", hold="2us")
    device = mount(source, "--speed", "1000", "--threshold", "0", manual=False)
    assert re.fullmatch(
        r"Warning: this machine plays every-1us-2us at speed [\d.e-]+ or so, not 1000: the clock will slip, as "
        rf"`pinnerfs ctl {device.path} clock` shows; wanted a lower --speed\n",
        device.stderr,
    )
    seen = 0
    for _ in range(3):
        done = device.shell("dd if=longterm_pinner bs=4096 count=1 status=none && echo 0 > threshold")
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == "" or done.stdout.startswith("Page pinned ts 2 us count 1\n")
        moment = int(device.control("clock"))
        assert seen <= moment
        seen = moment
    assert set(map(len, device.read_all())) <= {len(record(0, hold=2)), len(record(FRAMES_OF_MEMORY - 1, hold=2))}
    with subprocess.Popen(["cat", device.records], stdout=subprocess.PIPE) as reader:
        assert reader.stdout is not None
        reader.stdout.read(1)
        reader.kill()
        assert reader.wait(DEADLINE) in (0, -signal.SIGKILL)
    device.expected.append("WARNING the clock slipped by ")
    asked = pinnerfs("ctl", device.path, "clock")
    assert seen <= int(asked.stdout)
    deadline = time.monotonic() + DEADLINE
    while int(device.control("clock")) == seen:
        assert time.monotonic() < deadline
    assert re.fullmatch(
        r"Note: the clock has slipped by \d+\.\d{6} s, because this machine cannot keep up with it; mount with a lower "
        r"--speed, or a higher --max-lag\n",
        asked.stderr,
    )
    assert device.stats()["clock_slipped"] > 0
    assert pinnerfs("ctl", device.path, "stats").stderr == ""


def test_start(mount: Mounts) -> None:
    """With --start the mount begins at that time, with all earlier events applied."""
    device = mount(None, "--start", "10s")
    assert device.control("clock") == "10000000\n"
    # At 10 s, pin 10 has just begun and pins 0 to 9 are released.
    assert device.read_all() == newest_first(10)
    assert device.stats()["pins"] == 11


def test_stats(mount: Mounts) -> None:
    """stats has a line `name value` for each counter."""
    device = mount()
    device.advance("2200ms")
    assert (
        device.stats().items()
        >= {
            "pins": 3,
            "releases": 2,
            "longterm_records": 2,
            "records_overwritten": 0,
            "records_now": 2,
            "pinned_now": 1,
            "pinned_now_in_cma": 0,
        }.items()
    )
    done = pinnerfs("ctl", device.path, "stats")
    assert (done.returncode, done.stdout) == (0, device.control("stats"))
    assert pinnerfs("ctl", device.path, "clock").stdout == "2200000\n"


def test_control_files_read_in_pieces(mount: Mounts) -> None:
    """The text of a control file is sampled at open, even if it is read in pieces."""
    device = mount()
    device.advance("1500ms")
    file = os.open(device.path / ".pinnerfs" / "clock", os.O_RDONLY)
    try:
        assert os.read(file, 1) == b"1"
        device.advance("1s")
        assert os.read(file, 100) == b"500000\n"
        assert os.read(file, 100) == b""
    finally:
        os.close(file)
    assert outcome(lambda: os.open(device.path / ".pinnerfs" / "nothing", os.O_RDONLY)) == -errno.ENOENT
