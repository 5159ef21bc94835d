"""Which pages a sharing task finds: those of the latest of its owner's holds that is in progress."""

from __future__ import annotations

import numpy as np

from pinnerfs.kernel.pages import Int64s
from pinnerfs.workload.holds import Holds
from pinnerfs.workload.tasks import NEVER

__all__ = ["OpenHolds", "last_above"]


def last_above(values: Int64s, places: Int64s, bounds: Int64s) -> Int64s:
    """For each place, the last one up to it at which `values` lies above the place's bound; -1 where there is none."""
    # maxima[k] at i: the largest of the 2**k values up to i.
    maxima = [values]
    while (width := 1 << len(maxima) - 1) < len(values):
        wider = maxima[-1].copy()
        np.maximum(wider[width:], maxima[-1][:-width], out=wider[width:])
        maxima.append(wider)
    found = places.copy()
    for power, largest in reversed([*enumerate(maxima)]):
        skip = (found >= 0) & (largest[found] <= bounds)
        found = np.where(skip, np.maximum(found - (1 << power), -1), found)
    return found


class OpenHolds:
    """An owner's holds that may be in progress yet: one instance's behind the other's, in order of their beginning."""

    def __init__(self, instances: int) -> None:
        self._instances = instances
        self._holds: Holds | None = None

    def add(self, holds: Holds) -> None:
        """Holds that all begin later than those before."""
        both = holds if self._holds is None else Holds.concatenate([self._holds, holds])
        self._holds = both.by_instance()

    def forget(self, before: int) -> None:
        """Drop the holds that ended before a moment, and those that the next one outlasts: nobody will find them."""
        if self._holds is None:
            return
        holds = self._holds.take(np.flatnonzero(self._holds.end >= before))
        outlasted = np.zeros(len(holds), dtype=np.bool_)
        outlasted[:-1] = (holds.instance[1:] == holds.instance[:-1]) & (holds.end[1:] >= holds.end[:-1])
        self._holds = holds.take(np.flatnonzero(~outlasted))

    def shared(self, asking: Holds, inclusive: bool) -> Holds:
        """The holds that ask, with the pages that each finds; one that finds none does not take place.

        An instance asks the owner's instance of its number, and begins anew where there are more. `inclusive`: after
        what the owner does at the very moment, else before it.
        """
        if self._holds is None or not len(self._holds):
            return asking[:0]
        mine, owner = self._holds, asking.instance % self._instances
        # An owner's holds up to a moment end where the moment stands among them. Moments are counted from the first
        # one that is asked for: whatever began before is as early as any, and what begins behind the last as late.
        first = int(asking.begin.min(initial=NEVER))
        span = int(asking.begin.max(initial=first)) - first + 3
        begun = mine.instance * span + np.clip(mine.begin - first + 1, 0, span - 1)
        moment = owner * span + asking.begin - first + 1
        place = np.searchsorted(begun, moment, side="right" if inclusive else "left") - 1
        found = last_above(mine.end, place, asking.begin if inclusive else asking.begin - 1)
        there = np.flatnonzero((found >= 0) & (mine.instance[found] == owner))
        asking = asking.take(there)
        return Holds(asking.begin, asking.end, mine.pfn[found[there]], asking.instance)
