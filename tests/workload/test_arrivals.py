"""The times of an instance's holds: phases, arrivals, hold times."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pinnerfs.scenario.schema import Task
from pinnerfs.workload.arrivals import BLOCK_ROWS, Arrivals, PhaseTimes
from pinnerfs.workload.blocks import HoldTimes, draw_blocks
from pinnerfs.workload.draws import draw
from pinnerfs.workload.tasks import FOREVER, Stream, random_stream
from tests.workload.stories import story, task

SECOND = 10**6

PAUSE = 'for = "70us"'
PHASES = st.one_of(
    st.just(PAUSE),
    st.builds(
        "{}, {}, hold = {}".format,
        st.sampled_from(["repeat = 1", "repeat = 7", 'for = "900us"', 'for = { dist = "exponential", mean = "1ms" }']),
        st.sampled_from(
            ['every = "300us"', 'gap = "200us"', 'gap = { dist = "exponential", mean = "1ms" }', 'rate = "5/ms"']
        ),
        st.sampled_from(['"5us"', '"1ms"', '{ dist = "uniform", min = "0us", max = "500us" }']),
    ),
)


def blocks(task: Task, stop: int = FOREVER, seed: int = 0) -> Iterator[HoldTimes]:
    """Return the blocks of holds of a task's first instance."""
    phases = [PhaseTimes.of(phase) for phase in task.phase]
    stream = random_stream(seed, task.name, 0, Stream.times)
    start = int(draw(task.start_distribution, stream, 1)[0])
    for block in Arrivals(task, phases, 0, stream, start, stop).blocks():
        if block.size:
            yield draw_blocks(phases[block.phase], [block])


def holds(*phases: str, stop: int = FOREVER, most: int = 1000, seed: int = 0, **keys: object) -> list[tuple[int, int]]:
    """Return the first holds of a task with these phases, as (begin, end)."""
    one = story(task("a", *phases, **keys)).task[0]
    found: list[tuple[int, int]] = []
    for begin, end in blocks(one, stop, seed):
        found += zip(begin.tolist(), end.tolist(), strict=True)
        if len(found) >= most:
            break
    return found[:most]


def begins(*phases: str, stop: int = FOREVER, most: int = 1000, seed: int = 0, **keys: object) -> list[int]:
    """Return the begins of the first holds of a task with these phases."""
    return [begin for begin, _ in holds(*phases, stop=stop, most=most, seed=seed, **keys)]


def test_every_does_not_drift() -> None:
    """`every` is a fixed grid and does not depend on the length of the holds."""
    found = holds('for = "10h", every = "33333us", hold = "50ms"', most=100_000)
    assert found == [(33_333 * number, 33_333 * number + 50_000) for number in range(100_000)]


def test_the_grid_starts_with_the_phase() -> None:
    """An `every` phase has its first arrival at its begin and no arrival at its end."""
    found = begins('for = "30ms", every = "10ms", hold = "1us"', 'for = "25ms"', most=7)
    assert found == [0, 10_000, 20_000, 55_000, 65_000, 75_000, 110_000]


def test_start() -> None:
    """The first hold begins at the task's start."""
    assert begins('repeat = 2, every = "1ms", hold = "1us"', start="5ms", most=3) == [5_000, 6_000, 7_000]


def test_gap_is_after_the_release() -> None:
    """The next hold begins one `gap` after the end of the last one."""
    hold = 'hold = { dist = "uniform", min = "1ms", max = "9ms" }'
    found = holds(f'for = "10h", gap = "33ms", {hold}', most=5_000)
    assert len({end - begin for begin, end in found}) > 1_000
    assert all(later[0] - earlier[1] == 33_000 for earlier, later in pairwise(found))


def test_a_gap_lies_between_phases_too() -> None:
    """The first hold of a `gap` phase waits for a gap after the last release of the phase before it."""
    found = holds('repeat = 2, gap = "10ms", hold = "1ms"', 'repeat = 1, gap = "20ms", hold = "2ms"', most=5)
    assert found == [(0, 1_000), (11_000, 12_000), (32_000, 34_000), (44_000, 45_000), (55_000, 56_000)]


