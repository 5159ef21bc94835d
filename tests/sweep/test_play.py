"""One play serves all thresholds, with the result of a play for each."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pinnerfs
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.report import analyse, read_text
from pinnerfs.report.naming import load_sites
from pinnerfs.report.selection import HOLDERS, totals
from pinnerfs.scenario.schema import Scenario
from pinnerfs.sweep.play import Result, play
from pinnerfs.sweep.points import Play
from pinnerfs.workload.callchains import call_chain
from tests.workload.stories import alloc, source, story, task

LONGTERM = [name for name, generation in GENERATIONS.items() if generation.has_threshold]
OTHERS = [name for name in GENERATIONS if name not in LONGTERM]
# Counters of releases, by whether they are longer than the threshold.
OF_THE_THRESHOLD = {"longterm_records", "below_threshold", "records_overwritten", "records_now"}
# CMA allocations fail on pinned pages, move others and take references of their own.
BUSY = story(
    task("camera", 'for = "1h", every = "70ms", hold = "60ms"', instances=3, region="cma", pages=40),
    task("file", 'for = "1h", gap = "40ms", hold = { dist = "uniform", min = "0ms", max = "500ms" }', region="cma"),
    alloc("heap", 'for = "1h", every = "300ms", hold = "100ms"', pages=64),
    alloc("all", 'for = "1h", every = "1s", hold = "10ms"', pages=3900, retries=0),
)
SCENARIOS = {"busy": BUSY} | {
    name: pinnerfs.load(name) for name in ("camera-stall", "cma-retries", "every-kernel", "gpu-put-page", "huge-pages")
}


@settings(deadline=None, max_examples=25, suppress_health_check=[HealthCheck.too_slow])
@given(
    name=st.sampled_from(sorted(SCENARIOS)),
    kernel=st.sampled_from(LONGTERM),
    seed=st.integers(0, 5),
    moment=st.integers(0, 12_000_000),
    thresholds=st.lists(
        st.one_of(st.sampled_from([0, 60_000, 300_000, 1_000_000, -1]), st.integers(0, 2_000_000)),
        min_size=1,
        max_size=4,
        unique=True,
    ),
)
def test_one_play_for_all_thresholds(name: str, kernel: str, seed: int, moment: int, thresholds: list[int]) -> None:
    """The records, the losses and all that a threshold does not decide equal those of a play for each threshold."""
    scenario = SCENARIOS[name]
    at_once = pinnerfs.Simulation(scenario, kernel=kernel, seed=seed)
    files = at_once.files_at(thresholds)
    at_once.advance_to(moment)
    assert [*files] == thresholds
    for threshold in thresholds:
        alone = pinnerfs.Simulation(scenario, kernel=kernel, seed=seed, threshold=threshold)
        alone.advance_to(moment)
        for file in alone.generation.record_files:
            shown = b"".join(files[threshold].text(place, file) for place in range(files[threshold].ring(file).filled))
            assert shown.decode() == alone.cat(file)
        assert files[threshold].ring("longterm_pinner").overwritten == (alone.files.ring("longterm_pinner").overwritten)
        same = set(alone.stats()) - OF_THE_THRESHOLD
        assert {name: alone.stats()[name] for name in same} == {name: at_once.stats()[name] for name in same}
        assert (alone.dmesg(), alone.vmstat(), alone.explain_allocs()) == (
            at_once.dmesg(),
            at_once.vmstat(),
            at_once.explain_allocs(),
        )


def test_the_allocations_of_the_test_above() -> None:
    """Some allocations of its scenario fail and some get pages that were in use, so they could tell a difference."""
    simulation = pinnerfs.Simulation(BUSY, kernel="pixel-5.10")
    simulation.advance("12s")
    stats = simulation.stats()
    assert stats["allocs_ok"] and stats["allocs_failed"] and stats["longterm_records"]


def by_report(text: str, file: str, culprit_site: str) -> tuple[int, int | None, int | None]:
    """Return the records, the rank of a site and the longest time, as the report of a dump has them."""
    if not text:
        return 0, None, None
    report = analyse(read_text(text, file=file))
    order = [site for site in report.sites if site.role in HOLDERS]
    order.sort(key=lambda site: site.key != report.culprit)
    ranks = [place for place, site in enumerate(order, start=1) if site.site == culprit_site]
    return report.records, ranks[0] if ranks else None, totals(report).max


@pytest.mark.parametrize("kernel", GENERATIONS)
def test_the_rank_is_that_of_the_report(kernel: str) -> None:
    """Records, rank and longest time are those of a report of the dump's text."""
    generation = GENERATIONS[kernel]
    ranks = set()
    for name in ("every-kernel", "camera-stall", "huge-pages", "ring-overflow", "faceunlock-fails"):
        scenario = pinnerfs.load(name)
        thresholds = (50_000, 400_000) if generation.has_threshold else None
        for result in play(Play(scenario, (), 3, thresholds, kernel, 10_000_000)):
            alone = pinnerfs.Simulation(scenario, kernel=kernel, seed=3, threshold=result.threshold)
            alone.advance("10s")
            wanted = by_report(alone.cat(), generation.main_file, culprit_site(scenario, kernel))
            assert (result.records, result.rank, result.longest) == wanted, name
            assert result.overwritten == alone.stats()["records_overwritten"]
            ranks.add(result.rank)
    assert 1 in ranks or not generation.has_threshold


def culprit_site(scenario: Scenario, kernel: str) -> str:
    """Return the name that a report gives the scenario's culprit."""
    culprit = next(task for task in scenario.task if task.name == scenario.culprit)
    return load_sites().name("PIN", call_chain(scenario.stack[culprit.stack], GENERATIONS[kernel])).site


def test_a_culprit_behind_another() -> None:
    """The rank counts the sites before the culprit, and is None if it has no record."""
    text = source(
        task("quiet", 'for = "1h", every = "1s", hold = "100ms"').replace('"s"', '"other"'),
        task("loud", 'for = "1h", every = "1s", hold = "500ms"', pages=600),
        '[stack.other]\nframes = ["quiet_get"]\n',
        top='culprit = "quiet"',
    )
    scenario = pinnerfs.parse(text)
    found = play(Play(scenario, (), 0, (50_000, 200_000, 600_000), LONGTERM[0], 10_000_000))
    assert [result.rank for result in found] == [2, None, None]
    assert found[2] == Result(600_000, 0, 0, None, None)


def test_a_scenario_without_a_culprit() -> None:
    """Nothing is ranked if the scenario names no culprit, or none that a record can show."""
    plain = story(task("t", 'for = "1h", every = "1s", hold = "500ms"'))
    (found,) = play(Play(plain, (), 0, (50_000,), LONGTERM[0], 10_000_000))
    assert (found.rank, found.longest) == (None, 500_000) and found.records


@pytest.mark.parametrize("kernel", OTHERS)
def test_a_kernel_without_a_threshold(kernel: str) -> None:
    """It has one result, of its main record file."""
    (found,) = play(Play(pinnerfs.load("faceunlock-fails"), (), 1, None, kernel, 10_000_000))
    assert found.threshold is None and found.records


def test_the_own_threshold() -> None:
    """Without thresholds, a kernel that has one shows the scenario's own."""
    (found,) = play(Play(pinnerfs.load("camera-stall"), (), 1, None, LONGTERM[0], 10_000_000))
    assert found.threshold == 300_000
