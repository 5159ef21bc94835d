"""The files of page_pinner/, without a mount."""

from __future__ import annotations

import errno
import logging
from functools import partial

import pytest

from pinnerfs import Simulation, parse
from pinnerfs.clock import ManualClock
from pinnerfs.debugfs.declaration import File, OpenFile
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.page_pinner import page_pinner_directory
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.kernel.pages import FAILED
from tests.mount.support import newest_first, outcome, record
from tests.workload.stories import source, task


def _files(device: Device, kernel: str = "introduced") -> dict[str, File]:
    entries = page_pinner_directory(device, GENERATIONS[kernel]).entries
    return {entry.name: entry for entry in entries if isinstance(entry, File)}


def _open(device: Device, name: str) -> OpenFile:
    return _files(device)[name].open()


class Freed:
    """A device with Pixel's kernel whose alloc_contig_failed has records, or one with `buffer` and none."""

    def __init__(self, kernel: str) -> None:
        text = source(task("driver", 'repeat = 5, every = "1s", hold = "5ms"', release="put_page"))
        self.simulation = Simulation(parse(text), kernel=kernel)
        self.device = Device(self.simulation, ManualClock(10_000_000))
        self.files = _files(self.device, kernel)
        # Each page is pinned once more by hand, and freed: GET is still there.
        self.device.do("pin task=driver pages=1\nfree task=driver\n" * 3)

    def open(self, name: str) -> OpenFile:
        """Open a file of page_pinner/."""
        return self.files[name].open()

    def write(self, name: str, text: bytes) -> int:
        """Write a file; return 0 or a negative errno."""
        return outcome(lambda: self.open(name).write(text)) or 0

    def read(self, name: str) -> bytes:
        """Read a number."""
        return self.open(name).read(100)


@pytest.fixture
def pixel() -> Freed:
    """Pixel's 5.10 kernel with three records of frees."""
    return Freed("pixel-5.10")


@pytest.fixture
def buffer() -> Freed:
    """A kernel with `buffer`, which is empty."""
    return Freed("android14-6.1")


@pytest.mark.parametrize("kernel", GENERATIONS)
def test_each_generation_has_its_files(device: Device, kernel: str) -> None:
    """The directory holds the generation's files, in the order in which that kernel creates them."""
    generation = GENERATIONS[kernel]
    directory = page_pinner_directory(device, generation)
    assert (directory.name, directory.mode, directory.listed) == ("page_pinner", 0o755, True)
    assert tuple(entry.name for entry in directory.entries) == generation.files


def test_one_record_a_read(device: Device) -> None:
    """Reads return one record each, newest first, and b"" from the end on."""
    file = _open(device, "longterm_pinner")
    assert [file.read(4096) for _ in range(12)] == [*newest_first(10), b"", b""]


def test_strictly_shorter_than_the_buffer(device: Device) -> None:
    """A record needs a buffer of one byte more: else ENOMEM, and the position stays."""
    file = _open(device, "longterm_pinner")
    length = len(record(9))
    for size in (0, 1, length - 1, length):
        assert outcome(lambda size=size: file.read(size)) == -errno.ENOMEM  # type: ignore[misc]
    assert file.read(length + 1) == record(9)
    assert file.read(1 << 20) == record(8)


def test_reads_at_the_end_advance_the_position(device: Device) -> None:
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


def test_a_threshold_write_clears_the_records(device: Device, caplog: pytest.LogCaptureFixture) -> None:
    """A write clears the records at the clock's time and is logged; a refused one does neither."""
    caplog.set_level(logging.INFO)
    files = _files(device)
    threshold, records = files["threshold"].open(), files["longterm_pinner"].open()
    assert outcome(lambda: threshold.write(b"x")) == -errno.EINVAL
    assert outcome(lambda: threshold.write(b"99999999999999999999")) == -errno.ERANGE
    assert records.read(4096) == record(9)
    assert caplog.messages == []
    threshold.write(b"300000")
    assert caplog.messages == ["threshold set to 300000 us: all records of longterm_pinner cleared"]
    assert files["longterm_pinner"].open().read(4096) == b""
    device.clock.advance(400_000)  # pin 10, which began before the write, ends
    assert files["longterm_pinner"].open().read(4096) == record(10)


def test_a_threshold_over_63_bits(device: Device) -> None:
    """The kernel keeps the unsigned number as an s64."""
    threshold = _files(device)["threshold"]
    threshold.open().write(b"18446744073709551615")
    assert threshold.open().read(100) == b"-1\n"


def test_failure_tracking(pixel: Freed) -> None:
    """failure_tracking starts as 1, reads back 1 for any number but 0, and is not changed by other text."""
    assert pixel.read("failure_tracking") == b"1\n"
    for text, back in ((b"0", b"0\n"), (b"18446744073709551615", b"1\n"), (b"0x0\n", b"0\n"), (b"5", b"1\n")):
        assert pixel.write("failure_tracking", text) == 0
        assert pixel.read("failure_tracking") == back
    for text, error in ((b"Y", errno.EINVAL), (b"-1", errno.EINVAL), (b"", errno.EINVAL), (b"9" * 20, errno.ERANGE)):
        assert pixel.write("failure_tracking", text) == -error
    assert pixel.read("failure_tracking") == b"1\n"


