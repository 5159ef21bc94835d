"""The clocks behind a mount: a real one goes on by itself, a manual one only when told."""

from __future__ import annotations

import errno
import os
import time
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, Mount, Mounts, newest_first, outcome, pinnerfs, record, scenario


def _cpu_time(device: Mount) -> int:
    """Processor time of the daemon so far, in clock ticks."""
    fields = Path(f"/proc/{device.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])


def test_a_manual_clock_stands_still(mount: Mounts) -> None:
    """Without an advance neither the clock nor the books move, however long it takes."""
    device = mount()
    before = device.control("clock"), device.control("stats")
    time.sleep(0.2)
    assert (device.control("clock"), device.control("stats")) == before
    assert before[0] == "0\n"


def test_an_advance_returns_when_the_books_are_there(mount: Mounts) -> None:
    """After the write to .pinnerfs/advance has returned, every event up to the new time is in the books."""
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
    """What is no time is EINVAL, the clock stays, and .pinnerfs/error says why."""
    device = mount()
    device.advance("1s")
    with open(device.path / ".pinnerfs" / "advance", "wb", buffering=0) as file:
        assert outcome(lambda: file.write(written.encode() or b"\n")) == -errno.EINVAL
    assert reason in device.control("error")
    assert device.control("error").count("\n") == 1
    assert device.control("clock") == "1000000\n"
    # The next success takes the reason away.
    device.advance("1s")
    assert device.control("error") == ""


def test_undecodable_bytes_are_refused(mount: Mounts) -> None:
    """Bytes that are no UTF-8 are EINVAL like any other text."""
    device = mount()
    with open(device.path / ".pinnerfs" / "advance", "wb", buffering=0) as file:
        assert outcome(lambda: file.write(b"\xff\xfe")) == -errno.EINVAL
    assert device.control("error") != ""


def test_a_real_clock_cannot_be_advanced(mount: Mounts) -> None:
    """On a real clock the write is EPERM, .pinnerfs/error says why, and so does `pinnerfs ctl`."""
    device = mount(manual=False)
    assert outcome(lambda: device.advance("5s")) == -errno.EPERM
    assert "only a manual clock (--clock manual) can be advanced" in device.control("error")
    done = pinnerfs("ctl", device.path, "advance", "5s")
    assert (done.returncode, done.stdout) == (1, "")
    assert "only a manual clock (--clock manual) can be advanced" in done.stderr


def test_a_fast_clock_fills_the_file(mount: Mounts) -> None:
    """With --speed 50 a record a second of the device comes 50 times a second, and the books keep up unasked."""
    device = mount(None, "--speed", "50", manual=False)
    began = time.monotonic()
    while device.stats()["longterm_records"] < 20:
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.02)
    clock = int(device.control("clock"))
    assert clock >= 19_400_000
    # The newest record is the last whose release lies behind the clock.
    newest = device.read_all()[0]
    later = int(device.control("clock"))
    assert newest in [record(number) for number in range((clock - 400_000) // 10**6, later // 10**6 + 1)]


def test_a_real_clock_goes_at_its_speed(mount: Mounts) -> None:
    """The clock of the device is boot time from 0 on, times the speed."""
    device = mount(None, "--speed", "10", "--start", "100s", manual=False)
    before = time.monotonic()
    first = int(device.control("clock"))
    between = time.monotonic()
    time.sleep(0.2)
    almost = time.monotonic()
    second = int(device.control("clock"))
    after = time.monotonic()
    assert first >= 100_000_000
    # The clock was looked at somewhere between the calls; it shows whole microseconds.
    assert (almost - between) * 10e6 - 1 <= second - first <= (after - before) * 10e6 + 1


def test_keeping_up_unasked(mount: Mounts) -> None:
    """The daemon plays the workload while nobody asks: its processor time grows, and a late reader does not wait."""
    device = mount(scenario(mount.folder, every="1ms", hold="2ms"), "--speed", "20", manual=False)
    before, began = _cpu_time(device), time.monotonic()
    while (unasked := _cpu_time(device) - before) < 20:
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.02)
    assert device.stats()["pins"] > 0
    # What was left to do for the answer is less than what had been done before.
    assert _cpu_time(device) - before < 2 * unasked


def test_idle_uses_no_processor(mount: Mounts) -> None:
    """With nothing due (a manual clock, or a scenario that is over) the daemon uses no processor time."""
    quiet = mount.folder / "quiet.toml"
    quiet.write_text(scenario(mount.folder).read_text().replace("format = 1", 'format = 1\nduration = "2s"'))
    over = mount(quiet, "--start", "10s", name="over", manual=False)
    still = mount(name="still")
    # A tick of processor time is 10 ms, so count also how often a thread of it has slept.
    for device in (over, still):
        deadline = time.monotonic() + DEADLINE
        while True:  # what begins may still have something to do
            before = _cpu_time(device), _switches(device)
            time.sleep(0.5)
            if (_cpu_time(device), _switches(device)) == before:
                break
            assert time.monotonic() < deadline, f"{device.path} never rests"


def _switches(device: Mount) -> int:
    """How often the daemon's threads have gone to sleep: what it does while nobody asks."""
    total = 0
    for task in Path(f"/proc/{device.pid}/task").iterdir():
        for line in (task / "status").read_text().splitlines():
            if line.startswith("voluntary_ctxt_switches"):
                total += int(line.split()[1])
    return total


def test_start_runs_ahead(mount: Mounts) -> None:
    """--start runs the workload that far before the mount answers, and the clock stands there."""
    device = mount(None, "--start", "10s")
    assert device.control("clock") == "10000000\n"
    # At 10 s pin 10 has just begun; pins 0 to 9 are over.
    assert device.read_all() == newest_first(10)
    assert device.stats()["pins"] == 11


def test_stats(mount: Mounts) -> None:
    """stats has a `name value` a line, and counts what the scenario does."""
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
    """A control file shows what was so when it was opened, also to a reader of single bytes."""
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
