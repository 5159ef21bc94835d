"""The batch engine against the model, which takes one event at a time."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED, Generation
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import FAILED, ON_LRU, PRESENT, FrameRange
from tests.kernel.page_pinner.model import Model, Row
from tests.kernel.page_pinner.pinners import (
    BASE,
    FRAMES,
    FREE,
    GET,
    PLAIN_PUT,
    PUT,
    REGIONS,
    UPTODATE_LRU,
    Buffer,
    as_batch,
    as_rows,
    fail,
    memory_map,
    ring,
    state,
)

THRESHOLDS = st.sampled_from([-(1 << 63), -1, 0, 1, 2, 5, 20, 300_000, (1 << 63) - 1])
HANDLES = range(1, 6)
UNMAPPED = {4, 5}  # callers that have not mapped the pages that they pin

Step = tuple[str, int | list[Buffer]]

generations = pytest.mark.parametrize("generation", GENERATIONS.values(), ids=lambda generation: generation.name)


def pair(
    threshold: int, generation: Generation = INTRODUCED, frames: int = FRAMES, regions: Sequence[FrameRange] = REGIONS
) -> tuple[Pinner, Model]:
    """Return an engine and a model of the same device."""
    pinner = Pinner(memory_map(BASE, frames, regions), generation, threshold)
    pinner.unmapped |= UNMAPPED
    return pinner, Model(BASE, frames, list(regions), generation.name, threshold, UNMAPPED)


def one_call(row: Row, following: Row) -> bool:
    """Tell whether two events are of one munmap, or of the end of one process."""
    same = (row[0], row[1], row[4]) == (following[0], following[1], following[4])
    return same and row[1] in (Event.unmap, Event.free)


def assert_agreement(pinner: Pinner, model: Model) -> None:
    """State, records and all counters of the engine are the model's."""
    kept, frames = pinner.state, model.frames.values()
    assert (kept.bits & PRESENT > 0).tolist() == [frame.present for frame in frames]
    assert (kept.bits & ON_LRU > 0).tolist() == [frame.on_lru for frame in frames]
    assert kept.references.tolist() == [frame.references for frame in frames]
    assert (kept.references >= 0).all()
    assert kept.mapcount.tolist() == [frame.mapcount for frame in frames]
    assert (kept.bits & FAILED > 0).tolist() == [frame.failed for frame in frames]
    assert kept.pinned.tolist() == [frame.get for frame in frames]
    assert kept.handle.tolist() == [frame.handle for frame in frames]
    assert kept.ts.tolist() == [frame.ts for frame in frames]
    if kept.pins is not None:
        assert kept.pins.tolist() == [frame.pins for frame in frames]
    rings = {"longterm_pinner": model.longterm, "alloc_contig_failed": model.failures, "buffer": model.failures}
    for file in pinner.rings:
        assert ring(pinner, file) == list(reversed(rings[file]))
    if "longterm_pinner" in pinner.rings:
        assert pinner.rings["longterm_pinner"].overwritten == model.overwritten
    totals = pinner.counters.totals()
    pinned_now = totals.pop("pinned_now")
    assert totals == {name: model.total(name) for name in totals}
    assert (pinned_now, pinner.counters.pinned_now_in_cma) == model.pinned()
    for handle in HANDLES:
        assert pinner.counters.of([handle]) == model.of(handle, totals)


@st.composite
def batches(draw: st.DrawFn, frames: int = FRAMES, orders: int = 4, size: int = 40) -> list[Buffer]:
    """Draw buffers on few pages, with compound pages over single ones. Times never fall. May be empty."""
    time = draw(st.integers(0, 60))
    few = draw(st.integers(1, frames))
    buffers: list[Buffer] = []
    for _ in range(draw(st.integers(0, size))):
        time += draw(st.integers(0, 4))
        order = draw(st.integers(0, orders))
        head = BASE + (draw(st.integers(0, few - 1)) >> order << order)
        kind, handle = draw(st.sampled_from(Event)), draw(st.sampled_from(HANDLES))
        pages = min(draw(st.integers(1, 6)), (BASE + frames - head) >> order)
        buffers.append(((time, kind, head, order, handle), pages))
    return buffers


@st.composite
def steps(draw: st.DrawFn, generation: Generation) -> list[Step]:
    """Draw batches, with writes of the settings and failed migrations between them."""
    settings_of = [THRESHOLDS.map(lambda value: ("threshold", value))] if generation.has_threshold else []
    if generation.failure_file is not None:
        settings_of.append(st.booleans().map(lambda value: ("tracking", value)))
        settings_of.append(st.integers(BASE, BASE + FRAMES - 1).map(lambda pfn: ("fail", pfn)))
        settings_of.append(st.just(("fail all", 0)))
    if "buffer" in generation.files:
        settings_of.append(st.sampled_from([0, 1, 3, 16, 4096]).map(lambda value: ("resize", value)))
    return draw(st.lists(st.one_of(batches().map(lambda buffers: ("batch", buffers)), *settings_of), max_size=8))


