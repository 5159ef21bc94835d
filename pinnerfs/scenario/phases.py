"""The phases of a task or an alloc: when something arrives, and how long it lasts."""

# Annotations are not postponed: msgspec would compile each one again in every process.

from functools import cached_property

from pinnerfs.scenario.distributions import Quantity, TimeDistribution, read_quantity
from pinnerfs.scenario.messages import shown
from pinnerfs.scenario.quantities import parse_rate, parse_time
from pinnerfs.scenario.tables import Measure, Table

__all__ = ["Phase"]


class Phase(Table, frozen=True, dict=True, rename={"lasts": "for"}):
    """A phase, `[[task.phase]]` or `[[alloc.phase]]`: arrivals and holds for a time, or a pause."""

    lasts: Quantity | None = None
    repeat: int | None = None
    every: Measure | None = None
    gap: Quantity | None = None
    rate: Measure | None = None
    hold: Quantity | None = None

    def __post_init__(self) -> None:
        if (self.lasts is None) == (self.repeat is None):
            raise ValueError("a phase must have one of `for` and `repeat`")
        if self.repeat is not None and not 1 <= self.repeat <= 1 << 40:
            raise ValueError(f"repeat = {shown(self.repeat)} must be from 1 to {1 << 40}")
        arrivals = sum(way is not None for way in (self.every, self.gap, self.rate))
        if arrivals > 1 or (not arrivals and (self.repeat is not None or self.hold is not None)):
            raise ValueError("a phase must have one of `every`, `gap` and `rate`; a pause has only `for`")
        if self.lasts_distribution is not None and isinstance(self.lasts, str) and not parse_time("for", self.lasts):
            raise ValueError(f"for = {self.lasts!r} must be above 0")
        if self.every is not None and not parse_time("every", self.every):
            raise ValueError(f"every = {self.every!r} must be at least 1us")
        if self.rate is not None:
            parse_rate("rate", self.rate)
        _ = self.gap_distribution, self.hold_distribution  # to check them

    # Cached for all instances: a choice may have thousands of values.
    @cached_property
    def lasts_distribution(self) -> TimeDistribution | None:
        """Return how long the phase lasts; None if it ends by `repeat`."""
        return None if self.lasts is None else read_quantity("for", self.lasts)

    @cached_property
    def gap_distribution(self) -> TimeDistribution | None:
        """Return the time from a release to the next arrival; None without `gap`."""
        return None if self.gap is None else read_quantity("gap", self.gap)

    @cached_property
    def hold_distribution(self) -> TimeDistribution | None:
        """Return how long a hold lasts; None if it never ends, or in a pause."""
        return None if self.hold is None else read_quantity("hold", self.hold)

    @property
    def pause(self) -> bool:
        """Return whether nothing arrives in this phase."""
        return self.every is None and self.gap is None and self.rate is None
