"""When an alloc asks for pages: phases, arrivals, and what `gap` waits for."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnerfs.scenario.gallery import parse
from pinnerfs.scenario.limits import Limits
from pinnerfs.scenario.schema import Scenario
from pinnerfs.workload.alloctimes import AllocTimes
from pinnerfs.workload.tasks import FOREVER
from tests.workload.stories import alloc, source, task

MS, SECOND = 1000, 10**6

# What becomes of a request at a moment with a hold: the moment at which its end is known, and its end.
Outcome = Callable[[int, int | None], tuple[int, int]]


def got(moment: int, hold: int | None) -> tuple[int, int]:
    """Succeed at once."""
    return moment, moment + (hold or 0)


def failed(moment: int, hold: int | None) -> tuple[int, int]:
    """Fail after half a second of retries."""
    return moment + 500 * MS, moment + 500 * MS


def scenario(*phases: str, **keys: object) -> Scenario:
    """Return a scenario whose only alloc has these phases."""
    return parse(source(alloc("a", *phases, **keys), top="task = []"), limits=Limits(rate=1 << 40))


def requests(
    *phases: str, outcome: Outcome = got, until: int = FOREVER, most: int = 100, seed: int = 0, **keys: object
) -> list[tuple[int, int | None]]:
    """Return the first requests of an alloc with these phases, as (moment, hold)."""
    times = AllocTimes(scenario(*phases, **keys).alloc[0], seed, until)
    found: list[tuple[int, int | None]] = []
    waiting: list[tuple[int, int, int]] = []  # known at, asked at, end
    while len(found) < most:
        known = min(waiting, default=(FOREVER, 0, 0))
        if known[0] == times.next_event == FOREVER:
            break
        if known[0] <= times.next_event:
            waiting.remove(known)
            times.end(*known[1:])
            continue
        moment = times.next_event
        request = times.take()
        if request is not None:
            assert request.moment == moment
            found.append((moment, request.hold))
            known_at, end = outcome(*request)
            waiting.append((known_at, moment, end))
    return found


def moments(
    *phases: str, outcome: Outcome = got, until: int = FOREVER, most: int = 100, start: str = "0s"
) -> list[int]:
    """Return the moments of the first requests."""
    return [moment for moment, _ in requests(*phases, outcome=outcome, until=until, most=most, start=start)]


def test_every_is_a_fixed_grid() -> None:
    """`every` does not wait for the allocations."""
    phase = 'for = "1min", every = "300ms", hold = "5s"'
    assert requests(phase, outcome=failed, until=SECOND) == [(300 * MS * n, 5 * SECOND) for n in range(4)]


def test_the_first_request_comes_at_start() -> None:
    """`start` is when the first phase begins."""
    assert moments('repeat = 2, every = "1s"', start="7s", until=10 * SECOND) == [7 * SECOND, 8 * SECOND, 9 * SECOND]


@pytest.mark.parametrize(
    ("outcome", "hold", "step"),
    [(got, ', hold = "3s"', 4 * SECOND), (got, "", SECOND), (failed, ', hold = "3s"', 1500 * MS)],
)
def test_gap_counts_from_the_end_of_the_last_request(outcome: Outcome, hold: str, step: int) -> None:
    """It ends by its release; by its success, if it is never released; or by its failure, retries included."""
    found = moments(f'for = "1h", gap = "1s"{hold}', outcome=outcome, until=20 * SECOND)
    assert found == list(range(0, 20 * SECOND, step))


def test_a_phase_ends_while_a_request_is_in_progress() -> None:
    """`for` does not wait for the end of a request, but the next `gap` does."""
    phases = ('for = "1s", gap = "1s", hold = "5s"', 'for = "1s", every = "400ms", hold = "1s"')
    found = moments(*phases, until=8 * SECOND)
    odd = [1000, 1400, 1800, 3000, 3400, 3800, 5000, 5400, 5800]
    assert [moment // MS for moment in found] == [0, *odd, 6000, 7000, 7400, 7800]


def test_a_phase_of_repeat_and_gap_ends_with_its_last_request() -> None:
    """The phase behind it begins when the last pages are released."""
    phases = ('repeat = 2, gap = "1s", hold = "2s"', 'repeat = 1, every = "10s"')
    assert moments(*phases, until=30 * SECOND)[:4] == [0, 3 * SECOND, 5 * SECOND, 15 * SECOND]


def test_a_request_that_never_ends_ends_the_alloc() -> None:
    """If a `gap` waits for a request whose end never comes, no request follows."""
    times = AllocTimes(scenario('repeat = 1, gap = "1s", hold = "1s"').alloc[0], 0, FOREVER)
    assert times.take() == (0, SECOND)
    assert times.next_event == FOREVER


def test_rate_has_its_mean() -> None:
    """A rate of 100/s makes about 100 requests a second, at random."""
    found = moments('for = "1h", rate = "100/s", hold = "1ms"', until=10**8, most=20_000)
    assert 9_000 < len(found) < 11_000
    assert len({later - earlier for earlier, later in pairwise(found)}) > 1000


def test_a_long_rest_is_walked_through_in_steps() -> None:
    """Phases without a request do not keep one call busy: each call does a bounded number of them."""
    times = AllocTimes(scenario('for = "1s", rate = "0.001/h", hold = "1s"').alloc[0], 0, FOREVER)
    reached = [times.next_event]
    while len(reached) < 100:
        assert times.take() is None
        reached.append(times.next_event)
    assert reached == sorted(set(reached)) and max(reached) < 100 * 20 * SECOND


def test_draws_depend_on_the_seed_and_the_name_alone() -> None:
    """Another task or alloc does not change an alloc's draws, and neither does a task of the same name."""
    phase = 'for = "1min", gap = { dist = "exponential", mean = "1s" }, hold = { dist = "exponential", mean = "1s" }'
    alone = requests(phase, seed=3)
    others = source(alloc("b", phase), task("a", 'for = "1s", every = "10ms", hold = "1ms"'), alloc("a", phase), top="")
    times = AllocTimes(parse(others).alloc[1], 3, FOREVER)
    found: list[tuple[int, int | None]] = []
    while len(found) < len(alone):
        moment, request = times.next_event, times.take()
        if request is not None:
            found.append((moment, request.hold))
            times.end(moment, got(*request)[1])
    assert found == alone
    assert requests(phase, seed=4) != alone


