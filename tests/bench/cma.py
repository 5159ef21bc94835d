"""CMA allocations a second, compared with plain Python and with plain C."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from tests.bench.measure import FEW_REPEATS, NotMeasured, ratios, seconds
from tests.bench.reference_cma import BASE, InC, InEngine, InPython, in_c
from tests.bench.table import Group, Target

__all__ = ["groups", "pinned", "sizes"]

PAGES = 1 << 18  # 1 GiB
PINNED = 10_000
RUN = 100  # pages of a pinned buffer
# An allocation that meets pins takes longer.
ALLOCATIONS = {"empty": 2_000, "pinned": 40}
OF_PYTHON = {"empty": 100, "pinned": 2}

EMPTY = Target("CMA allocations, 1 GiB area without pins : sequential Python's rate", None, 25, True)
HELD = Target("the same with 10,000 pinned anonymous pages : sequential Python's rate", None, 25, True)
EMPTY_C = Target("CMA allocations, 1 GiB area without pins : the C program's rate", None, None, True)
HELD_C = Target("the same with 10,000 pinned anonymous pages : the C program's rate", None, None, True)


def groups() -> list[Group]:
    """Return the groups of allocations."""
    return [Group([EMPTY, HELD], _against_python), Group([EMPTY_C, HELD_C], _against_c)]


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
