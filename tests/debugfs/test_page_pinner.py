"""The files of page_pinner/, without a mount."""

from __future__ import annotations

import errno
import logging

import pytest

from pinnerfs.debugfs.declaration import File, OpenFile
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.page_pinner import page_pinner_directory
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from tests.mount.support import newest_first, outcome, record


def _files(device: Device) -> dict[str, File]:
    entries = page_pinner_directory(device, GENERATIONS["android12-5.10-early"]).entries
    return {entry.name: entry for entry in entries if isinstance(entry, File)}


def _open(device: Device, name: str) -> OpenFile:
    return _files(device)[name].open()


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
    assert caplog.messages == ["threshold set to 300000 us: all records cleared"]
    assert files["longterm_pinner"].open().read(4096) == b""
    device.clock.advance(400_000)  # pin 10, which began before the write, ends
    assert files["longterm_pinner"].open().read(4096) == record(10)


def test_a_threshold_over_63_bits(device: Device) -> None:
    """The kernel keeps the unsigned number as an s64."""
    threshold = _files(device)["threshold"]
    threshold.open().write(b"18446744073709551615")
    assert threshold.open().read(100) == b"-1\n"


def test_failure_tracking(device: Device) -> None:
    """failure_tracking starts as 1, reads back 1 for any number but 0, and switches alloc_contig_failed."""
    files = _files(device)
    tracking, failed = files["failure_tracking"], files["alloc_contig_failed"].open()
    assert tracking.open().read(10) == b"1\n"
    assert failed.read(4096) == b""
    tracking.open().write(b"0")
    assert tracking.open().read(10) == b"0\n"
    assert outcome(lambda: failed.read(4096)) == -errno.EINVAL
    tracking.open().write(b"18446744073709551615")
    assert tracking.open().read(10) == b"1\n"
    assert outcome(lambda: failed.write(b"1")) == -errno.EINVAL
