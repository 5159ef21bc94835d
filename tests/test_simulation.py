"""A scenario played against page_pinner."""

from __future__ import annotations

import hashlib
import re
from typing import Any

import pytest

from pinnerfs.clock import LAST_MOMENT
from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.events import EventBatch
from pinnerfs.kernel.page_pinner.records import Record, record_text
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.scenario.gallery import load, parse
from pinnerfs.simulation import Simulation
from tests.workload.stories import source, story, task

# sha256 of longterm_pinner after 60 s with the scenario's seed and the numpy release that pyproject.toml pins.
GOLDEN = {
    "camera-stall": "e114384d3b1c99c7047b3e1bf34d8b87249812aa6ee1464b1145f245b04d0d6e",
}
SECOND = 10**6


@pytest.mark.parametrize("name", GOLDEN)
def test_golden(name: str) -> None:
    """A scenario of the gallery gives the same bytes after 60 s on every machine."""
    simulation = Simulation(load(name))
    simulation.advance("60s")
    assert hashlib.sha256(simulation.cat().encode()).hexdigest() == GOLDEN[name]


def test_same_seed_same_bytes() -> None:
    """A seed gives the same text each time, and another seed other text. The default is the scenario's."""

    def text(seed: int | None) -> str:
        simulation = Simulation(load("camera-stall"), seed=seed)
        simulation.advance("30s")
        return simulation.cat()

    assert text(None) == text(load("camera-stall").seed) != text(2)
    assert text(2) == text(2)


def held(*times: str) -> Simulation:
    """Return a simulation with one pin after the other, each held for one of these times."""
    phases = [f'repeat = 1, gap = "0us", hold = "{time}"' for time in times]
    return Simulation(story(task("a", *phases, 'for = "8000h"')))


def test_the_threshold_is_strict() -> None:
    """Of pins held 1 µs below, at and above the threshold, only the last is recorded."""
    simulation = held("299999us", "300000us", "300001us")
    simulation.advance("10s")
    assert [record.ts for record in simulation.records()] == [300_001]


def test_records_are_newest_first() -> None:
    """The newest record is first, and record() counts from it."""
    simulation = held("1s", "3s", "2s")
    simulation.advance("10s")
    assert [record.ts for record in simulation.records()] == [2 * SECOND, 3 * SECOND, SECOND]
    oldest = simulation.record(2)
    assert oldest is not None and oldest.ts == SECOND
    assert simulation.record(3) is None


def test_a_threshold_write_at_the_time_of_a_release() -> None:
    """A release at that time meets the old threshold, and its record is cleared. Later ones meet the new one."""
    simulation = held("1s", "1s", "2s")
    simulation.advance("1s")
    assert [record.ts for record in simulation.records()] == [SECOND]
    simulation.threshold = SECOND
    assert simulation.cat() == ""
    assert simulation.threshold == SECOND
    simulation.advance("5s")
    assert [record.ts for record in simulation.records()] == [2 * SECOND]


def test_a_threshold_write_clears_the_same_value_too() -> None:
    """Writing the same value clears the records, too."""
    simulation = held("1s")
    simulation.advance("2s")
    assert simulation.stats()["records_now"] == 1
    simulation.threshold = 300_000
    assert simulation.stats()["records_now"] == 0
    assert simulation.stats()["longterm_records"] == 1


def test_the_start_threshold() -> None:
    """The scenario's threshold is in force from the start, unless another is given."""
    scenario = story(task("a", 'repeat = 1, every = "8000h", hold = "5us"'), top='threshold = "4us"')
    for threshold, recorded in ((None, 1), (5, 0), (0, 1), (-1, 1), ((1 << 63) - 1, 0)):
        simulation = Simulation(scenario, threshold=threshold)
        assert simulation.threshold == (4 if threshold is None else threshold)
        simulation.advance("1s")
        assert len(list(simulation.records())) == recorded


def test_a_negative_threshold_records_every_release() -> None:
    """With -1 a pin of 0 µs is recorded."""
    scenario = story(task("a", 'repeat = 3, every = "1us", hold = "0us"', 'for = "8000h"'))
    for threshold, recorded in ((-1, 3), (0, 0)):
        simulation = Simulation(scenario, threshold=threshold)
        simulation.advance("1s")
        assert [record.ts for record in simulation.records()] == [0] * recorded


MEMORY = """
[memory]
size = "1GiB"
base_pfn = 0x80000
pageblock_order = 9
region = [
    { name = "normal", size = "512MiB", flags = ["uptodate"] },
    { name = "cma", size = "256MiB", migratetype = "CMA", flags = ["referenced", "swapbacked"], zone = 2 },
]
"""


