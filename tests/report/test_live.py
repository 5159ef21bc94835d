"""A report of a mounted debugfs."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
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


@pytest.fixture
def redirect() -> Iterator[Callable[[Path], None]]:
    """Redirect standard input, as the shell's `<` does."""
    before = os.dup(0)

    def from_file(path: Path) -> None:
        descriptor = os.open(path, os.O_RDONLY)
        os.dup2(descriptor, 0)
        os.close(descriptor)

    yield from_file
    os.dup2(before, 0)
    os.close(before)


@pytest.mark.mount
def test_standard_input_from_a_mount(redirect: Callable[[Path], None]) -> None:
    """A record file that is redirected is read record by record, and its name tells which one it is."""
    with pinnerfs.mounted("camera-stall") as device:
        device.advance("60s")
        text = device.text()
        redirect(device.root / "page_pinner" / "longterm_pinner")
        capture = read("-")
    assert "".join(record.raw for record in capture.records) == text
    assert [dump.file for dump in capture.dumps] == ["longterm_pinner"]


@pytest.mark.mount
def test_an_empty_file_of_a_mount_on_standard_input(redirect: Callable[[Path], None]) -> None:
    """An empty record file is a dump, also on standard input. Another empty file is not."""
    with pinnerfs.mounted("camera-stall", clock="manual") as device:
        redirect(device.root / "page_pinner" / "longterm_pinner")
        assert analyse(read("-")).headline == "no long-term pin recorded"


@pytest.mark.mount
def test_standard_input_that_does_not_answer(tmp_path: Path, redirect: Callable[[Path], None]) -> None:
    """A read from standard input or from a file that is named is given up after the deadline, with status 75."""
    slow = (Path(__file__).parents[2] / "scenarios" / "slow-reads.toml").read_text()
    (tmp_path / "slow.toml").write_text(slow.replace('op = "open"', 'op = "read"'))
    with pinnerfs.mounted(tmp_path / "slow.toml") as device:
        device.advance("60s")
        file = device.root / "page_pinner" / "longterm_pinner"
        redirect(file)
        for name, path in (("stdin", "-"), (repr(str(file)), file)):
            with pytest.raises(PinnerfsError) as error:
                read(path, max_wait=0.2)
            assert (str(error.value), error.value.exit_status) == (f"cannot read {name}: no answer for 0.2 s", 75)


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


def test_a_damaged_file_in_a_directory(tmp_path: Path) -> None:
    """A file that cannot be read is skipped with a note, and the other files of its directory are read."""
    simulation = pinnerfs.Simulation(pinnerfs.load("threshold-edges"))
    simulation.advance("10s")
    (tmp_path / "a.txt").write_text(simulation.cat())
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    capture = read(tmp_path)
    assert len(capture.records) == 1
    assert [str(note) for note in capture.notes] == [
        f"{tmp_path}/b.zip: it was skipped: it is a damaged zip: File is not a zip file"
    ]
    (tmp_path / "a.txt").unlink()
    with pytest.raises(PinnerfsError, match=r"nothing to report in .*b.zip: it was skipped: it is a damaged zip"):
        read(tmp_path)


def test_a_directory_without_records(tmp_path: Path) -> None:
    """A directory without a dump is refused in one line."""
    (tmp_path / "a.txt").write_text("hello\n")
    with pytest.raises(PinnerfsError, match="nothing to report in"):
        read(tmp_path)
