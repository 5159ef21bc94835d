"""One allocation from a CMA area, from its first round to its end."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from pinnerfs.kernel.cma.areas import Area

__all__ = ["Allocation", "Request"]


@dataclass(slots=True)
class Request:
    """What a caller of cma_alloc asks for.

    align: the PFN is a multiple of 2**align.
    retries: how often a failed round is repeated.
    no_warn, noretry: GFP_NOWARN and GFP_NORETRY.
    frames: the call chain outside of cma_alloc, innermost frame first.
    kept: the pages belong to debugfs' list.
    """

    pages: int
    align: int
    retries: int
    no_warn: bool
    noretry: bool
    frames: tuple[str, ...]
    kept: bool


@dataclass(eq=False, slots=True)
class Allocation:
    """An allocation and its outcome.

    state: only `Simulation.release_alloc` makes it "released". It stays "got" if cma/NAME/free or the end of a
    scenario's hold gives the pages back.
    began, ended: boot times in µs. next_round: the time of the next round, while the state is "waiting".
    first_pfn: the first of the pages it got.
    errno_in_log: -16 for a busy page, -12 for no room, None without a failure in the log.
    tries: the ranges that it tried, in all rounds.
    """

    area: Area
    request: Request = field(repr=False)
    began: int
    state: Literal["waiting", "got", "failed", "released"] = "waiting"
    next_round: int | None = None
    first_pfn: int | None = None
    ended: int | None = None
    errno_in_log: int | None = None
    tries: int = 0
    rounds: int = field(default=0, repr=False)

    @property
    def pages(self) -> int:
        """Return the number of pages that it asks for."""
        return self.request.pages

    def end(self, state: Literal["got", "failed"], now: int) -> None:
        """End it, and count it as a Pixel does."""
        self.state, self.ended = state, now
        request, got = self.request, state == "got"
        self.area.stat.finish(request.pages, got=got, noretry=request.noretry, began=self.began, ended=now)
