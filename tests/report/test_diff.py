"""The comparison of two reports."""

from __future__ import annotations

from typing import Any

import pytest

from pinnerfs.report.diff import compare, diff_lines
from pinnerfs.report.lines import plain
from pinnerfs.report.model import Report
from tests.report.made import EVIL, report, site

BEFORE = report(site("aaaaaaaa", 2), site("bbbbbbbb", 3), site("cccccccc", 1), site("eeeeeeee", 1))
AFTER = report(site("aaaaaaaa", 4), site("bbbbbbbb", 2), site("dddddddd", 3), site("eeeeeeee", 1))


def states(before: Report, after: Report) -> dict[str, str]:
    """Return the state of each site, in the order of the diff."""
    return {change.key[0]: change.state for change in compare(before, after).changes}


def test_states_and_order() -> None:
    """Sites are new, worse, same, better or gone; the largest increase of page time comes first."""
    found = states(BEFORE, AFTER)
    assert found == {"d": "new", "a": "worse", "e": "same", "c": "gone", "b": "better"}
    assert [*found] == ["d", "a", "e", "c", "b"]


def test_new_without_durations() -> None:
    """A site that is new is told first, also if its records have no durations."""
    nothing: dict[str, Any] = {"page_us": 0, "p50_us": None, "p99_us": None, "max_us": None, "role": "event"}
    before, after = (
        report(site("aaaaaaaa", **nothing)),
        report(site("aaaaaaaa", **nothing), site("bbbbbbbb", **nothing)),
    )
    assert [*states(before, after).values()] == ["new", "same"]
    assert plain(diff_lines(compare(before, after))).startswith("worst: v4l2: vb2_dma_sg_get_userptr is new (1 new, ")


def test_the_other_way_round() -> None:
    """The first report is always BEFORE: exchanging the two exchanges the states."""
    assert states(AFTER, BEFORE) == {"b": "worse", "c": "new", "e": "same", "d": "gone", "a": "better"}


def test_the_text() -> None:
    """The first line says what is worst, and each number is BEFORE > AFTER; equal numbers stand once."""
    text = plain(diff_lines(compare(BEFORE, AFTER)))
    assert text.splitlines()[0] == (
        "worst: v4l2: vb2_dma_sg_get_userptr is new (1 new, 1 worse, 1 same, 1 better, 1 gone)"
    )
    rows = {line.split()[1]: " ".join(line.split()) for line in text.splitlines()[4:] if line[:1].isalpha()}
    assert rows["aaaaaaaa"] == (
        "worse aaaaaaaa v4l2 vb2_dma_sg_get_userptr 2 > 4 32 > 64 2 17.6 > 41.6 600 ms > 800 ms 600 ms > 800 ms"
    )
    assert rows["dddddddd"].startswith("new dddddddd v4l2 vb2_dma_sg_get_userptr - > 3 ")
    assert rows["cccccccc"].startswith("gone cccccccc v4l2 vb2_dma_sg_get_userptr 1 > - ")
    assert text.index("BEFORE: dump.txt") < text.index("AFTER: dump.txt")


def test_two_equal_reports() -> None:
    """A report compared with itself has nothing new or worse."""
    assert plain(diff_lines(compare(BEFORE, BEFORE))).startswith("nothing is new or worse: 4 same\n")
    assert plain(diff_lines(compare(report(), report()))).startswith("nothing is new or worse: no site in either\n")


@pytest.mark.parametrize(
    ("before", "after", "reason"),
    [
        ({"ring_full": True}, {}, "the ring of BEFORE was full"),
        ({}, {"ring_full": True}, "the ring of AFTER was full"),
        ({}, {"threshold_us": 100_000}, "the thresholds differ (300 ms and 100 ms)"),
        (
            {"threshold_us": None, "threshold_at_most_us": 200_000},
            {},
            "the thresholds differ (300 ms and at most 200 ms)",
        ),
        ({}, {"generation": "android12-5.10"}, "the kernels differ (introduced and android12-5.10)"),
        ({}, {"generation": "pixel-5.10|x"}, "the kernels differ (introduced and pixel-5.10 or x)"),
    ],
)
def test_counts_that_cannot_be_compared(before: dict[str, object], after: dict[str, object], reason: str) -> None:
    """Where a ring was full, or thresholds or kernels differ, counts are not compared, and the text says why."""
    old = report(site("aaaaaaaa", 9, p99_us=500_000), site("bbbbbbbb", 1, p99_us=500_000), **before)
    new = report(site("aaaaaaaa", 1, p99_us=600_000), site("bbbbbbbb", 9, p99_us=400_000), **after)
    diff = compare(old, new)
    assert diff.not_comparable == (reason,)
    assert states(old, new) == {"a": "worse", "b": "better"}  # by the durations only
    text = " ".join(plain(diff_lines(diff)).split())
    assert f"Counts are not compared, because {reason}. Only durations are." in text
    assert "vb2_dma_sg_get_userptr ? ? ? ? 500 ms > 600 ms" in text


def test_an_unknown_threshold() -> None:
    """A threshold that only the records bound does not contradict a known one that is below the bound."""
    unknown = report(site(), threshold_us=None)
    assert compare(unknown, report(site())).not_comparable == ()
    assert compare(report(site()), unknown).not_comparable == ()


def test_victims_are_not_compared() -> None:
    """Only sites that held pages are in a diff."""
    assert states(report(), report(site("aaaaaaaa", 1, role="victim"))) == {}


def test_a_hostile_dump() -> None:
    """No control character of a dump is printed."""
    text = plain(diff_lines(compare(report(), report(site(owner=EVIL, site=EVIL), sources=(EVIL,)))))
    assert all(char == "\n" or char.isprintable() for char in text)


@pytest.mark.parametrize("kernels", [("unknown", "a"), ("a", "unknown"), ("a|b", "b")])
def test_kernels_that_may_be_the_same(kernels: tuple[str, str]) -> None:
    """An empty dump does not tell its kernel, and some kernels print the same: these do not differ."""
    before, after = (report(site(), generation=kernel) for kernel in kernels)
    assert compare(before, after).not_comparable == ()