@generations
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(data=st.data())
def test_batches_give_what_single_events_give(generation: Generation, data: st.DataObject) -> None:
    """Any batches, with settings and failed migrations between them, leave what the model has."""
    pinner, model = pair(data.draw(THRESHOLDS), generation, regions=data.draw(st.sampled_from([REGIONS, REGIONS[:2]])))
    now = 0
    for what, value in data.draw(steps(generation)):
        match what, value:
            case "threshold", int():
                pinner.write_threshold(value)
                model.write_threshold(value)
            case "tracking", bool():
                pinner.tracking = model.tracking = value
            case "resize", int():
                pinner.rings["buffer"].resize(value)
                model.resize(value)
            case (("fail" | "fail all"), int()):
                now += 1
                for pfn in [value] if what == "fail" else range(BASE, BASE + FRAMES):
                    if model.frames[pfn].present:
                        fail(pinner, pfn, now)
                        model.fail(pfn, now)
            case _, list():
                now = max([now, *(first[0] for first, _ in value)])
                pinner.apply(as_batch(value))
                model.apply(as_rows(value))
        assert_agreement(pinner, model)


@generations
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    buffers=batches(),
    cuts=st.sets(st.integers(0, 240)),
    threshold=THRESHOLDS,
    failed=st.sets(st.integers(BASE, BASE + 20)),
)
def test_the_cuts_between_batches_make_no_difference(
    generation: Generation, buffers: list[Buffer], cuts: set[int], threshold: int, failed: set[int]
) -> None:
    """The same events in any batches leave what the model has, also on pages whose migration failed.

    munmap and the end of a process free pages in batches of their own, so no cut divides such a call.
    """
    pinner, model = pair(threshold, generation)
    for pfn in failed if generation.failure_file is not None else ():
        for caller in (1, 4):
            pinner.apply(EventBatch.of([(1, Event.get_page, pfn, 0, caller)]))
            model.apply([(1, Event.get_page, pfn, 0, caller)])
        fail(pinner, pfn, 1)
        model.fail(pfn, 1)
    rows = as_rows(buffers)
    model.apply(rows)
    between = [cut for cut in sorted(cuts) if cut >= len(rows) or not cut or not one_call(rows[cut - 1], rows[cut])]
    for start, stop in pairwise([0, *between, len(rows)]):
        pinner.apply(EventBatch.of(rows[start:stop]))
    assert_agreement(pinner, model)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(batches(frames=8192, orders=12, size=12), max_size=4))
def test_large_pages_overflow_the_ring_as_in_the_model(steps: list[list[Buffer]]) -> None:
    """Batches with more records than the ring holds leave the newest 4096."""
    regions = [FrameRange("cma", BASE + 512, 4096, Migratetype.CMA, UPTODATE_LRU)]
    pinner, model = pair(-1, frames=16384, regions=regions)
    for buffers in steps:
        pinner.apply(as_batch(buffers))
        model.apply(as_rows(buffers))
    assert_agreement(pinner, model)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    steps=st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 3),
                st.sampled_from([GET, GET, PUT, PUT, PLAIN_PUT, FREE]),
                st.integers(90, 125),
                st.sampled_from([1, 5, 11, 11, 100]),
            ),
            max_size=12,
        ),
        min_size=1,
        max_size=3,
    ),
    threshold=st.sampled_from([-1, 2]),
)
def test_buffers_that_overlap(steps: list[list[tuple[int, Event, int, int]]], threshold: int) -> None:
    """Long and short buffers that reach into each other, and over the border of CMA, leave what the model has."""
    regions = [FrameRange("cma", BASE + 100, 200, Migratetype.CMA, UPTODATE_LRU)]
    pinner, model = pair(threshold, frames=512, regions=regions)
    now = 0
    for rows in steps:
        buffers: list[Buffer] = []
        for number, (step, kind, at, pages) in enumerate(rows):
            now += step
            buffers.append(((now, kind, BASE + at, 0, number % len(HANDLES) + 1), pages))
        pinner.apply(as_batch(buffers))
        model.apply(as_rows(buffers))
        assert_agreement(pinner, model)


def test_a_short_buffer_between_a_long_one_and_a_page() -> None:
    """A short buffer overlaps a long one and a page. All events on a frame stay in order."""
    pinner = Pinner(memory_map(0, 4096, []), INTRODUCED)
    pinner.apply(as_batch([((0, GET, 0, 0, 1), 1000), ((1, GET, 1005, 0, 2), 1), ((2, GET, 995, 0, 3), 11)]))
    assert [state(pinner, pfn) for pfn in (0, 999, 1004, 1005)] == [
        (True, 1, 0, 1),
        (True, 3, 2, 2),
        (True, 3, 2, 1),
        (True, 3, 2, 2),
    ]


@given(batches())
def test_page_by_page(buffers: list[Buffer]) -> None:
    """Each page of a buffer becomes a row of its own, in order."""
    apart = as_batch(buffers).page_by_page()
    assert [column.tolist() for column in apart.columns()] == [
        column.tolist() for column in EventBatch.of(as_rows(buffers)).columns()
    ]


@given(buffers=batches(), most=st.integers(1, 100))
def test_split(buffers: list[Buffer], most: int) -> None:
    """A split cuts between pages, within the most frames wherever a page allows it, and loses no event."""
    batch = as_batch(buffers)
    first, rest = batch.split(most)
    assert first.frames().sum() <= max(most, 1 << int(batch.order[0])) if len(batch) else not len(first)
    whole = EventBatch.concatenate([first.page_by_page(), rest.page_by_page()])
    assert np.array_equal(whole.columns(), batch.page_by_page().columns())
    assert bool(len(first)) == bool(len(batch))
