"""Recorded cases whose setup is prose, written out by hand once: what happens between the calls is done here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.oracle.cases import RECORDED, Case, load
from tests.oracle.conftest import KERNELS
from tests.oracle.stage import BURST, DEBUGFS, Stage

pytestmark = pytest.mark.mount

LONGTERM = f"{DEBUGFS}/page_pinner/longterm_pinner"
THRESHOLD = f"{DEBUGFS}/page_pinner/threshold"

# Runs inside the stage: `r(size)` answers a read of longterm_pinner, as its length and first line, or an errno.
PRELUDE = f"""
import errno, json, os
def put(text, path={THRESHOLD!r}):
    fd = os.open(path, os.O_WRONLY)
    try:
        return os.write(fd, text)
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        os.close(fd)
def burst(times=1):
    put(b"%ds" % ({BURST} * times), {DEBUGFS + "/.pinnerfs/advance"!r})
def opened():
    return os.open({LONGTERM!r}, os.O_RDONLY)
def r(fd, size=4096):
    try:
        data = os.read(fd, size)
    except OSError as error:
        return errno.errorcode[error.errno]
    return data.decode().split("\\n")[:2] if data else ""
def records():
    fd = opened()
    found = []
    while record := r(fd):
        found.append(record)
    os.close(fd)
    return found
said = []
"""


@pytest.fixture(params=KERNELS)
def play(request: pytest.FixtureRequest, stages: Callable[[str, Case], Stage]) -> Callable[[str, int], list[object]]:
    """Plays a script on a stage with bursts of so many long pins, and returns what it `said`."""

    def run(script: str, long_pins: int) -> list[object]:
        case = Case("prose", "sys", True, "1000", 0, 5)
        stage = stages(request.param, replace(case, long_pins=long_pins))
        stage.prepare(case)
        done = stage.run([sys.executable, "-c", f"{PRELUDE}{script}\nprint(json.dumps(said))"], check=True)
        said: list[object] = json.loads(done.stdout)
        return said

    return run


def test_lt_empty_sys(play: Callable[[str, int], list[object]]) -> None:
    """lt.empty-sys: a read at the end moves the position on, so two of them leave the third-newest record."""
    script = """
fd = opened()
said += [r(fd), r(fd)]
burst()
said += [r(fd) == records()[2], r(fd), r(fd)]
"""
    assert play(script, 3) == ["", "", True, "", ""]


def test_lt_eof_advances(play: Callable[[str, int], list[object]]) -> None:
    """lt.eof-advances: after as many reads at the end as there will be records, less one, only the oldest is left."""
    script = """
fd = opened()
for _ in range(9): assert r(fd) == ""
burst()
said += [r(fd) == records()[9], r(fd), r(fd)]
"""
    assert play(script, 10) == [True, "", ""]


def test_lt_order(play: Callable[[str, int], list[object]]) -> None:
    """lt.order: the newest record comes first; what was recorded before stands behind it unchanged."""
    script = """
burst(); older = records()
burst(); both = records()
said += [len(older), len(both), both[3:] == older, both[:3] != older]
"""
    assert play(script, 3) == [3, 6, True, True]


def test_lt_add_while_reading(play: Callable[[str, int], list[object]]) -> None:
    """lt.add-while-reading: what is recorded meanwhile shifts the rest, so that a record is seen twice."""
    script = """
burst(); fd = opened(); first = r(fd)
burst(); said += [r(fd) == first, records()[1] == first, r(fd)]
"""
    assert play(script, 1) == [True, True, ""]


def test_lt_clear_while_reading(play: Callable[[str, int], list[object]]) -> None:
    """lt.clear-while-reading: a threshold written under a reader is its end, until there is more than it has read."""
    script = """
burst(); fd = opened(); r(fd)
put(b"1000"); said += [r(fd), r(fd)]
burst(); said += [r(fd)]
said += [len(records())]
"""
    assert play(script, 2) == ["", "", "", 2]


def test_lt_clear_on_failed_write(play: Callable[[str, int], list[object]]) -> None:
    """lt.clear-on-failed-write: a refused write and an O_TRUNC alone clear nothing; the same value again clears."""
    script = f"""
