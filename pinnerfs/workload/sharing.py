"""The pages of a `share` task: those of the owner's latest hold in progress."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from pinnerfs.kernel.pages import Int64s
from pinnerfs.workload.holds import Holds
from pinnerfs.workload.tasks import FOREVER

__all__ = ["EmptyShares", "OpenHolds", "last_above"]


def last_above(values: Int64s, places: Int64s, bounds: Int64s) -> Int64s:
    """Return, for each place, the nearest one at or before it where `values` is above that place's bound, or -1."""
    # maxima[k][i] is the largest of the 2**k values up to i.
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
    """The holds of an owner that may still be in progress, sorted by instance and begin."""

    def __init__(self, instances: int) -> None:
        self._instances = instances
        self._holds: Holds | None = None

    def __len__(self) -> int:
        return 0 if self._holds is None else len(self._holds)

    def add(self, holds: Holds) -> None:
        """Add holds. They must begin later than all earlier ones."""
        both = holds if self._holds is None else Holds.concatenate([self._holds, holds])
        self._holds = both.by_instance()

    def forget(self, before: int) -> None:
        """Drop the holds that no later share can find: those that ended, and those that the next hold outlasts."""
        if self._holds is None:
            return
        holds = self._holds.take(np.flatnonzero(self._holds.end >= before))
        outlasted = np.zeros(len(holds), dtype=np.bool_)
        outlasted[:-1] = (holds.instance[1:] == holds.instance[:-1]) & (holds.end[1:] >= holds.end[:-1])
        self._holds = holds.take(np.flatnonzero(~outlasted))

    def share(self, sharing: Holds, inclusive: bool) -> tuple[Holds, Int64s]:
        """Return the sharing holds with the pages that they find, and the begins of those that find none.

        Instance n shares with the owner's instance n modulo the owner's instances. `inclusive`: a hold that the owner
        begins at the same moment is found, and one that it ends is not.
        """
        if self._holds is None or not len(self._holds):
            return sharing[:0], sharing.begin
        owned, owner = self._holds, sharing.instance % self._instances
        # One search over all instances: the keys are instance * span + begin. Clipping the begins to the window of
        # the sharing holds keeps the keys of one instance apart from those of the next.
        first = int(sharing.begin.min(initial=FOREVER))
        span = int(sharing.begin.max(initial=first)) - first + 3
        begun = owned.instance * span + np.clip(owned.begin - first + 1, 0, span - 1)
        moment = owner * span + sharing.begin - first + 1
        place = np.searchsorted(begun, moment, side="right" if inclusive else "left") - 1
        found = last_above(owned.end, place, sharing.begin if inclusive else sharing.begin - 1)
        finds = (found >= 0) & (owned.instance[found] == owner)
        rows = np.flatnonzero(finds)
        return replace(sharing.take(rows), pfn=owned.pfn[found[rows]]), sharing.begin[~finds]


class EmptyShares:
    """A count of the holds of a `share` task that found no pages.

    Windows are generated ahead of time, so the count needs the begin of each such hold.
    """

    def __init__(self) -> None:
        self._past = 0
        self._begin = np.empty(0, dtype=np.int64)

    def add(self, begin: Int64s) -> None:
        """Add the holds of a window."""
        self._begin = np.concatenate([self._begin, begin])

    def forget(self, before: int) -> None:
        """Replace the holds that began before a moment by their number. No earlier moment must be asked for."""
        past = self._begin < before
        self._past += int(past.sum())
        self._begin = self._begin[~past]

    def count(self, moment: int) -> int:
        """Return the number of holds that began at or before a moment."""
        return self._past + int((self._begin <= moment).sum())
