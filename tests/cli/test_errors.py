"""Every error is one line on stderr, nothing on stdout, and a non-zero exit status."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from pinnerfs.cli.commands import COMMANDS
from pinnerfs.errors import NO_FUSE
from tests.cli.conftest import Result, Run
from tests.mount.support import LIKE_A_USER, why_no_mount

ROOT = Path(__file__).parents[2]
DEADLINE = 120
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
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working directory with valid and invalid scenarios."""
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
    (tmp_path / "directory.toml").mkdir()
    (tmp_path / "m").mkdir()
    (tmp_path / "loop.toml").symlink_to("loop.toml")
    monkeypatch.chdir(tmp_path)
    return tmp_path


ERRORS = {
    "no such command": (
        ["nonsense"],
        2,
        f"no command 'nonsense': wanted one of {', '.join(COMMANDS)} (see 'pinnerfs --help')",
    ),
    "nearly a command": (["chek"], 2, ", umount; did you mean 'check'? (see 'pinnerfs --help')"),
    "an undecodable command": (["\udcff\x1b[31m"], 2, r"no command '\xff\x1b[31m': wanted one of check, "),
    "escapes in an option": (["list", "--\x1b[31m"], 2, r"--\x1b[31m"),
    "escapes in an argument": (["list", "\x1b[31m\n"], 2, r"unexpected extra argument (\x1b[31m\n)"),
    "ctl without arguments": (["ctl"], 2, "Missing argument 'MOUNTPOINT' (see 'pinnerfs ctl --help')"),
    "ctl without a command": (["ctl", "m"], 2, "Missing command (see 'pinnerfs ctl --help')"),
    "a scenario with unknown mount options": (
        ["camera-stall", "m", "-o", "rw,sped=10"],
        2,
        "cannot mount on m: unknown option 'sped'; wanted one of clock, speed, max_lag, start, ",
    ),
    "nearly a mount option": (
        ["camera-stall", "m", "-o", "clok=manual"],
        2,
        "mode, uid, gid, ro; did you mean 'clock'?",
    ),
    "mount options without a mount point": (
        ["camera-stall", "-o", "rw"],
        2,
        "Missing argument 'MOUNTPOINT' (see 'pinnerfs --help')",
    ),
    "a scenario without a command": (
        ["camera-stall", "m"],
        2,
        ", umount; did you mean 'mount camera-stall'? (see 'pinnerfs --help')",
    ),
    "a path without a command": (["./good.toml", "m"], 2, "; did you mean 'mount ./good.toml'? ("),
    "no scenario with mount options": (["camera", "m", "-orw"], 2, "no scenario 'camera' in the gallery"),
    "no such option": (["--nonsense"], 2, "No such option"),
    "a command's unknown option": (["list", "--nonsense"], 2, "No such option"),
    "too many arguments": (["list", "more"], 2, "unexpected extra argument"),
    "check without arguments": (["check"], 2, "Missing argument 'SCENARIO...'"),
    "show without arguments": (["show"], 2, "Missing argument 'SCENARIO'"),
    "show of nothing": (["show", "nonsense"], 2, "no scenario 'nonsense' in the gallery: wanted one of blind-spot"),
    "show of an empty name": (["show", ""], 2, "the scenario name is empty"),
    "show of no file": (["show", "./no.toml"], 2, "cannot read scenario './no.toml': No such file or directory"),
    "show of a directory": (["show", "directory.toml"], 2, "not a regular file"),
    "show of a device": (["show", "/dev/zero"], 2, "not a regular file"),
    "show of a loop": (["show", "loop.toml"], 2, "Too many levels of symbolic links"),
    "show of a large file": (["show", "large.toml"], 2, "larger than 1048576 bytes"),
    "show of an endless name": (["show", "./" + "x" * 5000], 2, "File name too long"),
    "show of an undecodable name": (["show", "./\udcff"], 2, r"scenario './\xff': No such file or directory"),
    "an unknown limit": (
        ["check", "good.toml", "--limit", "holds=4"],
        2,
        "no limit 'holds=4': wanted one of file=..., memory=..., instances=..., pins=..., rate=..., work=...",
    ),
    "over a limit": (
        ["dump", "many.toml", "--at", "1s"],
        2,
        " needs 16385 instances (limit 16384; raise it with --limit instances=N)",
    ),
    "too much work": (
        ["dump", "good.toml", "--at", "8000h", "--limit", "work=99"],
        2,
        "pins of a single page, about ",
    ),
    "mount over a limit": (["mount", "many.toml", "m", "--limit", "pins=5"], 2, "(limit 16384; "),
    "controls in a name": (["check", "controls.toml"], 2, r"unknown key '\x1b[31m\n'"),
    "no TOML": (["check", "broken.toml"], 2, "broken.toml: not TOML: "),
    "an empty file": (["check", "empty.toml"], 2, "the key 'format' is missing"),
    "no text": (["check", "bytes.toml"], 2, "not UTF-8 text"),
    "nested too deeply": (["check", "deep.toml"], 2, "deep.toml: not"),
    "an unknown key": (["check", "unknown.toml"], 2, "phase 1: unknown key 'rat': the keys are for, repeat, every, "),
    "a later format": (["check", "later.toml"], 2, ": format = 2 must be 1"),
    "a number without unit": (["check", "unitless.toml"], 2, "hold = 400 has no unit"),
    "one bad of several": (["check", "good.toml", "unknown.toml"], 2, "1 of 2 scenarios cannot be checked"),
    "sweep of an unknown key": (
        ["sweep", "good.toml", "--at", "1s", "--set", "task.t.instancse=2"],
        2,
        "good.toml: with task.t.instancse = 2: task \"t\": unknown key 'instancse': the keys are name, stack, ",
    ),
    "sweep of an unknown task": (
        ["sweep", "good.toml", "--at", "1s", "--set", "task.x.instances=2"],
        2,
        "good.toml: with task.x.instances = 2: no 'x' in task: wanted one of 't'",
    ),
    "sweep of no path": (["sweep", "good.toml", "--set", "x"], 2, "'--set': 'x': wanted PATH=VALUE,..., such as"),
    "sweep of a key twice": (
        ["sweep", "good.toml", "--set", "cpus=2", "--set", "cpus=4"],
        2,
        "'cpus' is given twice; write all its values in one (see 'pinnerfs sweep --help')",
    ),
    "sweep of wrong seeds": (["sweep", "good.toml", "--seeds", "5..1"], 2, "'--seeds': '5..1': the range is reversed"),
    "sweep of a wrong threshold": (["sweep", "good.toml", "--thresholds", "1d"], 2, "threshold = '1d': wanted micro"),
    "sweep without a moment": (["sweep", "good.toml"], 2, "good.toml: wanted --at TIME: it has neither a duration nor"),
    "sweep of durations without a moment": (
        ["sweep", "camera-stall", "--set", "duration=1s,2s"],
        2,
        "camera-stall: wanted --at TIME: with these values the scenario has different ends",
    ),
    "sweep in two formats": (
        ["sweep", "camera-stall", "--csv", "--json"],
        2,
        "only one format can be printed; wanted one of --csv and --json",
    ),
    "sweep of thresholds on a kernel without one": (
        ["sweep", "camera-stall", "--thresholds", "1s", "--kernel", "android14-6.1"],
        2,
        "kernel android14-6.1 has no threshold: it records failed migrations alone",
    ),
    "too much work for a sweep": (
        ["sweep", "camera-stall", "--seeds", "0..9", "--limit", "work=99"],
        2,
        "camera-stall: 10 plays: to play it takes as much work as ",
    ),
    "sweep into a directory": (["sweep", "camera-stall", "-o", "m"], 1, "-o m: cannot open it: Is a directory"),
    "sweep into another file": (
        ["sweep", "camera-stall", "-o", "good.toml"],
        2,
        "-o good.toml: it exists and has no sweep; name another file",
    ),
    "sweep on dask without --address": (
        ["sweep", "camera-stall", "--backend", "dask"],
        2,
        "--backend dask needs --address with the scheduler, such as tcp://host:8786",
    ),
    "sweep with --address and no --backend": (
        ["sweep", "camera-stall", "--address", "tcp://x:1"],
        2,
        "--address goes with --backend dask",
    ),
    "sweep with --jobs and --backend": (
        ["sweep", "camera-stall", "--backend", "dask", "--jobs", "2"],
        2,
        "--jobs is for processes of this machine; a cluster uses all of its workers",
    ),
    "check of seeds without --expect": (
        ["check", "good.toml", "--seeds", "0..9"],
        2,
        "--seeds goes with --expect: without it nothing is played",
    ),
    "dump without --at": (["dump", "camera-stall"], 2, "Missing option '--at'"),
    "dump with --at and no value": (
        ["dump", "camera-stall", "--at"],
        2,
        "Option '--at' requires an argument (see 'pinnerfs dump --help')",
    ),
    "dump at no time": (
        ["dump", "camera-stall", "--at", "60"],
        2,
        "Error: --at = '60' must be a number and a unit (us, ms, s, min, h), such as '300ms' (see 'pinnerfs dump",
    ),
    "dump at an empty time": (["dump", "camera-stall", "--at", ""], 2, "must be a number and a unit"),
    "dump before the start": (["dump", "camera-stall", "--at", "-5s"], 2, "must be a number and a unit"),
    "dump in another unit": (["dump", "camera-stall", "--at", "1d"], 2, "must be a number and a unit"),
    "dump at undecodable bytes": (["dump", "camera-stall", "--at", "\udcff"], 2, "must be a number and a unit"),
    "dump after more than a year": (["dump", "camera-stall", "--at", "9999999h"], 2, "longer than a year"),
    **{
        f"the threshold {threshold!r}": (
            ["dump", "camera-stall", "--at", "1s", f"--threshold={threshold}"],
            2,
            f"""threshold = {threshold!r}: wanted microseconds from 0 on, or a time such as "300ms" """
            "(see 'pinnerfs dump --help')",
        )
        for threshold in ("-1", "-1s", "1x", "", "1.5", "9" * 20)
    },
    "a threshold of more than a year": (
        ["dump", "camera-stall", "--at", "1s", "--threshold=9999999h"],
        2,
        "threshold = '9999999h' is longer than a year",
    ),
    "a threshold on a kernel that has none": (
        ["dump", "camera-stall", "--at", "1s", "--threshold=1s", "--kernel=android14-6.1"],
        2,
        "kernel android14-6.1 has no threshold: it records failed migrations alone; leave it out, or choose another",
    ),
    "a mount with a threshold on a kernel that has none": (
        ["mount", "camera-stall", "m", "--threshold=1s", "--kernel=android15-6.6"],
        2,
        "kernel android15-6.6 has no threshold: ",
    ),
    "a file that the kernel does not have": (
        ["dump", "camera-stall", "--at", "1s", "--file=longterm_pinner", "--kernel=android14-6.1"],
        2,
        "--file 'longterm_pinner': kernel android14-6.1 has no such record file: it has buffer (see ",
    ),
    "an unknown kernel": (
        ["dump", "camera-stall", "--at", "1s", "--kernel=6.6"],
        2,
        "'6.6' is not one of 'introduced'",
    ),
    "an undecodable threshold": (["dump", "camera-stall", "--at", "1s", "--threshold=\udcff"], 2, r"= '\xff': wanted"),
    "a seed of text": (["dump", "camera-stall", "--at", "1s", "--seed", "x"], 2, "'x' is not a valid whole number"),
    "a negative seed": (["dump", "camera-stall", "--at", "1s", "--seed", "-1"], 2, "not in the range"),
    "a large seed": (["dump", "camera-stall", "--at", "1s", "--seed", str(1 << 64)], 2, "not in the range"),
    "no such kernel": (
        ["dump", "camera-stall", "--at", "1s", "--kernel", "6.6"],
        2,
        "'introduced', 'android12-5.10-early'",
    ),
    "dump of nothing": (["dump", "nonsense", "--at", "1s"], 2, "no scenario 'nonsense' in the gallery"),
    "dump of a bad scenario": (["dump", "unknown.toml", "--at", "1s"], 2, "unknown key 'rat'"),
    "mount without mount point": (["mount", "camera-stall"], 2, "Missing argument 'MOUNTPOINT'"),
    "mount with another clock": (["mount", "camera-stall", "m", "--clock", "atomic"], 2, "'atomic' is not one of"),
    "mount at speed 0": (["mount", "camera-stall", "m", "--speed", "0"], 2, "not in the range"),
    "mount at a negative speed": (["mount", "camera-stall", "m", "--speed", "-1"], 2, "not in the range"),
    "mount at a speed that is text": (["mount", "camera-stall", "m", "--speed", "fast"], 2, "not a valid float"),
    "mount at infinite speed": (["mount", "camera-stall", "m", "--speed", "inf"], 2, "not in the range"),
    "mount at a speed that is nan": (["mount", "camera-stall", "m", "--speed", "nan"], 2, "not nan"),
    "mount with an unknown layer": (
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
    "mount with a lag and a manual clock": (
        ["mount", "camera-stall", "m", "--clock", "manual", "--max-lag", "2s"],
        2,
        "--max-lag goes with --clock real",
    ),
    "mount with no lag": (["mount", "camera-stall", "m", "--max-lag", "0s"], 2, "--max-lag must be more than 0us"),
    "mount with a bad lag": (["mount", "camera-stall", "m", "--max-lag", "2"], 2, "--max-lag = '2' must be a number"),
    "mount from a bad start": (
        ["mount", "camera-stall", "m", "--start", "soon"],
        2,
        "Error: --start = 'soon' must be a number and a unit",
    ),
    "mount from a start that is far": (
        ["mount", "camera-stall", "m", "--start", "8000h"],
        2,
        "camera-stall: to play it takes as much work as ",
    ),
    "run from a start that is far": (
        ["run", "camera-stall", "--start", "1s", "--limit", "work=9", "--", "true"],
        2,
        "(limit 9; raise it with --limit work=N)",
    ),
    "mount of nothing": (["mount", "nonsense", "m"], 2, "no scenario 'nonsense' in the gallery"),
    "mount on nothing": (["mount", "camera-stall", "missing"], 1, "cannot mount on missing: No such file or directory"),
    "mount on an empty name": (["mount", "camera-stall", ""], 1, "cannot mount on '': the path is empty"),
    "mount on a file": (["mount", "camera-stall", "good.toml"], 1, "cannot mount on good.toml: Not a directory"),
    "mount on a full directory": (["mount", "camera-stall", "."], 1, "the directory is not empty"),
    "mount with an empty log": (["mount", "camera-stall", "m", "--log", ""], 1, "cannot log to '': the path is empty"),
    "mount with a log in the mount point": (
        ["mount", "camera-stall", "m", "--log", "m/x"],
        1,
        "cannot log to m/x: it is in the mount point; wanted a file outside",
    ),
    "run without arguments": (["run"], 2, "Missing argument 'SCENARIO'"),
    "run without command": (["run", "camera-stall", "--"], 2, "Missing argument '-- COMMAND...'"),
    "run of nothing": (["run", "nonsense", "--", "true"], 2, "no scenario 'nonsense' in the gallery"),
    "run of a bad scenario": (["run", "unknown.toml", "--", "true"], 2, "unknown key 'rat'"),
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
    "run of an empty command": (
        ["run", "camera-stall", "--mountpoint", "m", "--", ""],
        127,
        "cannot run '': the name of the command is empty",
    ),
    "run with an empty log": (
        ["run", "camera-stall", "--mountpoint", "m", "--log", "", "--", "true"],
        1,
        "cannot log to '': the path is empty",
    ),
    "run with a log in a missing directory": (
        ["run", "camera-stall", "--mountpoint", "m", "--log", "no/log", "--", "true"],
        1,
        "cannot open log file",
    ),
    "umount without arguments": (["umount"], 2, "Missing argument 'MOUNTPOINT'"),
    "umount of a directory": (
        ["umount", "m"],
        1,
        "cannot unmount m: wanted a fuse.pinnerfs mount, but nothing is mounted there",
    ),
    "umount of nothing": (["umount", "missing"], 1, "No such file or directory; wanted a fuse.pinnerfs mount"),
    "ctl on a directory": (["ctl", "m", "stats"], 1, "cannot control m: wanted a pinnerfs mount, but none is there"),
    "ctl on nothing": (["ctl", "missing", "clock"], 1, "cannot control missing: "),
    "ctl on a file": (["ctl", "good.toml", "clock"], 1, "cannot control good.toml: Not a directory"),
    "umount of another kind": (["umount", "/proc"], 1, "but proc is mounted there"),
    "umount of an empty name": (["umount", ""], 1, "cannot unmount '': the path is empty"),
    "ctl with an unknown command": (["ctl", "m", "nonsense"], 2, "No such command 'nonsense'"),
    "do on a directory": (["ctl", "m", "do", "pin task=t"], 1, "cannot control m: wanted a pinnerfs mount"),
    "advance by nothing": (["ctl", "m", "advance"], 2, "Missing argument 'TIME'"),
}


PINNERFS = (sys.executable, "-m", "pinnerfs")


def _in_a_process(directory: Path, arguments: list[str], program: Sequence[str] = PINNERFS) -> Result:
    try:
        done = subprocess.run(
            [*program, *arguments],
            capture_output=True,
            text=True,
            cwd=directory,
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            timeout=DEADLINE,
            check=False,
        )
    finally:
        subprocess.run(["fusermount", "-uz", directory / "m"], capture_output=True, timeout=DEADLINE, check=False)
    return Result(done.returncode, done.stdout, done.stderr)


@pytest.mark.parametrize("name", ERRORS)
def test_errors(directory: Path, run: Run, name: str) -> None:
    """An error is one line on stderr without control characters; stdout stays empty, and nothing is mounted."""
    arguments, status, message = ERRORS[name]
    if status in (126, 127) and (reason := why_no_mount(directory / "m")) is not None:
        pytest.skip(f"run looks for the command after the mount, and this machine cannot mount: {reason}")
    # `mount` and `run` fork, and `run` changes signals: not in this process.
    result = _in_a_process(directory, arguments) if arguments[0] in ("mount", "run") else run(*arguments)
    assert (result.status, result.out) == (status, "")
    assert message in result.err
    *others, last = result.err.splitlines()
    assert last.startswith("Error: ") and last.isprintable()
    # `check` prints a line for each scenario.
    assert others == [] or arguments[0] == "check"
    assert list((directory / "m").iterdir()) == []


def test_the_status_of_a_machine_without_fuse(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a machine where a user cannot mount at all the exit status is 69, EX_UNAVAILABLE."""
    monkeypatch.setenv("FUSE_LIBRARY_PATH", "/nowhere/libfuse.so")  # where fusepy looks for it
    result = _in_a_process(directory, ["mount", "camera-stall", "m"], LIKE_A_USER)
    assert (result.status, result.out) == (69, "")
    assert result.err.startswith("Error: cannot load libfuse 2: /nowhere/libfuse.so: ")


def test_a_log_in_a_deleted_working_directory(directory: Path) -> None:
    """A log file relative to a deleted directory is refused with that reason."""
    script = 'cd "$1/gone" && rmdir "$1/gone" && exec "$0" -m pinnerfs run quiet-device --log x -- true'
    (directory / "gone").mkdir()
    done = subprocess.run(
        ["sh", "-c", script, sys.executable, directory],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=DEADLINE,
        check=False,
    )
    if done.returncode == NO_FUSE:
        pytest.skip(f"this machine cannot mount: {done.stderr}")
    error = "Error: cannot log to x: the working directory was deleted\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", error)


@pytest.mark.parametrize("command", ["dump large-memory.toml --at 10s", "mount large-memory.toml m"])
def test_too_little_memory(directory: Path, command: str) -> None:
    """A scenario whose page frames need more memory than the process may have is named."""
    (directory / "large-memory.toml").write_text(PLAIN.replace("64MiB", "1TiB"))
    done = subprocess.run(
        ["sh", "-c", f'ulimit -v 700000; exec "$0" -m pinnerfs {command} --limit memory=1TiB', sys.executable],
        capture_output=True,
        text=True,
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"},
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (
        1,
        "",
        "Error: cannot allocate memory to play plain with its 268435456 page frames (memory size = 1TiB); "
        "wanted a smaller size, or a higher limit on this process (ulimit -v)\n",
    )
