"""A Simulation as a world for the recorded scenes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pinnerfs import Simulation, parse
from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.cma.allocation import Allocation
from pinnerfs.kernel.events import EventBatch
from tests.oracle.cases import Case
from tests.oracle.cma import mm_of
from tests.oracle.scene import Row, parse_text, set_bits

__all__ = ["BASE", "Calls", "SimulationWorld", "scenario_of"]

BASE = 0xF000
FLAGS = {
    False: ["referenced", "uptodate", "lru", "mappedtodisk", "swapbacked"],
    True: ["referenced", "uptodate", "dirty", "lru", "swapbacked"],
}
PINS = {"get": Event.get_user_pages, "pin": Event.pin_user_pages, "plain": Event.get_page}


def scenario_of(
    *,
    file: bool,
    second: bool = False,
    base: int = BASE,
    pages: int = 16384,
    order_per_bit: int = 0,
    cpus: int = 8,
    tail: str = "",
) -> str:
    """Return the scenario of the recorded machine. The pages in the area are those of a file, or anonymous."""
    kind = "file" if file else "anon"
    camera = (
        '[[memory.region]]\nname = "camera"\nsize = "16MiB"\nmigratetype = "CMA"\ncma = "camera"\norder_per_bit = 2\n'
    )
    return f"""format = 1
name = "scene"
description = "The recorded machine."
cpus = {cpus}

[memory]
size = "{pages * 4 + 65536}KiB"
base_pfn = {base}

[[memory.region]]
name = "area"
size = "{pages * 4}KiB"
migratetype = "CMA"
cma = "reserved"
order_per_bit = {order_per_bit}
pages = "{kind}"
flags = {FLAGS[file]}

{camera if second else ""}
[[memory.region]]
name = "elsewhere"
size = "4MiB"
flags = ["uptodate", "lru", "swapbacked"]

[stack.ioctl]
via = "fast"
frames = ["pph_ioctl"]
syscall = "ioctl"

[[task]]
name = "driver"
stack = "ioctl"
region = "area"
start = "8000h"
phase = [{{ every = "1h", hold = "1s", for = "1h" }}]
{tail}"""


class Calls:
    """Calls on pages that a test makes, as a Simulation takes live actions."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._waiting: list[EventBatch] = []
        (self._handle,) = simulation._depot.handles("driver")
        simulation._schedule.live = self  # type: ignore[assignment]  # nothing else is live here

    def make(self, kind: Event, pfns: Iterable[int]) -> None:
        """Make a call on each page now."""
        rows = [(self._simulation.now, kind, pfn, 0, self._handle) for pfn in pfns]
        if rows:
            self._waiting.append(EventBatch.of(rows))
            self._simulation.advance_to(self._simulation.now)

    def next_event(self) -> int | None:
        """Return the time of the next call."""
        return int(self._waiting[0].time[0]) if self._waiting else None

    def take(self, until: int, most: int) -> EventBatch:
        """Return the next calls."""
        return self._waiting.pop(0)


class SimulationWorld:
    """A Simulation with the areas of the recorded machine."""

    limits_log = True

    def __init__(self, case: Case) -> None:
        file = "'pages': 'shmem'" in str(case.ops[0]) or "v3-handle0" in case.name
        text = scenario_of(file=file, second=case.family == "cma2", cpus=1)
        self._sim = Simulation(parse(text), kernel=case.generation, mm=mm_of(case))
        self._file = self._sim.generation.failure_file
        self._calls = Calls(self._sim)
        self._pfns: list[int] = []
        self._pins = 0
        self._held: list[Allocation] = []
        self._last: Allocation | None = None
        self._seen_log = 0
        self._buffer = self._sim.generation.main_file == "buffer"
        self._dropped = 0

    def _make(self, kind: Event, order: list[int]) -> None:
        self._calls.make(kind, [BASE + offset for offset in order] or self._pfns)

    def lay(self, offsets: list[int], *, file: bool, how: str | None) -> None:
        if how == "pin_longterm":
            return  # the pages leave the area first
        self._pfns = [BASE + offset for offset in offsets]
        self._pins = how is not None
        self._calls.make(PINS[how or "plain"], self._pfns)
        if how is None:
            self._calls.make(Event.put_page, self._pfns)

    def pin(self, how: str) -> None:
        self._pins += 1
        self._calls.make(PINS[how], self._pfns)

    def release(self, how: str) -> None:
        self._pins -= 1
        self._calls.make(Event[how], self._pfns)

    def unmap(self, order: list[int]) -> None:
        self._make(Event.unmap, order)

    def truncate(self, order: list[int]) -> None:
        if not self._pins:  # a file's pinned pages stay in the page cache, see caveats.toml
            self._make(Event.free, order)

    def drain(self) -> None:
        elsewhere = self._sim.memory.regions["elsewhere"].start
        self._calls.make(Event.map, [elsewhere])
        self._calls.make(Event.unmap, [elsewhere])

    def alloc(
        self, area: str, pages: int, *, release_after: tuple[int, str] | None = None, kept: bool, **options: Any
    ) -> int | None:
        sim, began = self._sim, self._sim.now
        alloc = sim.start_alloc(area, pages, kept=kept, **options)
        if release_after is not None:
            sim.advance_to(began + release_after[0])
            self.release(release_after[1])
            self.drain()
        while alloc.state == "waiting":
            assert alloc.next_round is not None
            sim.advance_to(alloc.next_round)
        if not kept and alloc.state == "got":
            self._held.append(alloc)
        self._last = alloc
        return None if alloc.first_pfn is None else alloc.first_pfn - sim.areas[area].base_pfn

    def release_allocs(self) -> None:
        for alloc in self._held:
            self._sim.release_alloc(alloc)
        self._held = []

    def free(self, area: str, pages: int) -> None:
        self._sim.free_kept(area, pages)

    def pause(self, us: int) -> None:
        self._sim.advance(us)

    def set_tracking(self, on: bool) -> None:
        self._sim.tracking = on

    def set_buffer_size(self, size: int) -> None:
        if self._buffer:
            self._sim.buffer_size = size

    def set_threshold(self, us: int) -> None:
        self._sim.threshold = us

    def state(self, area: str) -> dict[str, Any]:
        one = self._sim.areas[area]
        runs = set_bits(one.words())
        return {"used": one.used, "maxchunk": one.maxchunk, "bitmap_set_bits": runs, "count": one.pages}

    def calls(self) -> tuple[int, int]:
        counted = self._sim.vmstat()
        return counted["cma_alloc_success"], counted["cma_alloc_fail"]

    def new_log(self) -> list[str]:
        lines = [line.split("] ", 1)[1] for line in self._sim.dmesg().splitlines()]
        new, self._seen_log = lines[self._seen_log :], len(lines)
        return [line for line in new if "alloc failed" in line]

    def tries(self) -> int:
        assert self._last is not None
        return self._last.tries

    def texts(self) -> list[str] | None:
        texts = self._sim.cat(self._file).split("\n\n")[:-1]
        return [f"{text}\n\n" for text in texts]

    def rows(self) -> list[Row] | None:
        return [parse_text(text, BASE) for text in self.texts() or []] if self._sim.tracking else None

    def total(self) -> int:
        ring = self._sim._files.ring(self._file)
        return ring.filled + ring.overwritten

    def longterm(self) -> list[str]:
        return [text.split("\n")[0] for text in self._sim.cat("longterm_pinner").split("\n\n") if text]

    def longterm_at(self, position: int) -> str:
        return self._sim.text(position, "longterm_pinner").decode()
