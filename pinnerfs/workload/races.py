"""Attribution races: a release and a pin of one page, at most 1 µs apart, swap places by a seeded chance."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.events import PINS, RELEASES, Event, EventBatch
from pinnerfs.kernel.pages import Int64s

__all__ = ["race"]

RELEASING = (*RELEASES, Event.put_page, Event.free)


def _chances(seed: int, pfn: Int64s, time: Int64s) -> npt.NDArray[np.float64]:
    """Return a number from 0 to 1 for each pair, hashed from its page and time (splitmix64).

    A random stream would depend on where batches end; a hash does not.
    """
    with np.errstate(over="ignore"):
        x = np.full(len(pfn), seed, dtype=np.uint64)
        for part in (pfn.astype(np.uint64), time.astype(np.uint64)):
            x = (x ^ part) + np.uint64(0x9E3779B97F4A7C15)
            x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            x ^= x >> np.uint64(31)
    return (x >> np.uint64(11)).astype(np.float64) * 2.0**-53


def race(batch: EventBatch, chance: float, seed: int) -> EventBatch:
    """Return the batch, one row a page, after its races. The times stay in place, so time never falls."""
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
    pairs = np.flatnonzero(meet)
    pairs = pairs[_chances(seed, batch.pfn[left[pairs]], batch.time[left[pairs]]) < chance]
    # An event swaps at most once, so in a chain of pairs every second one does not.
    number = np.arange(len(pairs))
    begins = np.diff(pairs, prepend=-2) > 1
    in_chain = number - np.maximum.accumulate(np.where(begins, number, 0))
    pairs = pairs[in_chain % 2 == 0]
    places = np.arange(len(batch))
    places[left[pairs]], places[right[pairs]] = right[pairs], left[pairs]
    raced = batch[places]
    return replace(raced, time=batch.time)
