"""Limits on scenarios, and how to raise them."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.distributions import Choice, Exponential, Lognormal, Normal, Quantity, Uniform, read_quantity
from pinnerfs.scenario.gallery import gallery, load, parse
from pinnerfs.scenario.limits import Limits
from pinnerfs.workload.draws import draw
from tests.workload.stories import source, task

REFERENCE = (Path(__file__).parents[2] / "scenarios" / "README.md").read_text()
LARGE = """
[memory]
size = "96GiB"
region = [{ name = "normal", size = "96GiB" }]
"""
PLAIN = 'for = "1s", every = "1s", hold = "1ms"'


def refusal(text: str, **limits: int) -> str:
    """Return the message with which a scenario is refused."""
    with pytest.raises(PinnerfsError) as caught:
        parse(text, limits=Limits(**limits))
    assert caught.value.exit_status == 2
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "raised", "words"),
    [
        (
            source(task("a", PLAIN), memory=LARGE),
            {"memory": 96 << 30},
            "memory: size = '96GiB' is too large (limit 65536MiB; raise it with --limit memory=SIZE)",
        ),
        (
            source(task("a", PLAIN, instances=16384), task("b", PLAIN)),
            {"instances": 16385},
            'task "a" needs 16384 instances, of 16385 for all tasks (limit 16384; raise it with --limit instances=N)',
        ),
        (
            source(task("a", PLAIN), task("b", 'for = "1h", rate = "1000/s", hold = "30min"')),
            {"pins": 1_800_001},
            'task "b" pins 1800000 pages at once (limit 1048576; raise it with --limit pins=N)',
        ),
        (
            source(task("a", 'for = "1h", gap = "1s", hold = "1s"', pages=8192, instances=200)),
            {"pins": 200 * 8192},
            'task "a" pins 1638400 pages at once (limit 1048576; raise it with --limit pins=N)',
        ),
        (
            source(task("a", PLAIN), task("b", PLAIN, 'for = "1us", rate = "1/us", hold = "1us"', pages=64)),
            {"rate": 64_001_000},
            'task "b" makes 64000200 pins and phases a second (limit 10000000; raise it with --limit rate=N)',
        ),
        (
            source(task("a", 'for = "1us", every = "1h", hold = "1us"')),
            {"rate": 101_000_000},
            'task "a" makes 100000001 pins and phases a second (limit 10000000; raise it with --limit rate=N)',
        ),
        (
            source(task("a", 'for = "20us", rate = "0.5/s", hold = "1us"')),
            {"phases": 200_001},
            (
                'task "a" goes through 200001 phases before each instance has an arrival (limit 65536; raise it '
                "with --limit phases=N)"
            ),
        ),
        (
            source(task("a", 'for = "100us", gap = "1us", hold = "10s"', 'for = "100us"', instances=4)),
            {"phases": 400_001},
            (
                'task "a" goes through 400001 phases before each instance has an arrival (limit 65536; raise it '
                "with --limit phases=N)"
            ),
        ),
    ],
    ids=[
        "memory",
        "instances",
        "pins by rate",
        "pins by instances",
        "rate",
        "rate of phases",
        "phases by rate",
        "phases by gap",
    ],
)
def test_over_a_limit(text: str, raised: dict[str, int], words: str) -> None:
    """A scenario over a limit is refused with the task that asks most; with that limit raised, it is accepted."""
    assert words in refusal(text)
    assert parse(text, limits=Limits(**raised)).name == "story"


@pytest.mark.parametrize("number", [10**9, 10**400])
def test_absurd_instances(number: int) -> None:
    """Absurd numbers are refused like numbers just over the limit."""
    assert "instances (limit 16384; raise it with --limit instances=N)" in refusal(
        source(task("a", PLAIN, instances=1)).replace("instances = 1", f"instances = {number}")
    )


@pytest.mark.parametrize(
    "phases",
    [
        ['for = "1us", rate = "1/h", hold = "1us"', PLAIN],
        ['for = "1us", rate = "1/h", hold = "1us"', 'repeat = 1, gap = "1ms", hold = "1ms"'],
        ['for = "1us", gap = "1us", hold = "1us"', 'for = "1h"'],
        ['for = "1ms"', 'for = "1us", gap = "1us", hold = { dist = "exponential", mean = "1us" }'],
        ['for = { dist = "choice", values = ["1us", "1h"], weights = [1, 9] }, rate = "1/s", hold = "1ms"'],
    ],
)
def test_rounds_with_arrivals_are_no_matter(phases: list[str]) -> None:
    """Short phases are accepted if another phase lets time pass."""
    assert parse(source(task("a", *phases))).name == "story"


def test_an_end_bounds_what_comes() -> None:
    """Only what happens before the end of a scenario counts."""
    forever = 'for = "1h", rate = "100/s", hold = "8000h"'
    idle = 'for = "100us", rate = "1/h", hold = "1us"'
    for phase in (forever, idle):
        assert "; raise it with --limit" in refusal(source(task("a", phase)))
        assert parse(source(task("a", phase), top='duration = "100ms"')).name == "story"


@pytest.mark.parametrize("name", gallery())
def test_the_gallery_is_far_below(name: str) -> None:
    """Each scenario of the gallery stays below a hundredth of each limit."""
    limits = Limits()
    low = {key: getattr(limits, key) // 100 for key in ("instances", "pins", "rate", "phases")}
    assert load(name, Limits(memory=limits.memory // 4, **low)).name == name


@pytest.mark.parametrize(
    "quantity",
    [
        "5ms",
        Uniform(min="1ms", max="9ms"),
        Exponential(mean="2ms"),
        Exponential(mean="2ms", min="1900us", max="3ms"),
        Normal(mean="5ms", sd="2ms"),
        Normal(mean="5ms", sd="90ms"),
        Lognormal(median="3ms", sigma=1.5),
        Lognormal(median="3ms", sigma=3, max="1s"),
        Choice(values=["1ms", "7ms", "2s"], weights=[7, 2, 1]),
        Choice(values=["1ms", "7ms", "2s"], weights=[5, 5, 0]),
    ],
    ids=str,
)
def test_what_draws_come_to(quantity: Quantity) -> None:
    """The mean is not too low, half of the draws reach the median, and no draw exceeds longest."""
    made = read_quantity("it", quantity)
    draws = draw(made, np.random.default_rng(1), 100_000)
    assert draws.mean() <= made.mean * 1.05
    assert (draws >= np.floor(made.median)).mean() >= 0.49
    assert draws.max() <= made.longest


def test_raised() -> None:
    """A limit is raised with NAME=VALUE; sizes have units."""
    assert Limits().raised([]) == Limits()
    assert Limits().raised(["memory=1TiB", "pins=5", "pins=6"]) == Limits(memory=1 << 40, pins=6)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("pins", r"no limit 'pins': wanted one of file=\.\.\., memory=\.\.\., .*phases=\.\.\."),
        ("holds=4", r"no limit 'holds=4': wanted one of"),
        ("pins=", r"pins = '' must be a whole number, such as 1048576"),
        ("pins=-1", r"pins = '-1' must be a whole number"),
        ("pins=1e9", r"pins = '1e9' must be a whole number"),
        ("pins=٣", r"pins = '٣' must be a whole number"),
        ("pins=" + "9" * 26, r"must be a whole number"),
        ("memory=64", r"memory = '64' must be a number and a unit \(B, KiB"),
    ],
)
def test_not_raised(setting: str, words: str) -> None:
    """An unknown limit or a wrong value is refused."""
    with pytest.raises(ValueError, match=words):
        Limits().raised([setting])


def test_the_reference_has_every_limit() -> None:
    """The reference's table names each limit with its default, and no others."""
    (table,) = re.findall(r"^\| limit \| default \|.*?\n\n", REFERENCE, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| `(\w+)` \| (\w+) \|", table, re.MULTILINE)
    assert Limits().raised(f"{name}={default}" for name, default in rows) == Limits()
    assert len(rows) == len(Limits.__dataclass_fields__)