def test_a_record_as_data() -> None:
    """A record has the pin's duration, count, page, block, migratetype, flags and stack. They make its text."""
    text = source(
        task("a", 'repeat = 1, every = "8000h", hold = "1s"', region="cma", pages=65536),
        memory=MEMORY,
        stack='via = "fast"\nsyscall = "futex"\nframes = ["get_futex_key+0x8/0x10"]',
    )
    simulation = Simulation(parse(text))
    simulation.advance("2s")
    records = list(simulation.records())
    assert len(records) == 4096
    first = records[0]
    last_of_cma = 0x80000 + (768 << 20) // 4096 - 1
    assert first == Record(
        ts=SECOND,
        count=1,
        pfn=last_of_cma,
        block=last_of_cma >> 9,
        migratetype=Migratetype.CMA,
        flags=2 << 62 | 1 << 1 | 1 << 19,
        stack=first.stack,
    )
    assert first.stack[0].startswith("__set_page_pinner+0x") and first.stack[4] == "get_futex_key+0x8/0x10"
    assert any(frame.startswith("__arm64_sys_futex+0x") for frame in first.stack)
    assert simulation.cat() == "".join(record_text(record) for record in records)
    assert all(type(value) is int for value in (first.ts, first.count, first.pfn, first.block, first.flags))


def test_a_stack_has_at_most_16_frames() -> None:
    """The outermost frames of a longer call chain are cut."""
    frames = ", ".join(f'"f{number}"' for number in range(10))
    stack = f'via = "slow"\nsyscall = "ioctl"\nframes = [{frames}]'
    simulation = Simulation(parse(source(task("a", 'repeat = 1, every = "8000h", hold = "1s"'), stack=stack)))
    simulation.advance("2s")
    record = simulation.record(0)
    assert record is not None and len(record.stack) == 16
    assert record.stack[-1].startswith("__arm64_sys_ioctl+")


def false_positive(gpu_release: str) -> list[tuple[int, int, str]]:
    """Return the records after the camera pins, the GPU pins and releases the same page, and the camera releases."""
    text = source(
        '[stack.gpu]\nframes = ["kbase_jd_user_buf_pin_pages+0x8/0x10 [mali_kbase]"]\n',
        task("camera", 'repeat = 1, every = "8000h", hold = "500ms"'),
        task(
            "gpu", 'repeat = 1, every = "8000h", hold = "1ms"', share="camera", start="10ms", release=gpu_release
        ).replace('stack = "s"', 'stack = "gpu"'),
        stack='frames = ["vb2_qbuf+0x8/0x10"]',
    )
    simulation = Simulation(parse(text))
    simulation.advance("1s")
    return [(record.ts or 0, record.count, record.stack[0].partition("+")[0]) for record in simulation.records()]


def test_the_false_positive() -> None:
    """After the GPU's put_page, the camera's release records the GPU, with the time since the GPU's pin."""
    assert false_positive("put_page") == [(490_000, 2, "kbase_jd_user_buf_pin_pages")]


def test_without_the_false_positive() -> None:
    """After the GPU's put_user_page there is no mark, so the camera's long pin is missed."""
    assert false_positive("put_user_page") == []


def test_a_plain_reference() -> None:
    """A get_page leaves no record at any threshold, and does not change the mark of another pin."""
    blind = task("blind", 'for = "1h", every = "1s", hold = "900ms"', foll="none")
    simulation = Simulation(story(blind), threshold=-1)
    simulation.advance("60s")
    assert list(simulation.records()) == []
    stats = simulation.stats()
    assert {name: count for name, count in stats.items() if count} == {
        "put_page": 60,
        "put_page_without_mark": 60,
        "untracked": 61,
        "held_now": 1,
    }
    sharer = task("sharer", 'repeat = 1, every = "8000h", hold = "10ms"', foll="none", share="owner", start="5ms")
    simulation = Simulation(story(task("owner", 'repeat = 1, every = "8000h", hold = "500ms"'), sharer))
    simulation.advance("60s")
    assert [(record.ts, record.count) for record in simulation.records()] == [(500_000, 1)]


def test_a_huge_page() -> None:
    """A long pin of a 2 MiB page makes 512 records, each with the head's PFN and flag."""
    simulation = Simulation(story(task("a", 'repeat = 1, every = "8000h", hold = "1s"', region="cma", order=9)))
    simulation.advance("2s")
    records = list(simulation.records())
    assert len(records) == 512 and len(set(records)) == 1
    assert records[0].flags == 1 << 16 and records[0].pfn % 512 == 0
    assert simulation.stats()["pins"] == 1


