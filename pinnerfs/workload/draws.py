"""Draw times from the distributions of a scenario."""

from __future__ import annotations

import math
from functools import lru_cache

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
            values, weights = _choice_arrays(times)
            return values[rng.choice(len(values), size=n, p=weights)]
        case Uniform():
            return rng.integers(times.low, times.high, size=n, endpoint=True)
        case Exponential():
            draws = rng.exponential(times.middle, n)
        case Normal():
            draws = rng.normal(times.middle, times.sd, n)
        case Lognormal():
            draws = rng.lognormal(math.log(times.middle), times.shape.sigma, n)
    # Clip before the conversion: a draw can exceed 64 bits.
    return np.rint(np.minimum(np.maximum(draws, times.low), times.high)).astype(np.int64)


@lru_cache(maxsize=64)
def _choice_arrays(times: TimeDistribution) -> tuple[Int64s, npt.NDArray[np.float64]]:
    # All instances of a task share one distribution, and a choice may have thousands of values.
    return np.array(times.values, dtype=np.int64), np.array(times.weights)
