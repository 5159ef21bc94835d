"""The cost of starting a command, and of a daemon without requests."""

from __future__ import annotations

import tempfile
import time
from functools import partial
from pathlib import Path

from pinnerfs.mounts.unmount import unmount
from tests.bench.files import pinnerfs_mount
from tests.bench.measure import BUSY, in_turn, python, seconds
from tests.bench.table import Group, Target

__all__ = ["IDLE", "groups"]

WATCHED = 10  # seconds
WARM = "60s"  # the busy scenario has touched nearly all pages by then

IDLE = """
format = 1
name = "idle"
description = "nothing is due for an hour"

[memory]
size = "1GiB"
region = [{ name = "all", size = "1GiB" }]

[stack.one]
frames = ["one"]

[[task]]
name = "one"
stack = "one"
region = "all"
start = "1h"
phase = [{ for = "1h", every = "1s", hold = "1ms" }]
"""

MOUNT = Target("`pinnerfs mount` until it answers : `import numpy, fuse, click`", 2.0, 1.4)
HELP = Target("`pinnerfs --help` : `import click`", 1.8, 1.5)
CHECK = Target("`pinnerfs check` : `import click`", 1.8, 1.5)
RESIDENT = Target("memory of a daemon with 16 GiB of pages, busy, MiB", 160, 130)
PROCESSOR = Target("CPU of that daemon in real time, 100,000 page pins a second, no readers, %", 6, 2)
WAKE_UPS = Target("wake-ups a second of an idle daemon with nothing due", 0)


def groups() -> list[Group]:
    """Return the groups of start-up and of daemons without requests."""
    return [
        Group([MOUNT], _mount),
        Group([HELP, CHECK], _commands),
        Group([RESIDENT, PROCESSOR], _busy),
        Group([WAKE_UPS], _idle),
    ]


def _import(*modules: str) -> float:
    return seconds(partial(python, "-c", f"import {', '.join(modules)}"))


def _mount() -> list[list[float]]:
    with tempfile.TemporaryDirectory(prefix="pinnerfs-bench-") as directory:

        def mount() -> None:
            python("-m", "pinnerfs", "mount", "camera-stall", directory, "--clock", "manual")
            (Path(directory) / "page_pinner" / "threshold").read_text()

        def mounted() -> float:
            try:
                return seconds(mount)
            finally:
                unmount(directory)

        ours, imports = in_turn([mounted, partial(_import, "numpy", "fuse", "click")])
    return [_divided(ours, imports)]


def _commands() -> list[list[float]]:
    bare, helping, checking = in_turn(
        [
            partial(_import, "click"),
            partial(seconds, partial(python, "-m", "pinnerfs", "--help")),
            partial(seconds, partial(python, "-m", "pinnerfs", "check", "camera-stall")),
        ]
    )
    return [_divided(helping, bare), _divided(checking, bare)]


def _divided(ours: list[float], theirs: list[float]) -> list[float]:
    return [one / other for one, other in zip(ours, theirs, strict=True)]


def _pid(mountpoint: Path) -> int:
    return int((mountpoint / ".pinnerfs" / "pid").read_text())


def _mebibytes(pid: int) -> float:
    return int(_status(Path(f"/proc/{pid}/status"), "VmRSS").split()[0]) / 1024


def _status(path: Path, name: str) -> str:
    values = dict(line.split(":\t", 1) for line in path.read_text().splitlines())
    return values[name].strip()


def _processor_time(pid: int) -> float:
    """Return the CPU seconds of a process: exact, unlike the hundredths of /proc/PID/stat."""
    return time.clock_gettime(~pid << 3 | 2)  # as clock_getcpuclockid(3)


def _wake_ups(pid: int) -> int:
    threads = Path(f"/proc/{pid}/task").iterdir()
    return sum(int(_status(thread / "status", "voluntary_ctxt_switches")) for thread in threads)


def _busy() -> list[list[float]]:
    resident, processor = [], []
    with (
        tempfile.TemporaryDirectory(prefix="pinnerfs-bench-") as directory,
        pinnerfs_mount(Path(directory), BUSY, "--start", WARM) as mountpoint,
    ):
        pid = _pid(mountpoint)
        for _ in range(WATCHED // 2):
            began, before = time.monotonic(), _processor_time(pid)
            time.sleep(2)
            processor.append(100 * (_processor_time(pid) - before) / (time.monotonic() - began))
            resident.append(_mebibytes(pid))
    return [resident, processor]


def _idle() -> list[list[float]]:
    with tempfile.TemporaryDirectory(prefix="pinnerfs-bench-") as name:
        directory = Path(name)
        (directory / "idle.toml").write_text(IDLE)
        with pinnerfs_mount(directory, directory / "idle.toml") as mountpoint:
            pid = _pid(mountpoint)
            time.sleep(1)  # until the wake-ups of reading its pid are over
            before = _wake_ups(pid)
            time.sleep(WATCHED)
            return [[(_wake_ups(pid) - before) / WATCHED]]
