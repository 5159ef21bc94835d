"""The parts of `make bench`: the C loop gives the engine's results, and the table has the figures."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.scenario.gallery import load
from pinnerfs.simulation import Simulation
from tests.bench import streams
from tests.bench.daemon import IDLE
from tests.bench.measure import BUSY, NotMeasured, build, in_turn, measured, python, ratios, seconds
from tests.bench.reference import reference_in_c, results_of
from tests.bench.sweeps import point_for_dump
from tests.bench.table import Group, Row, Target, as_json, as_text, machine

FRAMES = 4096


def every_kind() -> EventBatch:
    """Return events of all kinds and of orders 0 to 3 on a few frames."""
    rng = np.random.default_rng(3)
    events = 50_000
    order = rng.integers(0, 4, events)
    pfn = streams.memory(FRAMES).base_pfn + (rng.integers(0, FRAMES, events) >> order << order)
    rows = zip(
        np.sort(rng.integers(0, 10**9, events)),
        rng.choice(len(Event), events, p=[0.25, 0.2, 0.22, 0.17, 0.03, 0.02, 0.05, 0.02, 0.04]),
        pfn,
        order,
        rng.integers(1, 17, events),
        strict=True,
    )
    return EventBatch.of(list(rows))


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is missing")
@pytest.mark.parametrize("threshold", [-1, 100_000])
@pytest.mark.parametrize(
    "events",
    [every_kind(), streams.scattered(50_000, FRAMES), streams.contiguous(50_000, FRAMES)],
    ids=["of every kind", "scattered", "contiguous"],
)
def test_the_c_loop_gives_the_results_of_the_engine(events: EventBatch, threshold: int) -> None:
    """Counters and records of the C loop are the engine's, after every chunk."""
    device = streams.memory(FRAMES)
    engine = Pinner(device, INTRODUCED, threshold)
    with reference_in_c() as make:
        reference = make(device, threshold)
        for at in range(0, len(events), 700):
            engine.apply(events[at : at + 700])
            reference.apply(events[at : at + 700])
            assert reference.results() == results_of(engine)
    assert engine.counters.totals()["longterm_records"] > 0


@pytest.mark.parametrize("stream", [streams.scattered, streams.contiguous])
def test_a_stream_ends_as_it_began(stream: Callable[[int, int], EventBatch]) -> None:
    """A stream has about as many events as asked for, in order of time, and leaves no page pinned."""
    events = stream(50_000, FRAMES)
    assert 45_000 < events.pages.sum() < 55_000
    assert (np.diff(events.time) >= 0).all()
    engine = Pinner(streams.memory(FRAMES), INTRODUCED)
    for batch in streams.chunks(events):
        engine.apply(batch)
    totals = engine.counters.totals()
    assert totals["pins"] == totals["releases"] == events.pages.sum() // 2
    assert totals["pinned_now"] == 0


def test_the_busy_scenario_is_as_busy_as_it_says() -> None:
    """The busy scenario has 100,000 page pins a second on 16 GiB."""
    simulation = Simulation(load(str(BUSY)))
    simulation.advance("5s")
    assert simulation.stats()["pins"] == pytest.approx(500_000, rel=0.02)
    assert simulation.memory.frames == 16 << 18


def test_nothing_is_due_in_the_idle_scenario(tmp_path: Path) -> None:
    """The first event of the idle scenario is after an hour."""
    path = tmp_path / "idle.toml"
    path.write_text(IDLE)
    assert Simulation(load(str(path))).next_event() == 3_600_000_000


def test_a_missing_compiler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a compiler, the reason names it."""
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotMeasured, match="gcc is missing"):
        build("client.c", tmp_path)


def test_a_group_that_cannot_be_measured_says_why() -> None:
    """Each row of a group that cannot be measured has the reason instead of figures."""

    def measure() -> list[list[float]]:
        return [[seconds(lambda: python("-c", "import sys; sys.exit('no such device')"))]]

    target = Target("mounts", 2.0)
    (row,) = measured(Group([target], measure))
    assert (row.target, row.figures) == (target, ())
    assert row.verdict.startswith("not measured: `python -c import sys")
    assert row.verdict.endswith(" fails: no such device")
    assert measured(Group([target], lambda: [[1.0]])) == [Row(target, [1.0])]


def test_things_are_measured_in_turn() -> None:
    """Each work runs once in every round, and the first round does not count. Ratios compare neighbouring runs."""
    asked: list[str] = []

    def asking(name: str, first: float) -> float:
        asked.append(name)
        return first * len(asked)

    assert in_turn([lambda: asking("one", 1), lambda: asking("other", 10)], 2) == [[3, 5], [40, 60]]
    assert asked == ["one", "other"] * 3
    asked.clear()
    assert ratios(lambda: asking("one", 1), lambda: asking("other", 10), 1) == [3 / 40]


@pytest.mark.parametrize(
    ("figures", "more", "verdict"),
    [
        ((1.0, 1.2, 9.0), False, "aim met"),
        ((1.3,), False, "reached"),
        ((1.5,), False, "missed"),
        ((1.5,), True, "aim met"),
        ((1.4,), True, "aim met"),
        ((1.1,), True, "missed"),
        ((), False, "not measured: no compiler"),
    ],
)
def test_the_verdict_follows_the_median(figures: tuple[float, ...], more: bool, verdict: str) -> None:
    """The median determines the verdict: at most the bound or, if more is better, at least."""
    target = Target("a : b", 1.2, 1.4, True) if more else Target("a : b", 1.4, 1.2)
    assert Row(target, figures, "no compiler").verdict == verdict


def test_without_a_bound_there_is_no_verdict() -> None:
    """A figure without a bound has no verdict."""
    assert Row(Target("a : b"), (1.0,)).verdict == "-"


ROWS = [
    Row(Target("reads", 1.35, 1.25), (1.5, 1.25, 1.3)),
    Row(Target("rate of all", 10, 20, more=True), (123.4, 5.0, 6.0)),
    Row(Target("builds", 2.0), (), "gcc is missing"),
]


def test_the_table() -> None:
    """The table has a line for each fact, then one for each row: median, spread, bounds and verdict."""
    assert as_text(ROWS, {"kernel": "6.1", "cores": 2}) == (
        "kernel: 6.1\n"
        "cores: 2\n"
        "\n"
        "what         median       spread  must reach   aim  verdict\n"
        "reads           1.3  1.25 to 1.5        1.35  1.25  reached\n"
        "rate of all       6     5 to 123          10    20  missed\n"
        "builds                                     2        not measured: gcc is missing\n"
    )


def test_the_json() -> None:
    """The JSON has the machine's facts, and all figures of each row."""
    parsed = json.loads(as_json(ROWS, {"kernel": "6.1"}))
    assert parsed["machine"] == {"kernel": "6.1"}
    assert parsed["rows"][0] == {
        "what": "reads",
        "median": 1.3,
        "figures": [1.5, 1.25, 1.3],
        "must": 1.35,
        "aim": 1.25,
        "more_is_better": False,
        "verdict": "reached",
    }
    assert parsed["rows"][2]["median"] is None
    assert parsed["rows"][2]["verdict"] == "not measured: gcc is missing"


def test_facts_about_the_machine() -> None:
    """The facts have kernel, processor, load and versions."""
    facts = machine()
    assert {"kernel", "cpu", "cores", "python", "numpy", "load"} == set(facts)
    assert all(facts.values())


def test_the_cost_of_a_point() -> None:
    """The cost of a point of a sweep is measured against whole processes of dump."""
    (ratio,) = point_for_dump(1, 1)
    assert 0 < ratio < 10