PHASES = st.one_of(
    st.just('for = "70us"'),
    st.builds(
        "{}, {}{}".format,
        st.sampled_from(["repeat = 1", "repeat = 7", 'for = "900us"', 'for = { dist = "exponential", mean = "1ms" }']),
        st.sampled_from(
            ['every = "300us"', 'gap = "0us"', 'gap = { dist = "exponential", mean = "1ms" }', 'rate = "5/ms"']
        ),
        st.sampled_from(["", ', hold = "0us"', ', hold = { dist = "uniform", min = "0us", max = "500us" }']),
    ),
)


@settings(max_examples=60, deadline=None)
@given(st.lists(PHASES, min_size=1, max_size=4), st.integers(0, 3), st.sampled_from([got, failed]))
def test_requests_come_in_order(phases: list[str], seed: int, outcome: Outcome) -> None:
    """Whatever the phases, requests are in order of time, and none is made at the scenario's end or later."""
    if all("every" not in phase and "gap" not in phase and "rate" not in phase for phase in phases):
        phases = [*phases, 'repeat = 1, every = "1ms"']
    found = requests(*phases, outcome=outcome, until=20 * MS, most=2000, seed=seed)
    begins = [moment for moment, _ in found]
    assert begins == sorted(begins) and begins[0] >= 0 and begins[-1] < 20 * MS
