"""Streams of events, to time the engine without their generation."""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import FrameRange, Int64s, MemoryMap
from pinnerfs.simulation.schedule import STEP_FRAMES
from tests.kernel.page_pinner.model import Row

__all__ = ["FRAMES", "as_rows", "chunks", "contiguous", "memory", "scattered"]

FRAMES = 1 << 20  # 4 GiB
BASE = 0x80000
HELD = 100_000  # µs on average: one in twenty pins is long-term


def memory(frames: int = FRAMES) -> MemoryMap:
    """Return a device whose upper quarter is CMA."""
    lower = frames // 4 * 3
    return MemoryMap(
        BASE,
        frames,
        10,
        [
            FrameRange("movable", BASE, lower, Migratetype.Movable, 0x80014),
            FrameRange("cma", BASE + lower, frames - lower, Migratetype.CMA, 0x80024),
        ],
    )


def scattered(events: int, frames: int = FRAMES, stacks: int = 16) -> EventBatch:
    """Return pins of single random pages, 100,000 a second, and their releases, in order of time."""
    rng = np.random.default_rng(1)
    holds = events // 2
    return _holds(
        begin=rng.integers(0, 10 * holds, holds),
        held=np.rint(rng.exponential(HELD, holds)).astype(np.int64),
        pfn=BASE + rng.integers(0, frames, holds),
        handle=rng.integers(1, stacks + 1, holds),
        pages=np.ones(holds, dtype=np.int64),
    )


def contiguous(events: int, frames: int = FRAMES) -> EventBatch:
    """Return pins of buffers, about 200 a second, and their releases. `events` counts pages."""
    rng = np.random.default_rng(2)
    buffers = max(1, events // 2 // 544)
    return _holds(
        begin=np.sort(rng.integers(0, 5_000 * buffers, buffers)),
        held=np.rint(rng.exponential(HELD, buffers)).astype(np.int64),
        pfn=BASE + rng.integers(0, frames - 1024, buffers),
        handle=rng.integers(1, 17, buffers),
        pages=rng.integers(64, 1025, buffers),
    )


def _holds(begin: Int64s, held: Int64s, pfn: Int64s, handle: Int64s, pages: Int64s) -> EventBatch:
    time = np.concatenate([begin, begin + held])
    kind = np.repeat(np.array([Event.get_user_pages, Event.put_user_page], np.uint8), len(begin))
    order = np.zeros(len(time), np.uint8)
    both = EventBatch(time, kind, np.tile(pfn, 2), order, np.tile(handle, 2).astype(np.int32), np.tile(pages, 2))
    return both[np.argsort(time, kind="stable")]


def chunks(events: EventBatch) -> list[EventBatch]:
    """Return the events in batches as a simulation makes them."""
    pieces = []
    while len(events):
        piece, events = events.split(STEP_FRAMES)
        pieces.append(piece)
    return pieces


def as_rows(events: EventBatch) -> list[Row]:
    """Return the events as the model takes them."""
    events = events.page_by_page()
    kinds = map(Event, events.kind.tolist())
    columns = (events.time.tolist(), kinds, events.pfn.tolist(), events.order.tolist(), events.handle.tolist())
    return list(zip(*columns, strict=True))
