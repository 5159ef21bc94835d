"""What the accounting saw, as lines of text: why a pin is not in longterm_pinner."""

from __future__ import annotations

from collections.abc import Mapping

from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.simulation import Simulation
from pinnerfs.words import count_of

__all__ = ["explain"]

Counters = Mapping[str, int]

# The counters with the titles of their columns; the first ones are always shown, the others where one is not 0.
ALWAYS = {"pins": "pins", "releases": "releases", "longterm_records": "records", "pinned_now": "still held"}
SOMETIMES = {
    "below_threshold": "below threshold",
    "marks_overwritten": "marks overwritten",
    "marks_freed": "freed",
    "put_page": "put_page",
    "put_page_without_mark": "put_page without mark",
    "untracked": "not tracked",
    "shares_empty": "nothing to share",
}


def explain(simulation: Simulation) -> list[str]:
    """Return a table of the counters by task, and sentences about what is missing from longterm_pinner."""
    tasks, totals = simulation.explain(), simulation.stats()
    return [
        *_table(tasks),
        f"{count_of(totals['records_now'], 'record')} now, {totals['records_overwritten']} overwritten",
        *_sentences(simulation, tasks, totals),
    ]


def _table(tasks: Mapping[str, Counters]) -> list[str]:
    shown = ALWAYS | {
        name: title for name, title in SOMETIMES.items() if any(counters[name] for counters in tasks.values())
    }
    rows = [["task", *shown.values()]]
    rows += [[task, *(str(counters[name]) for name in shown)] for task, counters in tasks.items()]
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])])  # numbers to the right
        for row in rows
    ]


def _sentences(simulation: Simulation, tasks: Mapping[str, Counters], totals: Counters) -> list[str]:
    sums = {name: sum(counters[name] for counters in tasks.values()) for name in (*ALWAYS, *SOMETIMES)}
    sentences = []
    if not totals["records_now"]:
        sentences.append(f"no record: {_why_none(simulation, sums)}")
    if any(task.foll == "FOLL_PIN" and tasks[task.name]["untracked"] for task in simulation.scenario.task):
        sentences.append(f"FOLL_PIN is not tracked by {simulation.generation.name}")
    if any(task.foll == "none" and tasks[task.name]["untracked"] for task in simulation.scenario.task):
        sentences.append("a plain get_page is not tracked by any kernel")
    if sums["put_page"] > sums["put_page_without_mark"]:
        sentences.append("put_page does not end a pin for page_pinner: it takes no record and leaves the mark")
    if sums["marks_overwritten"]:
        sentences.append("a page has one mark: a later pin overwrites it, and takes the blame")
    if any(task.order for task in simulation.scenario.task):
        sentences.append("pins, releases and put_page count pages; the other columns count the frames of the pages")
    if totals["records_overwritten"]:
        sentences.append(f"the ring holds {RING_SIZE} records: the oldest were overwritten")
    return sentences


def _why_none(simulation: Simulation, sums: Counters) -> str:
    if not sums["pins"]:
        return "no page was pinned"
    if not sums["releases"]:
        return "no pin was released by put_user_page or unpin_user_page"
    if below := sums["below_threshold"]:
        releases = "the release was" if below == 1 else f"all {below} releases were"
        return f"{releases} at most {simulation.threshold} us long"
    return "no release found a mark"
