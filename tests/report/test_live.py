"""A report of a mounted debugfs."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

import pinnerfs
from pinnerfs.errors import PinnerfsError
from pinnerfs.report import analyse, read
from pinnerfs.report.naming import load_sites
from tests.mount.support import DEADLINE


@pytest.mark.mount
def test_a_mount_is_read_record_by_record() -> None:
    """A mount gives the records, the settings and the kernel; a record file alone gives the same records."""
    with pinnerfs.mounted("camera-stall", kernel="introduced") as device:
        device.advance("60s")
        text = device.text()
        capture = read(device.root)
        alone = read(device.root / "page_pinner" / "longterm_pinner")
    assert "".join(record.raw for record in capture.records) == text
    assert alone.records == capture.records
    assert (capture.generation, analyse(capture).threshold_us) == ("introduced", 300_000)
    assert analyse(alone).threshold_us == 300_000


@pytest.mark.mount
def test_a_read_that_fails_is_repeated() -> None:
    """A failed read consumes no record, so a reader that tries again loses none."""
    with pinnerfs.mounted("flaky-reads") as device:
        device.advance("60s")
        capture = read(device.root)
    assert len(capture.records) == 240
    assert not capture.notes


@pytest.mark.mount
def test_tracking_that_is_off() -> None:
    """A record file that refuses reads is noted, and proves nothing."""
    with pinnerfs.mounted("camera-stall", kernel="android14-6.1") as device:
        (device.root / "page_pinner" / "failure_tracking").write_text("0\n")
        capture = read(device.root)
    assert [dump.unreadable for dump in capture.dumps] == [True]
    assert "the rest was skipped: Invalid argument" in [note.reason for note in capture.notes]
    assert analyse(capture).headline == "no record could be read"


@pytest.mark.mount
def test_a_file_that_does_not_answer() -> None:
    """A file whose open takes half a minute is given up after the deadline."""
    with pinnerfs.mounted("slow-reads") as device:
        device.advance("60s")
        capture = read(device.root, max_wait=0.5)
    assert [dump.unreadable for dump in capture.dumps] == [True]
    assert [note.reason for note in capture.notes] == ["the rest was skipped: no answer for 0.5 s"]


def test_a_pipe_with_a_name(tmp_path: Path) -> None:
    """A named pipe is read to its end, as the shell's <(...) makes them."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    simulation = pinnerfs.Simulation(pinnerfs.load("threshold-edges"))
    simulation.advance("10s")
    text = simulation.cat()
    writer = threading.Thread(target=fifo.write_text, args=(text,), daemon=True)
    writer.start()
    capture = read(fifo)
    writer.join(DEADLINE)
    assert "".join(record.raw for record in capture.records) == text


def test_a_pipe_without_a_writer(tmp_path: Path) -> None:
    """The open of a named pipe is given up after the deadline, with status 75."""
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    for call in (read, load_sites):
        with pytest.raises(PinnerfsError, match=r"fifo'?: no answer for 0.2 s") as error:
            call(fifo, max_wait=0.2)
        assert error.value.exit_status == 75


def test_a_directory_without_records(tmp_path: Path) -> None:
    """A directory without a dump is refused in one line."""
    (tmp_path / "a.txt").write_text("hello\n")
    with pytest.raises(PinnerfsError, match="nothing to report in"):
        read(tmp_path)
