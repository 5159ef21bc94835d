"""Draw times from the distributions of a scenario."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeVar
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.pages import Int64s
from pinnerfs.scenario.distributions import Choice, Exponential, Lognormal, Normal, TimeDistribution, Uniform

__all__ = ["draw", "draw_each", "joined"]

_Item = TypeVar("_Item", bound=np.generic)


def draw(times: TimeDistribution, rng: np.random.Generator, n: int) -> Int64s:
    """Draw n times in whole µs, clipped to the bounds of the distribution. A fixed time consumes no randomness."""
    return draw_each(times, [rng], [n])


def draw_each(times: TimeDistribution, rngs: Sequence[np.random.Generator], counts: Sequence[int]) -> Int64s:
    """Draw so many times from each of these streams. Return the times of one stream after those of the other."""
    each = zip(rngs, counts, strict=True)
    match times.shape:
        case int():
            return np.full(sum(counts), times.shape, dtype=np.int64)
        case Choice():
            values, chances = _choice_table(times)
            return values.take(chances.searchsorted(joined([rng.random(n) for rng, n in each]), side="right"))
        case Uniform():
            return joined([rng.integers(times.low, times.high, size=n, endpoint=True) for rng, n in each])
        case Exponential():
            draws = joined([rng.exponential(times.middle, n) for rng, n in each])
        case Normal():
            draws = joined([rng.normal(times.middle, times.sd, n) for rng, n in each])
        case Lognormal():
            mean, sigma = math.log(times.middle), times.shape.sigma
            draws = joined([rng.lognormal(mean, sigma, n) for rng, n in each])
    # Clip before the conversion: a draw can exceed 64 bits.
    np.maximum(draws, times.low, out=draws)
    np.minimum(draws, times.high, out=draws)
    return np.rint(draws, out=draws).astype(np.int64)


def joined(parts: Sequence[npt.NDArray[_Item]]) -> npt.NDArray[_Item]:
    """Return one array of all parts: a single part is not copied."""
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


_choice_tables: WeakKeyDictionary[TimeDistribution, tuple[Int64s, npt.NDArray[np.float64]]] = WeakKeyDictionary()


def _choice_table(times: TimeDistribution) -> tuple[Int64s, npt.NDArray[np.float64]]:
    """Return the values of a choice, and the chance to draw this value or an earlier one.

    `Generator.choice` draws the same, but adds up all weights in each call, and a choice may have 100,000 values.
    """
    table = _choice_tables.get(times)
    if table is None:
        chances = np.cumsum(times.weights)
        table = _choice_tables[times] = np.array(times.values, dtype=np.int64), chances / chances[-1]
    return table
