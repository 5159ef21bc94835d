"""A scenario played against the books: the whole of pinnerfs without a mount."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from pinnerfs.clock import LAST_MOMENT
from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED, Generation
from pinnerfs.kernel.page_pinner.longterm import Pinner
from pinnerfs.kernel.page_pinner.records import RING_SIZE, Record, record_text
from pinnerfs.kernel.pageflags import Migratetype, page_flags
from pinnerfs.kernel.pages import FrameRange, MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.limits import LIMITS, Limits
from pinnerfs.scenario.memory import Memory
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.schema import Scenario
from pinnerfs.workload.timeline import Timeline

if TYPE_CHECKING:
    from pinnerfs.workload.live import Live

__all__ = ["Simulation", "generation"]

# Frames that events touch in one go: some 10 ms of work, so that nobody who takes turns waits long.
STEP_FRAMES = 1 << 17


def generation(name: str) -> Generation:
    """A kernel's profile by its name. PinnerfsError lists the names."""
    if name not in GENERATIONS:
        raise PinnerfsError(f"no kernel {name!r}: wanted one of {', '.join(GENERATIONS)}")
    return GENERATIONS[name]


def _memory_map(memory: Memory) -> MemoryMap:
    regions, start = [], memory.base_pfn
    for region in memory.region:
        flags = page_flags(region.flags, region.zone)
        regions.append(FrameRange(region.name, start, region.frames, Migratetype[region.migratetype], flags))
        start += region.frames
    return MemoryMap(memory.base_pfn, memory.frames, memory.pageblock_order, regions)


class Simulation:
    """A scenario, from time 0 on. `seed` and `threshold` (µs) replace the scenario's own.

    Of the limits, `pins` is for what is pinned live.
    """

    def __init__(
        self,
        scenario: Scenario,
        *,
        seed: int | None = None,
        threshold: int | None = None,
        kernel: str = INTRODUCED.name,
        limits: Limits = LIMITS,
    ) -> None:
        self.scenario = scenario
        self.generation = generation(kernel)
        self.memory = _memory_map(scenario.memory)
        self._depot = StackDepot()
        start_threshold = parse_time("threshold", scenario.threshold) if threshold is None else threshold
        self._pinner = Pinner(self.memory, self.generation, start_threshold)
        self._seed = scenario.seed if seed is None else seed
        self._timeline = Timeline(scenario, self._seed, self.memory, self.generation, self._depot)
        self._live: Live | None = None  # until something is done live
        self._most_live = limits.pins
        self._now = 0
        self._texts: dict[int, bytes] = {}  # of records by their number, once somebody has asked for them

    @property
    def now(self) -> int:
        """Boot time in µs, up to which the books are kept."""
        return self._now

    def advance(self, step: int | str) -> None:
        """Go on by a time in µs, or by one written out: "5s"."""
        self.advance_to(self._now + (parse_time("step", step) if isinstance(step, str) else step))

    def advance_to(self, moment: int) -> None:
        """Bring the books up to a moment (µs), with every event at that moment in them; a past one changes nothing.

        PinnerfsError for one at which no kernel's boot time arrives.
        """
        for _ in self.steps_to(moment):
            pass

    def steps_to(self, moment: int) -> Iterator[int]:
        """As `advance_to`, a bounded piece of work at a time: yields how far it has come (µs)."""
        if moment > LAST_MOMENT:
            raise PinnerfsError(f"cannot advance to {moment} us: boot time ends at {LAST_MOMENT} us (292 years)")
        while self._now < moment or self.next_event() == moment:
            batch = self._take(moment)
            self._pinner.apply(batch)
            self._now = int(batch.time[-1]) if len(batch) else moment
            yield self._now

    def _take(self, moment: int) -> EventBatch:
        """The next events: the scenario's, and at each moment behind them what is done live."""
        own = self._timeline.next_event()
        if self._live is None or (live := self._live.next_event()) is None or live > moment:
            return self._timeline.take(moment, STEP_FRAMES)
        if own is not None and own <= live and len(batch := self._timeline.take(live, STEP_FRAMES)):
            return batch
        return self._live.take(live, STEP_FRAMES)

    def do(self, actions: str) -> None:
        """Pin, release and free pages now, one action a line: "pin task=camera pages=64 hold=500ms".

        They happen behind all that the scenario does at this moment; all of them, or none: PinnerfsError says in which
        line what is wrong.
        """
        from pinnerfs.workload.live import Live  # few ever do anything live

        self.advance_to(self._now)
        if self._live is None:
            self._live = Live(self.scenario, self._seed, self.memory, self.generation, self._depot, self._most_live)
        try:
            self._live.do(actions, self._now)
        except ValueError as error:
            raise PinnerfsError(str(error)) from None
        self.advance_to(self._now)

    def next_event(self) -> int | None:
        """When something next happens, in µs; None if nothing ever does again."""
        own = self._timeline.next_event()
        live = None if self._live is None else self._live.next_event()
        return own if live is None else live if own is None else min(own, live)

    @property
    def threshold(self) -> int:
        """The threshold in force, in µs, signed."""
        return self._pinner.threshold

    @threshold.setter
    def threshold(self, value: int) -> None:
        """Writing it, even the same value, clears the recorded data."""
        self._pinner.write_threshold(value)

    def record(self, position: int) -> Record | None:
        """The record `position` places behind the newest, or None where there is none."""
        row = self._pinner.ring.newest(position)
        if row is None:
            return None
        # All fields at once: one by one they cost as much as all the rest of a read.
        elapsed, count, handle, pfn, flags, migratetype = row.item()
        return Record(
            ts=elapsed,
            count=count if self.generation.prints_count else 0,
            pfn=pfn,
            block=pfn >> self.memory.pageblock_order,
            migratetype=Migratetype(migratetype),
            flags=flags,
            stack=self._depot.fetch(handle),
        )

    def records(self) -> Iterator[Record]:
        """What `longterm_pinner` holds now, newest first."""
        position = 0
        while (record := self.record(position)) is not None:
            yield record
            position += 1

    def text(self, position: int) -> bytes:
        """The text of the record `position` places behind the newest, or b"" where there is none."""
        ring = self._pinner.ring
        if position >= ring.filled:
            return b""
        number = ring.appended - position
        try:
            return self._texts[number]
        except KeyError:
            pass
        if len(self._texts) >= 2 * RING_SIZE:
            self._texts.clear()  # at least half of them are of records that are gone
        record = self.record(position)
        assert record is not None
        text = self._texts[number] = record_text(record).encode()
        return text

    def longterm_pinner(self) -> str:
        """The text of `longterm_pinner`, as cat shows it."""
        return b"".join(map(self.text, range(self._pinner.ring.filled))).decode()

    def stats(self) -> dict[str, int]:
        """Return the counters since the start."""
        ring = self._pinner.ring
        counted = self._pinner.counters.totals()
        now = counted.pop("pinned_now")
        calls = {name: counted.pop(name) for name in ("pins", "releases", "longterm_records")}
        return {
            **calls,
            "records_overwritten": ring.overwritten,
            "records_now": ring.filled,
            "pinned_now": now,
            "pinned_now_in_cma": self._pinner.counters.pinned_now_in_cma,
            **counted,
        }
