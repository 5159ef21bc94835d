"""Live actions: their parsing, their refusals and their events."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.cma.allocator import Allocator
from pinnerfs.kernel.cma.mm import MMS
from pinnerfs.kernel.events import PINS, Event, EventBatch
from pinnerfs.kernel.page_pinner.generations import INTRODUCED
from pinnerfs.kernel.page_pinner.pinner import Pinner
from pinnerfs.kernel.stacks import StackDepot
from pinnerfs.scenario.actions import Action, parse_actions
from pinnerfs.scenario.gallery import parse
from pinnerfs.scenario.limits import LIMITS, Limits
from pinnerfs.simulation import Simulation
from pinnerfs.workload.allocs import Allocs
from pinnerfs.workload.live import Live
from pinnerfs.workload.timeline import Timeline
from tests.kernel.page_pinner.model import Model
from tests.workload.stories import FREE, GET, PIN, PLAIN_PUT, PUT, UNPIN, Row, events, rows, source, task

NEVER_COMES = 'repeat = 1, every = "8000h", hold = "1s"'
# Only 64 frames, so that the scenario's own holds and the live ones meet.
MEMORY = """
[memory]
size = "256KiB"
base_pfn = 96
pageblock_order = 3
region = [
    { name = "normal", size = "128KiB", flags = ["uptodate", "lru"] },
    { name = "cma", size = "64KiB", migratetype = "CMA" },
]
"""
SCENARIO = parse(
    source(
        task("busy", 'for = "8000h", every = "700us", hold = "1ms"', pages=8, pick="scattered"),
        task("quiet", NEVER_COMES, start="8000h", pages=3),
        task("huge", NEVER_COMES, start="8000h", region="cma", order=2, foll="FOLL_PIN"),
        task("guest", NEVER_COMES, start="8000h", share="quiet", release="put_page"),
        task("leak", 'repeat = 1, every = "8000h"', start="8000h", release="never", pick="scattered"),
        task("two words", NEVER_COMES, start="8000h", release="free"),
        task("forgetful", NEVER_COMES, start="8000h", release="{ put_user_page = 3, put_page = 1 }"),
        task("placed", NEVER_COMES, start="8000h", pages=2, pfn=121),
        memory=MEMORY,
    )
)


def new_live() -> Live:
    """Return a Live without any holds."""
    memory, depot = Simulation(SCENARIO).memory, StackDepot()
    allocator = Allocator([], MMS["6.1.192"], Pinner(memory, INTRODUCED), depot)
    allocs = Allocs(SCENARIO, SCENARIO.seed, INTRODUCED, allocator, 0)
    return Live(SCENARIO, SCENARIO.seed, memory, INTRODUCED, depot, LIMITS.pins, allocs)


@pytest.fixture
def live() -> Live:
    return new_live()


def done(live: Live, text: str, now: int = 0) -> list[Row]:
    """Carry out a text and return its immediate events."""
    live.do(text, now)
    return taken(live, now)


def taken(live: Live, until: int, most: int = 1 << 16) -> list[Row]:
    """Return the events up to a moment."""
    found: list[Row] = []
    while len(batch := live.take(until, most)):
        found += rows(batch)
    return found


def test_a_pin_and_its_release(live: Live) -> None:
    """A pin takes the task's number of pages, side by side. With `hold` the release follows by itself."""
    pinned = done(live, "pin task=quiet hold=5us", 10)
    assert [(time, kind) for time, kind, *_ in pinned] == [(10, GET)] * 3
    pages = [pfn for _, _, pfn, _, _ in pinned]
    assert pages == list(range(pages[0], pages[0] + 3)) and (pages[0] - 96) % 3 == 0 and pages[-1] < 128
    assert live.next_event() == 15
    assert taken(live, 14) == []
    assert [(time, kind, pfn) for time, kind, pfn, *_ in taken(live, 15)] == [(15, PUT, pfn) for pfn in pages]
    assert live.next_event() is None


