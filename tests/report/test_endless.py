"""Inputs that never end, or whose lines do not: the reading stops at a limit, and says so."""

from __future__ import annotations

import gzip
import os
import subprocess
import sys
import threading
from contextlib import suppress
from pathlib import Path

import pytest

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.report import live, read, unpack
from tests.mount.support import DEADLINE
from tests.report.texts import pin

TEXT = pin(300_001, 0x80001) + pin(400_001, 0x80002)


def test_an_endless_line_on_stdin() -> None:
    """`report - < /dev/zero` ends with one line."""
    with open("/dev/zero", "rb") as zeros:
        done = subprocess.run(
            [sys.executable, "-m", "pinnerfs", "report", "-"],
            stdin=zeros,
            capture_output=True,
            text=True,
            timeout=DEADLINE,
            check=False,
        )
    assert done.returncode == BAD_INPUT and not done.stdout
    assert done.stderr.startswith("Error: nothing to report in ")
    assert done.stderr.endswith("; stdin: the rest was skipped: a line has more than 64 MiB\n")


@pytest.mark.parametrize("packed", [False, True])
def test_an_endless_line_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, packed: bool) -> None:
    """Records before a line that is no text are kept, and a note tells of the rest."""
    monkeypatch.setattr(unpack, "_MOST_LINE", 4 << 20)
    data = TEXT.encode() + bytes(6 << 20) + b"\n\n" + TEXT.encode()
    (tmp_path / "a").write_bytes(gzip.compress(data, 1) if packed else data)
    capture = read(tmp_path / "a")
    assert "".join(record.raw for record in capture.records) == TEXT
    assert [note.reason for note in capture.notes] == ["the rest was skipped: a line has more than 4 MiB"]


def test_a_long_line_within_the_limit(tmp_path: Path) -> None:
    """A line of some MiB hides no record behind it."""
    (tmp_path / "a").write_bytes(b"x" * (3 << 20) + b"\n\n" + TEXT.encode())
    assert len(read(tmp_path / "a").records) == 2


@pytest.mark.parametrize("records", ["", TEXT])
def test_an_endless_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, records: str) -> None:
    """What never ends, as `yes` writes it, is read up to the limit of what is unpacked."""
    monkeypatch.setattr(unpack, "_MOST_UNPACKED", 8 << 20)
    os.mkfifo(tmp_path / "pipe")
    feeder = threading.Thread(target=_feed, args=(tmp_path / "pipe", records.encode()), daemon=True)
    feeder.start()
    limit = "the rest was skipped: it has more than 0 GiB; write what is in it to files, and name the ones to read"
    if records:
        capture = read(tmp_path / "pipe")
        assert len(capture.records) == 2 and [note.reason for note in capture.notes] == [limit]
    else:
        with pytest.raises(PinnerfsError, match=limit) as caught:
            read(tmp_path / "pipe")
        assert caught.value.exit_status == BAD_INPUT and "\n" not in str(caught.value)
    feeder.join(DEADLINE)
    assert not feeder.is_alive()


def _feed(path: Path, begin: bytes) -> None:
    with suppress(BrokenPipeError), open(path, "wb", buffering=0) as pipe:
        pipe.write(begin)
        while True:
            pipe.write(b"y\n" * 4096)


def test_a_plain_file_is_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The limit of what is unpacked is not one of a file's size."""
    monkeypatch.setattr(unpack, "_MOST_UNPACKED", 1 << 20)
    (tmp_path / "a").write_bytes(b"a log line\n" * (3 << 17) + b"\n" + TEXT.encode())
    capture = read(tmp_path / "a")
    assert len(capture.records) == 2 and not capture.notes


def test_an_endless_file_of_a_debugfs(monkeypatch: pytest.MonkeyPatch) -> None:
    """A file without a size that never ends is read up to a limit, with a note."""
    monkeypatch.setattr(live, "MOST", 3000)

    def reads(descriptor: int) -> list[bytes]:
        return [TEXT.encode() for _ in range(100)]

    monkeypatch.setattr(live, "reads", reads)
    source = live.live("/dev/null", "page_pinner/longterm_pinner", DEADLINE)
    assert len(b"".join(source.pieces)) < 4000
    assert source.problems == ["the rest was skipped: it has more than 0 MiB"]


@pytest.mark.parametrize("argument", [("/dev/zero",), ("-", "--sites", "/dev/zero")])
def test_devices_by_name(argument: tuple[str, ...]) -> None:
    """A device is no input, and its endless text is no file of sites."""
    done = subprocess.run(
        [sys.executable, "-m", "pinnerfs", "report", *argument],
        input=TEXT,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == BAD_INPUT and not done.stdout and done.stderr.count("\n") == 1
    wanted = "it is neither a file nor a directory" if len(argument) == 1 else "it is longer than 1048576 bytes"
    assert done.stderr.endswith(f"{wanted}\n") and "'/dev/zero'" in done.stderr
