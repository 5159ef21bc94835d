"""Scenarios for tests, built from fragments of TOML, and their events as plain rows."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.pageflags import Migratetype
from pinnerfs.kernel.pages import FrameRange, MemoryMap
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.gallery import parse
from pinnerfs.scenario.limits import Limits
from pinnerfs.scenario.schema import Scenario
from pinnerfs.workload.timeline import Timeline

__all__ = [
    "FREE",
    "GET",
    "PIN",
    "PLAIN_GET",
    "PLAIN_PUT",
    "PUT",
    "UNPIN",
    "Row",
    "alloc",
    "batches",
    "events",
    "rows",
    "source",
    "story",
    "task",
    "timeline",
    "times",
]

# time, kind, pfn, order, handle
Row = tuple[int, Event, int, int, int]

GET, PIN = Event.get_user_pages, Event.pin_user_pages
PUT, UNPIN = Event.put_user_page, Event.unpin_user_page
PLAIN_GET, PLAIN_PUT, FREE = Event.get_page, Event.put_page, Event.free

BASE_PFN = 4096
MEMORY = """
[memory]
size = "64MiB"
base_pfn = 4096
region = [
    { name = "normal", size = "32MiB", flags = ["uptodate", "lru"] },
    { name = "cma", size = "16MiB", migratetype = "CMA", cma = "area" },
]
"""


def task(name: str, *phases: str, **keys: object) -> str:
    """Return a [[task]] with these keys. A phase is the inside of an inline table. `region` is `normal` by default."""
    keys = ({} if "share" in keys else {"region": "normal"}) | keys
    lines = [f"{key} = {value if not isinstance(value, str) else _text(value)}" for key, value in keys.items()]
    tables = ", ".join(f"{{ {phase} }}" for phase in phases)
    stack = [] if "stack" in keys else ['stack = "s"']
    return "\n".join(["[[task]]", f'name = "{name}"', *stack, *lines, f"phase = [{tables}]", ""])


def alloc(name: str, *phases: str, **keys: object) -> str:
    """Return an [[alloc]] with these keys, of one page of `area` by default. A phase is the inside of a table."""
    keys = {"area": "area", "pages": 1} | keys
    return task(name, *phases, **keys, share="").replace("[[task]]", "[[alloc]]").replace('share = ""\n', "")


def _text(value: str) -> str:
    return value if value.startswith("{") else f'"{value}"'


def source(*tasks: str, top: str = "", memory: str = MEMORY, stack: str = 'frames = ["who"]') -> str:
    """Return the text of a scenario with these tasks."""
    head = f'format = 1\nname = "story"\ndescription = "for a test"\n{top}\n'
    return head + memory + f"[stack.s]\n{stack}\n" + "\n".join(tasks)


def story(*tasks: str, top: str = "") -> Scenario:
    """Return a scenario with these tasks, without a limit on pins a second."""
    return parse(source(*tasks, top=top), limits=Limits(rate=1 << 40))


def timeline(scenario: Scenario, seed: int = 0) -> Timeline:
    """Return the timeline of a scenario made by story()."""
    memory = MemoryMap(
        BASE_PFN,
        16384,
        10,
        [
            FrameRange("normal", BASE_PFN, 8192, Migratetype.Movable, 0),
            FrameRange("cma", BASE_PFN + 8192, 4096, Migratetype.CMA, 0),
        ],
    )
    return Timeline(scenario, seed, memory, INTRODUCED, StackDepot())


def rows(batch: EventBatch) -> list[Row]:
    """Return a batch as rows, one for each page."""
    batch = batch.page_by_page()
    columns = (batch.time, batch.kind, batch.pfn, batch.order, batch.handle)
    return [
        (time, Event(kind), pfn, order, handle)
        for time, kind, pfn, order, handle in zip(*(column.tolist() for column in columns), strict=True)
    ]


def batches(line: Timeline, until: int, most: int = 1 << 16) -> Iterator[EventBatch]:
    """Yield the events up to a moment, as `take` returns them."""
    while (due := line.next_event()) is not None and due <= until:
        batch = line.take(until, most)
        if len(batch):
            yield batch


def events(line: Timeline, *moments: int, most: int = 1 << 16) -> list[Row]:
    """Return the events up to the last of these moments, taken up to each moment in turn."""
    found: list[Row] = []
    for moment in moments:
        for batch in batches(line, moment, most):
            found += rows(batch)
    return found


def times(found: Iterable[Row], *kinds: Event) -> list[int]:
    """Return the times of the events of these kinds."""
    return [time for time, kind, *_ in found if kind in kinds]