def test_pins_are_those_of_the_task(live: Live) -> None:
    """Flag, region, order and release are those of the scenario's task."""
    (pin,) = done(live, "pin task=huge")
    assert (pin[1], pin[3]) == (PIN, 2) and 128 <= pin[2] < 144 and pin[2] % 4 == 0
    assert done(live, "release task=huge", 7) == [(7, UNPIN, *pin[2:])]
    (freed,) = done(live, "pin task='two words' hold=0s")[1:]
    assert freed[1] == FREE


def test_each_pin_takes_other_pages(live: Live) -> None:
    """Each pin takes the next run of pages, counted for each number of pages separately."""
    first, second = (done(live, "pin task=quiet pages=4")[0][2] for _ in range(2))
    assert second == first + 4 or (first, second) == (124, 96)
    scattered = [pfn for _, _, pfn, _, _ in done(live, "pin task=leak pages=20")]
    assert len(set(scattered)) == 20 and scattered != sorted(scattered)


def test_releases_are_oldest_first(live: Live) -> None:
    """A release begins with the oldest pin and can end within a hold. A hold released early does not end again."""
    pages = [pfn for _, _, pfn, _, _ in done(live, "pin task=quiet hold=9us\npin task=quiet\npin task=huge")]
    assert [pfn for _, _, pfn, _, _ in done(live, "release task=quiet pages=1", 1)] == pages[:1]
    assert [pfn for _, _, pfn, _, _ in done(live, "release task=quiet pages=3", 2)] == pages[1:4]
    assert live.next_event() is None
    assert [pfn for _, _, pfn, _, _ in done(live, "release task=quiet", 3)] == pages[4:6]
    with pytest.raises(ValueError, match="nothing is pinned live for task 'quiet'"):
        live.do("release task=quiet", 3)


def test_the_rest_of_a_hold_ends_in_its_time(live: Live) -> None:
    """The rest of a hold that was released in part is released at its end."""
    pages = [pfn for _, _, pfn, _, _ in done(live, "pin task=quiet hold=9us")]
    done(live, "free task=quiet pages=2", 1)
    assert [(time, pfn) for time, _, pfn, _, _ in taken(live, 9)] == [(9, pages[2])]


def test_given_frames(live: Live) -> None:
    """A task with `pfn` pins from that frame on, for each pin and each number of pages."""
    for pages in (1, 2, 2, 7):
        pinned = done(live, f"pin task=placed pages={pages}")
        assert [pfn for _, _, pfn, _, _ in pinned] == list(range(121, 121 + pages))


def released_by(live: Live, texts: list[str]) -> list[Event]:
    """Carry out texts and return the calls of their releases."""
    return [kind for text in texts for _, kind, *_ in done(live, text) if kind != GET]


def test_a_release_by_weight() -> None:
    """A live pin of a task with several calls draws one by their weights, the same in every run."""
    found = released_by(new_live(), ["pin task=forgetful hold=0s"] * 1000)
    assert len(found) == 1000 and set(found) == {PUT, PLAIN_PUT}
    assert 200 < found.count(PLAIN_PUT) < 300
    assert found == released_by(new_live(), ["pin task=forgetful hold=0s"] * 1000)


def test_the_call_is_drawn_at_the_pin() -> None:
    """The n-th pin has the n-th call: by a `release`, in parts, at the end of its hold, or after one by `by=`."""
    calls = released_by(new_live(), ["pin task=forgetful hold=0s"] * 40)
    live = new_live()
    pins = ["pin task=forgetful pages=2"] * 40
    assert released_by(live, [*pins, *["release task=forgetful pages=1"] * 80]) == [one for one in calls for _ in "ab"]
    live = new_live()
    released_by(live, ["pin task=forgetful\nrelease task=forgetful by=unpin_user_page", "pin task=leak"])
    assert released_by(live, ["pin task=forgetful hold=0s"] * 39) == calls[1:]


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("release task=leak by=put_page", PLAIN_PUT),
        ("release task=leak by=unpin_user_page", UNPIN),
        ("release task=leak by=put_user_page", PUT),
        ("free task=leak", FREE),
    ],
)
def test_another_call(live: Live, text: str, kind: Event) -> None:
    """A release can use another call than the task's own, and pages can be freed."""
    (pin,) = done(live, "pin task=leak")
    assert done(live, text, 4) == [(4, kind, *pin[2:])]


