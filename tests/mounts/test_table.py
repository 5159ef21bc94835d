"""Mount points, judged from the kernel's table alone: nothing is mounted here."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.claim import claim
from pinnerfs.mounts.table import unmount

LINE = b"36 25 0:32 / %s rw,relatime shared:1 - %s debugfs rw,user_id=0\n"


def show_table(monkeypatch: pytest.MonkeyPatch, *mounts: tuple[bytes, bytes]) -> None:
    """Let the kernel's table have these mount points, with their types."""
    text = b"25 1 8:1 / / rw - ext4 /dev/root rw\n" + b"".join(LINE % mount for mount in mounts)
    monkeypatch.setattr(Path, "read_bytes", lambda path: text)


@pytest.mark.parametrize(
    ("written", "name"),
    [
        (b"plain", b"plain"),
        (b"with\\040blank", b"with blank"),
        (b"back\\134slash", b"back\\slash"),
        (b"back\\134040slash", b"back\\040slash"),
        (b"new\\012line\\011tab", b"new\nline\ttab"),
        (b"hash\\043", b"hash#"),
        ("ünïcode".encode(), "ünïcode".encode()),
        (b"caf\xe9", b"caf\xe9"),
        (b"a\x0bb\x0cc\x1cd\x85e\xe2\x80\xa8f", b"a\x0bb\x0cc\x1cd\x85e\xe2\x80\xa8f"),
        (b"-", b"-"),
    ],
)
def test_names_in_the_table(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, written: bytes, name: bytes) -> None:
    """A mount point is recognised whatever its name has in it, and however the kernel writes it."""
    folder = bytes(tmp_path) + b"/" + name
    Path(folder.decode(errors="surrogateescape")).mkdir()
    show_table(monkeypatch, (b"/somewhere/else", b"tmpfs"), (bytes(tmp_path) + b"/" + written, b"fuse.pinnerfs"))
    with pytest.raises(PinnerfsError, match=r"it is already a mount point \(fuse.pinnerfs\)"):
        claim(folder.decode(errors="surrogateescape"))


def test_the_last_of_several_counts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Of mounts on top of each other the last one is meant."""
    show_table(monkeypatch, (bytes(tmp_path), b"fuse.pinnerfs"), (bytes(tmp_path), b"tmpfs"))
    with pytest.raises(PinnerfsError, match=r"wanted a fuse\.pinnerfs mount, but a tmpfs is mounted there"):
        unmount(str(tmp_path))


def test_neighbours_are_not_meant(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A mount below a folder, or beside it, is none on it."""
    show_table(monkeypatch, (bytes(tmp_path) + b"/below", b"fuse.pinnerfs"), (bytes(tmp_path) + b"2", b"fuse.pinnerfs"))
    with pytest.raises(PinnerfsError, match="but nothing is mounted there"):
        unmount(str(tmp_path))
