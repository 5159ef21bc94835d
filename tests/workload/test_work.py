"""The work of each step is bounded, whatever the scenario."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable

from hypothesis import given, reject, settings
from hypothesis import strategies as st

from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.events import EventBatch
from pinnerfs.scenario.gallery import parse
from pinnerfs.scenario.schema import Scenario
from pinnerfs.workload.timeline import MOST_EVENTS
from pinnerfs.workload.work import PHASE, STEP
from tests.workload.stories import source, task, timeline

SECOND = 10**6
HOUR = 3600 * SECOND
STEPS = 12
FRAMES = 1 << 15
MOST_CALLS = 100_000  # of functions of Python and of C; such steps have taken 31,000

LENGTHS = ["repeat = 1", "repeat = 1000000", 'for = "100us"', 'for = "1s"', 'for = "8000h"']
WAYS = [
    'every = "1us"',
    'every = "1h"',
    'gap = "0us"',
    'gap = "1h"',
    'rate = "1/us"',
    'rate = "0.31/s"',
    'rate = "1/h"',
]
CHOICE = '{ dist = "choice", values = ["0us", "9us", "1h"], weights = [6, 3, 1] }'
HOLDS = ['"0us"', '"5us"', '"10s"', '"8000h"', '{ dist = "exponential", mean = "1ms" }', CHOICE]


@st.composite
def tasks(draw: st.DrawFn) -> list[str]:
    """Return up to four tasks. The first has pages of its own, and others may share them."""
    made: list[str] = []
    for number in range(draw(st.integers(1, 4))):
        phases = []
        for _ in range(draw(st.integers(1, 3))):
            length, way, hold = (draw(st.sampled_from(choices)) for choices in (LENGTHS, WAYS, HOLDS))
            phases.append(f"{length}, {way}, hold = {hold}")
        if draw(st.booleans()):
            phases.append(draw(st.sampled_from(['for = "1us"', 'for = "1h"'])))
        keys: dict[str, object] = {"instances": draw(st.sampled_from([1, 1, 3, 500]))}
        if draw(st.booleans()) and made:
            keys["share"] = "t0"
        else:
            keys["pages"] = draw(st.sampled_from([1, 4, 512]))
            keys["pick"] = draw(st.sampled_from(["contiguous", "scattered"]))
        made.append(task(f"t{number}", *phases, **keys))
    return made


def calls_of(step: Callable[[], object]) -> int:
    """Return the number of function calls that a step makes."""
    calls = 0

    def count(frame: object, event: str, argument: object) -> None:
        nonlocal calls
        calls += event in ("call", "c_call")

    gc.disable()  # a collection would close generators that other tests have left, and count as calls
    sys.setprofile(count)
    try:
        step()
    finally:
        sys.setprofile(None)
        gc.enable()
    return calls


def rows_at_once(scenario: Scenario) -> int:
    """Return the rows that a window of 1 us may need: a pin and a release of each page of every instance."""
    pages = {task.name: task.pages or 1 for task in scenario.task}
    return sum(2 * task.instances * pages[task.share or task.name] for task in scenario.task)


@settings(max_examples=30, deadline=None)
@given(tasks(), st.sampled_from(["", "race = 0.5"]), st.sampled_from(["", 'duration = "10s"']))
def test_each_step_is_bounded(made: list[str], race: str, end: str) -> None:
    """No step counts much more work than STEP, makes more calls than that work pays for, or returns more frames."""
    try:
        scenario = parse(source(*made, top=f"{race}\n{end}"))
    except PinnerfsError:
        reject()  # it is over a limit
    line = timeline(scenario)
    most = STEP + MOST_EVENTS + 2 * rows_at_once(scenario)
    taken: list[EventBatch] = []
    for _ in range(STEPS):
        before = line.work.done
        calls = calls_of(lambda: taken.append(line.take(HOUR, FRAMES)))
        assert line.work.done - before <= most
        assert calls < MOST_CALLS
        assert taken.pop().frames().sum() <= FRAMES
        due = line.next_event()
        if due is None or due > HOUR:
            break


def test_draws_from_a_large_choice_count_as_more_work() -> None:
    """A draw from 16384 values is the work of two more pins."""
    work = []
    for values in 1, 16384:
        hold = '{ dist = "choice", values = [' + '"1us", ' * values + "] }"
        line = timeline(parse(source(task("a", f'for = "1h", every = "1us", hold = {hold}'), top='duration = "1ms"')))
        while line.next_event() is not None:
            line.take(SECOND, FRAMES)
        work.append(line.work.done)
    assert work[1] - work[0] == 2 * 1000


def test_phases_without_an_arrival_take_no_more_steps_than_work() -> None:
    """Ten seconds of phases of 100 us take 100,000 phases, in steps that each reach a later time."""
    line = timeline(parse(source(task("a", 'for = "100us", rate = "0.31/s", hold = "5us"'))))
    reached, dues = line.work.done, [0]
    while (due := line.next_event()) is not None and due <= 10 * SECOND:
        dues.append(due)
        line.take(10 * SECOND, FRAMES)
    assert dues == sorted(dues)
    assert 100_000 * PHASE <= line.work.done - reached < 120_000 * PHASE + len(dues) * STEP
    assert len(dues) > 100_000 * PHASE // (STEP + MOST_EVENTS)


def test_many_fast_instances_leave_windows_as_short_as_one_does() -> None:
    """Windows that end early, because their generation is much work, make later ones no longer."""
    sizes = []
    for instances in 1, 16:
        line = timeline(
            parse(source(task("a", f'for = "1h", rate = "{48_000 // instances}/s", hold = "1ms"', instances=instances)))
        )
        rows = []
        while (line.next_event() or 0) < 20 * SECOND:
            rows.append(len(line.take(HOUR, sys.maxsize)))
        sizes.append(max(rows))
    assert sizes[1] <= sizes[0] * 1.1