def test_an_early_kernel() -> None:
    """android12-5.10-early prints count 0 and does not track FOLL_PIN."""
    phase = 'repeat = 1, every = "8000h", hold = "1s"'
    scenario = story(task("get", phase), task("pin", phase, foll="FOLL_PIN", region="cma"))
    introduced, early = Simulation(scenario), Simulation(scenario, kernel="android12-5.10-early")
    for simulation in (introduced, early):
        simulation.advance("2s")
    assert [record.count for record in introduced.records()] == [1, 1]
    assert [(record.count, record.migratetype) for record in early.records()] == [(0, Migratetype.Movable)]
    assert [early.explain()[name]["untracked"] for name in ("get", "pin")] == [0, 2]


def test_an_unknown_kernel() -> None:
    """The error for an unknown kernel lists the known ones."""
    with pytest.raises(PinnerfsError, match="no kernel 'linux': wanted one of introduced, "):
        Simulation(load("camera-stall"), kernel="linux")


def test_stats() -> None:
    """Counters run from the start. `pinned_now` counts frames, `pinned_now_in_cma` those in CMA."""
    scenario = story(
        task("a", 'for = "8000h", every = "1s", hold = "500ms"', region="cma", pages=2),
        task("b", 'repeat = 1, every = "8000h"', release="never", order=3),
    )
    simulation = Simulation(scenario)
    assert set(simulation.stats().values()) == {0}
    simulation.advance("2300ms")
    assert simulation.stats() == {
        "pins": 7,
        "releases": 4,
        "longterm_records": 4,
        "records_overwritten": 0,
        "records_now": 4,
        "pinned_now": 10,
        "pinned_now_in_cma": 2,
        "held_now": 3,
        "below_threshold": 0,
        "marks_overwritten": 0,
        "marks_freed": 0,
        "put_page": 0,
        "put_page_without_mark": 0,
        "releases_without_mark": 0,
        "untracked": 0,
        "shares_empty": 0,
        "allocs_ok": 0,
        "allocs_failed": 0,
        "cma_pages_now": 0,
    }


def test_explain() -> None:
    """Each task has its own counters, though all have the same stack. A record counts for the task that it names."""
    once = 'repeat = 1, every = "8000h", hold = '
    scenario = story(
        task("camera", once + '"500ms"', pages=2),
        task("gpu", once + '"1ms"', share="camera", start="10ms", release="put_page"),
        task("late", once + '"1ms"', share="camera", start="2s"),
        task("blind", once + '"1s"', foll="none"),
        task("held", 'repeat = 1, every = "8000h"', release="never", order=3),
    )
    simulation = Simulation(scenario)
    assert list(simulation.explain()) == ["camera", "gpu", "late", "blind", "held"]
    simulation.advance("3s")
    explained = simulation.explain()
    assert {
        task: {name: count for name, count in counters.items() if count} for task, counters in explained.items()
    } == {
        "camera": {"pins": 2, "releases": 2, "marks_overwritten": 2},
        "gpu": {"pins": 2, "longterm_records": 2, "put_page": 2},
        "late": {"shares_empty": 1},
        "blind": {"put_page": 1, "put_page_without_mark": 1, "untracked": 1},
        "held": {"pins": 1, "pinned_now": 8, "held_now": 1},
    }
    stats = simulation.stats()
    for name in explained["camera"]:
        assert stats[name] == sum(counters[name] for counters in explained.values())


def test_live_pins_are_explained_with_their_task() -> None:
    """A live pin counts for its task, as the scenario's own pins do."""
    simulation = Simulation(
        story(task("a", 'repeat = 1, every = "8000h", hold = "1s"'), task("b", 'for = "1s", gap = "1s", hold = "1s"'))
    )
    simulation.do("pin task=a pages=3")
    assert (simulation.explain()["a"]["pinned_now"], simulation.explain()["a"]["held_now"]) == (4, 4)
    simulation.do("free task=a")
    assert (simulation.explain()["a"]["marks_freed"], simulation.explain()["a"]["held_now"]) == (3, 1)


class Steps:
    """An observer that keeps its arguments."""

    def __init__(self) -> None:
        self.events = 0
        self.applied_until: list[int] = []
        self.stats: dict[str, int] = {}

    def generated(self, batch: EventBatch, until: int) -> None:
        """Count the events."""
        assert until == 2 * SECOND
        self.events += len(batch)

    def applied(self, now: int, stats: dict[str, int]) -> None:
        """Keep the time and the counters."""
        self.applied_until.append(now)
        self.stats = stats


