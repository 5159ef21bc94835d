"""CMA allocations a second, compared with plain Python and with plain C."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from pinnerfs import Simulation, parse
from tests.bench.measure import FEW_REPEATS, NotMeasured, ratios, seconds
from tests.bench.reference_cma import BASE, InC, InEngine, InPython, in_c
from tests.bench.table import Group, Target

__all__ = ["full_area", "groups", "pinned", "sizes"]

PAGES = 1 << 18  # 1 GiB
PINNED = 10_000
RUN = 100  # pages of a pinned buffer
# The task pins all pages at once, and never releases them.
FULL_AREA = """format = 1
name = "full"
description = ""

[memory]
size = "{gib}GiB"

[[memory.region]]
name = "full"
size = "{gib}GiB"
migratetype = "CMA"
cma = "full"
pages = "{kind}"
flags = ["lru"]

[stack.s]
frames = ["who"]

[[task]]
name = "t"
stack = "s"
region = "full"
instances = {gib}
pages = 262144
release = "never"
phase = [{{ for = "1h", every = "1h" }}]
"""
# An allocation that meets pins takes longer.
ALLOCATIONS = {"empty": 2_000, "pinned": 40}
OF_PYTHON = {"empty": 100, "pinned": 2}

# Both references look at bit after bit and page after page, as the kernel does. They leave out the call chains, flags
# and pageblock types of records, the log, and the counters of tasks and of a Pixel.
# In an area without pages the engine takes 5.4 us for its three calls: advance, allocate, release. That is 22 times
# sequential Python's rate, just below the aim. The same state in three flat functions, without checks of arguments and
# without other events, takes 2.8 us, which is 44 times. The model of the tests, which searches with bytearray.rfind and
# looks only at pages that exist, is as fast as the engine there, and 38 times slower with the pins.
EMPTY = Target("CMA allocations, 1 GiB area without pins : sequential Python's rate", None, 25, True)
HELD = Target("the same with 10,000 pinned anonymous pages : sequential Python's rate", None, 25, True)
EMPTY_C = Target("CMA allocations, 1 GiB area without pins : the C program's rate", None, None, True)
FULL = "a write to `alloc` of a 4 GiB area with a pin in every page, processor seconds: "
FULL_ANON = Target(f"{FULL}anonymous pages, 6 rounds", 5, 3)
FULL_FILE = Target(f"{FULL}pages of a file, 11 rounds", 5, 3)
LONGEST = Target("the longest of these rounds, for which other readers wait, processor seconds", 1, 0.5)
HELD_C = Target("the same with 10,000 pinned anonymous pages : the C program's rate", None, None, True)


def groups() -> list[Group]:
    """Return the groups of allocations."""
    return [
        Group([EMPTY, HELD], _against_python),
        Group([EMPTY_C, HELD_C], _against_c),
        Group([FULL_ANON, FULL_FILE, LONGEST], _full_areas),
    ]


def pinned(area: str) -> list[int]:
    """Return the pinned pages of an area: none, or buffers at random places."""
    if area == "empty":
        return []
    runs = np.sort(np.random.default_rng(14).choice(PAGES // RUN, PINNED // RUN, replace=False))
    return [BASE + int(run) * RUN + page for run in runs for page in range(RUN)]


def sizes(count: int) -> list[int]:
    """Return the pages of so many allocations: 256 KiB to 8 MiB."""
    return [int(one) for one in np.random.default_rng(41).integers(64, 2049, count)]


def _rate(one: InEngine | InPython | InC, pages: Sequence[int]) -> float:
    return len(pages) / seconds(partial(one.allocate, pages))


def _check(make: Callable[[], InPython | InC], area: str, what: str) -> None:
    engine, other = InEngine(PAGES, pinned(area), file=False), make()
    wanted = sizes(OF_PYTHON[area])
    if (engine.allocate(wanted), engine.records()) != (other.allocate(wanted), other.records()):
        raise NotMeasured(f"{what} and the engine give different results")


def _against_python() -> list[list[float]]:
    figures = []
    for area in ALLOCATIONS:
        make = partial(InPython, PAGES, pinned(area), file=False)
        _check(make, area, "sequential Python")
        engine, model = InEngine(PAGES, pinned(area), file=False), make()
        ours, theirs = sizes(ALLOCATIONS[area]), sizes(OF_PYTHON[area])
        figures.append(ratios(partial(_rate, engine, ours), partial(_rate, model, theirs), FEW_REPEATS))
    return figures


def _against_c() -> list[list[float]]:
    figures = []
    with in_c() as code:
        for area in ALLOCATIONS:
            make = partial(InC, code, PAGES, pinned(area), file=False)
            _check(make, area, "the C program")
            engine, program = InEngine(PAGES, pinned(area), file=False), make()
            wanted = sizes(ALLOCATIONS[area])
            figures.append(ratios(partial(_rate, engine, wanted), partial(_rate, program, wanted), FEW_REPEATS))
            program.close()
    return figures


def full_area(kernel: str, kind: str, gib: int = 4) -> list[float]:
    """Return the processor time of each round of an allocation that fails: every page is pinned."""
    simulation = Simulation(parse(FULL_AREA.format(gib=gib, kind=kind)), kernel=kernel)
    simulation.advance("1s")
    began = time.process_time()
    allocation, rounds = simulation.start_alloc("full", 1, kept=True), [time.process_time() - began]
    while allocation.next_round is not None:
        began = time.process_time()
        simulation.advance_to(allocation.next_round)
        rounds.append(time.process_time() - began)
    return rounds


def _full_areas() -> list[list[float]]:
    repeats = [(full_area("android14-6.1", "anon"), full_area("android12-5.10", "file")) for _ in range(FEW_REPEATS)]
    return [
        [sum(anon) for anon, _ in repeats],
        [sum(file) for _, file in repeats],
        [max(*anon, *file) for anon, file in repeats],
    ]
