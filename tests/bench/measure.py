"""Measure things in turn, and compile C."""

from __future__ import annotations

import ctypes
import ctypes.util
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pinnerfs.errors import PinnerfsError
from tests.bench.table import Group, Row

__all__ = [
    "BUSY",
    "DEADLINE",
    "FEW_REPEATS",
    "HERE",
    "REPEATS",
    "NotMeasured",
    "build",
    "fuse_flags",
    "in_turn",
    "libfuse_versions",
    "measured",
    "python",
    "ratios",
    "seconds",
]

HERE = Path(__file__).parent
BUSY = HERE / "busy.toml"
# Many short repeats: a disturbance of some of them does not change the median.
REPEATS = 15
FEW_REPEATS = 3  # for slow rows
DEADLINE = 120  # seconds, for each program


class NotMeasured(Exception):
    """The reason why something cannot be measured here."""


def seconds(work: Callable[[], object]) -> float:
    """Return how long the work takes."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def in_turn(works: Sequence[Callable[[], float]], repeats: int = REPEATS) -> list[list[float]]:
    """Return the results of each of these, run one after the other, repeatedly, after a round that does not count."""
    rounds = [[work() for work in works] for _ in range(repeats + 1)]
    return [list(said) for said in zip(*rounds[1:], strict=True)]


def ratios(one: Callable[[], float], other: Callable[[], float], repeats: int = REPEATS) -> list[float]:
    """Return the first's figure divided by the second's, for each pair of neighbouring runs."""
    return [ours / theirs for ours, theirs in zip(*in_turn([one, other], repeats), strict=True)]


def measured(group: Group) -> list[Row]:
    """Return the rows of a group, with figures or with the reason why there are none."""
    try:
        figures = group.measure()
    except (NotMeasured, PinnerfsError, OSError, subprocess.SubprocessError) as error:
        return [Row(target, why_not=str(error)) for target in group.targets]
    return [Row(target, some) for target, some in zip(group.targets, figures, strict=True)]


def python(*arguments: str) -> None:
    """Run this Python on this checkout, without its output."""
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=HERE.parents[1],
        env=os.environ | {"PYTHONPATH": str(HERE.parents[1])},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    if done.returncode:
        raise NotMeasured(f"`python {' '.join(arguments)}` fails: {done.stderr.strip()}")


def build(source: str, directory: Path, *flags: str) -> Path:
    """Compile a C file of this directory with -O2, and return the program."""
    if shutil.which("gcc") is None:
        raise NotMeasured("gcc is missing")
    program = directory / source.removesuffix(".c")
    command = ["gcc", "-std=gnu11", "-O2", "-Wall", "-Wextra", str(HERE / source), "-o", str(program), *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE, check=False)
    if done.returncode:
        raise NotMeasured(f"{source} does not compile: {done.stderr.strip().splitlines()[0]}")
    return program


def _pkg_config(*arguments: str) -> str:
    if shutil.which("pkg-config") is None:
        raise NotMeasured("pkg-config is missing")
    done = subprocess.run(
        ["pkg-config", *arguments, "fuse3"], capture_output=True, text=True, timeout=DEADLINE, check=False
    )
    if done.returncode:
        raise NotMeasured("fuse3.pc is missing (Debian and Ubuntu: install libfuse3-dev)")
    return done.stdout.strip()


def fuse_flags() -> list[str]:
    """Return the compiler's options for libfuse 3."""
    return _pkg_config("--cflags", "--libs").split()


def libfuse_versions() -> str:
    """Return the versions of libfuse of pinnerfs and of the reference."""
    library = ctypes.util.find_library("fuse")  # as fusepy does it
    version = ctypes.CDLL(library).fuse_version() if library else 0
    loaded = f"{version // 10}.{version % 10}" if version else "none"
    try:
        return f"{loaded} (pinnerfs), {_pkg_config('--modversion')} (reference)"
    except NotMeasured:
        return f"{loaded} (pinnerfs), none (reference)"
