"""Output that cannot be written: full disks, closed files, closed pipes."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO

import pytest

from tests.cli.conftest import Result

ROOT = Path(__file__).parents[2]
FULL = "Error: cannot write to standard output: No space left on device\n"
DEADLINE = 120

PRINTING = [
    "-h",
    "--version",
    "list",
    "list --help",
    "show camera-stall",
    "check camera-stall",
    "check --expect threshold-edges",
    "dump camera-stall --at 12s",
    "dump camera-stall --at 12s --explain",
    "dump ring-overflow --at 60s",  # larger than any buffer
]
FAILING = {
    "": 2,
    "nonsense": 2,
    "--nonsense": 2,
    "show nosuch": 2,
    "check nosuch": 2,
    "check nosuch nosuch": 2,
    "dump camera-stall": 2,
    "mount nosuch .": 2,
    "mount camera-stall missing": 1,
    "run nosuch -- true": 2,
    "ctl . clock": 1,
    "umount .": 1,
}
UNBUFFERED = [{}, {"PYTHONUNBUFFERED": "1"}]


def execute(
    command: str, environment: dict[str, str], stdout: int | IO[str] = subprocess.PIPE, redirect: str = ""
) -> Result:
    """Run pinnerfs in a shell that redirects its files; PYTHONUNBUFFERED is unset unless the environment sets it."""
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m pinnerfs {command} {redirect}', sys.executable],
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
        | {"PYTHONPATH": str(ROOT)}
        | environment,
        timeout=DEADLINE,
        check=False,
    )
    return Result(done.returncode, done.stdout or "", done.stderr)


@pytest.mark.parametrize("environment", UNBUFFERED, ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", PRINTING)
def test_a_full_stdout(command: str, environment: dict[str, str]) -> None:
    """If stdout is full, the command fails with one line that says so."""
    assert execute(command, environment, redirect=">/dev/full") == Result(1, "", FULL)


@pytest.mark.parametrize("environment", UNBUFFERED, ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", FAILING)
def test_a_full_stderr(command: str, environment: dict[str, str]) -> None:
    """If stderr is full, the exit status is still that of the error."""
    assert execute(command, environment, redirect="2>/dev/full") == Result(FAILING[command], "", "")


def test_both_full() -> None:
    """An error of the command counts, not that of the output before it."""
    assert execute("check --expect nosuch", {}, redirect=">/dev/full 2>&1") == Result(2, "", "")
    assert execute("list", {}, redirect=">/dev/full 2>&1") == Result(1, "", "")


@pytest.mark.parametrize("environment", UNBUFFERED, ids=["buffered", "unbuffered"])
@pytest.mark.parametrize("command", PRINTING)
def test_a_closed_pipe(command: str, environment: dict[str, str]) -> None:
    """If the reader of a pipe has gone, the command ends silently of SIGPIPE, as other tools do."""
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        assert execute(command, environment, pipe) == Result(-signal.SIGPIPE, "", "")


@pytest.mark.parametrize("command", [*PRINTING, "ctl . clock", "umount ."])
def test_closed_files(command: str) -> None:
    """If stdout, stderr or all standard files are closed from the start, the exit status is the same."""
    status = 0 if command in PRINTING else 1
    done = execute(command, {}, redirect="2>&-")
    assert (done.status, done.err, bool(done.out)) == (status, "", status == 0)
    done = execute(command, {}, redirect=">&-")
    assert (done.status, done.out, "Traceback" in done.err) == (status, "", False)
    assert bool(done.err) == (status != 0)
    assert execute(command, {}, redirect="<&- >&- 2>&-") == Result(status, "", "")
