"""Reports: the start of the process, and a bugreport of a gigabyte."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from pinnerfs.scenario.gallery import load
from pinnerfs.simulation import Simulation
from tests.bench.measure import DEADLINE, FEW_REPEATS, HERE, NotMeasured, ratios
from tests.bench.table import Group, Target

__all__ = ["bugreport", "groups"]

DUMPS = 100
SIZE = 1 << 30

START = Target("pinnerfs report of a full ring (4096 records), whole process : python -c 'import click'", 3, 2)
LARGE = [
    Target("a bugreport of 1 GiB with 100 dumps: pinnerfs report, MB/s"),
    Target("... grep -c pinned on the same file, MB/s"),
    Target("... peak memory of pinnerfs report, MB"),
    Target("... peak memory of grep -c pinned, MB"),
]

# Runs a command, and prints its seconds and its peak memory in KiB. Its output goes into a pipe: with /dev/null, grep
# stops at the first line that matches.
MEASURED = """
import json, resource, subprocess, sys, time
began = time.monotonic()
subprocess.run(sys.argv[1:], stdout=subprocess.PIPE, check=True)
print(json.dumps([time.monotonic() - began, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss]))
"""


def groups() -> list[Group]:
    """Return the group of short reports, and that of a large one."""
    return [Group([START], _start), Group(LARGE, _large)]


def _records(scenario: str) -> str:
    simulation = Simulation(load(scenario))
    simulation.advance("60s")
    return simulation.cat()


def bugreport(path: Path, size: int, dumps: int, records: str) -> None:
    """Write a bugreport of about this size: log lines, and a dump in each of so many parts."""
    rng = random.Random(1)
    words = ["".join(rng.choices("abcdefghijklmnopqrstuvwxyz", k=rng.randrange(2, 10))) for _ in range(1000)]
    log = "".join(
        f"11-26 10:{at // 60 % 60:02}:{at % 60:02}.{at % 1000:03}  {at % 9000:4}  1234 I tag{at % 50}: "
        f"{' '.join(rng.choices(words, k=10))}\n"
        for at in range(10_000)
    )
    title = "Page Pinner - longterm pin (/sys/kernel/debug/page_pinner/longterm_pinner)"
    dump = f"------ {title} ------\n{records}\n------ 0.356s was the duration of 'Page Pinner' ------\n"
    part = max(size // dumps - len(dump), 0)
    with open(path, "w") as file:
        for _ in range(dumps):
            written = 0
            while written < part:
                written += file.write(log[: part - written])
            file.write(f"\n{dump}")


def _run(*command: str) -> tuple[float, float]:
    """Return a command's seconds and its peak memory in MB."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURED, *command],
        cwd=HERE.parents[1],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if done.returncode:
        raise NotMeasured(f"{command[0]} fails: {done.stderr.strip()[-200:]}")
    took, peak = json.loads(done.stdout)
    return took, peak / 1024


def _start() -> list[list[float]]:
    with tempfile.TemporaryDirectory() as directory:
        ring = Path(directory) / "longterm_pinner"
        ring.write_text(_records("ring-overflow"))
        return [ratios(lambda: _report(ring)[0], lambda: _run(sys.executable, "-c", "import click")[0])]


def _report(path: Path) -> tuple[float, float]:
    return _run(sys.executable, "-m", "pinnerfs", "report", str(path))


def _large() -> list[list[float]]:
    if shutil.which("grep") is None:
        raise NotMeasured("grep is missing")
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "bugreport.txt"
        bugreport(path, SIZE, DUMPS, _records("camera-stall"))
        size = path.stat().st_size / 1e6
        ours = [_report(path) for _ in range(FEW_REPEATS)]
        theirs = [_run("grep", "-c", "pinned", str(path)) for _ in range(FEW_REPEATS)]
    return [
        [size / took for took, _ in ours],
        [size / took for took, _ in theirs],
        [peak for _, peak in ours],
        [peak for _, peak in theirs],
    ]
