"""Make the scenario of a capture, and play it to choose a seed with which its dump has the capture's order of sites."""

from __future__ import annotations

from typing import Literal

from msgspec.structs import replace

from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line
from pinnerfs.importing.pacing import pace
from pinnerfs.importing.plan import MOST_SITES, TaskPlan, plans
from pinnerfs.importing.skeleton import Skeleton
from pinnerfs.importing.words import name_of
from pinnerfs.kernel.calls import Event
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED, Generation
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.report.analysis import analyse
from pinnerfs.report.kernels import generations_named
from pinnerfs.report.model import Area, Capture, Report, Role
from pinnerfs.report.reader import read_text
from pinnerfs.report.source import named
from pinnerfs.scenario.gallery import parse
from pinnerfs.scenario.memory import AREA_NAME
from pinnerfs.simulation import Simulation
from pinnerfs.words import count_of

__all__ = ["import_capture"]

_ROLES: tuple[Literal["culprit", "candidate"], ...] = ("culprit", "candidate")

BLOCK_ORDER = 10  # of a capture whose records do not tell it
THRESHOLD_US = 300_000
LEAD_US = 500_000  # a guess: from a pin to the allocation that fails because of it
SEEDS = 32
MOST_WORK = 20_000_000  # of all plays, in pins of all tasks times their number


def import_capture(capture: Capture) -> str:
    """Return the text of a scenario for the pins of a capture, or for the pages that made allocations fail.

    Raise PinnerfsError if it has neither.
    """
    report = analyse(capture)
    order = BLOCK_ORDER if report.pageblock_order is None else min(report.pageblock_order, 18)
    source = named(report.sources)
    for role in _ROLES:
        kernel = _kernel(report, role)
        tasks = list(plans(capture, report, role, order, Event.pin_user_pages in kernel.pins))
        if tasks:
            break
    else:
        raise PinnerfsError(in_a_line(f"cannot import {source}: {_why_nothing(report)}"), BAD_INPUT)
    threshold = THRESHOLD_US if report.threshold_us is None else max(0, report.threshold_us)
    if role == "culprit":
        threshold = min(threshold, min(min(plan.durations) for plan in tasks) - 1)
    file = kernel.main_file if role == "culprit" else kernel.record_files[-1]
    layout = kernel.layouts[file]
    kind = None if role == "culprit" else layout.kind(RecordKind.PUT)
    if role == "candidate" and not kernel.has_threshold:
        for plan in tasks:
            plan.lead_us = LEAD_US  # these kernels know no pins, so they measure from the failure
    # A kernel that tracks pins marks the pages of short ones, too, and an allocation that moves them leaves records.
    short_pins = threshold >= 1 if role == "culprit" else not kernel.has_threshold
    skeleton = Skeleton(
        source=source,
        headline=report.headline,
        kernel=kernel.name,
        threshold_us=threshold,
        length_us=pace(tasks, order, short_pins),
        file=file,
        kind=kind or "",
        shows_duration=role == "culprit" or layout.shows_duration(kind),
        block_order=order,
        areas=_areas(capture, tasks, order),
        tasks=tasks,
        left_out=_left_out(report, role, tasks),
    )
    _choose_seed(skeleton, role)
    return skeleton.text()


def _kernel(report: Report, role: Role) -> Generation:
    """Return the first of the kernels that print such records and have a file for them."""
    for generation in generations_named(report.generation):
        if generation.has_threshold if role == "culprit" else generation.failure_file:
            return generation
    return INTRODUCED if role == "culprit" else GENERATIONS["android14-6.1"]


def _why_nothing(report: Report) -> str:
    if not report.records:
        return "it has no record"
    if any(hold.kind == "PIN" for hold in report.holds):
        return "its records of pins have no stack, or no duration"
    return f"{count_of(report.records, 'record')}, and none is of a pin or of a reference that made an allocation fail"


def _left_out(report: Report, role: Role, tasks: list[TaskPlan]) -> list[str]:
    sentences = []
    failed = [site for site in report.sites if site.role == "candidate"]
    if role == "culprit" and failed:
        records = count_of(sum(site.records for site in failed), "record")
        sentences.append(f"{records} of references that made an allocation fail; write an [[alloc]] for it")
    sites = sum(site.role == role for site in report.sites)
    if sites > MOST_SITES:
        least = f"those that did the least damage: {MOST_SITES} are imported"
        sentences.append(f"{sites - MOST_SITES} of {sites} call sites, {least}")
    made, came = sum(plan.holds for plan in tasks), sum(len(plan.durations) for plan in tasks)
    if made < came:
        sentences.append(f"{came - made} of {came} holds, the same share of each call site")
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
        name = name if AREA_NAME.fullmatch(name) else ""
        areas.append(name or (name_of("area", used) if plan.refused else ""))
    return areas


def _choose_seed(skeleton: Skeleton, role: Role) -> None:
    """Choose the first seed whose dump has the sites in the order of the report, or else the one that is closest.

    The holds of a task are drawn, so the weights of two sites that are nearly equal can change places.
    """
    scenario = parse(skeleton.text(), "the imported scenario")
    wanted = list(dict.fromkeys(plan.key for plan in skeleton.tasks))
    best = len(wanted) + 1
    work = len(skeleton.tasks) * sum(plan.holds * plan.stride for plan in skeleton.tasks)
    for seed in range(max(1, min(SEEDS, MOST_WORK // work))):
        simulation = Simulation(scenario, seed=seed, kernel=skeleton.kernel)
        simulation.advance_to(skeleton.end_us)
        read = read_text(simulation.cat(skeleton.file), file=skeleton.file)
        came = analyse(replace(read, areas=_placed(skeleton)))
        keys = [site.key for site in came.sites if site.role == role]
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
