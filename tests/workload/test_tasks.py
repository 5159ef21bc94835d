"""The random streams of a task's instances, and the calls that release its holds."""

from __future__ import annotations

from bisect import bisect_right
from itertools import accumulate

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs.kernel.events import Event
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.tasks import NO_RELEASE, ReleaseCalls, Stream, random_stream
from tests.workload.stories import story, task

PHASE = 'for = "1s", every = "1ms", hold = "1us"'


def releasing(**weights: int) -> Task:
    """Return a task that releases its holds by these calls."""
    table = ", ".join(f"{call} = {weight}" for call, weight in weights.items())
    return story(task("a", PHASE, release=f"{{ {table} }}")).task[0]


def test_seed_task_and_instance_have_their_own_streams() -> None:
    """Draws depend on the seed, the task's name and the instance, and on nothing else."""
    keys = [(0, "a", 0), (1, "a", 0), (0, "b", 0), (0, "a", 1), ((1 << 64) - 1, "é" * 300, 4095)]
    draws = [random_stream(*key, Stream.times).integers(0, 1 << 60) for key in keys]
    assert len(set(draws)) == len(keys)
    assert [random_stream(*key, Stream.times).integers(0, 1 << 60) for key in keys] == draws


def test_each_use_has_its_own_stream() -> None:
    """Times, pages and releases are drawn from different streams."""
    draws = [random_stream(0, "a", 0, stream).integers(0, 1 << 60) for stream in Stream]
    assert len(set(draws)) == len(Stream)


def test_a_stream_is_a_child_of_the_instance() -> None:
    """A stream is numpy's spawned child of the instance's seed, so a new use of random numbers changes no other."""
    instance = np.random.SeedSequence(5, spawn_key=(0xCA978112, 0xCA1BBDCA, 0xFAC231B3, 0x9A23DC4D, 2))
    for stream, child in zip(Stream, instance.spawn(len(Stream)), strict=True):
        spawned = np.random.Generator(np.random.PCG64(child))
        assert random_stream(5, "a", 2, stream).integers(0, 1 << 60) == spawned.integers(0, 1 << 60)


@pytest.mark.parametrize(
    ("keys", "call"),
    [
        ({}, Event.put_user_page),
        ({"foll": "FOLL_PIN"}, Event.unpin_user_page),
        ({"release": "free"}, Event.free),
        ({"release": "{ put_page = 7 }"}, Event.put_page),
    ],
)
def test_a_single_call(keys: dict[str, object], call: Event) -> None:
    """A task with a single call releases every hold by it."""
    assert ReleaseCalls(story(task("a", PHASE, **keys)).task[0], 0, 0).draw(3).tolist() == [call] * 3


def test_no_call() -> None:
    """A task that never releases has no call."""
    never = story(task("a", 'for = "1s", every = "1ms"', release="never")).task[0]
    assert ReleaseCalls(never, 0, 0).draw(2).tolist() == [NO_RELEASE] * 2


def test_proportions() -> None:
    """Each call comes as often as its weight says."""
    drawn = ReleaseCalls(releasing(put_user_page=9, put_page=3, free=8), 0, 0).draw(20_000)
    counts = np.bincount(drawn, minlength=len(Event))
    assert set(np.flatnonzero(counts).tolist()) == {Event.put_user_page, Event.put_page, Event.free}
    assert counts[Event.put_user_page] == pytest.approx(9_000, rel=0.05)
    assert counts[Event.put_page] == pytest.approx(3_000, rel=0.05)
    assert counts[Event.free] == pytest.approx(8_000, rel=0.05)


def test_the_order_in_the_file_does_not_matter() -> None:
    """The same weights in another order give the same calls."""
    one, other = releasing(put_page=1, put_user_page=2), releasing(put_user_page=2, put_page=1)
    assert ReleaseCalls(one, 0, 0).draw(100).tolist() == ReleaseCalls(other, 0, 0).draw(100).tolist()


def test_instances_and_seeds_draw_differently() -> None:
    """Each instance and each seed has its own calls."""
    weighted = releasing(put_page=1, put_user_page=1)
    drawn = [tuple(ReleaseCalls(weighted, *key).draw(64).tolist()) for key in ((0, 0), (0, 1), (1, 0), (0, 0))]
    assert len(set(drawn)) == 3 and drawn[0] == drawn[3]


CALLS = ("put_user_page", "unpin_user_page", "put_page", "free")


@given(
    weights=st.dictionaries(st.sampled_from(CALLS), st.integers(1, 1_000_000), min_size=2),
    cuts=st.lists(st.integers(0, 40), max_size=10),
    seed=st.integers(0, (1 << 64) - 1),
)
def test_draws_in_any_portions(weights: dict[str, int], cuts: list[int], seed: int) -> None:
    """Drawing in portions gives the calls of drawing one at a time from the same stream."""
    drawn = ReleaseCalls(releasing(**weights), seed, 3)
    found = [call for cut in cuts for call in drawn.draw(cut).tolist()]
    rng = random_stream(seed, "a", 3, Stream.releases)
    calls = [call for call in CALLS if call in weights]
    bounds = list(accumulate(weights[call] for call in calls))
    assert found == [Event[calls[bisect_right(bounds, rng.integers(0, bounds[-1]))]] for _ in range(sum(cuts))]