burst(); there = records()
said += [put(b"abc"), records() == there]
os.close(os.open({THRESHOLD!r}, os.O_WRONLY | os.O_TRUNC)); said += [records() == there]
said += [put(b"1000\\n"), records()]
"""
    assert play(script, 2) == ["EINVAL", True, True, 5, []]


def test_lt_exact(play: Callable[[str, int], list[object]]) -> None:
    """lt.exact: the smallest buffer that takes a record is one byte longer than it."""
    script = """
burst(); fd = opened(); length = len(os.read(fd, 65536))
for size in (length - 2, length - 1, length, length + 1, length + 2):
    fd = opened(); answer = r(fd, size); said.append(answer if isinstance(answer, str) else "record")
"""
    assert play(script, 2) == ["ENOMEM"] * 3 + ["record"] * 2


def test_lt_small_read_does_not_advance(play: Callable[[str, int], list[object]]) -> None:
    """lt.small-read-does-not-advance: a read that is too small leaves the position, at the end any size moves it."""
    script = """
burst(); fd = opened()
said += [r(fd, 1), r(fd, 10), r(fd) == records()[0], r(fd) == records()[1], r(fd, 1), r(fd), r(fd, 1)]
"""
    assert play(script, 2) == ["ENOMEM", "ENOMEM", True, True, "", "", ""]


def test_lt_two_fds(play: Callable[[str, int], list[object]]) -> None:
    """lt.two-fds: every opening has a position of its own; dup and fork share one."""
    script = """
burst(); all = records(); a = opened(); b = opened()
said += [r(a) == all[0], r(b) == all[0], r(os.dup(a)) == all[1], r(a) == all[2], r(b) == all[1]]
child = os.fork()
if not child:
    r(b); os._exit(0)
os.waitpid(child, 0)
said += [r(b), r(os.open(f"/proc/self/fd/{a}", os.O_RDONLY)) == all[0]]
"""
    assert play(script, 3) == [True, True, True, True, True, "", True]


def test_th_partial(play: Callable[[str, int], list[object]]) -> None:
    """th.partial: the value is written out at a read from the start on, and what is left of it read then."""
    script = f"""
put(b"777777"); fd = os.open({THRESHOLD!r}, os.O_RDONLY)
said += [os.read(fd, size).decode() for size in (1, 2, 1, 1, 1, 1, 1, 1)]
fd = os.open({THRESHOLD!r}, os.O_RDONLY); said.append(os.read(fd, 2).decode())
put(b"1"); said += [os.read(fd, 100).decode(), os.read(fd, 100).decode()]
fd = os.open({THRESHOLD!r}, os.O_RDONLY); put(b"5"); said.append(os.read(fd, 100).decode())
"""
    assert play(script, 2) == ["7", "77", "7", "7", "7", "\n", "", "", "77", "7777\n", "", "5\n"]


FAILURE_TRACKING = [case for case in load(RECORDED) if case.name.startswith("ft.write.")]


@pytest.mark.parametrize("case_", FAILURE_TRACKING, ids=lambda case: case.name)
def test_ft_write(case_: Case, stages: Callable[[str, Case], Stage]) -> None:
    """ft.write.*: what is written to failure_tracking, what reads back, and whether alloc_contig_failed can be read."""
    stage = stages(KERNELS[0], case_)
    stage.prepare(case_)
    calls = [op["call"] for op in case_.ops]
    path = f"{DEBUGFS}/page_pinner/failure_tracking"
    done = stage.run(
        [sys.executable, "-m", "tests.oracle.calls"], stdin=json.dumps({"calls": calls, "path": path}), check=True
    )
    for op, got in zip(case_.ops, json.loads(done.stdout), strict=True):
        wanted = {key: value for key, value in op.items() if key != "call"}
        if op["call"].startswith("open("):
            wanted = {"ret": "fd"}
        # FUSE sends no request for a read or a write of 0 bytes: the caveat of th.write.zero-length.
        if op["call"] in ("read(0)", "write(b'')"):
            assert got["ret"] == 0
            continue
        assert got == wanted, op["call"]


def test_the_cases_are_recorded() -> None:
    """Every case written out here is one that was recorded."""
    names = {case.name for case in load(RECORDED)}
    here = Path(__file__).read_text()
    for line in here.splitlines():
        if line.startswith('    """lt.') or line.startswith('    """th.'):
            assert line.split(":")[0].strip(' "') in names
