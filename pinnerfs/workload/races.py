"""Attribution races: a release and a pin of one page, within 1 µs of each other, change places by a seeded chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import PINS, RELEASES, Event, EventBatch
from pinnerfs.kernel.pages import Int64s

__all__ = ["race"]

RELEASING = (*RELEASES, Event.put_page, Event.free)


def _chances(seed: int, pfn: Int64s, time: Int64s) -> npt.NDArray[np.float64]:
    """A number from 0 to 1 for each meeting, from what it is and not from when it was asked for (splitmix64)."""
    with np.errstate(over="ignore"):
        x = np.full(len(pfn), seed, dtype=np.uint64)
        for part in (pfn.astype(np.uint64), time.astype(np.uint64)):
            x = (x ^ part) + np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def race(batch: EventBatch, chance: float, seed: int) -> EventBatch:
    """The batch, page by page, after its races: what happens changes places; the moments stay, so time never falls."""
    batch = batch.page_by_page()
    if len(batch) < 2:
        return batch
    by_page = np.argsort(batch.pfn, kind="stable")
    left, right = by_page[:-1], by_page[1:]
    pins = np.isin(batch.kind, PINS)
    releases = np.isin(batch.kind, RELEASING)
    meet = (batch.pfn[left] == batch.pfn[right]) & (batch.order[left] == batch.order[right])
    meet &= (pins[left] & releases[right]) | (releases[left] & pins[right])
    meet &= batch.time[right] - batch.time[left] <= 1
    at = np.flatnonzero(meet)
    at = at[_chances(seed, batch.pfn[left[at]], batch.time[left[at]]) < chance]
    places = np.arange(len(batch))
    last = -2
    for meeting in at:
        # An event that has just raced with the one before it does not race again.
        if meeting > last + 1:
            a, b = left[meeting], right[meeting]
            places[a], places[b] = b, a
            last = int(meeting)
    raced = batch[places]
    return replace(raced, time=batch.time)
