"""Every error that one can provoke is words on stderr, nothing on stdout, and a status that is not 0."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Result, Run

ROOT = Path(__file__).parents[2]
PLAIN = """
format = 1
name = "plain"
description = "for the tests"
[memory]
size = "64MiB"
region = [{ name = "all", size = "64MiB" }]
[stack.s]
frames = ["f"]
[[task]]
name = "t"
stack = "s"
region = "all"
[[task.phase]]
for = "1s"
every = "1s"
hold = "400ms"
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with scenarios, good and bad."""
    (tmp_path / "good.toml").write_text(PLAIN)
    (tmp_path / "unknown.toml").write_text(PLAIN.replace("every =", "rat ="))
    (tmp_path / "later.toml").write_text(PLAIN.replace("format = 1", "format = 2"))
    (tmp_path / "unitless.toml").write_text(PLAIN.replace('"400ms"', "400"))
    (tmp_path / "broken.toml").write_text("format = [")
    (tmp_path / "empty.toml").write_text("")
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    (tmp_path / "deep.toml").write_text("x = " + "[" * 5000)
    (tmp_path / "large.toml").write_bytes(b"#" * ((1 << 20) + 1))
    (tmp_path / "many.toml").write_text(PLAIN.replace("[[task.phase]]", "instances = 16385\n[[task.phase]]"))
    (tmp_path / "controls.toml").write_text('"\\u001b[31m\\n" = 1\n')
    (tmp_path / "folder.toml").mkdir()
    (tmp_path / "m").mkdir()
    os.mkfifo(tmp_path / "fifo.toml")
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ERRORS = {
    "no such command": (["nonsense"], 2, "No such command 'nonsense'"),
    "no such option": (["--nonsense"], 2, "No such option"),
    "a command's unknown option": (["list", "--nonsense"], 2, "No such option"),
    "too many arguments": (["list", "more"], 2, "unexpected extra argument"),
    "check without arguments": (["check"], 2, "Missing argument 'SCENARIO...'"),
    "show without arguments": (["show"], 2, "Missing argument 'SCENARIO'"),
    "show of nothing": (["show", "nonsense"], 2, "no scenario 'nonsense' in the gallery: wanted one of blind-spot"),
    "show of an empty name": (["show", ""], 2, "no scenario '' in the gallery"),
    "show of no file": (["show", "./no.toml"], 2, "cannot read scenario './no.toml': No such file or directory"),
    "show of a folder": (["show", "folder.toml"], 2, "not a regular file"),
    "show of a fifo": (["show", "fifo.toml"], 2, "not a regular file"),
    "show of a device": (["show", "/dev/zero"], 2, "not a regular file"),
    "show of a loop": (["show", "loop.toml"], 2, "Too many levels of symbolic links"),
    "show of a large file": (["show", "large.toml"], 2, "larger than 1048576 bytes"),
    "show of an endless name": (["show", "./" + "x" * 5000], 2, "File name too long"),
    "show of an undecodable name": (["show", "./\udcff"], 2, "No such file or directory"),
    "a limit that is none": (
        ["check", "good.toml", "--limit", "holds=4"],
        2,
        "no limit 'holds=4': wanted one of file=..., memory=..., instances=..., pins=..., rate=..., phases=...",
    ),
    "over a limit": (
        ["dump", "many.toml", "--at", "1s"],
        2,
        "many.toml: up to this task 16385 instances of all tasks, over the limit of 16384, which --limit instances=N",
    ),
    "mount over a limit": (["mount", "many.toml", "m", "--limit", "pins=5"], 2, "over the limit of 16384"),
    "controls in a name": (["check", "controls.toml"], 2, r"unknown field `\x1b[31m\n`"),
    "no TOML": (["check", "broken.toml"], 2, "broken.toml: not TOML: "),
    "an empty file": (["check", "empty.toml"], 2, "missing required field `format`"),
    "no text": (["check", "bytes.toml"], 2, "not UTF-8 text"),
    "nested too deeply": (["check", "deep.toml"], 2, "deep.toml: not"),
    "an unknown field": (["check", "unknown.toml"], 2, "unknown field `rat` - at `$.task[0].phase[0]`"),
    "a later format": (["check", "later.toml"], 2, "later.toml: format = 2 must be "),
    "a number without unit": (["check", "unitless.toml"], 2, "hold = 400 has no unit"),
    "one bad of several": (["check", "good.toml", "unknown.toml"], 2, "1 of 2 scenarios cannot be played"),
    "dump without --at": (["dump", "camera-stall"], 2, "Missing option '--at'"),
    "dump at no time": (["dump", "camera-stall", "--at", "60"], 2, "must be a number and a unit"),
    "dump at an empty time": (["dump", "camera-stall", "--at", ""], 2, "must be a number and a unit"),
    "dump before the start": (["dump", "camera-stall", "--at", "-5s"], 2, "must be a number and a unit"),
    "dump in another unit": (["dump", "camera-stall", "--at", "1d"], 2, "must be a number and a unit"),
    "dump at undecodable bytes": (["dump", "camera-stall", "--at", "\udcff"], 2, "must be a number and a unit"),
    "dump after more than a year": (["dump", "camera-stall", "--at", "9999999h"], 2, "longer than a year"),
    "dump with a negative threshold": (
        ["dump", "camera-stall", "--at", "1s", "--threshold=-1"],
        2,
        "'-1': not a number as the kernel reads one; wanted µs, such as 300000, as the file takes them",
    ),
    "a threshold with a unit": (
        ["dump", "camera-stall", "--at", "1s", "--threshold", "1s"],
        2,
        "something stands behind",
    ),
    "an empty threshold": (["dump", "camera-stall", "--at", "1s", "--threshold", ""], 2, "not a number"),
    "a large threshold": (["dump", "camera-stall", "--at", "1s", "--threshold", "9" * 20], 2, "over 64 bits"),
    "a seed of words": (["dump", "camera-stall", "--at", "1s", "--seed", "x"], 2, "'x' is not a valid integer"),
    "a negative seed": (["dump", "camera-stall", "--at", "1s", "--seed", "-1"], 2, "not in the range"),
    "a large seed": (["dump", "camera-stall", "--at", "1s", "--seed", str(1 << 64)], 2, "not in the range"),
    "no such kernel": (
        ["dump", "camera-stall", "--at", "1s", "--kernel", "6.6"],
        2,
        "'introduced', 'android12-5.10-early'",
    ),
    "dump of nothing": (["dump", "nonsense", "--at", "1s"], 2, "no scenario 'nonsense' in the gallery"),
    "dump of a bad scenario": (["dump", "unknown.toml", "--at", "1s"], 2, "unknown field `rat`"),
    "mount without mount point": (["mount", "camera-stall"], 2, "Missing argument 'MOUNTPOINT'"),
    "mount with another clock": (["mount", "camera-stall", "m", "--clock", "atomic"], 2, "'atomic' is not one of"),
    "mount at speed 0": (["mount", "camera-stall", "m", "--speed", "0"], 2, "not in the range"),
    "mount at a negative speed": (["mount", "camera-stall", "m", "--speed", "-1"], 2, "not in the range"),
    "mount at a speed of words": (["mount", "camera-stall", "m", "--speed", "fast"], 2, "not a valid float"),
    "mount at infinite speed": (["mount", "camera-stall", "m", "--speed", "inf"], 2, "not in the range"),
    "mount at a speed of no number": (["mount", "camera-stall", "m", "--speed", "nan"], 2, "not nan"),
    "mount with a trace of nothing": (
        ["mount", "camera-stall", "m", "--trace", "fuse,kernel"],
        2,
        "'kernel' is not one of 'fuse', 'engine', 'scenario'",
    ),
    "mount with a trace and no log": (["mount", "camera-stall", "m", "--trace", "fuse"], 2, "--trace needs --log FILE"),
    "run with --verbose and no log": (["run", "camera-stall", "--verbose", "--", "true"], 2, "--verbose needs --log"),
    "mount with speed and a manual clock": (
        ["mount", "camera-stall", "m", "--clock", "manual", "--speed", "2"],
        2,
        "--speed 2 goes with --clock real",
    ),
    "mount from a bad start": (["mount", "camera-stall", "m", "--start", "soon"], 2, "must be a number and a unit"),
    "mount of nothing": (["mount", "nonsense", "m"], 2, "no scenario 'nonsense' in the gallery"),
    "mount on nothing": (["mount", "camera-stall", "missing"], 1, "cannot mount on missing: No such file or directory"),
    "mount on an empty name": (["mount", "camera-stall", ""], 1, "cannot mount on '': the path is empty"),
    "mount on a file": (["mount", "camera-stall", "good.toml"], 1, "cannot mount on good.toml: Not a directory"),
    "mount on a full folder": (["mount", "camera-stall", "."], 1, "the directory is not empty"),
    "run without arguments": (["run"], 2, "Missing argument 'SCENARIO'"),
    "run without command": (["run", "camera-stall", "--"], 2, "Missing argument '-- COMMAND...'"),
    "run of nothing": (["run", "nonsense", "--", "true"], 2, "no scenario 'nonsense' in the gallery"),
    "run of a bad scenario": (["run", "unknown.toml", "--", "true"], 2, "unknown field `rat`"),
    "run over nothing": (
        ["run", "camera-stall", "--mountpoint", "missing", "--", "true"],
        1,
        "cannot mount over missing: No such file or directory; wanted a directory",
    ),
    "run over an empty name": (
        ["run", "camera-stall", "--mountpoint", "", "--", "true"],
        1,
        "cannot mount over '': the path is empty",
    ),
    "run over a file": (
        ["run", "camera-stall", "--mountpoint", "good.toml", "--", "true"],
        1,
        "cannot mount over good.toml: Not a directory; wanted a directory",
    ),
    "run over a loop": (
        ["run", "camera-stall", "--mountpoint", "loop.toml", "--", "true"],
        1,
        "Too many levels of symbolic links",
    ),
    "run with speed and a manual clock": (
        ["run", "camera-stall", "--clock", "manual", "--speed", "2", "--", "true"],
        2,
        "--speed 2 goes with --clock real",
    ),
    "run of no command": (
        ["run", "camera-stall", "--mountpoint", "m", "--", "no-such-command"],
        127,
        "cannot run no-such-command: No such file or directory",
    ),
    "run of no program": (
        ["run", "camera-stall", "--mountpoint", "m", "--", "./good.toml"],
        126,
        "cannot run ./good.toml: Permission denied",
    ),
    "run with a log that cannot be": (
        ["run", "camera-stall", "--mountpoint", "m", "--log", "no/log", "--", "true"],
        1,
        "cannot open log file",
    ),
    "umount without arguments": (["umount"], 2, "Missing argument 'MOUNTPOINT'"),
    "umount of a folder": (
        ["umount", "m"],
        1,
        "cannot unmount m: wanted a fuse.pinnerfs mount, but nothing is mounted there",
    ),
    "umount of nothing": (["umount", "missing"], 1, "nothing is mounted there"),
    "umount of another kind": (["umount", "/proc"], 1, "but proc is mounted there"),
    "umount of an empty name": (["umount", ""], 1, "cannot unmount '': the path is empty"),
    "ctl on a folder": (["ctl", "m", "stats"], 1, "cannot steer m: wanted a pinnerfs mount, but none is there"),
    "ctl on nothing": (["ctl", "missing", "clock"], 1, "cannot steer missing: "),
    "ctl on a file": (["ctl", "good.toml", "clock"], 1, "cannot steer good.toml: Not a directory"),
    "ctl with an unknown command": (["ctl", "m", "nonsense"], 2, "No such command 'nonsense'"),
    "do on a folder": (["ctl", "m", "do", "pin task=t"], 1, "cannot steer m: wanted a pinnerfs mount"),
    "advance by nothing": (["ctl", "m", "advance"], 2, "Missing argument 'TIME'"),
}


def _in_a_process(folder: Path, arguments: list[str]) -> Result:
    try:
        done = subprocess.run(
            [sys.executable, "-m", "pinnerfs", *arguments],
            capture_output=True,
            text=True,
            cwd=folder,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=30,
            check=False,
        )
    finally:
        subprocess.run(["fusermount", "-uz", folder / "m"], capture_output=True, timeout=30, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("name", ERRORS)
def test_errors(folder: Path, run: Run, name: str) -> None:
    """An error is said in words, with a status of its own, and stdout stays empty."""
    arguments, status, words = ERRORS[name]
    # A mount that succeeds after all must not leave this process behind as its daemon; and `run` changes signals.
    result = _in_a_process(folder, arguments) if arguments[0] in ("mount", "run") else run(*arguments)
    assert (result.status, result.out) == (status, "")
    assert words in result.err
    assert "Traceback" not in result.err
    # One line; or for a command line that is wrong, how to write it, and then one line.
    lines = result.err.splitlines()
    assert lines[-1].startswith("Error: ")
    assert len(lines) <= (5 if status == 2 else 3)
    assert list((folder / "m").iterdir()) == []


@pytest.mark.parametrize("stdout", ["/dev/full"])
@pytest.mark.parametrize("arguments", [["list"], ["-h"], ["--version"], ["show", "camera-stall"]])
def test_a_full_disk(stdout: str, arguments: list[str]) -> None:
    """Output that cannot be written is an error in words."""
    with open(stdout, "w") as full:
        done = subprocess.run(
            [sys.executable, "-m", "pinnerfs", *arguments],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
            timeout=30,
            check=False,
        )
    assert (done.returncode, done.stderr) == (1, "Error: No space left on device\n")


def test_exit_codes_of_a_process() -> None:
    """A real process leaves with the same statuses, and prints no traceback."""
    for arguments, status in ((["nonsense"], 2), (["show", "nonsense"], 2), (["--version"], 0)):
        done = subprocess.run(
            [sys.executable, "-m", "pinnerfs", *arguments],
            capture_output=True,
            text=True,
            cwd=ROOT,
            timeout=30,
            check=False,
        )
        assert done.returncode == status
        assert "Traceback" not in done.stderr


def test_the_status_of_a_machine_without_fuse(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where nothing can be mounted whatever one asks for, the status says so: 69, EX_UNAVAILABLE."""
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/nowhere/libfuse.so")  # where fusepy looks for it
    result = _in_a_process(folder, ["mount", "camera-stall", "m"])
    assert (result.status, result.out) == (69, "")
    assert result.err.startswith("Error: cannot load libfuse 2: /nowhere/libfuse.so: ")
