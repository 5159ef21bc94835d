"""Runs of pytest that are killed at random moments: their mounts and processes end, and need no other run for that."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path

from tests.mount.family import Family
from tests.mount.support import DEADLINE, mount_table

SEED = int(os.environ.get("PINNERFS_SEED", "1"))

LOAD = [] if "pinnerfs" in entry_points(group="pytest11").names else ["-p", "pinnerfs.pytest_plugin"]
TESTS = """
import pytest

@pytest.mark.parametrize("number", range(1000))
def test_it(page_pinner, number):
    page_pinner.advance("1s")
    page_pinner.do("pin task=camera pages=64 hold=900ms")
    page_pinner.advance("1s")
    assert page_pinner.records()
    page_pinner.threshold = "1s"
    if number == 0:
        open("begun", "w").close()
"""


def _runs_of_pytest(family: Family, main: int) -> list[int]:
    """Return the pids of a run: of its process, and of the workers of pytest-xdist."""
    found = []
    for pid in family.members():
        with suppress(OSError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            # execnet starts its workers with a line of code that reads more from stdin.
            if pid == main or any(b"sys.stdin.readline()" in word for word in words):
                found.append(pid)
    return found


def _described(pid: int) -> str:
    with suppress(OSError):
        return f"{pid}: {Path(f'/proc/{pid}/stat').read_text()}"
    return str(pid)


def test_runs_that_are_killed(tmp_path: Path, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """After a run or one of its workers was killed, no mount and no process is left."""
    dice = random.Random(SEED)
    (tmp_path / "test_many.py").write_text(TESTS)
    rounds, killed, left = amount(4, 200), Counter[str](), 0
    for number in range(rounds):
        family = Family(f"fixture-{number}")
        temporary = tmp_path / f"temporary-{number}"
        temporary.mkdir()
        begun = tmp_path / "begun"
        begun.unlink(missing_ok=True)
        workers = ["-n", "2"] if number % 2 else []
        command = [sys.executable, "-m", "pytest", *LOAD, "-q", "-p", "no:cacheprovider", "-c", os.devnull, *workers]
        with (
            family.cleared_away(),
            subprocess.Popen(
                [*command, "--rootdir", str(tmp_path), "test_many.py"],
                cwd=tmp_path,
                env=family.environment() | {"TMPDIR": str(temporary)},
                stdout=subprocess.DEVNULL,
            ) as run,
        ):
            try:
                # In three of four rounds while it mounts and unmounts, in the others while it starts.
                deadline = time.monotonic() + DEADLINE
                while number % 4 and not begun.exists():
                    assert run.poll() is None and time.monotonic() < deadline
                    time.sleep(0.01)
                time.sleep(dice.uniform(0, 0.5))  # this chooses the moment of the kill; it waits for nothing
                victim = dice.choice(_runs_of_pytest(family, run.pid) or [run.pid])
                killed["the run" if victim == run.pid else "a worker"] += 1
                with suppress(ProcessLookupError):
                    os.kill(victim, signal.SIGKILL)
                if victim != run.pid:
                    # pytest-xdist replaces the worker. Kill the run as well, a moment later.
                    time.sleep(dice.uniform(0, 0.5))
                    run.kill()
                run.wait(DEADLINE)
            finally:
                run.kill()
            what = f"round {number} (seed {SEED})"
            assert [_described(pid) for pid in family.left()] == [], what
            assert [line for line in mount_table() if str(temporary) in line] == [], what
            left += sum(path.name.startswith("pinnerfs-mount") for path in temporary.iterdir())
    tell(f"{rounds} kills {dict(killed)}: 0 mounts and 0 processes left, {left} empty directories for the next run")
