"""Commands whose standard files are closed from the start, as some daemons start theirs, do what they do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
COMMANDS = {
    "show camera-stall": 0,
    "dump camera-stall --at 12s": 0,
    "check --expect threshold-edges": 0,
    "ctl . clock": 1,
    "umount .": 1,
}


def _status_and_output(command: str, closed: str) -> tuple[int, str, str]:
    done = subprocess.run(
        ["sh", "-c", f'exec "$0" -m pinnerfs {command} {closed}', sys.executable],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=120,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.parametrize("command", COMMANDS)
def test_closed_standard_files(command: str) -> None:
    """Without stdout, without stderr, and without all three, the status is the same, and so is what can be said."""
    status = COMMANDS[command]
    done = _status_and_output(command, "2>&-")
    assert (done[0], done[2], bool(done[1])) == (status, "", status == 0)
    done = _status_and_output(command, ">&-")
    assert (done[0], done[1], "Traceback" in done[2]) == (status, "", False)
    assert bool(done[2]) == (status != 0)
    assert _status_and_output(command, "<&- >&- 2>&-") == (status, "", "")
