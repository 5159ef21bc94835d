"""Scenario files that are bad, absurd or hostile: refused in words with status 2, or played within bounds.

In processes with little memory and a deadline each.
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.mount.support import ROOT, environment
from tests.workload.stories import source, task

MiB = 1 << 20
PLAIN = task("a", 'for = "1s", every = "10ms", hold = "1ms"')


def in_bounds(arguments: list[str | Path], memory: int, seconds: float, cwd: Path) -> subprocess.CompletedProcess[str]:
    """A pinnerfs with so much address space (bytes) and real time."""
    return subprocess.run(
        [sys.executable, "-m", "pinnerfs", *map(str, arguments)],
        cwd=cwd,
        env=environment() | {"OPENBLAS_NUM_THREADS": "1"},  # whose threads take address space by the processor
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (memory, memory)),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=seconds,
        check=False,
    )


def refusal(path: Path, *options: str) -> str:
    """The one line with which `pinnerfs check` refuses a file."""
    done = in_bounds(["check", path, *options], 200 * MiB, 20, path.parent)
    assert (done.returncode, done.stdout) == (2, ""), done.stderr
    (line,) = done.stderr.splitlines()
    return line


def test_made_files(amount: Callable[[int, int], int], tell: Callable[[str], None], tmp_path: Path) -> None:
    """Mutated files of the gallery and made ones are refused with the place, or play, and twice the same."""
    seeds, count = amount(1, 16), amount(150, 400)
    outcomes: Counter[str] = Counter()
    longest = peak = 0.0
    for seed in range(seeds):
        witness = tmp_path / f"witness-{seed}.toml"
        done = subprocess.run(
            [sys.executable, "-m", "tests.soak.scenario_fuzzer", str(seed), str(count), str(witness)],
            cwd=ROOT,
            env=environment(),
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, f"{done.returncode}: {done.stderr[-3000:]} at {witness.read_bytes()[:5000]!r}"
        came = json.loads(done.stdout)
        outcomes.update(came["outcomes"])
        longest, peak = max(longest, came["longest"]), max(peak, came["peak"])
    parts = ", ".join(f"{number} {name}" for name, number in sorted(outcomes.items()))
    tell(f"{seeds * count} files: {parts}; the longest took {longest:.1f}s, the peak was {peak / 1024:.0f} MiB")
    assert min(outcomes["refused"], outcomes["played"]) > seeds * count // 10


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(1 << 40)


def _proc(path: Path) -> None:
    # Regular files of no size, one of them with a reader that waits.
    path.symlink_to("/proc/kmsg" if os.geteuid() == 0 else "/proc/self/environ")


FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "a directory": (Path.mkdir, "it is a directory, not a regular file or a pipe"),
    "a fifo": (os.mkfifo, "no data came for 10 s"),
    "a link to /dev/zero": (lambda path: path.symlink_to("/dev/zero"), "it is a device, not a regular file or a pipe"),
    "a link to a terminal": (lambda path: path.symlink_to("/dev/ptmx"), "it is a device, not a regular file or a pipe"),
    "a link to itself": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "a dangling link": (lambda path: path.symlink_to("nowhere"), "No such file or directory"),
    "a file of 1 TiB": (_sparse, "it is larger than 1048576 bytes; raise the limit with --limit file=SIZE"),
    "a file of 100 MB": (lambda path: path.write_bytes(b"#" * 10**8), "it is larger than 1048576 bytes"),
    "NULs": (lambda path: path.write_bytes(b"\0" * 1000), "file.toml:1: not TOML: Invalid statement (column 1)"),
    "no UTF-8": (lambda path: path.write_bytes(b"a = '\xff'"), "not UTF-8 text: invalid start byte at byte 5"),
    "UTF-16": (lambda path: path.write_text(source(PLAIN), "utf-16"), "not UTF-8 text"),
    "brackets": (lambda path: path.write_text("a = " + "[" * MiB), "it is larger"),
    "less brackets": (lambda path: path.write_text("a = " + "[" * (MiB - 10)), "nested too deeply"),
    "braces": (lambda path: path.write_text("a = " + "{a=" * 300_000), "nested too deeply"),
    "a key of many parts": (lambda path: path.write_text("a." * 500_000 + "a = 1"), "key has 5 parts or more"),
    "quoted parts": (
        lambda path: path.write_text("\n" + "'a b' . " * 99_999),
        "file.toml:2: not TOML: a key has 5 parts or more",
    ),
    "a header of many parts": (lambda path: path.write_text(f"[{'a.' * 500_000}a]"), "a key has 5 parts or more"),
    "a word": (lambda path: path.write_text("a" * (MiB - 1)), "not TOML: Expected '='"),
    "quotes": (lambda path: path.write_text('"' * (MiB - 1)), "not TOML: "),
    "a number": (
        lambda path: path.write_text("seed = " + "1" * 10**6),
        "file.toml:1: not TOML: an integer has thousands of digits",
    ),
    "many keys": (lambda path: path.write_text("".join(f"k{n}=1\n" for n in range(90_000))), "unknown key 'k0'"),
    "many tables": (lambda path: path.write_text("[[task]]\n" * 100_000), "the key 'format' is missing"),
    "a long name": (lambda path: path.write_text(f'"{"x" * 10**6}" = 1'), "unknown key 'xxx"),
    "an escape": (lambda path: path.write_text('"\\u001b]0;owned\\u0007" = 1'), r"unknown key '\x1b]0;owned\x07'"),
    "regions": (
        lambda path: path.write_text(
            'task = []\nformat = 1\nname = "a"\ndescription = ""\nstack = {}\n[memory]\nsize = "128GiB"\nregion = ['
            + ",".join(f'{{name="r{number % 29_999}",size="4MiB"}}' for number in range(30_000))
            + "]"
        ),
        "two regions have the name 'r0'",
    ),
    "proc": (_proc, ": "),
}


@pytest.mark.parametrize("name", FILES)
def test_hostile_files(name: str, tmp_path: Path) -> None:
    """A file that is not a scenario is refused with its path, in little memory. An endless file is not read."""
    make, words = FILES[name]
    path = tmp_path / "file.toml"
    make(path)
    said = refusal(path)
    assert words in said and str(path) in said and len(said) < 5000 and said.isprintable()


@pytest.mark.parametrize(
    "argument", ["./\udcff.toml", "./a\x1b[2J.toml", "./" + "x" * 100_000, "a\nb", "\udcff", "x" * 100_000]
)
def test_hostile_paths(argument: str, tmp_path: Path) -> None:
    """A missing path is refused with one short, printable line."""
    done = in_bounds(["check", argument], 200 * MiB, 20, tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.isprintable() and len(line) < 5000
    assert "cannot read scenario" in line or "no scenario" in line


LARGE = '[memory]\nsize = "64GiB"\nregion = [{ name = "normal", size = "64GiB" }]\n'
DEMANDS: dict[str, tuple[str, str]] = {
    "a device of 1 TiB": (source(PLAIN, memory=LARGE.replace("64GiB", "1TiB")), "limit memory=SIZE"),
    "10^9 instances": (source(PLAIN.replace("stack", "instances = 1000000000\nstack")), "limit instances=N"),
    "4096 instances of 10 tasks": (
        source(*(task(f"{n}", 'for = "1s", every = "1s", hold = "1ms"', instances=4096) for n in range(10))),
        "limit instances=N",
    ),
    "a storm that lasts": (source(task("a", 'for = "8000h", rate = "1/us", hold = "8000h"')), "limit pins=N"),
    "a storm again and again": (
        source(task("a", 'repeat = 1000000000, every = "1us", hold = "8000h"', 'for = "1s"')),
        "limit pins=N",
    ),
    "large buffers": (
        source(task("a", 'for = "1h", gap = "1h", hold = "1h"', instances=4096, pages=262144), memory=LARGE),
        "limit pins=N",
    ),
    "many large buffers": (
        source(task("a", 'for = "1h", every = "1ms", hold = "1ms"', pages=262144), memory=LARGE),
        "limit rate=N",
    ),
    "phases without end": (source(task("a", 'for = "1us", every = "1h", hold = "1us"')), "limit rate=N"),
}


@pytest.mark.parametrize("name", DEMANDS)
def test_absurd_demands(name: str, tmp_path: Path) -> None:
    """A scenario that is in order but would take all memory or time is refused with the limit, and with its place."""
    text, limit = DEMANDS[name]
    path = tmp_path / "absurd.toml"
    path.write_text(text)
    said = refusal(path)
    assert f"; raise it with --{limit})" in said


MANY_VALUES = '"1ms", ' * 100_000
JUST_BELOW: dict[str, str] = {
    "memory": source(task("a", 'for = "1h", every = "1ms", hold = "10ms"', pick="scattered"), memory=LARGE),
    "instances": source(task("a", 'for = "1h", rate = "1/s", hold = "1ms"', instances=16384)),
    "pins": source(task("a", 'for = "1h", every = "1us", hold = "1s"')),
    "pins of buffers": source(
        task("a", 'for = "1h", gap = "1s", hold = "1s"', instances=4, pages=262144), memory=LARGE
    ),
    "pins that are shared": source(
        task("a", 'for = "1h", every = "10us", hold = "4s"'),
        task("b", 'for = "1h", every = "10us", hold = "4s"', share="a"),
    ),
    "rate": source(task("a", 'for = "1h", rate = "1/us", hold = "1us"', instances=9)),
    "phases": source(task("a", 'for = "20us", rate = "2/s", hold = "1us"')),
    "nothing for ages": source(task("a", 'for = "100us", rate = "0.001/h", hold = "1us"')),
    "a hold of many phases": source(task("a", 'for = "100us", gap = "1us", hold = "8000h"')),
    "phases of instances": source(task("a", *['for = "1s", every = "1s", hold = "1ms"'] * 10_000, instances=4000)),
    "a choice of many": source(
        task("a", 'for = "1h", every = "1s", hold = { dist = "choice", values = [' + MANY_VALUES + "] }", instances=500)
    ),
    "tasks": source(*(task(f"{number}", 'for = "1h", every = "1s", hold = "1ms"') for number in range(9000))),
}

# How far to play for what is counted to be there.
UNTIL = {"pins": "1200ms", "pins that are shared": "500ms", "memory": "300ms", "pins of buffers": "2s"}


@pytest.mark.parametrize("name", JUST_BELOW)
def test_just_below_the_limits(
    name: str, amount: Callable[[int, int], int], tell: Callable[[str], None], tmp_path: Path
) -> None:
    """A scenario just below a limit is set up, and plays, in bounded memory and time."""
    path = tmp_path / "large.toml"
    path.write_text(JUST_BELOW[name])
    if not amount(0, 1) and name not in ("memory", "pins of buffers"):
        refused = in_bounds(["check", path], 400 * MiB, 20, tmp_path)
        assert (refused.returncode, refused.stdout) == (0, f"{path}: ok\n"), refused.stderr
        return
    until = UNTIL.get(name, "20ms") if amount(0, 1) else "20ms"
    done = in_bounds(["dump", path, "--at", until], 2048 * MiB, 120, tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    tell(f"played {until} in 2 GiB of address space; no child so far had more than {peak / 1024:.0f} MiB")
