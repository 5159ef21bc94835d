"""What a device needs of the engine behind its files: of a simulation, or of a replay."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:  # these import numpy
    from pinnerfs.kernel.cma.allocation import Allocation
    from pinnerfs.kernel.cma.areas import Area
    from pinnerfs.kernel.cma.mm import Mm
    from pinnerfs.kernel.page_pinner.generations import Generation
    from pinnerfs.scenario.faults import Fault

__all__ = ["Deferred", "Engine"]


class Engine(Protocol):
    """A page_pinner on virtual time. `Simulation` describes each of these."""

    tracking: bool
    buffer_size: int

    @property
    def generation(self) -> Generation: ...

    @property
    def mm(self) -> Mm: ...

    @property
    def areas(self) -> Mapping[str, Area]: ...

    @property
    def seed(self) -> int: ...

    @property
    def faults(self) -> Sequence[Fault]: ...

    @property
    def now(self) -> int: ...

    def next_event(self) -> int | None: ...

    def steps_to(self, moment: int) -> Iterator[int]: ...

    def read_threshold(self) -> int: ...

    def write_threshold(self, value: int) -> None: ...

    def text(self, position: int, file: str | None = None) -> bytes: ...

    def do(self, actions: str) -> None: ...

    def start_alloc(self, area: str, pages: int, *, kept: bool = False) -> Allocation: ...

    def give_up_alloc(self, allocation: Allocation) -> None: ...

    def free_kept(self, area: str, pages: int) -> None: ...

    def stats(self) -> dict[str, int]: ...

    def cma_counters(self, area: str) -> dict[str, int]: ...

    def dmesg(self) -> str: ...

    def vmstat(self) -> dict[str, int]: ...


class Deferred(NamedTuple):
    """An engine that is built after the mount: this imports numpy, which takes longer than a mount.

    `areas` has the names of its CMA areas. The other fields are those of the engine.
    """

    build: Callable[[], Engine]
    generation: Generation
    mm: Mm
    areas: Collection[str]
    seed: int
    faults: Sequence[Fault]