def test_sharing(live: Live) -> None:
    """A `share` task pins the pages that are left of the owner's latest live hold."""
    done(live, "pin task=quiet")
    owner = [pfn for _, _, pfn, _, _ in done(live, "pin task=quiet pages=5\nrelease task=quiet pages=4")][:5]
    guest = done(live, "pin task=guest hold=1us")
    assert [(kind, pfn) for _, kind, pfn, _, _ in guest] == [(GET, pfn) for pfn in owner[1:]]
    assert {kind for _, kind, *_ in taken(live, 1)} == {PLAIN_PUT}


def test_ties(live: Live) -> None:
    """Holds that end together are released in the order of their pins. A hold of 0 ends before the next action."""
    found = done(live, "pin task=quiet pages=1 hold=5us\npin task=leak\npin task=huge hold=5us")
    assert [kind for _, kind, *_ in found] == [GET, GET, PIN]
    assert [kind for _, kind, *_ in taken(live, 5)] == [PUT, UNPIN]
    found = done(live, "pin task=quiet pages=1 hold=0us\npin task=huge", 5)
    assert [kind for _, kind, *_ in found] == [GET, PUT, PIN]


def test_take_is_bounded(live: Live) -> None:
    """take() returns at most the given number of frames, or a single page."""
    live.do("pin task=huge pages=3 hold=1us", 0)
    assert [len(live.take(0, 8)) for _ in range(3)] == [2, 1, 0]
    assert [len(live.take(1, 1)) for _ in range(4)] == [1, 1, 1, 0]


TASKS = "'busy', 'quiet', 'huge', 'guest', 'leak', 'two words', 'forgetful', 'placed'"
REFUSED = {
    "": "no action: wanted one of pin, release, free",
    " \n\n": "no action: wanted one of pin, release, free",
    "pim task=quiet": "line 1: no action 'pim': wanted one of pin, release, free, unmap, alloc; did you mean 'pin'?",
    "pin task=qiet": f"line 1: task = 'qiet' must be one of {TASKS}; did you mean 'quiet'?",
    "pin tsk=quiet": "line 1: pin has 'tsk=quiet': wanted task=..., pages=..., hold=...; did you mean 'task'?",
    "release task=quiet by=unpin_page": "'put_page'; did you mean 'unpin_user_page'?",
    "\npin": f"line 2: pin has no task: wanted task=..., one of {TASKS}",
    "pin task=camera": f"line 1: task = 'camera' must be one of {TASKS}",
    "pin task=two words": "line 1: pin has 'words': wanted task=..., pages=..., hold=...",
    "pin task='quiet": 'line 1: "pin task=\'quiet" has wrong quotes: No closing quotation',
    "pin task=quiet order=2": "line 1: pin has 'order=2': wanted task=..., pages=..., hold=...",
    "free task=quiet by=put_page": "line 1: free has 'by=put_page': wanted task=..., pages=...",
    "pin task=quiet task=huge": "line 1: task is given twice: 'quiet' and 'huge'",
    "pin task=quiet pages=": "line 1: pages = '' must be a number from 1 to 262144",
    "pin task=quiet pages=0": "line 1: pages = '0' must be a number from 1 to 262144",
    "pin task=quiet pages=-1": "line 1: pages = '-1' must be",
    "pin task=quiet pages=٣": "line 1: pages = '٣' must be",
    f"pin task=quiet pages={'9' * 5000}": "must be a number from 1 to 262144",
    "pin task=quiet pages=262145": "line 1: pages = '262145' must be",
    "pin task=quiet pages=33": "line 1: pages = 33 is more than region 'normal' has room for (32)",
    "pin task=huge pages=5": "line 1: pages = 5 is more than region 'cma' has room for (4)",
    "pin task=placed pages=8": "line 1: pages = 8 is more than region 'normal' has room for from PFN 121 on (7)",
    "pin task=quiet hold=5": "line 1: hold = '5' must be a number and a unit (us, ms, s, min, h), such as '300ms'",
    "pin task=leak hold=5s": "line 1: hold goes with a task that releases its pages, and task 'leak' never does",
    "pin task=quiet\npin task=guest pages=3": "line 2: task 'guest' shares the pages of task 'quiet': leave out pages",
    "pin task=guest": "for which nothing is pinned live: wanted a `pin task=quiet` before",
    "release task=quiet": "line 1: nothing is pinned live for task 'quiet': wanted a `pin task=quiet` before",
    "pin task=quiet\nrelease task=quiet pages=4": "line 2: pages = 4 is more than the 3 that are pinned live for",
    "pin task=quiet\nrelease task=quiet by=never": "line 2: by = 'never' must be one of 'put_user_page', ",
    "pin task=forgetful hold=0s\n" * 9 + "pin": "line 10: pin has no task",
    "alloc pages=1": "line 1: alloc has no area: wanted an area, but this scenario has none",
    "alloc task=quiet pages=1": "line 1: alloc has 'task=quiet': wanted area=..., name=..., pages=..., hold=...",
    "release area=x": "line 1: area = 'x': this scenario has no CMA area",
    "release task=quiet area=x": "line 1: release has task=... and area=...: wanted an area, but this scenario has",
    "pin task=leak\nrelease task=leak": "line 2: task 'leak' never releases its pages: wanted by=..., such as",
}