def test_a_gap_longer_than_its_phase() -> None:
    """If a gap outlasts its phase, the hold comes in a later round, a full gap after the release."""
    found = holds('for = "1s", gap = "10s", hold = "1ms"', most=20)
    assert all(10 * SECOND <= later[0] - earlier[1] <= 11 * SECOND for earlier, later in pairwise(found))


def test_a_hold_may_outlast_its_phase() -> None:
    """A phase ends on time although a hold is in progress; the next `gap` starts at the end of that hold."""
    found = holds('for = "10ms", gap = "1ms", hold = "25ms"', most=3)
    assert found == [(0, 25_000), (26_000, 51_000), (52_000, 77_000)]


def test_repeat_counts_holds() -> None:
    """A phase with `repeat` ends after that many holds, and the phases repeat in their order."""
    found = begins('repeat = 3, every = "1ms", hold = "1us"', 'repeat = 1, every = "10ms", hold = "1us"', most=9)
    assert found == [0, 1_000, 2_000, 3_000, 13_000, 14_000, 15_000, 16_000, 26_000]


def test_repeat_beyond_a_block() -> None:
    """`repeat` counts over several blocks of draws, for each kind of arrivals."""
    for way in ('every = "10us"', 'gap = "10us"', 'rate = "100/ms"'):
        count = 3 * BLOCK_ROWS + 7
        found = begins(f'repeat = {count}, {way}, hold = "1us"', 'for = "10h"', most=count + 1)
        assert found[count] - found[count - 1] > 3600 * SECOND
        assert max(later - earlier for earlier, later in pairwise(found[:count])) < SECOND


def test_rate_is_poisson() -> None:
    """`rate` gives exponential waits with the right mean, deviation and median."""
    found = np.array(begins('for = "10h", rate = "100/s", hold = "1us"', most=50_000))
    waits = np.diff(found)
    assert np.mean(waits) == pytest.approx(10_000, rel=0.02)
    assert np.std(waits) == pytest.approx(10_000, rel=0.03)
    assert np.median(waits) == pytest.approx(10_000 * np.log(2), rel=0.03)


def test_rate_in_short_phases() -> None:
    """Many phases shorter than a wait have the same rate of arrivals as one long phase."""
    found = begins('for = "1ms", rate = "100/s", hold = "1us"', stop=100 * SECOND, most=1_000_000)
    assert len(found) == pytest.approx(10_000, rel=0.05)


