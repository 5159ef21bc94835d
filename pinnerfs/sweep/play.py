"""Play a scenario once, and rank its culprit under each threshold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from pinnerfs.recordfiles import RecordFiles
from pinnerfs.report.analysis import call_sites
from pinnerfs.report.model import Site
from pinnerfs.report.naming import load_sites
from pinnerfs.report.selection import HOLDERS
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import Simulation
from pinnerfs.sweep.dumped import capture_of
from pinnerfs.sweep.points import Play
from pinnerfs.workload.callchains import call_chain

__all__ = ["Result", "play"]


class Result(msgspec.Struct, frozen=True, array_like=True):
    """What a point shows.

    threshold: in µs, signed; None on a kernel without one.
    records: how many the main record file shows. overwritten: how many its ring has lost.
    rank: the place of the scenario's culprit among the call sites that the report blames, from 1 on; None if it is
    not among them, or if the scenario names none.
    longest: the longest time of a call site in the report, in µs, or None.
    """

    threshold: int | None
    records: int
    overwritten: int
    rank: int | None
    longest: int | None


def play(wanted: Play) -> tuple[Result, ...]:
    """Play a scenario, and return the result of each threshold in their order."""
    scenario = wanted.scenario
    simulation = Simulation(
        scenario,
        seed=wanted.seed,
        kernel=wanted.kernel,
        mm=wanted.mm,
        cma_retries=wanted.cma_retries,
        quiet_migration=wanted.quiet_migration,
    )
    by_threshold: Mapping[int, RecordFiles] | Mapping[None, RecordFiles]
    if wanted.thresholds is not None:
        by_threshold = simulation.files_at(wanted.thresholds)
    elif simulation.generation.has_threshold:
        by_threshold = {simulation.threshold: simulation.files}
    else:
        by_threshold = {None: simulation.files}
    simulation.advance_to(wanted.moment)
    return tuple(_result(threshold, files, scenario) for threshold, files in by_threshold.items())


def _result(threshold: int | None, files: RecordFiles, scenario: Scenario) -> Result:
    capture = capture_of(files)
    blamed = call_sites(capture)
    sites = [site for site in blamed.sites if site.role in HOLDERS]
    longest = max((site.max_us for site in sites if site.max_us is not None), default=None)
    rank = _rank(sites, blamed.culprit, scenario, files)
    return Result(threshold, len(capture.records), files.ring().overwritten, rank, longest)


def _rank(sites: Sequence[Site], blamed: Site | None, scenario: Scenario, files: RecordFiles) -> int | None:
    """Return the place of the culprit among the sites that held pages; the one that the report blames is the first."""
    culprit = next((task for task in scenario.task if task.name == scenario.culprit), None)
    if culprit is None:
        return None
    wanted = load_sites().name("PIN", call_chain(scenario.stack[culprit.stack], files.generation)).site
    ordered = sorted(sites, key=lambda site: site is not blamed)
    return next((place for place, site in enumerate(ordered, start=1) if site.site == wanted), None)
