"""Make the scenario of a capture, and play it to choose a seed with which its dump has the capture's order of sites."""

from __future__ import annotations

from msgspec.structs import replace

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.importing.plan import MOST_SITES, TaskPlan, pace, plans
from pinnerfs.importing.skeleton import Skeleton
from pinnerfs.importing.words import name_of
from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED
from pinnerfs.report.analysis import analyse
from pinnerfs.report.kernels import generations_named
from pinnerfs.report.model import Area, Capture, Report
from pinnerfs.report.reader import read_text
from pinnerfs.scenario.gallery import parse
from pinnerfs.scenario.memory import AREA_NAME
from pinnerfs.simulation import Simulation

__all__ = ["import_capture"]

BLOCK_ORDER = 10  # of a capture whose records do not tell it
THRESHOLD_US = 300_000
SEEDS = 32


def import_capture(capture: Capture) -> str:
    """Return the text of a scenario for the pins of a capture. Raise PinnerfsError if it has none."""
    report = analyse(capture)
    order = BLOCK_ORDER if report.pageblock_order is None else min(report.pageblock_order, 18)
    kernel = _kernel(report)
    foll_pin = Event.pin_user_pages in GENERATIONS[kernel].pins
    tasks = list(plans(capture, report, order, foll_pin))
    source = ", ".join(report.sources)
    if not tasks:
        raise PinnerfsError(in_a_line(f"cannot import {source}: {_why_nothing(report)}"), BAD_INPUT)
    least = min(min(plan.durations) for plan in tasks)
    threshold = min(THRESHOLD_US if report.threshold_us is None else max(0, report.threshold_us), least - 1)
    skeleton = Skeleton(
        source=source,
        headline=report.headline,
        kernel=kernel,
        threshold_us=threshold,
        length_us=pace(tasks, order, threshold),
        block_order=order,
        areas=_areas(capture, tasks, order),
        tasks=tasks,
        left_out=_left_out(report),
    )
    _choose_seed(skeleton, report)
    return skeleton.text()


def _kernel(report: Report) -> str:
    """Return the first of the kernels that print such records and record pins."""
    known = [generation.name for generation in generations_named(report.generation) if generation.has_threshold]
    return known[0] if known else INTRODUCED.name


def _why_nothing(report: Report) -> str:
    if not report.records:
        return "it has no record"
    kinds = {hold.kind for hold in report.holds}
    if "PIN" in kinds:
        return "its records of pins have no stack, or no duration"
    records = (
        "1 record is of a failed migration"
        if report.records == 1
        else f"{report.records} records are of failed migrations"
    )
    return f"its {records}; wanted records of pins, as in longterm_pinner"


def _left_out(report: Report) -> list[str]:
    sentences = []
    other = sum(hold.records for hold in report.holds if hold.kind != "PIN")
    if other:
        sentences.append(f"{other} records of failed migrations; write an [[alloc]] for the allocations that failed")
    sites = sum(site.role == "culprit" for site in report.sites)
    if sites > MOST_SITES:
        sentences.append(f"{sites - MOST_SITES} of {sites} call sites, those that did the least damage")
    return sentences


def _areas(capture: Capture, tasks: list[TaskPlan], order: int) -> list[str]:
    """Return the name of the CMA area that each region is, or "": a capture without areas gives the regions none."""
    areas: list[str] = []
    used: set[str] = set()
    for plan in tasks:
        block = plan.first_block << order
        area = next(
            (
                area
                for area in capture.areas
                if area.base_pfn < block + (1 << order) and block < area.base_pfn + area.pages
            ),
            None,
        )
        name = "" if area is None or not plan.cma else name_of(area.name, used)
        areas.append(name if AREA_NAME.fullmatch(name) else "")
    return areas


def _choose_seed(skeleton: Skeleton, report: Report) -> None:
    """Choose the first seed whose dump has the sites in the order of the report, or else the one that is closest."""
    scenario = parse(skeleton.text(), "the imported scenario")
    wanted = list(dict.fromkeys(plan.key for plan in skeleton.tasks))
    best = len(wanted) + 1
    for seed in range(SEEDS):
        simulation = Simulation(scenario, seed=seed, kernel=skeleton.kernel)
        simulation.advance_to(skeleton.end_us)
        file = simulation.generation.main_file
        came = analyse(replace(read_text(simulation.cat(file), file=file), areas=_placed(skeleton)))
        keys = [site.key for site in came.sites if site.role == "culprit"]
        wrong = sum(one != other for one, other in zip(keys, wanted, strict=False)) + abs(len(keys) - len(wanted))
        if wrong < best:
            best, skeleton.seed = wrong, seed
        if not wrong:
            return


def _placed(skeleton: Skeleton) -> tuple[Area, ...]:
    """Return the CMA areas of the scenario."""
    found = []
    first = skeleton.tasks[0].first_block
    for plan, name in zip(skeleton.tasks, skeleton.areas, strict=True):
        if name:
            found.append(Area(name, first << skeleton.block_order, plan.blocks << skeleton.block_order))
        first += plan.blocks
    return tuple(found)