def test_an_observer() -> None:
    """An observer gets the events before they are accounted for, and the counters after each step."""
    steps = Steps()
    scenario = story(task("a", 'for = "8000h", every = "500us", hold = "400ms"', pages=2, order=9, region="cma"))
    simulation = Simulation(scenario, observer=steps)
    reached = list(simulation.steps_to(2 * SECOND))
    assert steps.applied_until == reached and len(reached) >= 20
    assert steps.stats == simulation.stats()
    assert 2 * steps.events == steps.stats["pins"] + steps.stats["releases"]


def test_overflow() -> None:
    """After 4096 records the oldest are overwritten. stats() has their number."""
    simulation = Simulation(story(task("a", 'for = "8000h", every = "1s", hold = "400ms"', pages=1000)))
    simulation.advance("4500ms")
    stats = simulation.stats()
    assert (stats["longterm_records"], stats["records_overwritten"], stats["records_now"]) == (5000, 904, 4096)


def test_advancing() -> None:
    """A simulation starts at 0 and advances by µs or by a time with its unit. Going back changes nothing."""
    simulation = held("1s")
    assert (simulation.now, simulation.next_event()) == (0, 0)
    simulation.advance(999_999)
    assert (simulation.now, simulation.next_event()) == (999_999, SECOND)
    simulation.advance_to(5)
    simulation.advance(0)
    assert simulation.now == 999_999 and simulation.stats()["releases"] == 0
    simulation.advance("1us")
    assert simulation.now == SECOND and simulation.stats()["releases"] == 1


def test_events_at_time_0() -> None:
    """Events at time 0 happen with an advance to 0."""
    simulation = held("1s")
    simulation.advance(0)
    assert simulation.stats()["pins"] == 1


def test_steps() -> None:
    """Steps of bounded work give what a single advance gives."""
    scenario = story(task("a", 'for = "8000h", every = "500us", hold = "400ms"', pages=2, order=9, region="cma"))
    simulation, other = Simulation(scenario), Simulation(scenario)
    other.advance("1s")
    moments = list(simulation.steps_to(SECOND))
    assert moments[-1] == SECOND == simulation.now
    assert moments == sorted(moments) and len(moments) >= 20
    assert simulation.cat() == other.cat()
    assert simulation.stats() == other.stats()


def test_unfinished_steps() -> None:
    """After steps that were not finished, a later advance does the rest."""
    scenario = story(task("a", 'for = "8000h", every = "1ms", hold = "400ms"', pages=2, order=9, region="cma"))
    simulation, other = Simulation(scenario), Simulation(scenario)
    other.advance("1s")
    for _ in range(10):
        next(simulation.steps_to(SECOND))
    assert simulation.now < SECOND
    simulation.advance_to(SECOND)
    assert simulation.cat() == other.cat()


def test_after_the_last_event() -> None:
    """A scenario that is over has no next event, and time still passes."""
    simulation = Simulation(story(task("a", 'for = "1s", every = "1ms", hold = "1ms"'), top='duration = "1s"'))
    simulation.advance("2s")
    assert simulation.next_event() is None
    simulation.advance("8784h")
    assert simulation.now == 2 * SECOND + 8784 * 3600 * SECOND
    assert simulation.stats()["releases"] == simulation.stats()["pins"] == 1000


def test_a_step_that_is_no_time() -> None:
    """A step without a unit, or with a fraction of a µs, is refused in words and changes nothing."""
    simulation = held("1s")
    with pytest.raises(PinnerfsError, match="step = '5' must be a number and a unit"):
        simulation.advance("5")
    for step in (1.5, True, None):
        with pytest.raises(
            PinnerfsError, match=rf"^step = {re.escape(str(step))}: wanted a whole number of microseconds$"
        ):
            simulation.advance(step)  # type: ignore[arg-type]
    with pytest.raises(PinnerfsError, match=r"^moment = 1\.5: wanted a whole number of microseconds$"):
        simulation.advance_to(1.5)  # type: ignore[arg-type]
    assert simulation.now == 0 and simulation.stats()["pins"] == 0


@pytest.mark.parametrize("seed", [-1, 1 << 64, 1.5, "1", True])
def test_a_wrong_seed(seed: Any) -> None:
    """A seed that is not a whole number of 64 bits is refused in words."""
    with pytest.raises(PinnerfsError) as error:
        Simulation(load("camera-stall"), seed=seed)
    assert str(error.value) == f"seed = {seed!r}: wanted a whole number from 0 to 18446744073709551615"


