"""What the accounting saw, as lines of text: why a pin is not in longterm_pinner."""

from __future__ import annotations

from collections.abc import Mapping

from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.page_pinner.records import RING_SIZE
from pinnerfs.simulation import Simulation
from pinnerfs.words import count_of

__all__ = ["explain"]

Counters = Mapping[str, int]

# The counters with the titles of their columns; the first ones are always shown, the others where one is not 0.
ALWAYS = {
    "pins": "pins",
    "releases": "releases",
    "longterm_records": "records",
    "held_now": "still held",
    "pinned_now": "marked now",
}
SOMETIMES = {
    "below_threshold": "below threshold",
    "releases_without_mark": "no mark found",
    "marks_overwritten": "marks overwritten",
    "marks_freed": "freed",
    "put_page": "put_page",
    "put_page_without_mark": "put_page without mark",
    "untracked": "untracked calls",
    "shares_empty": "nothing to share",
}
# The same for the allocs of the scenario.
ALLOCS = {
    "allocs": "allocations",
    "got": "got their pages",
    "failed": "failed",
    "waiting": "not over",
    "pages_now": "pages now",
}


def explain(simulation: Simulation) -> list[str]:
    """Return tables of the counters by task and by alloc, and sentences about what the main record file lacks."""
    tasks, totals = simulation.explain(), simulation.stats()
    generation = simulation.generation
    where = f" in {generation.main_file}" if len(generation.record_files) > 1 else ""
    return [
        *_table(tasks),
        *_alloc_table(simulation.explain_allocs()),
        f"{count_of(totals['records_now'], 'record')} now{where}, "
        f"{count_of(totals['records_overwritten'], 'record')} overwritten in the ring",
        *_sentences(simulation, tasks, totals),
    ]


def _table(tasks: Mapping[str, Counters]) -> list[str]:
    shown = ALWAYS | {
        name: title for name, title in SOMETIMES.items() if any(counters[name] for counters in tasks.values())
    }
    return _aligned("task", tasks, shown)


def _alloc_table(allocs: Mapping[str, Counters]) -> list[str]:
    """Return a table of the outcomes by alloc, or nothing for a scenario without one."""
    return _aligned("alloc", allocs, ALLOCS) if allocs else []


def _aligned(kind: str, counted: Mapping[str, Counters], shown: Mapping[str, str]) -> list[str]:
    rows = [[kind, *shown.values()]]
    rows += [[name, *(str(counters[counter]) for counter in shown)] for name, counters in counted.items()]
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
        if sums["pins"] and sums["held_now"]:
            sentences.append("a page that is still held has no record yet: it comes with the release")
    if not simulation.generation.pins and sums["untracked"]:
        sentences.append(f"no pin is tracked by {simulation.generation.name}: it records failed migrations alone")
    elif any(task.foll.startswith("FOLL_PIN") and tasks[task.name]["untracked"] for task in simulation.scenario.task):
        sentences.append(f"FOLL_PIN is not tracked by {simulation.generation.name}")
    if any(task.foll == "none" and tasks[task.name]["untracked"] for task in simulation.scenario.task):
        sentences.append("a plain get_page is not tracked by any kernel")
    if _releases_of_others(simulation, tasks):
        sentences.append(
            "records and below threshold count for the task that set the mark, not for the one that released the page"
        )
    if sums["put_page"] > sums["put_page_without_mark"]:
        sentences.append("put_page does not end a pin for page_pinner: it takes no record and leaves the mark")
    if sums["marks_overwritten"]:
        sentences.append("a page has one mark: a later pin overwrites it, and takes the blame")
    if any(task.order for task in simulation.scenario.task):
        sentences.append(
            "pins, releases, still held, put_page and untracked calls count pages; "
            "the other columns count the frames of the pages"
        )
    if totals["allocs_failed"]:
        sentences += _where_failures_are(simulation.generation)
    if totals["records_overwritten"]:
        sentences.append(f"the ring holds {RING_SIZE} records: the oldest were overwritten")
    return sentences


def _where_failures_are(generation: Generation) -> list[str]:
    if generation.failure_file is None:
        return [f"a failed allocation leaves no record on {generation.name}"]
    if generation.failure_file == generation.main_file:
        return []
    return [f"the records of failed allocations are in {generation.failure_file}: add --file"]


def _releases_of_others(simulation: Simulation, tasks: Mapping[str, Counters]) -> bool:
    """Tell whether the releases of some task found fewer or more marks than releases found marks of the task."""
    by_name = {task.name: task for task in simulation.scenario.task}
    for name, counters in tasks.items():
        owner = by_name[by_name[name].share or name]
        frames = counters["releases"] << (owner.order or 0)
        found = frames - counters["releases_without_mark"]
        if found != counters["longterm_records"] + counters["below_threshold"]:
            return True
    return False


def _why_none(simulation: Simulation, sums: Counters) -> str:
    if not sums["pins"]:
        return "no tracked call pinned a page" if sums["untracked"] else "no page was pinned"
    if not sums["releases"]:
        return "no pin was released by put_user_page or unpin_user_page"
    if sums["below_threshold"]:
        # Not "no pin lasted longer": a longer pin may have lost its mark to a later one.
        return f"no mark was older than {simulation.threshold} us when its page was released"
    return "no release found a mark"
