"""Compressed inputs and inputs in UTF-16, and the limits on what they may unpack to."""

from __future__ import annotations

import gzip
import lzma
import os
import threading
import zipfile
from contextlib import suppress
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.report import Capture, read, unpack
from tests.mount.support import DEADLINE
from tests.report.texts import pin

TEXT = pin(300_001, 0x80001) + pin(400_001, 0x80002)
LIMIT = "the rest was skipped: it has more than 0 GiB; write what is in it to files, and name the ones to read"


def raw(capture: Capture) -> str:
    """Return the text of all records."""
    return "".join(record.raw for record in capture.records)


def reasons(capture: Capture) -> list[str]:
    """Return what was skipped, and why."""
    return [note.reason for note in capture.notes]


def bomb(path: Path, size: int) -> None:
    """Write a zip with a small dump, a member of zeros, and another dump."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.txt", TEXT)
        archive.writestr("b.txt", bytes(size))
        archive.writestr("c.txt", TEXT)


@pytest.mark.parametrize(("encoding", "mark"), [("utf-16-le", b"\xff\xfe"), ("utf-16-be", b"\xfe\xff")])
def test_utf_16(tmp_path: Path, encoding: str, mark: bytes) -> None:
    """A dump that PowerShell's `>` wrote is read, also if it is compressed, long, or ends inside a character."""
    records = [pin(300_001 + number, 0x80000 + 2 * number) for number in range(4096)]
    data = mark + "".join(records).replace("\n", "\r\n").encode(encoding)
    (tmp_path / "a.txt").write_bytes(data)
    (tmp_path / "a.gz").write_bytes(gzip.compress(data))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", data)
    for name in ("a.txt", "a.gz", "a.zip"):
        capture = read(tmp_path / name)
        assert raw(capture) == "".join(records) and not capture.notes, name
    (tmp_path / "a.txt").write_bytes(data[:-1])
    assert len(read(tmp_path / "a.txt").records) >= 4095


def test_the_mark_of_utf_8(tmp_path: Path) -> None:
    """The mark that Windows puts in front of UTF-8 is no prefix of the lines."""
    (tmp_path / "a.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    capture = read(tmp_path / "a.txt")
    assert raw(capture) == TEXT and not capture.notes


def test_bombs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What unpacks to more than the limit is read up to it. Nothing behind it is."""
    monkeypatch.setattr(unpack, "_MOST_UNPACKED", 1 << 20)
    (tmp_path / "a.gz").write_bytes(gzip.compress(TEXT.encode()) + gzip.compress(bytes(2 << 20)))
    (tmp_path / "a.xz").write_bytes(lzma.compress(TEXT.encode()) + lzma.compress(bytes(2 << 20)))
    bomb(tmp_path / "a.zip", 2 << 20)
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("a.gz", (tmp_path / "a.gz").read_bytes())
    for name in ("a.gz", "a.xz", "a.zip", "b.zip"):
        capture = read(tmp_path / name)
        assert raw(capture) == TEXT, name
        assert LIMIT in reasons(capture), name


def test_a_bomb_from_a_pipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip that cannot be read from its end is copied, up to the limit."""
    monkeypatch.setattr(unpack, "_MOST_UNPACKED", 1 << 10)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", bytes(4 << 20))
    reader, writer = os.pipe()
    feeder = threading.Thread(target=_feed, args=(writer, (tmp_path / "a.zip").read_bytes()), daemon=True)
    feeder.start()
    with os.fdopen(reader, "rb") as file, pytest.raises(PinnerfsError, match="it has more than"):
        list(unpack.stream("a.zip", "", file))
    feeder.join(DEADLINE)


def _feed(writer: int, data: bytes) -> None:
    with suppress(BrokenPipeError), os.fdopen(writer, "wb") as file:
        file.write(data)


@pytest.mark.parametrize("method", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_compressions_that_are_not_read(tmp_path: Path, method: int) -> None:
    """A method of a zip that Python unpacks without a limit is refused, and the other members are read."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", TEXT, method)
        archive.writestr("b.txt", TEXT)
    capture = read(tmp_path / "a.zip")
    assert raw(capture) == TEXT
    assert reasons(capture) == ["it was skipped: its compression is neither deflate nor none"]


def test_an_encrypted_member(tmp_path: Path) -> None:
    """A member with a password is named and skipped, and the other members are read."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("secret.txt", TEXT)
        archive.writestr("b.txt", TEXT)
    data = bytearray((tmp_path / "a.zip").read_bytes())
    data[6] |= 1  # the flags of the first member, at its data and in the directory
    data[data.index(b"PK\1\2") + 8] |= 1
    (tmp_path / "a.zip").write_bytes(data)
    capture = read(tmp_path / "a.zip")
    assert raw(capture) == TEXT
    assert [str(note) for note in capture.notes] == [
        f"{tmp_path}/a.zip:secret.txt: it was skipped: it is encrypted; unpack the zip with its password"
    ]


def test_a_zip_of_many_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A zip with too many members is refused in one line."""
    monkeypatch.setattr(unpack, "_MOST_MEMBERS", 2)
    bomb(tmp_path / "a.zip", 1)
    with pytest.raises(PinnerfsError, match="has more than 2 files: unpack it, and name the ones to read"):
        read(tmp_path / "a.zip")


def test_a_member_without_a_name(tmp_path: Path) -> None:
    """A damaged directory of a zip may have an empty name: that member is read, or noted, as any other."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", TEXT)
        archive.writestr("b.txt", TEXT)
    data = (tmp_path / "a.zip").read_bytes()
    at = data.rindex(b"b.txt")
    (tmp_path / "a.zip").write_bytes(data[:at] + b"\0" + data[at + 1 :])  # a name ends at a NUL
    capture = read(tmp_path / "a.zip")
    assert raw(capture) == TEXT
    assert [reason.partition(":")[0] for reason in reasons(capture)] == ["the rest was skipped"]
