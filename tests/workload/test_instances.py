"""Instances that draw their holds together."""

from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from pinnerfs.simulation.setup import memory_map
from pinnerfs.workload.instances import Instances
from pinnerfs.workload.tasks import FOREVER
from pinnerfs.workload.work import Work
from tests.workload.stories import story, task
from tests.workload.test_arrivals import PAUSE, PHASES

INSTANCES = 5
BLOCKS = 12

KEYS: list[dict[str, object]] = [
    {},
    {"pages": 4},
    {"pick": "scattered", "release": "{ put_user_page = 3, put_page = 1 }"},
    {"pages": 2, "pick": "scattered", "unmap": '{ dist = "uniform", min = "1us", max = "2ms" }'},
    {"start": '{ dist = "uniform", min = "0us", max = "1ms" }'},
]


def made(phases: list[str], keys: dict[str, object], stop: int) -> Instances:
    """Return the instances of a task with these phases."""
    scenario = story(task("a", *phases, instances=INSTANCES, **keys))
    return Instances(scenario.task[0], 5, stop, memory_map(scenario.memory), Work())


def drawn(instances: Instances, some: list[int]) -> list[tuple[object, ...]]:
    """Return the holds that some of the instances draw together, each as the values of its row in Holds."""
    instances.draw([instance for instance in some if instances.horizon[instance] < FOREVER])
    if not instances.drawn:
        return []
    return list(zip(*(map(str, column.tolist()) for column in instances.take().columns()), strict=True))


@settings(max_examples=60, deadline=None)
@given(
    st.lists(PHASES, min_size=1, max_size=3),
    st.sampled_from(KEYS),
    st.sampled_from([20_000, FOREVER]),
    st.permutations(range(INSTANCES)),
)
def test_instances_draw_the_same_together_and_alone(
    phases: list[str], keys: dict[str, object], stop: int, order: list[int]
) -> None:
    """An instance has the same holds, whichever other ones draw with it."""
    assume(not all(phase == PAUSE for phase in phases))
    together, alone = made(phases, keys, stop), made(phases, keys, stop)
    found = [hold for _ in range(BLOCKS) for hold in drawn(together, order)]
    wanted = [hold for instance in range(INSTANCES) for _ in range(BLOCKS) for hold in drawn(alone, [instance])]
    assert sorted(found, key=lambda hold: str(hold[3])) == wanted
    assert np.array_equal(together.horizon, alone.horizon)


def test_nothing_is_kept_of_blocks_without_holds() -> None:
    """Phases without an arrival leave nothing behind, however many there are."""
    instances = made(['for = "1us", rate = "1/h", hold = "1us"'], {}, FOREVER)
    for _ in range(100):
        instances.draw(range(INSTANCES))
    assert instances.drawn == len(instances._drawn) == 0