def test_a_threshold_as_a_time() -> None:
    """A threshold may be a time with its unit, at the start and later."""
    simulation = Simulation(load("camera-stall"), threshold="1s")
    assert simulation.threshold == SECOND
    simulation.threshold = "500ms"
    assert simulation.threshold == 500_000


@pytest.mark.parametrize("threshold", [1.5, True, "x", -(1 << 63) - 1, 1 << 64])
def test_a_wrong_threshold(threshold: Any) -> None:
    """A threshold that is neither a time nor a number of µs is refused in words, and changes nothing."""
    with pytest.raises(PinnerfsError, match=r"^threshold = .*: wanted microseconds from 0 on, or a time such as"):
        Simulation(load("camera-stall"), threshold=threshold)
    simulation = Simulation(load("camera-stall"))
    with pytest.raises(PinnerfsError, match=r"^threshold = "):
        simulation.threshold = threshold
    assert simulation.threshold == 300_000


def test_a_live_pin() -> None:
    """A live pin is recorded and counted like one of its task, and its end is the next event."""
    simulation = Simulation(story(task("quiet", 'for = "8000h", every = "8000h", hold = "1us"', start="1000h")))
    simulation.advance("2s")
    simulation.do("pin task=quiet pages=3 hold=500ms")
    assert (simulation.next_event(), simulation.stats()["pinned_now"]) == (2_500_000, 3)
    simulation.advance("1s")
    assert [(record.ts, record.stack[0].partition("+")[0]) for record in simulation.records()] == [(500_000, "who")] * 3
    assert (simulation.stats()["pins"], simulation.stats()["releases"]) == (3, 3)
    assert simulation.next_event() == 1000 * 3600 * SECOND


def test_live_pins_are_reproducible() -> None:
    """The same actions at the same times give the same bytes, whatever the steps between them."""

    def text(*steps: str, seed: int = 1) -> str:
        scattered = 'repeat = 1, every = "8000h", hold = "1s"'
        scenario = story(task("a", 'for = "8000h", every = "7ms", hold = "1s"'), task("b", scattered, pick="scattered"))
        simulation = Simulation(scenario, seed=seed)
        for step in steps:
            simulation.advance(step)
        simulation.do("pin task=b pages=5 hold=700ms\npin task=a pages=2")
        simulation.advance("2s")
        simulation.do("release task=a")
        return simulation.cat()

    assert text("3s") == text("1s", "1ms", "1999ms") != text("3s", seed=2)


def test_a_refused_action() -> None:
    """A refused action raises PinnerfsError and changes nothing."""
    simulation = held("1s")
    simulation.advance("500ms")
    before = simulation.stats()
    with pytest.raises(PinnerfsError, match="line 2: task = 'b' must be one of 'a'"):
        simulation.do("pin task=a\nfree task=b")
    assert simulation.stats() == before


def test_the_false_positive_by_live_pins() -> None:
    """With live pins, too, the GPU's put_page leaves its mark for the camera's release."""
    once = 'repeat = 1, every = "8000h", hold = "1s"'
    text = source(
        '[stack.gpu]\nframes = ["kbase_jd_user_buf_pin_pages"]\n',
        task("camera", once, start="8000h"),
        task("gpu", once, start="8000h", share="camera", release="put_page").replace('stack = "s"', 'stack = "gpu"'),
    )
    simulation = Simulation(parse(text))
    simulation.do("pin task=camera hold=500ms")
    simulation.advance("10ms")
    simulation.do("pin task=gpu hold=1ms")
    simulation.advance("1s")
    assert [(one.ts, one.count, one.stack[0].partition("+")[0]) for one in simulation.records()] == [
        (490_000, 2, "kbase_jd_user_buf_pin_pages")
    ]


def test_the_last_moment() -> None:
    """All is exact up to the end of a kernel's boot time. A further advance is an error and changes nothing."""
    simulation = Simulation(story(task("a", 'repeat = 1, gap = "0us", hold = "1s"'), top='duration = "10us"'))
    simulation.do("pin task=a")
    simulation.advance_to(LAST_MOMENT - 10)
    simulation.do("pin task=a hold=10us")
    simulation.advance_to(LAST_MOMENT)
    with pytest.raises(PinnerfsError) as error:
        simulation.advance(1)
    assert str(error.value) == (
        "cannot advance to 9223372036854776 us: boot time ends at 9223372036854775 us (292 years)"
    )
    assert simulation.now == LAST_MOMENT
    assert simulation.stats()["pinned_now"] == 1
    simulation.do("release task=a")
    assert [record.ts for record in simulation.records()] == [LAST_MOMENT, SECOND]
