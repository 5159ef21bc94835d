"""The recorded story of 32 failed pages, to the record, on the memory management that was recorded."""

from __future__ import annotations

from collections import Counter

import pytest

from pinnerfs import Simulation, parse
from tests.oracle.scene_simulation import scenario_of

WHOLE = 102400
GENERATIONS = ("android12-5.10-early", "android12-5.10", "pixel-5.10", "android14-6.1")


def story(kernel: str, *, file: bool, mm: str = "6.1.192") -> tuple[Simulation, list[int]]:
    """Return the simulation after the story, and the number of records after each of its steps."""
    text = scenario_of(file=file, base=0x15800, pages=WHOLE, tail='unmap = "30ms"\n')
    simulation = Simulation(parse(text), kernel=kernel, mm=mm, cma_retries=0)
    ring, found = simulation.generation.failure_file, []

    def count() -> None:
        found.append(sum(1 for _ in simulation.records(ring)))

    simulation.advance("7s")
    simulation.do("pin task=driver pages=17000 hold=20ms")
    simulation.advance("10ms")
    assert simulation.start_alloc("reserved", WHOLE, kept=True).state == "failed"
    count()
    simulation.advance("15ms")  # all pages are released
    count()
    simulation.advance("10ms")  # and unmapped
    count()
    assert simulation.start_alloc("reserved", WHOLE, kept=True).state == "got"
    count()
    return simulation, found


@pytest.mark.parametrize(
    ("kernel", "records"),
    [
        *zip(
            GENERATIONS,
            ([63, 95, 127, 161], [95, 127, 159, 225], [94, 126, 158, 224], [94, 126, 158, 224]),
            strict=True,
        )
    ],
)
def test_pages_of_a_file_leave_the_recorded_number_of_records(kernel: str, records: list[int]) -> None:
    """The failure, the release, munmap and the second allocation leave as many records as recorded."""
    assert story(kernel, file=True)[1] == records


@pytest.mark.parametrize(
    ("kernel", "records"), [*zip(GENERATIONS, ([0, 0, 0, 0], [0, 0, 0, 0], [1, 2, 4, 4], [1, 2, 4, 4]), strict=True)]
)
def test_anonymous_pages_leave_the_recorded_number_of_records(kernel: str, records: list[int]) -> None:
    """Only the lowest pinned page is marked, on the kernels that mark it."""
    assert story(kernel, file=False)[1] == records


def test_the_kinds_and_the_outermost_records() -> None:
    """The first record is the mark of the highest page of the batch, the last one the free of the lowest."""
    simulation, _ = story("android14-6.1", file=True)
    records = list(simulation.records())
    assert Counter(str(record.kind) for record in records) == {"PUT": 160, "FREE": 32, "DETECT": 32}
    lowest = min(record.pfn for record in records)
    first, last = records[-1], records[0]
    assert (first.kind, first.pfn, first.count, first.mapcount) == ("DETECT", lowest + 31, 4, 1)
    assert first.stack[0].startswith("__alloc_contig_migrate_range+")
    assert (last.kind, last.pfn, last.count, last.mapcount) == ("FREE", lowest, 0, 0)


def test_a_kernel_without_lru_batches_puts_each_page_twice_at_once() -> None:
    """android12-5.10 switches its LRU batches off, so no page waits for the next allocation."""
    _, found = story("android12-5.10", file=True, mm="android12-5.10")
    assert found == [32 + 64 + 1, 129, 161, 161 + 64]
