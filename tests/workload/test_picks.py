"""The pages that a hold pins."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import FrameRange
from pinnerfs.scenario.phases import Phase
from pinnerfs.scenario.schema import Task
from pinnerfs.workload.picks import Picker


def picker(frames: int = 1024, instance: int = 0, seed: int = 0, **keys: object) -> Picker:
    """Return a picker for a task with these keys, on a region from PFN 5000 on."""
    defaults: dict[str, object] = {"name": "a", "stack": "s", "region": "r"}
    phase = [Phase(lasts="1s", every="1ms", hold="1us")]
    task = Task(phase=phase, **(defaults | keys))  # type: ignore[arg-type]
    return Picker(task, instance, FrameRange("r", 5000, frames, Migratetype.Movable, 0), np.random.default_rng(seed))


def test_contiguous_takes_the_next_run() -> None:
    """Each hold pins the run after the last one, wrapping at the end of the region."""
    found = picker(frames=64, pages=16).pick(6)
    assert found.dtype == np.int64 and found.shape == (6, 16)
    assert (np.diff(found, axis=1) == 1).all()
    starts = (found[:, 0] - 5000).tolist()
    assert sorted(starts[:4]) == [0, 16, 32, 48]
    assert all((later - earlier) % 64 == 16 for earlier, later in pairwise(starts))


def test_runs_are_aligned() -> None:
    """Runs are aligned: pages at the end of the region that do not fill a run are never pinned."""
    found = picker(frames=70, pages=16).pick(40) - 5000
    assert set(found[:, 0].tolist()) == {0, 16, 32, 48}


def test_a_hold_of_the_whole_region() -> None:
    """A hold can be as large as the region."""
    found = picker(frames=64, pages=64).pick(3)
    assert found.tolist() == [list(range(5000, 5064))] * 3


def test_instances_take_turns() -> None:
    """Instances of a task pin different runs at each turn if the region has enough."""
    several = [picker(frames=64, instance=number, instances=4, pages=4).pick(10)[:, 0] for number in range(4)]
    assert all(len(set(turn)) == 4 for turn in np.stack(several, axis=1).tolist())


def test_tasks_start_at_different_pages() -> None:
    """Tasks with different names start at different pages."""
    assert len({int(picker(name=name).pick(1)[0, 0]) for name in "abcdefgh"}) > 4


def test_compound_pages_are_aligned() -> None:
    """With `order` each page is given by its first frame, aligned in the region."""
    found = picker(frames=8192, order=9, pages=2).pick(8)
    assert ((found - 5000) % 512 == 0).all()
    assert (np.diff(found, axis=1) == 512).all()
    assert found.max() + 512 <= 5000 + 8192


def test_scattered_pages_of_a_hold_differ() -> None:
    """A scattered hold never has a page twice, even if it takes nearly all pages."""
    for row in picker(frames=16, pages=15, pick="scattered").pick(200):
        assert len(set(row.tolist())) == 15


def test_scattered_is_uniform() -> None:
    """Every page of the region is equally likely, including the first and the last."""
    found = picker(frames=16, pages=2, pick="scattered").pick(20_000) - 5000
    counts = np.bincount(found.ravel(), minlength=16)
    assert len(counts) == 16
    assert counts.min() > 2_300 and counts.max() < 2_700


def test_scattered_compound_pages() -> None:
    """Scattered compound pages are aligned and inside the region."""
    found = picker(frames=2048, order=5, pages=3, pick="scattered").pick(500)
    assert ((found - 5000) % 32 == 0).all()
    assert found.min() >= 5000 and found.max() + 32 <= 7048


def test_scattered_is_seeded() -> None:
    """The same stream picks the same pages; another stream picks other pages."""
    picked = [picker(seed=seed, pick="scattered", pages=8).pick(5).tolist() for seed in (1, 1, 2)]
    assert picked[0] == picked[1] != picked[2]


@pytest.mark.parametrize("pick", ["contiguous", "scattered"])
@settings(max_examples=100, deadline=None)
@given(cuts=st.lists(st.integers(1, 30), max_size=10), pages=st.integers(1, 16))
def test_picks_in_any_portions(pick: str, cuts: list[int], pages: int) -> None:
    """Picking in portions gives the same pages as picking at once.

    For scattered pages only if no page repeats, so the region is huge.
    """
    frames = 16 if pick == "contiguous" else 1 << 40
    portions = picker(frames=frames, pages=pages, pick=pick)
    at_once = picker(frames=frames, pages=pages, pick=pick).pick(sum(cuts))
    assert [row for cut in cuts for row in portions.pick(cut).tolist()] == at_once.tolist()


@pytest.mark.parametrize("order", [0, 3])
def test_given_frames(order: int) -> None:
    """With `pfn` every hold has the same frames; the instances follow each other from there on."""
    for instance in range(3):
        found = picker(frames=64, instance=instance, instances=3, pages=2, order=order, pfn=5008).pick(4)
        first = 5008 + instance * (2 << order)
        assert found.tolist() == [[first, first + (1 << order)]] * 4


def test_given_frames_do_not_depend_on_the_name() -> None:
    """With `pfn` tasks with different names have the same frames, up to the region's last one."""
    assert {int(picker(frames=64, name=name, pfn=5063).pick(1)[0, 0]) for name in "abcdefgh"} == {5063}