@pytest.mark.parametrize("text", REFUSED)
def test_refusals(live: Live, text: str) -> None:
    """A text with a bad action is refused as a whole. The message names the line, what was wanted and what came."""
    first = "pin task=huge\npin task=quiet\nfree task=quiet\npin task=leak\nfree task=leak\npin task=forgetful hold=0s"
    before = done(live, first)
    with pytest.raises(ValueError) as refused:
        live.do(text, 0)
    assert REFUSED[text] in str(refused.value)
    assert "\n" not in str(refused.value)
    assert live.next_event() is None and taken(live, 10**12) == []
    # A refused text does not use up picks or draws either.
    untouched = new_live()
    assert before == done(untouched, first)
    for more in ("pin task=quiet", "pin task=leak", "pin task=leak pages=7", *["pin task=forgetful hold=0s"] * 20):
        assert done(live, more) == done(untouched, more)


def test_actions_are_parsed() -> None:
    """Times are written as in a scenario, words are quoted as in a shell, and empty lines are skipped but counted."""
    actions = parse_actions("\npin  task='two words' 'hold=1.5 ms'\r\n\n release task=quiet pages=007\n", SCENARIO)
    pins = [one for one in actions if isinstance(one, Action)]
    assert [(one.line, one.verb, one.task.name, one.pages, one.hold, one.by) for one in pins] == [
        (2, "pin", "two words", None, 1500, None),
        (4, "release", "quiet", 7, None, None),
    ]


# For each task: its number of pages, its pin call, its release call.
TASK_CALLS = {"quiet": (3, GET, PUT), "huge": (1, PIN, UNPIN), "guest": (0, GET, PLAIN_PUT), "leak": (1, GET, None)}


