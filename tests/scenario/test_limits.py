"""Limits on scenarios, and how to raise them."""

from __future__ import annotations

import math
import re
from pathlib import Path

import numpy as np
import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.distributions import Choice, Exponential, Lognormal, Normal, Quantity, Uniform, read_quantity
from pinnerfs.scenario.gallery import gallery, load, parse
from pinnerfs.scenario.limits import Limits, check_alloc_work, check_work
from pinnerfs.workload.draws import draw
from tests.workload.stories import alloc, source, task

REFERENCE = (Path(__file__).parents[2] / "scenarios" / "README.md").read_text()
SECOND = 10**6
LARGE = """
[memory]
size = "96GiB"
region = [{ name = "normal", size = "96GiB" }]
"""
PLAIN = 'for = "1s", every = "1s", hold = "1ms"'
# A time of two pins' work to draw.
MANY_VALUES = '{ dist = "choice", values = [' + '"0us", ' * 16384 + "] }"


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
            'task "b" pins about 1800000 pages at once in the long run (limit 1048576; raise it with --limit pins=N)',
        ),
        (
            source(task("a", 'for = "1h", gap = "1s", hold = "1s"', pages=8192, instances=200)),
            {"pins": 200 * 8192},
            'task "a" pins about 1638400 pages at once in the long run (limit 1048576; raise it with --limit pins=N)',
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
            source(task("a", f'for = "1h", rate = "1/us", hold = {MANY_VALUES}', instances=4)),
            {"rate": 12_000_001},
            'task "a" makes 12000001 pins and phases a second (limit 10000000; raise it with --limit rate=N)',
        ),
    ],
    ids=[
        "memory",
        "instances",
        "pins by rate",
        "pins by instances",
        "rate",
        "rate of phases",
        "rate of draws",
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
    ("text", "moments", "work"),
    [
        # A pin of a single page counts as 1.0625, and a phase as 100.
        (source(task("a", 'for = "1s", every = "1ms", hold = "1ms"')), [10 * SECOND], 10 * (100 + 1062.5)),
        (source(task("a", 'for = "1s", every = "1ms", hold = "1ms"', 'for = "1s"')), [10 * SECOND], 5 * (200 + 1062.5)),
        (source(task("a", 'repeat = 1000, every = "1ms", hold = "1ms"')), [SECOND // 2], 100 + 531.25),
        (source(task("a", 'for = "1s", gap = "1ms", hold = "3ms"')), [SECOND], 100 + 250 * 1.0625),
        (source(task("a", 'for = "1h", every = "1s", hold = "1ms"', pages=64)), [100 * SECOND], 100 + 500),
        (source(task("a", 'for = "1h", every = "1s", hold = "1s"', pages=8, pick="scattered")), [SECOND], 100 + 8.5),
        (source(task("a", 'for = "1h", every = "1s", hold = "1ms"', order=9)), [100 * SECOND], 100 + 3300),
        (source(task("a", 'for = "1h", every = "1s", hold = "1ms"', instances=3)), [16 * SECOND], 3 * (100 + 17)),
        (source(task("a", 'for = "1h", every = "1s", hold = "1ms"', start="84s")), [100 * SECOND], 100 + 17),
        (source(task("a", f'for = "1h", every = "1s", hold = {MANY_VALUES}')), [16 * SECOND], 100 + 17 + 32),
        (source(task("a", 'for = "1h", every = "1s", hold = "1s"'), top='duration = "16s"'), [100 * SECOND], 100 + 17),
        (source(task("a", 'for = "1h", every = "1s", hold = "1ms"')), [16 * SECOND, 0, 32 * SECOND], 200 + 17 + 34),
    ],
    ids=[
        "phases",
        "a pause",
        "half a phase",
        "gap",
        "pages",
        "scattered",
        "order",
        "instances",
        "start",
        "draws",
        "end",
        "plays",
    ],
)
def test_work(text: str, moments: list[int], work: float) -> None:
    """Work counts pins of a single page and phases, up to the moment of each play."""
    scenario, exactly = parse(text), math.ceil(work)
    check_work(scenario, "it", moments, Limits(work=exactly))
    with pytest.raises(PinnerfsError) as caught:
        check_work(scenario, "it", moments, Limits(work=exactly - 1))
    assert caught.value.exit_status == 2
    assert str(caught.value) == (
        f"it: to play it takes as much work as {exactly} pins of a single page, about 1 s "
        f"(limit {exactly - 1}; raise it with --limit work=N)"
    )


@pytest.mark.parametrize(("seconds", "words"), [(119, "119 s"), (121, "2 min"), (7201, "2 h"), (86400 * 90, "90 days")])
def test_the_time_for_the_work(seconds: int, words: str) -> None:
    """The time is the work at 3 million pins a second, in a unit of which there are at least two."""
    scenario = parse(source(task("a", 'for = "8000h", every = "1us", hold = "1us"')))
    with pytest.raises(PinnerfsError, match=f" pins of a single page, about {words} "):
        check_work(scenario, "it", [int(seconds * 3 * SECOND / 1.0625)], Limits(work=9))


def test_an_end_bounds_what_comes() -> None:
    """Only what happens before the end of a scenario counts."""
    forever = 'for = "1h", rate = "100/s", hold = "8000h"'
    assert "; raise it with --limit" in refusal(source(task("a", forever)))
    assert parse(source(task("a", forever), top='duration = "100ms"')).name == "story"


@pytest.mark.parametrize("name", gallery())
def test_the_gallery_is_far_below(name: str) -> None:
    """Each scenario of the gallery stays below a hundredth of each limit."""
    limits = Limits()
    low = {key: getattr(limits, key) // 100 for key in ("instances", "pins", "rate")}
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
    """The mean is not too low."""
    made = read_quantity("it", quantity)
    draws = draw(made, np.random.default_rng(1), 100_000)
    assert draws.mean() <= made.mean * 1.05


def test_raised() -> None:
    """A limit is raised with NAME=VALUE; sizes have units."""
    assert Limits().raised([]) == Limits()
    assert Limits().raised(["memory=1TiB", "pins=5", "pins=6"]) == Limits(memory=1 << 40, pins=6)


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("pins", r"^limit 'pins' has no value: wanted pins=VALUE$"),
        ("pin", r"no limit 'pin': wanted one of file=\.\.\., .*work=\.\.\.; did you mean 'pins'\?"),
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
    assert len(rows) == len(Limits.__struct_fields__)


ALLOC = 'for = "1s", every = "1s", hold = "1ms"'


@pytest.mark.parametrize(("keys", "rounds"), [({"retries": 0}, 1), ({"retries": 2}, 3), ({}, 11)])
def test_the_work_of_allocations(keys: dict[str, object], rounds: int) -> None:
    """A round counts as 3000 pins and one for each of the area's 4096 pages; by default there are 11 rounds."""
    text = source(alloc("a", ALLOC, **keys), top="task = []")
    work = rounds * 7096 + 100
    assert refusal(text, rate=work - 1).partition(": ")[2] == (
        f'alloc "a" takes as much work as {work} pins a second (limit {work - 1}; raise it with --limit rate=N)'
    )
    parse(text, limits=Limits(rate=work))


def test_the_work_of_allocations_is_that_of_a_play() -> None:
    """What a command plays counts all allocations up to its moment, beside the pins of tasks."""
    scenario = parse(source(alloc("a", ALLOC, retries=0), task("t", PLAIN)))
    with pytest.raises(PinnerfsError, match=r"to play it takes as much work as 7297\d\d pins of a single page, about"):
        check_work(scenario, "x", [100 * SECOND], Limits(work=729_000))
    check_work(scenario, "x", [100 * SECOND], Limits(work=730_000))


def test_the_rates_of_tasks_and_allocs_add_up() -> None:
    """Together they exceed the limit, and the message names what takes most."""
    text = source(alloc("a", ALLOC, retries=0), task("t", PLAIN))
    assert refusal(text, rate=7200).partition(": ")[2] == (
        'alloc "a" takes as much work as 7196 pins a second, of 7297 for all tasks and allocs '
        "(limit 7200; raise it with --limit rate=N)"
    )


def test_the_work_of_allocations_with_more_retries() -> None:
    """An alloc without retries of its own makes those of the option, and others keep theirs."""
    scenario = parse(source(alloc("a", ALLOC), alloc("b", ALLOC, retries=0), task("t", PLAIN)))
    for retries, rounds in ((0, 1 + 1), (100, 101 + 1), (None, 11 + 1)):
        work = 100 * 7096 * rounds
        with pytest.raises(PinnerfsError, match="to play it takes as much work as"):
            check_work(scenario, "x", [100 * SECOND], Limits(work=work), retries)
        check_work(scenario, "x", [100 * SECOND], Limits(work=work + 50_000), retries)


@pytest.mark.parametrize(("retries", "rounds", "other"), [(None, 11, ""), (500, 501, ", or lower --cma-retries")])
def test_the_work_of_an_allocation_of_a_user(retries: int | None, rounds: int, other: str) -> None:
    """An allocation that a user of a mount can begin has the same limit."""
    scenario, work = parse(source(task("t", PLAIN))), rounds * 7096
    check_alloc_work(scenario, "x", Limits(work=work), retries)
    with pytest.raises(PinnerfsError) as caught:
        check_alloc_work(scenario, "x", Limits(work=work - 1), retries)
    assert str(caught.value) == (
        f"x: an allocation from CMA area 'area' that fails takes as much work as {work} pins of a single page, about "
        f"1 s (limit {work - 1}; raise it with --limit work=N{other})"
    )
    assert caught.value.exit_status == 2
