"""pinnerfs show."""

from __future__ import annotations

import click

from pinnerfs.cli.files import wait_for_scenario
from pinnerfs.cli.options import as_json, limit, max_wait, scenario
from pinnerfs.jsontext import json_text
from pinnerfs.scenario.allocs import Alloc
from pinnerfs.scenario.distributions import Quantity
from pinnerfs.scenario.gallery import load
from pinnerfs.scenario.limits import Limits
from pinnerfs.scenario.longterm import leaves_cma, moved_to
from pinnerfs.scenario.phases import Phase
from pinnerfs.scenario.schema import Scenario, Task
from pinnerfs.words import count_of

__all__ = ["show"]


@click.command()
@scenario
@as_json
@limit
@max_wait
def show(scenario: str, as_json: bool, limits: Limits, max_wait: float) -> None:
    """Describe a scenario: its memory, its tasks, its allocs and its expectations.

    SCENARIO is a name from `pinnerfs list`, a path to a .toml file, or `-` for standard input.

    \b
    Example:
      pinnerfs show camera-stall
    """
    wait_for_scenario(scenario, max_wait)
    loaded = load(scenario, limits)
    text = json_text({"scenario": loaded}) if as_json else "\n".join([*_describe(loaded), ""])
    click.echo(text, nl=False)


def _describe(scenario: Scenario) -> list[str]:
    duration = "endless" if scenario.duration is None else scenario.duration
    lines = [
        f"{scenario.name}: {scenario.description}",
        f"  threshold {scenario.threshold}, duration {duration}, seed {scenario.seed}, race {scenario.race}",
        f"memory: {scenario.memory.size} from PFN {scenario.memory.base_pfn}",
    ]
    if scenario.culprit is not None:
        blind = "none: no record can show who is to blame" if scenario.culprit == "none" else f"task {scenario.culprit}"
        lines.insert(2, f"  culprit {blind}")
    for region in scenario.memory.region:
        pages = "" if region.pages == "anon" else ", pages of a file"
        area = "" if region.cma is None else f", CMA area {region.cma}"
        lines.append(f"  {region.name}: {region.size} {region.migratetype} ({'|'.join(region.flags)}){pages}{area}")
    for task in scenario.task:
        instances = "" if task.instances == 1 else f", {task.instances} instances"
        pages = _pages(task, scenario)
        lines.append(f"task {task.name}{instances}: {pages}, stack {task.stack}, from {_quantity(task.start)}")
        lines += [f"  {_phase(phase)}" for phase in task.phase]
    for alloc in scenario.alloc:
        lines.append(f"alloc {alloc.name}: {_request(alloc)}, stack {alloc.stack}, from {_quantity(alloc.start)}")
        lines += [
            f"  {_phase(phase)}{'' if phase.pause or phase.hold else ', never released'}" for phase in alloc.phase
        ]
    lines += [f"expects {expectation.when()}: {expectation.wanted()}" for expectation in scenario.expect]
    lines += [f"fault from {fault.at}: {fault.text}" for fault in scenario.fault]
    return lines


def _pages(task: Task, scenario: Scenario) -> str:
    if task.share is not None:
        pages = f"the pages that {task.share} holds"
    else:
        order = f" of order {task.order}" if task.order else ""
        pages = count_of(task.pages or 1, f"{task.pick or 'contiguous'} page") + f"{order} in {task.region}"
        target = moved_to(scenario.memory) if leaves_cma(task, scenario.memory) else None
        if target is not None:
            pages += f" (moved to {target.name} first)"
        if task.pfn is not None:
            pages += f" from PFN {task.pfn}"
    takes = f"takes {pages} by get_page" if task.foll == "none" else f"pins {pages} with {task.foll}"
    return f"{takes}, {_ends(task)}{_unmaps(task)}"


def _request(alloc: Alloc) -> str:
    request = f"{count_of(alloc.pages, 'page')} of area {alloc.area}"
    if alloc.align:
        request += f", aligned to {1 << alloc.align} pages"
    if alloc.retries is not None:
        request += f", {count_of(alloc.retries, 'retry', 'retries')}"
    return request + (", without a line in the log" if alloc.no_warn else "")


def _ends(task: Task) -> str:
    releases = task.releases
    if "never" in releases:
        return "never releases them"
    if len(releases) == 1:
        return f"releases them by {next(iter(releases))}"
    total = sum(releases.values())
    return "releases them by " + " or ".join(f"{call} ({weight} in {total})" for call, weight in releases.items())


def _unmaps(task: Task) -> str:
    if task.unmap == "never":
        return "" if task.mapped else ", has not mapped them"
    return (
        ", unmaps them then" if task.unmap == "with-release" else f", unmaps them {_quantity(task.unmap)} after the pin"
    )


def _phase(phase: Phase) -> str:
    lasts = count_of(phase.repeat or 0, "time") if phase.lasts is None else f"for {_quantity(phase.lasts)}"
    if phase.pause:
        return f"{lasts}: nothing"
    if phase.every is not None:
        arrivals = f"every {phase.every}"
    elif phase.gap is not None:
        arrivals = f"{_quantity(phase.gap)} after the last release"
    else:
        arrivals = f"at random, {phase.rate}"
    hold = "" if phase.hold is None else f", each held {_quantity(phase.hold)}"
    return f"{lasts}: {arrivals}{hold}"


def _quantity(quantity: Quantity) -> str:
    if isinstance(quantity, str | int | float):
        return str(quantity)
    fields = {name: getattr(quantity, name) for name in quantity.__struct_fields__}
    kind = str(quantity.__struct_config__.tag)
    return f"{kind}({', '.join(f'{name} {value}' for name, value in fields.items() if value is not None)})"
