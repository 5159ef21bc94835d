"""The engine without the generation of events, compared with plain Python and with plain C."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Protocol

from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.page_pinner.pinner import DEFAULT_THRESHOLD, Pinner
from pinnerfs.kernel.pages import FrameState
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.gallery import load
from pinnerfs.simulation import Simulation
from pinnerfs.simulation.schedule import STEP_FRAMES
from pinnerfs.workload.timeline import Timeline
from tests.bench.measure import BUSY, FEW_REPEATS, NotMeasured, python, ratios, seconds
from tests.bench.reference import reference_in_c, results_of
from tests.bench.streams import as_rows, chunks, contiguous, memory, scattered
from tests.bench.table import Group, Target
from tests.kernel.page_pinner.model import Model
from tests.workload.stories import batches as batches_of

__all__ = ["groups"]

EVENTS = 1_000_000
EVENTS_OF_PYTHON = 100_000
DUMPED = 30  # seconds of the busy scenario: about six million events

PYTHON = Target("engine, random pages of 4 GiB, exact, generation excluded : sequential Python's rate", 10, 20, True)
RANDOM = Target("the same : the C loop's rate", 0.08, 0.2, True)
CONTIGUOUS = Target("engine, contiguous buffers (64 to 1024 pages a pin) : the C loop's rate", 0.3, 0.5, True)
DUMP = Target("whole pipeline, `pinnerfs dump` of a busy scenario : the engine's rate", 0.5, 0.7, True)
STATE = Target("state of a page frame, with its references and mappings, bytes", 23, 19)
PINS = Target("the same on the kernel that counts pins, bytes", 24, 23)


def groups() -> list[Group]:
    """Return the groups of the engine's rates and of its state."""
    return [
        Group([PYTHON], _against_python),
        Group([RANDOM, CONTIGUOUS], _against_c),
        Group([DUMP], _dump),
        Group([STATE, PINS], _state),
    ]


class _Applies(Protocol):
    def apply(self, batch: EventBatch, /) -> None: ...


def _play(accounting: _Applies, batches: Sequence[EventBatch]) -> None:
    for batch in batches:
        accounting.apply(batch)


def _events(batches: Sequence[EventBatch]) -> int:
    """Return the number of events, counted by page."""
    return sum(int(batch.pages.sum()) for batch in batches)


def _rate(accounting: _Applies, batches: Sequence[EventBatch]) -> float:
    """Return events a second. No hold of a stream outlasts it, so it can be played again."""
    return _events(batches) / seconds(partial(_play, accounting, batches))


def _engine() -> Pinner:
    return Pinner(memory(), INTRODUCED)


def _against_python() -> list[list[float]]:
    device = memory()
    events = scattered(EVENTS_OF_PYTHON)
    rows = as_rows(events)
    model = Model(device.base_pfn, device.frames, list(device.regions.values()), INTRODUCED.name, DEFAULT_THRESHOLD)
    model.apply(rows)
    engine = _engine()
    _play(engine, chunks(events))
    counters = [*map(model.total, ("pins", "releases", "longterm_records")), model.overwritten, *model.pinned()]
    counted, records = results_of(engine)
    if (counted[: len(counters)], records) != (counters, [list(record) for record in reversed(model.longterm)]):
        raise NotMeasured("sequential Python and the engine give different results")
    batches = chunks(scattered(EVENTS))
    return [
        ratios(lambda: _rate(engine, batches), lambda: len(rows) / seconds(lambda: model.apply(rows))),
    ]


def _against_c() -> list[list[float]]:
    figures = []
    with reference_in_c() as make:
        for stream in scattered, contiguous:
            batches = chunks(stream(EVENTS))
            engine, reference = _engine(), make(memory(), DEFAULT_THRESHOLD)
            _play(engine, batches)
            _play(reference, batches)
            if results_of(engine) != reference.results():
                raise NotMeasured(f"the C loop and the engine give different results for {stream.__name__} pages")
            figures.append(ratios(partial(_rate, engine, batches), partial(_rate, reference, batches)))
    return figures


def _dump() -> list[list[float]]:
    scenario = load(str(BUSY))
    simulation = Simulation(scenario)
    timeline = Timeline(scenario, scenario.seed, simulation.memory, simulation.generation, StackDepot())
    batches = list(batches_of(timeline, DUMPED * 1_000_000, STEP_FRAMES))
    events = _events(batches)

    def dump() -> float:
        return events / seconds(partial(python, "-m", "pinnerfs", "dump", str(BUSY), "--at", f"{DUMPED}s"))

    # A new pinner each time: some holds are still in progress at the end.
    return [ratios(dump, lambda: _rate(Pinner(simulation.memory, INTRODUCED), batches), FEW_REPEATS)]


def _state() -> list[list[float]]:
    return [[float(FrameState(1, counts_pins=pins).frame_bytes)] for pins in (False, True)]