def test_reads_while_tracking_is_off(pixel: Freed) -> None:
    """While failure_tracking is 0, every read is EINVAL and the position stays. The records are kept."""
    failed = pixel.open("alloc_contig_failed")
    texts = [failed.read(4096) for _ in range(4)]
    assert [text[:9] for text in texts] == [b"Freed at ", b"Freed at ", b"Freed at ", b""]
    failed = pixel.open("alloc_contig_failed")
    assert failed.read(4096) == texts[0]
    pixel.write("failure_tracking", b"0")
    for size in (4096, 0, 1):
        assert outcome(lambda size=size: failed.read(size)) == -errno.EINVAL  # type: ignore[misc]
    assert pixel.open("longterm_pinner").read(4096) == b""
    pixel.write("failure_tracking", b"1")
    assert failed.read(4096) == texts[1]


def test_the_threshold_leaves_the_other_ring_alone(pixel: Freed) -> None:
    """A write of the threshold empties longterm_pinner, and nothing empties alloc_contig_failed."""
    pixel.write("threshold", b"5")
    assert pixel.open("alloc_contig_failed").read(4096).startswith(b"Freed at ")


def test_a_small_read_keeps_the_position(pixel: Freed) -> None:
    """ENOMEM for a record that does not fit; the next read with room returns it."""
    failed = pixel.open("alloc_contig_failed")
    text = pixel.open("alloc_contig_failed").read(4096)
    for size in (0, 1, 100, len(text)):
        assert outcome(lambda size=size: failed.read(size)) == -errno.ENOMEM  # type: ignore[misc]
    assert failed.read(len(text) + 1) == text


@pytest.mark.parametrize("name", ["alloc_contig_failed", "longterm_pinner"])
def test_record_files_have_no_write(pixel: Freed, name: str) -> None:
    """A write of a record file is EINVAL, also of no bytes."""
    assert (pixel.write(name, b"1"), pixel.write(name, b"")) == (-errno.EINVAL, -errno.EINVAL)


def test_buffer_size(buffer: Freed) -> None:
    """buffer_size starts as 4096 and takes any number of slots up to a 2 GiB ring. A refused write changes nothing."""
    assert buffer.read("buffer_size") == b"4096\n"
    for text, back in ((b"1", b"1\n"), (b"0x10\n", b"16\n"), (b"0", b"0\n"), (b"38347922", b"38347922\n")):
        assert buffer.write("buffer_size", text) == 0
        assert buffer.read("buffer_size") == back
    for text, error in (
        (b"38347923", errno.ENOMEM),
        (b"18446744073709551615", errno.ENOMEM),
        (b"18446744073709551616", errno.ERANGE),
        (b"abc", errno.EINVAL),
        (b"-1", errno.EINVAL),
        (b"", errno.EINVAL),
    ):
        assert buffer.write("buffer_size", text) == -error
    assert buffer.read("buffer_size") == b"38347922\n"
    assert buffer.write("buffer", b"1") == -errno.EINVAL


def test_buffer_follows_failure_tracking(buffer: Freed) -> None:
    """A read of buffer is EINVAL while failure_tracking is 0, and empty without a failed migration."""
    assert buffer.open("buffer").read(4096) == b""
    buffer.write("failure_tracking", b"0")
    assert outcome(lambda: buffer.open("buffer").read(0)) == -errno.EINVAL


def test_a_resized_buffer_is_empty_and_keeps_positions(buffer: Freed) -> None:
    """A valid write of buffer_size empties buffer, also with the same number. Open files keep their position."""
    simulation, file = buffer.simulation, buffer.open("buffer")
    fill(simulation, 6)
    first = [file.read(4096) for _ in range(2)]
    assert b"" not in first
    for size in (b"8", b"8"):
        assert buffer.write("buffer_size", size) == 0
        assert buffer.open("buffer").read(4096) == b""
        fill(simulation, 4)
    assert file.read(4096) == buffer_texts(buffer)[2]
    assert buffer.write("buffer_size", b"abc") == -errno.EINVAL
    assert len(buffer_texts(buffer)) == 4


def test_the_position_stays_behind_the_last_slot(buffer: Freed) -> None:
    """A read behind the last slot leaves the position there; a read of an empty slot advances it."""
    buffer.write("buffer_size", b"2")
    file = buffer.open("buffer")
    assert [file.read(4096) for _ in range(5)] == [b""] * 5  # two empty slots, and three reads behind the last
    buffer.write("buffer_size", b"16")
    fill(buffer.simulation, 6)
    assert file.read(4096) == buffer_texts(buffer)[2]


def test_a_ring_of_no_slots(buffer: Freed) -> None:
    """With buffer_size 0 every read is the end, and records that arrive are dropped."""
    buffer.write("buffer_size", b"0")
    fill(buffer.simulation, 3)
    assert buffer_texts(buffer) == []


def buffer_texts(buffer: Freed) -> list[bytes]:
    """Return all records of buffer."""
    return list(iter(partial(buffer.open("buffer").read, 4096), b""))


def fill(simulation: Simulation, pages: int) -> None:
    """Let so many pages be released after a failed migration: each leaves a record."""
    simulation.do(f"pin task=driver pages={pages}")
    state = simulation._pinner.state
    state.bits[state.references > 0] |= FAILED
    simulation.do(f"release task=driver pages={pages}")