@dataclass
class Reference:
    """A plain model of the live actions, one page at a time. It is told which pages were picked."""

    pinned: list[tuple[str, int | None, list[int]]] = field(default_factory=list)  # task, end, pages

    def do(self, now: int, verb: str, name: str, keys: dict[str, Any], picked: Iterator[int]) -> list[tuple[Any, ...]]:
        """Return (time, kind, pfn) of each event. KeyError if the action must be refused."""
        pages, own_pin, own_release = TASK_CALLS[name]
        made: list[tuple[Any, ...]] = []
        if verb == "pin":
            latest = [held for task, _, held in self.pinned if task == "quiet"]
            if ("hold" in keys and own_release is None) or (name == "guest" and ("pages" in keys or not latest)):
                raise KeyError(name)
            count = len(latest[-1]) if name == "guest" else keys.get("pages", pages)
            held = [next(picked, 0) for _ in range(count)]
            if name == "guest":
                held = list(latest[-1])
            self.pinned.append((name, now + keys["hold"] if "hold" in keys else None, held))
            made = [(now, own_pin, pfn) for pfn in held]
        else:
            there = [(held, pfn) for task, _, held in self.pinned if task == name for pfn in held]
            call = FREE if verb == "free" else Event[keys["by"]] if "by" in keys else own_release
            if not there or keys.get("pages", 1) > len(there) or call is None:
                raise KeyError(name)
            for held, pfn in there[: keys.get("pages")]:
                held.remove(pfn)
                made.append((now, call, pfn))
            self.pinned = [one for one in self.pinned if one[2]]
        return made + self.ends(now)

    def ends(self, moment: int) -> list[tuple[Any, ...]]:
        """Return (time, kind, pfn) of the releases up to a moment."""
        over = [one for one in self.pinned if one[1] is not None and one[1] <= moment]
        self.pinned = [one for one in self.pinned if one not in over]
        return [
            (end, TASK_CALLS[name][2], pfn)
            for name, end, held in sorted(over, key=lambda one: one[1] or 0)
            for pfn in held
        ]


# Often the same moments as those of the scenario's own events.
TIMES = st.integers(0, 30).map(lambda tenths: 100 * tenths)


@st.composite
def action(draw: st.DrawFn) -> tuple[str, str, dict[str, Any]]:
    """Draw a verb, a task and keys. Some of them must be refused."""
    verb = draw(st.sampled_from(["pin", "pin", "pin", "release", "free"]))
    keys: dict[str, Any] = {}
    if draw(st.booleans()):
        keys["pages"] = draw(st.integers(1, 4))
    if verb == "pin" and draw(st.booleans()):
        keys["hold"] = draw(TIMES)
    if verb == "release" and draw(st.booleans()):
        keys["by"] = draw(st.sampled_from(["put_page", "put_user_page"]))
    return verb, draw(st.sampled_from(sorted(TASK_CALLS))), keys


def text_of(verb: str, name: str, keys: dict[str, Any]) -> str:
    """Return the text of an action."""
    words = [f"{key}={value}us" if key == "hold" else f"{key}={value}" for key, value in keys.items()]
    return " ".join([verb, f"task={name}", *words])


class Spied(Simulation):
    """A simulation that records the events that reach the accounting."""

    def __init__(self, threshold: int) -> None:
        super().__init__(SCENARIO, threshold=threshold)
        self.rows: list[Row] = []
        apply = self._pinner.apply

        def spy(batch: EventBatch) -> None:
            self.rows += rows(batch)
            apply(batch)

        self._pinner.apply = spy  # type: ignore[method-assign]


@settings(max_examples=200, deadline=None)
@given(
    steps=st.lists(TIMES | st.lists(action(), min_size=1, max_size=3), max_size=12),
    threshold=st.sampled_from([-1, 0, 500, 999, 1000]),
)
def test_live_actions_between_advances_against_the_model(
    steps: list[int | list[tuple[str, str, dict[str, Any]]]], threshold: int
) -> None:
    """At equal times live events follow the scenario's own. Events and records are those of the plain models."""
    simulation, reference = Spied(threshold), Reference()
    simulation.advance(0)
    live: list[tuple[Any, ...]] = []
    for step in steps:
        if isinstance(step, int):
            simulation.advance(step)
            live += reference.ends(simulation.now)
            continue
        seen = len(simulation.rows)
        try:
            simulation.do("\n".join(text_of(*one) for one in step))
            refused = False
        except PinnerfsError:
            refused = True
        picked = iter([pfn for _, kind, pfn, _, _ in simulation.rows[seen:] if kind in PINS])
        before = copy.deepcopy(reference)
        try:
            made = [row for one in step for row in reference.do(simulation.now, *one, picked)]
            assert not refused
            live += made
        except KeyError:
            assert refused
            reference = before
    own = events(Timeline(SCENARIO, 0, simulation.memory, INTRODUCED, StackDepot()), simulation.now)
    merged = sorted([*((time, kind, pfn) for time, kind, pfn, *_ in own), *live], key=lambda row: row[0])
    assert [(time, kind, pfn) for time, kind, pfn, *_ in simulation.rows] == merged
    model = Model(96, 64, list(simulation.memory.regions.values()), INTRODUCED.name, threshold)
    model.apply(simulation.rows)
    assert [(one.ts, one.count, one.pfn, one.flags, one.migratetype) for one in simulation.records()] == [
        (row[0], row[4], row[1], row[2], row[9]) for row in reversed(model.longterm)
    ]
    stats = simulation.stats()
    for name in ("pins", "releases", "longterm_records"):
        assert stats[name] == model.total(name)
    assert (stats["pinned_now"], stats["pinned_now_in_cma"]) == model.pinned()


