"""The file of -o: all of it or nothing."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from pinnerfs.errors import NO_ANSWER, PinnerfsError
from pinnerfs.record.output import write_output
from tests.mount.support import DEADLINE, ROOT

# Writes FILE, and gets a signal when the temporary file is there.
INTERRUPTED = """
import os, sys
from pinnerfs.record import output
output._write_all = lambda descriptor, data: os.kill(os.getpid(), int(sys.argv[2]))
output.write_output("-o", sys.argv[1], b"half", False, 10)
"""


def names(directory: Path) -> list[str]:
    """Return the names in a directory, hidden ones too."""
    return sorted(os.listdir(directory))


def test_a_file(tmp_path: Path) -> None:
    """A new file has the usual mode, an existing one needs force, and neither leaves another file."""
    path = tmp_path / "capture.txt"
    write_output("-o", str(path), b"one", False, DEADLINE)
    (tmp_path / "usual").touch()
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)
    with pytest.raises(PinnerfsError, match=r"-o: .*capture\.txt exists; overwrite it with --force"):
        write_output("-o", str(path), b"two", False, DEADLINE)
    assert path.read_bytes() == b"one"
    write_output("-o", str(path), b"two", True, DEADLINE)
    assert path.read_bytes() == b"two"
    assert names(tmp_path) == ["capture.txt", "usual"]


def test_a_link(tmp_path: Path) -> None:
    """With force, a symbolic link stays, and the file that it leads to is replaced."""
    (tmp_path / "real").write_bytes(b"old")
    (tmp_path / "link").symlink_to("real")
    write_output("-o", str(tmp_path / "link"), b"new", True, DEADLINE)
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("path", "force", "message"),
    [
        (".", False, r"is a directory; name a file"),
        (".", True, r"is a directory; name a file"),
        ("none/capture.txt", False, r"cannot write .*: No such file or directory"),
        ("file/capture.txt", False, r"cannot write .*: Not a directory"),
        ("x" * 300, False, r"cannot write .*: File name too long"),
        ("/dev/full", False, r"/dev/full exists; overwrite it with --force"),
        ("/dev/full", True, r"cannot write /dev/full: No space left on device"),
        ("dangling", False, r"exists; overwrite it with --force"),
    ],
)
def test_what_cannot_be_written(path: str, force: bool, message: str, tmp_path: Path) -> None:
    """Each is one line, and nothing is left behind."""
    (tmp_path / "file").touch()
    (tmp_path / "dangling").symlink_to("nowhere")
    with pytest.raises(PinnerfsError, match=message):
        write_output("-o", str(tmp_path / path), b"data", force, DEADLINE)
    assert names(tmp_path) == ["dangling", "file"]


def test_a_device(tmp_path: Path) -> None:
    """A device is written, and stays a device."""
    write_output("-o", "/dev/null", b"data", True, DEADLINE)
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_pipe_without_a_reader(tmp_path: Path) -> None:
    """The wait for a reader ends; with one, the pipe gets the data and stays a pipe."""
    path, alone = tmp_path / "pipe", tmp_path / "alone"
    os.mkfifo(path)
    os.mkfifo(alone)
    with pytest.raises(PinnerfsError, match=r"-o: cannot write .*alone: no reader for 0\.1 s") as error:
        write_output("-o", str(alone), b"data", True, 0.1)
    assert error.value.exit_status == NO_ANSWER
    with subprocess.Popen(["cat", path], stdout=subprocess.PIPE) as reader:
        write_output("-o", str(path), b"data", True, DEADLINE)
        assert reader.communicate(timeout=DEADLINE)[0] == b"data"
    assert stat.S_ISFIFO(path.stat().st_mode)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_meanwhile(number: signal.Signals, tmp_path: Path) -> None:
    """A signal in the middle of the write ends the process and leaves no file."""
    done = subprocess.run(
        [sys.executable, "-c", INTERRUPTED, str(tmp_path / "capture.txt"), str(int(number))],
        cwd=ROOT,
        timeout=DEADLINE,
        check=False,
    )
    assert done.returncode == 128 + number
    assert names(tmp_path) == []
