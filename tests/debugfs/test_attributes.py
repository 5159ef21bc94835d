"""Open files and the control folder, asked without a mount."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from pinnerfs import Simulation, load
from pinnerfs.client import Client
from pinnerfs.clock import ManualClock, RealClock
from pinnerfs.debugfs.attributes import FILES, Failures, OpenFile
from pinnerfs.debugfs.control import Control
from pinnerfs.debugfs.device import Device
from tests.mount.support import newest_first, outcome, record, scenario


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device with a pin of 400 ms each second, ten seconds on."""
    return Device(Simulation(load(scenario(tmp_path))), ManualClock(10_000_000))


def _open(device: Device, name: str) -> OpenFile:
    return FILES[name][1](device, Failures())()


def test_one_record_a_read(device: Device) -> None:
    """Reads return one record each, newest first, and b"" from the end on."""
    file = _open(device, "longterm_pinner")
    assert [file.read(4096) for _ in range(12)] == [*newest_first(10), b"", b""]


def test_strictly_shorter_than_the_buffer(device: Device) -> None:
    """A buffer of the record's own length is too small, and the position stays; 4096 is the most that counts."""
    file = _open(device, "longterm_pinner")
    length = len(record(9))
    for size in (0, 1, length - 1, length):
        assert outcome(lambda size=size: file.read(size)) == -errno.ENOMEM  # type: ignore[misc]
    assert file.read(length + 1) == record(9)
    assert file.read(1 << 20) == record(8)


def test_reads_at_the_end_move_on(device: Device) -> None:
    """Two reads past the end of ten records leave the position at 12."""
    file = _open(device, "longterm_pinner")
    for _ in range(12):
        file.read(4096)
    device.clock.advance(5_000_000)
    assert file.read(4096) == record(2)


def test_longterm_pinner_has_no_write(device: Device) -> None:
    """A write to longterm_pinner is EINVAL, and clears nothing."""
    file = _open(device, "longterm_pinner")
    assert outcome(lambda: file.write(b"5")) == -errno.EINVAL
    assert file.read(4096) == record(9)


def test_threshold_text_is_made_at_position_0(device: Device) -> None:
    """The text stays as it was when it was begun."""
    file, other = _open(device, "threshold"), _open(device, "threshold")
    assert file.read(3) == b"300"
    other.write(b"7")
    assert (file.read(100), file.read(100), other.read(100)) == (b"000\n", b"", b"7\n")


def test_threshold_write_clears(device: Device) -> None:
    """A write clears, a refused one does not, and both fall at the clock's own time."""
    file, records = _open(device, "threshold"), _open(device, "longterm_pinner")
    assert outcome(lambda: file.write(b"x")) == -errno.EINVAL
    assert outcome(lambda: file.write(b"99999999999999999999")) == -errno.ERANGE
    assert records.read(4096) == record(9)
    file.write(b"300000")
    assert _open(device, "longterm_pinner").read(4096) == b""
    device.clock.advance(400_000)  # pin 10, begun before the write, ends
    assert _open(device, "longterm_pinner").read(4096) == record(10)


def test_failure_tracking(device: Device) -> None:
    """failure_tracking is 1 at first, reads back 1 for anything but 0, and switches alloc_contig_failed."""
    failures = Failures()
    tracking = FILES["failure_tracking"][1](device, failures)
    failed = FILES["alloc_contig_failed"][1](device, failures)()
    assert tracking().read(10) == b"1\n"
    assert failed.read(4096) == b""
    tracking().write(b"0")
    assert tracking().read(10) == b"0\n"
    assert outcome(lambda: failed.read(4096)) == -errno.EINVAL
    tracking().write(b"18446744073709551615")
    assert tracking().read(10) == b"1\n"
    assert outcome(lambda: failed.write(b"1")) == -errno.EINVAL