@pytest.mark.parametrize("rate", ["1/us", "0.5/us", "100/ms"])
@pytest.mark.parametrize("length", ['for = "10h"', 'for = "20us"', "repeat = 1", "repeat = 3"])
def test_a_fast_rate(length: str, rate: str) -> None:
    """A rate near one in a µs is exact within five standard deviations, whatever the length of the phase."""
    found = begins(f'{length}, rate = "{rate}", hold = "1us"', stop=SECOND // 10, most=SECOND)
    wanted = {"1/us": 100_000, "0.5/us": 50_000, "100/ms": 10_000}[rate]
    assert abs(len(found) - wanted) < 5 * wanted**0.5


def test_a_pause() -> None:
    """A phase without arrivals is a pause. Its length can be drawn."""
    pause = 'for = { dist = "uniform", min = "1s", max = "2s" }'
    found = begins('repeat = 1, every = "1ms", hold = "1us"', pause, most=200)
    waits = [later - earlier - 1_000 for earlier, later in pairwise(found)]
    assert min(waits) >= SECOND and max(waits) <= 2 * SECOND and len(set(waits)) > 190


@pytest.mark.parametrize("way", ['every = "1ms"', 'gap = "1ms"', 'rate = "1/ms"'])
def test_a_pin_that_is_never_released(way: str) -> None:
    """With `release = "never"` a hold ends at FOREVER."""
    found = holds(f'for = "1s", {way}', release="never", most=100)
    assert {end for _, end in found} == {FOREVER}
    assert len({begin for begin, _ in found}) > 50


@pytest.mark.parametrize("repeat", ["repeat = 1", "repeat = 2", "repeat = 100000", 'for = "3us"', 'for = "1h"'])
def test_time_passes_with_neither_gap_nor_hold(repeat: str) -> None:
    """With a gap and a hold of 0 the arrivals are 1 µs apart, within a phase and between phases."""
    assert begins(f'{repeat}, gap = "0us", hold = "0us"', most=100) == list(range(100))


def test_time_passes_where_a_phase_draws_0() -> None:
    """A phase with a drawn length of 0 lasts 1 µs."""
    nothing = 'for = { dist = "exponential", mean = "0us" }'
    assert begins(f'{nothing}, every = "1s", hold = "1us"', most=5) == [0, 1, 2, 3, 4]
    assert begins(nothing, 'repeat = 1, every = "1us", hold = "1us"', most=3) == [1, 3, 5]


@pytest.mark.parametrize("way", ['every = "1ms"', 'gap = "1us"', 'rate = "1/ms"'])
@pytest.mark.parametrize("length", ["repeat = 1000000", 'for = "10h"', "repeat = 2"])
def test_arrivals_stop(way: str, length: str) -> None:
    """No hold begins at or after the scenario's end. Holds in progress end at their own time."""
    found = holds(f'{length}, {way}, hold = "5ms"', stop=100_000, most=1_000_000)
    assert found and max(begin for begin, _ in found) < 100_000
    assert all(end == begin + 5_000 for begin, end in found)


@settings(max_examples=60, deadline=None)
@given(st.lists(PHASES, min_size=1, max_size=4), st.integers(1, 20_000))
def test_the_end_changes_nothing_before_it(phases: list[str], stop: int) -> None:
    """The holds that begin before the scenario's end are those of an endless scenario."""
    assume(not all(phase == PAUSE for phase in phases))
    found = holds(*phases, stop=stop, most=2_000)
    endless = holds(*phases, most=2_000)
    assert found == [hold for hold in endless if hold[0] < stop]


def test_the_end_cuts_off_a_repeated_gap() -> None:
    """A phase with `repeat` and `gap` that the scenario's end cuts off is not followed by the next phase."""
    phases = ('repeat = 5, gap = "1s", hold = "4us"', 'repeat = 3, every = "100ms", hold = "1us"')
    assert [begin for begin, _ in holds(*phases, stop=4 * SECOND)] == [0, 1_000_004, 2_000_008, 3_000_012]


def test_a_start_behind_the_end() -> None:
    """A task that starts after the scenario's end has no holds."""
    assert holds('for = "1s", every = "1ms", hold = "1us"', start="2s", stop=SECOND) == []


@pytest.mark.parametrize("way", ['every = "1ms"', 'gap = { dist = "exponential", mean = "1ms" }', 'rate = "1/ms"'])
def test_holds_come_in_order(way: str) -> None:
    """Holds are in order of their begin, within blocks, between blocks and between phases."""
    hold = 'hold = { dist = "exponential", mean = "3ms" }'
    found = begins(f'for = "300ms", {way}, {hold}', f"repeat = 40, {way}, {hold}", 'for = "1ms"', most=30_000)
    assert all(earlier <= later for earlier, later in pairwise(found))


def test_a_block_is_bounded() -> None:
    """A block has at most 8192 pages, and the blocks of all instances together are bounded as well."""
    way = 'for = "8000h", every = "1us", hold = "1us"'
    for keys, rows in (({}, 8192), ({"pages": 64}, 8192), ({"instances": 4096}, 256), ({"pages": 8192}, 8192)):
        one = story(task("a", way, **keys)).task[0]
        sizes = [len(block.begin) * (one.pages or 1) for block in islice(blocks(one), 20)]
        assert max(sizes) == rows


def test_the_longest_times_do_not_overflow() -> None:
    """Blocks of the longest holds, gaps and grids (a year each) fit into 64 bits."""
    for way in ('every = "8784h"', 'gap = "8784h"', 'rate = "0.001/h"'):
        found = holds(f'repeat = 20000, {way}, hold = "8784h"', most=20_000)
        assert all(earlier[0] < later[0] for earlier, later in pairwise(found))
        assert all(0 <= begin < end < 1 << 62 for begin, end in found)
