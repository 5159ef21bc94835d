"""The counters of what the accounting saw."""

from __future__ import annotations

import pytest

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED
from pinnerfs.kernel.page_pinner.pinner import Pinner
from tests.kernel.page_pinner.model import Row
from tests.kernel.page_pinner.pinners import FREE, GET, PIN, PLAIN_GET, PLAIN_PUT, PUT, UNPIN, memory_map, new_pinner

CAMERA, GPU = 1, 2


def counted(pinner: Pinner, handle: int) -> dict[str, int]:
    """Return the counters of a handle that are not 0."""
    return {name: value for name, value in pinner.counters.of([handle]).items() if value}


@pytest.mark.parametrize("batch_size", [1, 10])
def test_each_mark_ends_once(batch_size: int) -> None:
    """A mark ends with a record, a short release, a later pin or a free, or is still there."""
    rows: list[Row] = [(0, GET, pfn, 0, CAMERA) for pfn in range(100, 105)]
    rows += [(1, GET, 100, 0, GPU), (5, PUT, 101, 0, CAMERA), (6, FREE, 102, 0, CAMERA), (20, PUT, 103, 0, CAMERA)]
    pinner = new_pinner(threshold=10)
    for at in range(0, len(rows), batch_size):
        pinner.apply(EventBatch.of(rows[at : at + batch_size]))
    assert counted(pinner, CAMERA) == {
        "pins": 5,
        "releases": 2,
        "longterm_records": 1,
        "below_threshold": 1,
        "marks_overwritten": 1,
        "marks_freed": 1,
        "pinned_now": 1,
        "held_now": 2,  # the marked one, and the one whose mark the GPU has overwritten
    }
    assert counted(pinner, GPU) == {"pins": 1, "pinned_now": 1, "held_now": 1}


@pytest.mark.parametrize("batch_size", [1, 10])
def test_a_record_counts_for_the_task_that_it_names(batch_size: int) -> None:
    """The camera's release of the GPU's mark is a record of the GPU. A further release finds no mark."""
    rows: list[Row] = [
        (0, GET, 100, 0, CAMERA),
        (1, GET, 100, 0, GPU),
        (2, PLAIN_PUT, 100, 0, GPU),
        (99, PUT, 100, 0, CAMERA),
        (100, PUT, 100, 0, CAMERA),
    ]
    pinner = new_pinner(threshold=10)
    for at in range(0, len(rows), batch_size):
        pinner.apply(EventBatch.of(rows[at : at + batch_size]))
    assert counted(pinner, CAMERA) == {
        "pins": 1,
        "releases": 2,
        "marks_overwritten": 1,
        "releases_without_mark": 1,
        "held_now": -1,  # it released more than it pinned, which no scenario does
    }
    assert counted(pinner, GPU) == {"pins": 1, "put_page": 1, "longterm_records": 1}


@pytest.mark.parametrize("batch_size", [1, 10])
def test_put_page_without_a_mark(batch_size: int) -> None:
    """put_page of a released page, of a page that was never pinned, and after another put_page."""
    rows: list[Row] = [
        (0, GET, 100, 0, CAMERA),
        (1, PLAIN_PUT, 100, 0, GPU),
        (1, PLAIN_PUT, 100, 0, GPU),
        (2, PUT, 100, 0, CAMERA),
        (3, PLAIN_PUT, 100, 0, GPU),
        (3, PLAIN_PUT, 101, 0, GPU),
    ]
    pinner = new_pinner(threshold=10)
    for at in range(0, len(rows), batch_size):
        pinner.apply(EventBatch.of(rows[at : at + batch_size]))
    assert counted(pinner, GPU) == {"put_page": 4, "put_page_without_mark": 2, "held_now": -4}