LARGE = parse(
    source(
        task("buffer", NEVER_COMES, start="8000h", pages=1 << 18),
        memory='[memory]\nsize = "1GiB"\nregion = [{ name = "normal", size = "1GiB" }]\n',
    )
)


def test_more_pages_than_the_limit() -> None:
    """The limit `pins` bounds the pages that are pinned live at once, and those that one text pins."""
    simulation = Simulation(LARGE)
    pin = "pin task=buffer"
    for text, words in (
        ("\n".join([pin] * 5), "line 5: 1310720 pages would be pinned up to here: wanted at most 1048576 in one go"),
        ("\n".join([f"{pin} hold=0us"] * 2000), "line 5: 1310720 pages would be pinned up to here"),
    ):
        with pytest.raises(PinnerfsError, match=words):
            simulation.do(text)
    assert simulation.stats()["pins"] == 0
    simulation.do("\n".join([pin] * 3))
    with pytest.raises(PinnerfsError, match="1310720 pages would be pinned live: wanted at most 1048576"):
        simulation.do(f"{pin}\n{pin}")
    simulation.do(pin)
    assert simulation.stats()["pinned_now"] == 1 << 18
    assert simulation.stats()["pins"] == 4 << 18
    few = Simulation(LARGE, limits=Limits(pins=1))
    with pytest.raises(PinnerfsError, match="line 1: 262144 pages would be pinned up to here: wanted at most 1 "):
        few.do(pin)
    few.do(f"{pin} pages=1")


def test_unmapping_the_same_pages_again_and_again() -> None:
    """A page is unmapped once, so the limit `pins` bounds the pages that one text unmaps, too."""
    simulation = Simulation(LARGE)
    simulation.do("pin task=buffer")
    with pytest.raises(PinnerfsError, match="line 2: pages pinned live for task 'buffer' and not unmapped: 0"):
        simulation.do("\n".join(["unmap task=buffer"] * 3000))
    simulation.do("unmap task=buffer")


def test_too_many_actions_on_many_live_holds() -> None:
    """One text may search 2**20 live holds in all, so that others do not wait for long."""
    simulation = Simulation(SCENARIO)
    task = SCENARIO.task[0].name
    for _ in range(4):
        simulation.do("\n".join([f"pin task={task} pages=1"] * 1024))
    with pytest.raises(
        PinnerfsError, match="line 265: too many actions for 3832 live pins: wanted fewer lines in one go"
    ):
        simulation.do("\n".join([f"release task={task} pages=1"] * 300))
    simulation.do("\n".join([f"release task={task} pages=1"] * 200))


def test_too_many_live_holds() -> None:
    """At most 4096 pins are live at once; after a release there is room again."""
    simulation = Simulation(SCENARIO)
    simulation.do("\n".join(["pin task=leak"] * 4096))
    with pytest.raises(PinnerfsError, match="line 1: 4096 pins are live already: wanted a `release` or `free` before"):
        simulation.do("pin task=huge")
    simulation.do("free task=leak pages=1\npin task=huge")
