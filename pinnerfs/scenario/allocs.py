"""The `[[alloc]]` tables of a scenario file: drivers that allocate contiguous memory from CMA."""

# Annotations are not postponed: msgspec would compile each one again in every process.

from functools import cached_property

from pinnerfs.scenario.distributions import Quantity, TimeDistribution, read_quantity
from pinnerfs.scenario.messages import shown
from pinnerfs.scenario.phases import Phase
from pinnerfs.scenario.tables import Table, check_text

__all__ = ["MAX_ALIGN", "MAX_RETRIES", "Alloc"]

MAX_ALIGN = 18
MAX_RETRIES = 1000  # 100 s; no kernel makes more than 10


class Alloc(Table, frozen=True, dict=True):
    """A driver that allocates from a CMA area, `[[alloc]]`."""

    name: str
    area: str
    stack: str
    pages: int
    phase: list[Phase]
    start: Quantity = "0s"
    align: int = 0
    retries: int | None = None
    no_warn: bool = False

    def __post_init__(self) -> None:
        check_text("name", self.name)
        if self.pages < 1:
            raise ValueError(f"pages = {shown(self.pages)} must be at least 1")
        _ = self.start_distribution  # to check it
        if not 0 <= self.align <= MAX_ALIGN:
            raise ValueError(f"align = {shown(self.align)} must be from 0 to {MAX_ALIGN}")
        if not 0 <= (self.retries or 0) <= MAX_RETRIES:
            raise ValueError(f"retries = {shown(self.retries)} must be from 0 to {MAX_RETRIES}")
        if all(phase.pause for phase in self.phase):
            raise ValueError("an alloc must have a phase in which something arrives, with `every`, `gap` or `rate`")

    @cached_property
    def start_distribution(self) -> TimeDistribution:
        """Return when the first phase begins."""
        return read_quantity("start", self.start)