@pytest.mark.parametrize("batch_size", [1, 10])
def test_a_release_without_a_mark(batch_size: int) -> None:
    """Each release of a frame is a record, below the threshold, or without a mark. The last counts for the caller."""
    rows: list[Row] = [
        (0, GET, 100, 0, CAMERA),
        (0, PIN, 112, 3, CAMERA),
        (1, GET, 100, 0, GPU),
        (1, PIN, 112, 3, GPU),
        (5, PUT, 100, 0, CAMERA),
        (20, UNPIN, 112, 3, CAMERA),
        (21, PUT, 100, 0, GPU),
        (22, UNPIN, 112, 3, GPU),
    ]
    pinner = new_pinner(threshold=10)
    for at in range(0, len(rows), batch_size):
        pinner.apply(EventBatch.of(rows[at : at + batch_size]))
    assert counted(pinner, CAMERA) == {"pins": 2, "releases": 2, "marks_overwritten": 9}
    assert counted(pinner, GPU) == {
        "pins": 2,
        "releases": 2,
        "longterm_records": 8,
        "below_threshold": 1,
        "releases_without_mark": 9,
    }


@pytest.mark.parametrize("kernel", GENERATIONS)
def test_held_pages(kernel: str) -> None:
    """A page is held until its holder lets it go, by whatever call and on whatever kernel."""
    pinner = new_pinner(10, GENERATIONS[kernel])
    taken: list[Row] = [(0, GET, 100, 0, CAMERA), (0, PIN, 112, 3, CAMERA), (0, PLAIN_GET, 101, 0, CAMERA)]
    pinner.apply(EventBatch.of([*taken, (0, GET, 102, 0, CAMERA), (0, GET, 100, 0, GPU)]))
    assert (counted(pinner, CAMERA)["held_now"], counted(pinner, GPU)["held_now"]) == (4, 1)
    for left, call, pfn, order in (
        (3, PLAIN_PUT, 100, 0),
        (2, UNPIN, 112, 3),
        (1, PLAIN_PUT, 101, 0),
        (0, FREE, 102, 0),
    ):
        pinner.apply(EventBatch.of([(1, call, pfn, order, CAMERA)]))
        assert pinner.counters.of([CAMERA])["held_now"] == left
    assert counted(pinner, GPU)["held_now"] == 1


def test_calls_count_pages_and_marks_count_frames() -> None:
    """A compound page of order 3 is one pin, one release, and eight frames of everything else."""
    pinner = new_pinner(threshold=10)
    pinner.apply(EventBatch.of([(0, PIN, 112, 3, CAMERA), (1, PIN, 112, 3, CAMERA), (5, UNPIN, 112, 3, CAMERA)]))
    pinner.apply(EventBatch.of([(6, PLAIN_PUT, 112, 3, CAMERA), (7, PLAIN_GET, 112, 3, CAMERA)]))
    assert counted(pinner, CAMERA) == {
        "pins": 2,
        "releases": 1,
        "below_threshold": 8,
        "marks_overwritten": 8,
        "put_page": 1,
        "put_page_without_mark": 8,
        "untracked": 1,
        "held_now": 1,
    }


@pytest.mark.parametrize(
    ("kernel", "untracked"),
    [("introduced", {"untracked": 1, "held_now": 1}), ("android12-5.10-early", {"untracked": 3, "held_now": 1})],
)
def test_untracked_calls(kernel: str, untracked: dict[str, int]) -> None:
    """A plain reference is untracked on all kernels, FOLL_PIN on the early one."""
    pinner = new_pinner(-1, GENERATIONS[kernel])
    pinner.apply(EventBatch.of([(0, PLAIN_GET, 100, 0, 7), (0, PIN, 101, 0, 7), (0, UNPIN, 101, 0, 7)]))
    tracked = {"pins": 1, "releases": 1, "longterm_records": 1} if kernel == "introduced" else {}
    assert counted(pinner, 7) == tracked | untracked


def test_totals_are_those_of_all_handles() -> None:
    """A total is the sum over handles, also of handles far apart."""
    pinner = Pinner(memory_map(), INTRODUCED, 10)
    pinner.apply(EventBatch.of([(0, GET, 100, 0, 3), (0, GET, 101, 0, 40_000), (50, PUT, 100, 0, 3)]))
    totals = pinner.counters.totals()
    assert totals == pinner.counters.of([3, 40_000])
    assert (totals["pins"], totals["longterm_records"], totals["pinned_now"]) == (2, 1, 1)
    assert pinner.counters.of([50_000])["pins"] == 0
