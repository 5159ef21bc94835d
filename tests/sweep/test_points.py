"""The lists of seeds and thresholds, and the order of the points."""

from __future__ import annotations

import re
import tomllib
from typing import Any

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import Source, read_source
from pinnerfs.scenario.limits import LIMITS
from pinnerfs.scenario.settings import parse_setting
from pinnerfs.sweep.plan import plan
from pinnerfs.sweep.points import parse_seeds, parse_thresholds, ranges
from tests.workload.stories import source, task

SEEDS = {
    "7": (7,),
    "0..3": (0, 1, 2, 3),
    "1,2,10..12": (1, 2, 10, 11, 12),
    " 5 , 3": (5, 3),
    "18446744073709551615": ((1 << 64) - 1,),
}
WRONG_SEEDS = {
    "": "wanted seeds such as 7, or 0..99, or 1,2,10..19",
    "1,": "wanted seeds such as",
    "-1": "wanted seeds such as",
    "1..": "wanted seeds such as",
    "1-5": "wanted seeds such as",
    "9..1": "the range is reversed; wanted 1..9",
    "18446744073709551616": "a seed must be from 0 to 18446744073709551615",
    "0..1000000": "wanted at most 1000000 seeds",
    "0..599999,600000..1200000": "wanted at most 1000000 seeds",
    "1,2,1": "1 is given twice",
    "0..5,3": "3 is given twice",
}
WRONG_THRESHOLDS = {
    "": "threshold = ''",
    "100ms,": "threshold = ''",
    "5parsecs": "threshold = '5parsecs': wanted microseconds from 0 on, or a time such as \"300ms\"",
    "-1": "threshold = '-1'",
    "1s,1000ms": "1000000 is given twice",
}


@pytest.mark.parametrize("text", SEEDS)
def test_seeds(text: str) -> None:
    """Seeds are numbers and ranges, both ends included, in the order in which they are written."""
    assert parse_seeds(text) == SEEDS[text]
    assert parse_seeds(ranges(SEEDS[text])) == SEEDS[text]


@pytest.mark.parametrize("text", WRONG_SEEDS)
def test_wrong_seeds(text: str) -> None:
    """Other lists are refused with what is wanted."""
    with pytest.raises(ValueError, match=re.escape(WRONG_SEEDS[text])):
        parse_seeds(text)


def test_thresholds() -> None:
    """Thresholds are times, or numbers as the file takes them."""
    assert parse_thresholds("100ms, 300000,0x10,1s,18446744073709551615") == (100_000, 300_000, 16, 1_000_000, -1)


@pytest.mark.parametrize("text", WRONG_THRESHOLDS)
def test_wrong_thresholds(text: str) -> None:
    """Other lists are refused with what is wanted."""
    with pytest.raises(ValueError, match=re.escape(WRONG_THRESHOLDS[text])):
        parse_thresholds(text)


def test_the_order_of_the_points() -> None:
    """The last setting changes first among the settings, and seeds change before settings."""
    settings = [parse_setting("task.camera.instances=1,2"), parse_setting("race=0.0,0.5")]
    found = plan(
        read_source("camera-stall"),
        settings=settings,
        seeds=(5, 4),
        thresholds=(1, 2, 3),
        moment=7,
        kernel="introduced",
        limits=LIMITS,
    )
    plays = [*found.each_play()]
    assert [(*play.settings, play.seed) for play in plays] == [
        (instances, race, seed) for instances in (1, 2) for race in (0.0, 0.5) for seed in (5, 4)
    ]
    assert [play.scenario.task[0].instances for play in plays] == [1] * 4 + [2] * 4
    assert (found.plays, found.points) == (8, 24)
    assert [*found.each_play(6)] == plays[6:]


MOMENTS = {
    "the duration": ('duration = "3s"', '[[expect]]\nat = "2s"\n', 3_000_000),
    "the last expectation": ("", '[[expect]]\nat = "4s"\n[[expect]]\nat = "2s"\n', 4_000_000),
}


@pytest.mark.parametrize("name", MOMENTS)
def test_the_own_moment(name: str) -> None:
    """Without a moment, a scenario is played to its duration, or else to its last expectation."""
    top, expect, moment = MOMENTS[name]
    text = source(task("t", 'for = "1s", every = "1s", hold = "1ms"'), expect, top=top)
    found = plan(read_source_of(text), kernel="introduced", limits=LIMITS)
    assert (found.moment, found.seeds, found.thresholds) == (moment, (0,), None)


def test_no_moment() -> None:
    """A scenario that tells no moment needs one."""
    text = source(task("t", 'for = "1s", every = "1s", hold = "1ms"'))
    with pytest.raises(
        PinnerfsError, match=r"^story: wanted --at TIME: it has neither a duration nor an \[\[expect\]\]"
    ):
        plan(read_source_of(text), kernel="introduced", limits=LIMITS)


def read_source_of(text: str) -> Source:
    """Return the tables of a text."""
    return Source("story", text, tomllib.loads(text))


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "thresholds on a kernel without one": ({"kernel": "android14-6.1", "thresholds": (1,)}, "has no threshold"),
    "too many points": ({"seeds": range(1_000_000), "thresholds": (1, 2)}, "2000000 points: wanted at most 1000000"),
    "too much work": (
        {"seeds": range(100), "limits": LIMITS.raised(["work=99999"])},
        r"100 plays: to play it takes as much work as \d+ pins of a single page, about 1 s \(limit 99999; raise it",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(name: str) -> None:
    """A sweep that cannot be played is refused before its first play, with status 2."""
    arguments, message = REFUSED[name]
    with pytest.raises(PinnerfsError, match=message) as caught:
        plan(read_source("camera-stall"), **{"kernel": "introduced", "limits": LIMITS, **arguments})
    assert caught.value.exit_status == 2
