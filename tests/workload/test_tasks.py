"""The times of one instance's holds: phases, arrivals, holds."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest

from pinnerfs.workload.tasks import BLOCK_ROWS, NEVER, hold_blocks, random_streams
from tests.workload.stories import story, task

SECOND = 10**6


def holds(*phases: str, stop: int = NEVER, most: int = 1000, seed: int = 0, **keys: object) -> list[tuple[int, int]]:
    """The first holds of a task with these phases, as (begin, end)."""
    one = story(task("a", *phases, **keys)).task[0]
    rng, _ = random_streams(seed, one.name, 0)
    found: list[tuple[int, int]] = []
    for block in hold_blocks(one, rng, stop, None):
        found += zip(block.begin.tolist(), block.end.tolist(), strict=True)
        if len(found) >= most:
            break
    return found[:most]


def begins(*phases: str, stop: int = NEVER, most: int = 1000, seed: int = 0, **keys: object) -> list[int]:
    """When the first holds of a task with these phases begin."""
    return [begin for begin, _ in holds(*phases, stop=stop, most=most, seed=seed, **keys)]


def test_every_does_not_drift() -> None:
    """`every` is a fixed grid, however long the holds last."""
    found = holds('for = "10h", every = "33333us", hold = "50ms"', most=100_000)
    assert found == [(33_333 * number, 33_333 * number + 50_000) for number in range(100_000)]


def test_the_grid_starts_with_the_phase() -> None:
    """The first arrival of an `every` phase is at its beginning, and none is at its end."""
    found = begins('for = "30ms", every = "10ms", hold = "1us"', 'for = "25ms"', most=7)
    assert found == [0, 10_000, 20_000, 55_000, 65_000, 75_000, 110_000]


def test_start() -> None:
    """Nothing arrives before the task's start."""
    assert begins('repeat = 2, every = "1ms", hold = "1us"', start="5ms", most=3) == [5_000, 6_000, 7_000]


def test_gap_is_after_the_release() -> None:
    """The next hold begins a `gap` after the last one ended."""
    hold = 'hold = { dist = "uniform", min = "1ms", max = "9ms" }'
    found = holds(f'for = "10h", gap = "33ms", {hold}', most=5_000)
    assert len({end - begin for begin, end in found}) > 1_000
    assert all(later[0] - earlier[1] == 33_000 for earlier, later in pairwise(found))


def test_a_gap_lies_between_phases_too() -> None:
    """From one `gap` phase to the next the gap counts from the last release."""
    found = holds('repeat = 2, gap = "10ms", hold = "1ms"', 'repeat = 1, gap = "20ms", hold = "2ms"', most=5)
    assert found == [(0, 1_000), (11_000, 12_000), (32_000, 34_000), (44_000, 45_000), (55_000, 56_000)]


def test_a_gap_longer_than_its_phase() -> None:
    """Where a gap outlasts its phase the hold comes in a later round, a full gap after the release."""
    found = holds('for = "1s", gap = "10s", hold = "1ms"', most=20)
    assert all(10 * SECOND <= later[0] - earlier[1] <= 11 * SECOND for earlier, later in pairwise(found))


def test_a_hold_may_outlast_its_phase() -> None:
    """A phase of a fixed length ends on time; the hold in progress goes on, and the next `gap` waits for it."""
    found = holds('for = "10ms", gap = "1ms", hold = "25ms"', most=3)
    assert found == [(0, 25_000), (26_000, 51_000), (52_000, 77_000)]


def test_repeat_counts_holds() -> None:
    """A phase with `repeat` lasts as many holds as it says, and phases follow in their order, over and over."""
    found = begins('repeat = 3, every = "1ms", hold = "1us"', 'repeat = 1, every = "10ms", hold = "1us"', most=9)
    assert found == [0, 1_000, 2_000, 3_000, 13_000, 14_000, 15_000, 16_000, 26_000]


def test_repeat_beyond_a_block() -> None:
    """A phase counts on beyond one block of draws, in each of the ways to arrive."""
    for way in ('every = "10us"', 'gap = "10us"', 'rate = "100/ms"'):
        count = 3 * BLOCK_ROWS + 7
        found = begins(f'repeat = {count}, {way}, hold = "1us"', 'for = "10h"', most=count + 1)
        assert found[count] - found[count - 1] > 3600 * SECOND
        assert max(later - earlier for earlier, later in pairwise(found[:count])) < SECOND


def test_rate_is_poisson() -> None:
    """`rate` has its mean number of arrivals, and waits that are exponential: as far spread as their mean."""
    found = np.array(begins('for = "10h", rate = "100/s", hold = "1us"', most=50_000))
    waits = np.diff(found)
    assert np.mean(waits) == pytest.approx(10_000, rel=0.02)
    assert np.std(waits) == pytest.approx(10_000, rel=0.03)
    assert np.median(waits) == pytest.approx(10_000 * np.log(2), rel=0.03)


def test_rate_in_short_phases() -> None:
    """Phases that are shorter than a wait have as many arrivals as a long one."""
    found = begins('for = "1ms", rate = "100/s", hold = "1us"', stop=100 * SECOND, most=1_000_000)
    assert len(found) == pytest.approx(10_000, rel=0.05)


