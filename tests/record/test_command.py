"""The command line of `record`: what it refuses, and what it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from pinnerfs.cli.record import SCRIPT
from tests.mount.support import DEADLINE, environment, pinnerfs

CAPTURE = """\
------ PINNERFS CAPTURE 1 ------
------ COMMAND LINE (/proc/cmdline) ------
androidboot.serialno=0A1B2C3D4E
------ END ------
"""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "no INPUT: name a mount of pinnerfs or a debugfs, or give --script"),
        (("--redact",), "no INPUT: name a mount of pinnerfs or a debugfs, or give --script"),
        (("--script", "."), "--script stands alone"),
        (("--script", "--redact"), "--script stands alone"),
        (("/dev/null",), "cannot record '/dev/null': Not a directory; only --redact takes a file"),
        (("/none",), "cannot record '/none': No such file or directory"),
        (("/none", "--redact"), "cannot record '/none': No such file or directory"),
        (("/dev/null", "--redact"), "cannot redact /dev/null: wanted a capture"),
        (("",), "cannot record '': No such file or directory"),
        (("--script", "-o", ""), "-o: the path is empty; name a file"),
        (("-",), "only --redact takes standard input (-); name a mount of pinnerfs or a debugfs"),
        (("-", "--redact"), "cannot redact stdin: wanted a capture"),
        (("/dev/zero", "--redact"), "cannot record '/dev/zero': it is longer than 256 MiB"),
    ],
)
def test_refusals(arguments: tuple[str, ...], message: str) -> None:
    """Each is one line on stderr and status 2."""
    done = pinnerfs("record", *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


def test_the_script_is_printed(tmp_path: Path) -> None:
    """--script prints the file that the tests run, to stdout or to a file."""
    assert pinnerfs("record", "--script").stdout == SCRIPT.read_text()
    assert pinnerfs("record", "--script", "-o", tmp_path / "record.sh").returncode == 0
    assert (tmp_path / "record.sh").read_text() == SCRIPT.read_text()


def test_a_dash_is_standard_output(tmp_path: Path) -> None:
    """`-o -` prints to stdout, as without -o, and writes no file of this name."""
    assert pinnerfs("record", "--script", "-o", "-", cwd=tmp_path).stdout == SCRIPT.read_text()
    assert not [*tmp_path.iterdir()]


def test_an_older_capture_is_redacted(tmp_path: Path) -> None:
    """--redact takes a capture, from a file or from standard input."""
    (tmp_path / "capture.txt").write_text(CAPTURE)
    wanted = CAPTURE.replace("0A1B2C3D4E", "redacted-1")
    assert pinnerfs("record", tmp_path / "capture.txt", "--redact").stdout == wanted
    assert pinnerfs("record", "-", "--redact", input=CAPTURE).stdout == wanted


@pytest.mark.parametrize("redirection", [">&-", ">/dev/full"])
def test_a_standard_output_that_fails(redirection: str) -> None:
    """Standard output that is closed or full is one line and status 1."""
    command = f'exec "{sys.executable}" -m pinnerfs record --script {redirection}'
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=DEADLINE, env=environment(), check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: cannot write to standard output: ")
    assert done.stderr.count("\n") == 1


def test_a_reader_that_stops(tmp_path: Path) -> None:
    """A reader that closes the pipe early ends the command in silence."""
    command = f'"{sys.executable}" -m pinnerfs record --script | head -n 1'
    done = subprocess.run(
        ["sh", "-c", command], capture_output=True, text=True, timeout=DEADLINE, env=environment(), check=False
    )
    assert (done.stdout, done.stderr) == ("#!/bin/sh\n", "")