def test_advance_and_its_errors(device: Device) -> None:
    """A time lets the clock go on; anything else is EINVAL with the reason in `error`, until the next success."""
    control = Control(device)
    show = {name: opener for name, (_, opener) in control.files.items()}
    show["advance"]().write(b"5s\n")
    assert show["clock"]().read(100) == b"15000000\n"
    for wrong in (b"", b"5", b"-1s", b"\xff", b"5 s s"):
        assert outcome(lambda wrong=wrong: show["advance"]().write(wrong)) == -errno.EINVAL  # type: ignore[misc]
        assert show["error"]().read(1000).endswith(b"\n")
    assert show["clock"]().read(100) == b"15000000\n"
    show["advance"]().write(b"0s")
    assert show["error"]().read(100) == b""
    assert show["stats"]().read(1000).startswith(b"pins 16\nreleases 15\n")


def test_advance_that_is_a_lot_of_work(device: Device, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It stops after a while with ETIMEDOUT, the clock where the books are; steering goes on to the same end."""
    monkeypatch.setattr("pinnerfs.debugfs.control.PATIENCE", 0.0)
    files = Control(device).files
    assert outcome(lambda: files["advance"][1]().write(b"8000h")) == -errno.ETIMEDOUT
    came = device.clock.now() - 10_000_000
    left = 8000 * 3600 * 10**6 - came
    assert min(came, left) > 0
    words = f"advance = '8000h' came {came}us far in 0 seconds: {left}us are left\n"
    assert files["error"][1]().read(1000).decode() == words
    # Through the folder, as ctl does it; a deadline of no time makes each write one piece of the work.
    writes: list[str] = []

    def write(self: Client, name: str, text: str) -> None:
        writes.append(text)
        files[name][1]().write(text.encode())

    (tmp_path / ".pinnerfs").mkdir()
    monkeypatch.setattr(Client, "_read", lambda self, name: files[name][1]().read(1000).decode())
    monkeypatch.setattr(Client, "_write", write)
    Client(tmp_path).advance("20h")
    assert device.clock.now() == 10_000_000 + came + 20 * 3600 * 10**6
    assert len(writes) > 1
    twin = Simulation(load(scenario(tmp_path)))
    twin.advance_to(device.clock.now())
    with device.up_to_now() as simulation:
        assert simulation.longterm_pinner() == twin.longterm_pinner() != ""


def test_what_error_says_fits_a_terminal(device: Device) -> None:
    """However long and whatever is written, the reason is one line of printable text."""
    files = Control(device).files
    for order in (b"9" * 100_000, b"\x1b[31m\n" * 1000):
        for name in ("advance", "do"):
            assert outcome(lambda name=name, order=order: files[name][1]().write(order)) == -errno.EINVAL  # type: ignore[misc]
            said = files["error"][1]().read(1 << 20).decode()
            assert said.endswith("\n") and said[:-1].isprintable() and 10 < len(said) < 5000


def test_advance_of_a_real_clock(tmp_path: Path) -> None:
    """A real clock refuses with EPERM, and says why."""
    control = Control(Device(Simulation(load(scenario(tmp_path))), RealClock()))
    opener = control.files["advance"][1]
    assert outcome(lambda: opener().write(b"5s")) == -errno.EPERM
    assert b"--clock manual" in control.files["error"][1]().read(1000)


def test_live_actions(device: Device) -> None:
    """do pins and releases at the clock's own time; what it refuses is EINVAL, with the reason in `error`."""
    files = Control(device).files
    show = {name: opener for name, (_, opener) in files.items()}
    show["do"]().write(b"pin task=driver hold=1s\n")
    device.clock.advance(1_000_000)
    assert _open(device, "longterm_pinner").read(4096).startswith(b"Page pinned ts 1000000 us count 1\n")
    assert outcome(lambda: show["do"]().write(b"pin task=nobody")) == -errno.EINVAL
    assert show["error"]().read(1000) == b"line 1: task = 'nobody' must be one of 'driver'\n"
    show["do"]().write(b"pin task=driver")
    assert show["error"]().read(1000) == b""


def test_control_files_go_one_way(device: Device) -> None:
    """advance and do are for writing alone, the others are for reading alone."""
    files = Control(device).files
    for name in ("advance", "do"):
        assert outcome(lambda name=name: files[name][1]().read(10)) == -errno.EINVAL  # type: ignore[misc]
    for name in ("clock", "error", "pid", "stats"):
        assert outcome(lambda name=name: files[name][1]().write(b"1")) == -errno.EINVAL  # type: ignore[misc]
