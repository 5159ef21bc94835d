"""FOLL_LONGTERM pins of pages that are in CMA: the pages leave it first."""

from __future__ import annotations

import pytest

import pinnerfs
from pinnerfs.kernel.pageflags import Migratetype
from tests.workload.stories import source, task

PHASE = 'for = "1min", every = "1s", hold = "500ms"'
LONGTERM = "FOLL_PIN|FOLL_LONGTERM"


def records(**keys: object) -> list[pinnerfs.Record]:
    """Return the records after ten seconds of one task with these keys."""
    simulation = pinnerfs.Simulation(pinnerfs.parse(source(task("a", PHASE, **keys))))
    simulation.advance("10s")
    return list(simulation.records())


@pytest.mark.parametrize("keys", [{}, {"pages": 4}, {"pages": 3, "pick": "scattered"}, {"order": 4}])
def test_the_pages_are_in_the_movable_region(keys: dict[str, object]) -> None:
    """They are picked there as those of a task whose region it is."""
    moved = records(foll=LONGTERM, region="cma", **keys)
    assert moved and {record.migratetype for record in moved} == {Migratetype.Movable}
    assert moved == records(foll="FOLL_PIN", region="normal", **keys)


def test_outside_of_cma_the_flag_changes_nothing() -> None:
    """Only pages in CMA are moved."""
    assert records(foll=LONGTERM, region="normal") == records(foll="FOLL_PIN", region="normal")


def test_a_short_pin_stays_in_cma() -> None:
    """Without FOLL_LONGTERM the pages stay where they are."""
    assert {record.migratetype for record in records(foll="FOLL_PIN", region="cma")} == {Migratetype.CMA}


def test_pages_that_left_cma_can_be_shared() -> None:
    """A task that shares them finds them where they are."""
    text = source(task("a", PHASE, foll=LONGTERM, region="cma"), task("b", PHASE, share="a", foll=LONGTERM))
    simulation = pinnerfs.Simulation(pinnerfs.parse(text))
    simulation.advance("10s")
    assert simulation.stats()["shares_empty"] == 0
    assert {record.migratetype for record in simulation.records()} == {Migratetype.Movable}


def test_a_live_pin_leaves_cma_too() -> None:
    """`pin task=a` takes pages as the task does."""
    simulation = pinnerfs.Simulation(pinnerfs.parse(source(task("a", PHASE, foll=LONGTERM, region="cma", start="1h"))))
    simulation.do("pin task=a pages=5 hold=1s\npin task=a")
    simulation.advance("2s")
    assert [record.migratetype for record in simulation.records()] == [Migratetype.Movable] * 5
    simulation.do("release task=a")
    assert simulation.stats()["held_now"] == 0
