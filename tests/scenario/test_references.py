"""What the tables of a scenario say about each other."""

from __future__ import annotations

import pytest

from tests.scenario.refusals import PHASE, refusal
from tests.workload.stories import source, story, task


@pytest.mark.parametrize(
    ("tasks", "words"),
    [
        ([task("a", PHASE), task("a", PHASE)], "two tasks have the name 'a'"),
        (
            [task("a", 'for = "1s"')],
            'task "a": a task must have a phase in which something arrives, with `every`, `gap` or `rate`',
        ),
        ([task("a")], 'task "a": a task must have a phase in which something arrives, with `every`, `gap` or `rate`'),
        ([task("a", PHASE), task("b", PHASE, share="c")], "task \"b\": share = 'c' must be one of 'a'"),
        (
            [task("a", PHASE), task("b", PHASE, share="b")],
            "task \"b\": share = 'b' is the task itself: it must be another task",
        ),
        ([task("a", PHASE, share="a")], "task \"a\": share = 'a' is the task itself: it must be another task"),
        (
            [task("a", PHASE), task("b", PHASE, share="a"), task("c", PHASE, share="b")],
            "task \"c\": share = 'b' must be a task with pages of its own, but that task shares, too",
        ),
        (
            [task("a", PHASE), task("b", PHASE, share="a", pages=1)],
            "task \"b\": share = 'a' takes another task's pages: leave out region, pages, order, pick and pfn",
        ),
        (
            [task("a", PHASE), task("b", PHASE, share="a", region="cma")],
            "task \"b\": share = 'a' takes another task's pages: leave out region, pages, order, pick and pfn",
        ),
    ],
)
def test_refusals_between_tasks(tasks: list[str], words: str) -> None:
    """Tasks that do not fit together are refused with their names."""
    assert refusal(source(*tasks)) == words


@pytest.mark.parametrize("pfn", [4096, 4096 + 8192 - 16])
def test_pages_at_given_frames(pfn: int) -> None:
    """`pfn` can place the pages of all instances anywhere in the region."""
    (one,) = story(task("a", PHASE, pages=2, order=2, instances=2, pfn=pfn)).task
    assert one.pfn == pfn


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        (
            {"pfn": 4095},
            (
                "task \"a\": pfn = 4095 places its pages at frames 4095 to 4095, outside of region 'normal' (4096 "
                "to 12287)"
            ),
        ),
        (
            {"pfn": 12287, "instances": 2},
            (
                "task \"a\": pfn = 12287 places its pages at frames 12287 to 12288, outside of region 'normal' "
                "(4096 to 12287)"
            ),
        ),
        (
            {"pfn": 12284, "region": "cma"},
            (
                "task \"a\": pfn = 12284 places its pages at frames 12284 to 12284, outside of region 'cma' (12288 "
                "to 16383)"
            ),
        ),
        (
            {"pfn": 4098, "order": 2},
            'task "a": pfn = 4098 must be a multiple of 4: pages of order 2 are aligned to their size',
        ),
        (
            {"pfn": 4096, "pick": "scattered"},
            "task \"a\": pfn = 4096 places the pages side by side: leave out pick = 'scattered'",
        ),
    ],
)
def test_refused_frames(keys: dict[str, object], words: str) -> None:
    """`pfn` must leave room for all pages in the region, aligned to their order."""
    assert refusal(source(task("a", PHASE, **keys))) == words