def test_a_pause() -> None:
    """A phase without arrivals is a pause, of a length that may be drawn."""
    pause = 'for = { dist = "uniform", min = "1s", max = "2s" }'
    found = begins('repeat = 1, every = "1ms", hold = "1us"', pause, most=200)
    waits = [later - earlier - 1_000 for earlier, later in pairwise(found)]
    assert min(waits) >= SECOND and max(waits) <= 2 * SECOND and len(set(waits)) > 190


@pytest.mark.parametrize("way", ['every = "1ms"', 'gap = "1ms"', 'rate = "1/ms"'])
def test_a_pin_that_is_never_released(way: str) -> None:
    """With `release = "never"` a hold has no end."""
    found = holds(f'for = "1s", {way}', release="never", most=100)
    assert {end for _, end in found} == {NEVER}
    assert len({begin for begin, _ in found}) > 50


@pytest.mark.parametrize("repeat", ["repeat = 1", "repeat = 2", "repeat = 100000", 'for = "3us"', 'for = "1h"'])
def test_time_passes_with_neither_gap_nor_hold(repeat: str) -> None:
    """Where gap and hold are both 0 the arrivals are 1 µs apart, within a phase and from one to the next."""
    assert begins(f'{repeat}, gap = "0us", hold = "0us"', most=100) == list(range(100))


def test_time_passes_where_a_phase_draws_0() -> None:
    """A phase whose length is drawn as 0 takes 1 µs."""
    nothing = 'for = { dist = "exponential", mean = "0us" }'
    assert begins(f'{nothing}, every = "1s", hold = "1us"', most=5) == [0, 1, 2, 3, 4]
    assert begins(nothing, 'repeat = 1, every = "1us", hold = "1us"', most=3) == [1, 3, 5]


@pytest.mark.parametrize("way", ['every = "1ms"', 'gap = "1us"', 'rate = "1/ms"'])
@pytest.mark.parametrize("length", ["repeat = 1000000", 'for = "10h"', "repeat = 2"])
def test_arrivals_stop(way: str, length: str) -> None:
    """No hold begins at the scenario's end or after it; one that is in progress has its own end."""
    found = holds(f'{length}, {way}, hold = "5ms"', stop=100_000, most=1_000_000)
    assert found and max(begin for begin, _ in found) < 100_000
    assert all(end == begin + 5_000 for begin, end in found)


def test_a_start_behind_the_end() -> None:
    """A task that starts when the scenario is over does nothing."""
    assert holds('for = "1s", every = "1ms", hold = "1us"', start="2s", stop=SECOND) == []


@pytest.mark.parametrize("way", ['every = "1ms"', 'gap = { dist = "exponential", mean = "1ms" }', 'rate = "1/ms"'])
def test_holds_come_in_order(way: str) -> None:
    """Beginnings never fall, within blocks, from block to block and from phase to phase."""
    hold = 'hold = { dist = "exponential", mean = "3ms" }'
    found = begins(f'for = "300ms", {way}, {hold}', f"repeat = 40, {way}, {hold}", 'for = "1ms"', most=30_000)
    assert all(earlier <= later for earlier, later in pairwise(found))


def test_seed_task_and_instance_have_streams_of_their_own() -> None:
    """Draws differ with the seed, the task's name and the instance, and are the same for the same three."""
    keys = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), ((1 << 64) - 1, "é" * 300, 4095)]
    draws = [random_streams(*key)[0].integers(0, 1 << 60) for key in keys]
    assert len(set(draws)) == len(keys)
    assert [random_streams(*key)[0].integers(0, 1 << 60) for key in keys] == draws


def test_times_and_pages_have_streams_of_their_own() -> None:
    """What is drawn for pages does not change what is drawn for times."""
    times, pages = random_streams(0, "a", 0)
    assert times.integers(0, 1 << 60) != pages.integers(0, 1 << 60)


def test_a_block_is_bounded() -> None:
    """An endless phase is drawn a block at a time, of at most 8192 pages, and all instances' blocks are bounded."""
    way = 'for = "8000h", every = "1us", hold = "1us"'
    for keys, rows in (({}, 8192), ({"pages": 64}, 8192), ({"instances": 4096}, 256), ({"pages": 8192}, 8192)):
        one = story(task("a", way, **keys)).task[0]
        rng, _ = random_streams(0, "a", 0)
        sizes = [len(block) * (one.pages or 1) for block in islice(hold_blocks(one, rng, NEVER, None), 20)]
        assert max(sizes) == rows


def test_the_longest_times_do_not_overflow() -> None:
    """Holds, gaps and grids of a year are drawn by the block without leaving 64 bits."""
    for way in ('every = "8784h"', 'gap = "8784h"', 'rate = "0.001/h"'):
        found = holds(f'repeat = 20000, {way}, hold = "8784h"', most=20_000)
        assert all(earlier[0] < later[0] for earlier, later in pairwise(found))
        assert all(0 <= begin < end < 1 << 62 for begin, end in found)
