"""Draw times from the distributions of a scenario."""

from __future__ import annotations

import math
from weakref import WeakKeyDictionary

import numpy as np
import numpy.typing as npt

from pinnerfs.kernel.pages import Int64s
from pinnerfs.scenario.distributions import Choice, Exponential, Lognormal, Normal, TimeDistribution, Uniform

__all__ = ["draw"]


def draw(times: TimeDistribution, rng: np.random.Generator, n: int) -> Int64s:
    """Draw n times in whole µs, clipped to the bounds of the distribution. A fixed time consumes no randomness."""
    match times.shape:
        case int():
            return np.full(n, times.shape, dtype=np.int64)
        case Choice():
            values, chances = _choice_table(times)
            return values.take(chances.searchsorted(rng.random(n), side="right"))
        case Uniform():
            return rng.integers(times.low, times.high, size=n, endpoint=True)
        case Exponential():
            draws = rng.exponential(times.middle, n)
        case Normal():
            draws = rng.normal(times.middle, times.sd, n)
        case Lognormal():
            draws = rng.lognormal(math.log(times.middle), times.shape.sigma, n)
    # Clip before the conversion: a draw can exceed 64 bits.
    np.maximum(draws, times.low, out=draws)
    np.minimum(draws, times.high, out=draws)
    return np.rint(draws, out=draws).astype(np.int64)


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
