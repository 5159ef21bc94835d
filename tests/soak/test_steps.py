"""A search for the scenario with the slowest step: a reader waits for at least one step, and every step is short."""

from __future__ import annotations

import time
from collections.abc import Callable

from hypothesis import HealthCheck, Phase, given, reject, settings, target
from hypothesis import strategies as st

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import parse
from pinnerfs.simulation import Simulation
from tests.workload.stories import source, task

HOUR = 3600 * 10**6  # µs
STEPS = 100
PATIENCE = 3.0  # seconds of processor time for an example
AIM = 0.05  # seconds of processor time for a step
MOST = 2.0  # on a slow machine, too

MEMORY = """
[memory]
size = "16GiB"
region = [{ name = "normal", size = "12GiB" }, { name = "cma", size = "4GiB", migratetype = "CMA" }]
"""
VALUES = ", ".join(f'"{number}us"' for number in range(20_000))
LENGTHS = ["repeat = 1", "repeat = 1000000", 'for = "10ms"', 'for = "1s"', 'for = "8000h"']
WAYS = ["every", "gap", "rate"]
HOLDS = [
    '"0us"',
    '"1ms"',
    '"100ms"',
    '{ dist = "exponential", mean = "100ms" }',
    '{ dist = "choice", values = [VALUES] }',
]
QUIET = [[], ['for = "1ms"'], ['for = "1h"'], ['for = "1ms"'] * 500, ['for = "100us", rate = "1/h", hold = "1us"']]


@st.composite
def tasks(draw: st.DrawFn) -> str:
    """Return a scenario with up to three kinds of tasks, each of them up to 3000 times. Most are within the limits."""
    made: list[str] = []
    for kind in range(draw(st.integers(1, 3))):
        copies, instances = draw(st.sampled_from([(1, 1), (1, 4), (1, 300), (1, 4096), (1, 8000), (100, 1), (3000, 1)]))
        pages = draw(st.sampled_from([1, 1, 16, 4096, 262144])) if copies * instances < 300 else 1
        phases = []
        for _ in range(draw(st.integers(1, 3))):
            wait = max(draw(st.sampled_from([1, 100, 10**5, 10**9])), copies * instances * pages)
            way = draw(st.sampled_from(WAYS))
            arrivals = f'rate = "{HOUR / wait:f}/h"' if way == "rate" else f'{way} = "{wait}us"'
            phases.append(f"{draw(st.sampled_from(LENGTHS))}, {arrivals}, hold = {draw(st.sampled_from(HOLDS))}")
        phases += draw(st.sampled_from(QUIET)) if copies < 3000 else []
        keys: dict[str, object] = {"instances": instances}
        if draw(st.booleans()) and made:
            keys["share"] = "t0-0"
        else:
            keys["region"] = draw(st.sampled_from(["normal", "cma"]))
            keys["pages"] = pages
            keys["pick"] = draw(st.sampled_from(["contiguous", "scattered"]))
            keys["order"] = draw(st.sampled_from([0, 0, 9])) if pages <= 16 else 0
        made += [task(f"t{kind}-{copy}", *phases, **keys) for copy in range(copies)]
    return source(*made, top=draw(st.sampled_from(["", "race = 0.5"])), memory=MEMORY)


def test_the_slowest_step(amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """No step of any scenario that the default limits accept takes seconds; the slowest one is reported."""
    slowest, text, played, long = 0.0, "[[task]]", 0, 0
    end = time.monotonic() + amount(10, 600)

    @settings(
        max_examples=amount(50, 5000),
        phases=[Phase.generate, Phase.target],
        deadline=None,
        database=None,
        derandomize=amount(0, 1) == 0,
        suppress_health_check=list(HealthCheck),
    )
    @given(tasks())
    def search(scenario: str) -> None:
        nonlocal slowest, text, played, long
        if time.monotonic() > end:
            return
        try:
            simulation = Simulation(
                parse(scenario.replace("VALUES", VALUES, 3).replace("VALUES", '"1us"')), threshold=0
            )
        except PinnerfsError:
            reject()  # it is over a limit
        played += 1
        longest, begin = 0.0, time.thread_time()
        before = begin
        for step, _ in enumerate(simulation.steps_to(HOUR)):
            now = time.thread_time()
            longest = max(longest, now - before)
            long += now - before > AIM
            before = now
            if step == STEPS or now - begin > PATIENCE:
                break
        target(longest)
        if longest > slowest:
            slowest, text = longest, scenario
        assert longest < MOST, scenario[:3000]

    search()
    tell(
        f"{played} scenarios, {long} steps longer than {AIM * 1000:.0f} ms; the slowest took {slowest * 1000:.0f} ms "
        f"of processor time, in: {text[text.index('[[task]]') :][:600]!r}"
    )
