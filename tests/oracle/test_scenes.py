"""Play every recorded scene of CMA: by the plain model, by a Simulation, and some of them through a mount."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import groupby
from pathlib import Path

import pytest

from tests.oracle.cases import Case, load_all
from tests.oracle.caveats import judge
from tests.oracle.comparison import Comparison
from tests.oracle.scene import is_scene
from tests.oracle.scene_model import ModelWorld
from tests.oracle.scene_mount import Plan, cut_for_mount, play_mounted
from tests.oracle.scene_play import Scene, play
from tests.oracle.scene_simulation import SimulationWorld

# The model needs seconds for these: they make thousands of tries, in six rounds.
SLOW = re.compile(r"cmasearch\.shmem\.(off8192\.n8193|every-512)\.pp\.a14")
THROUGH_A_MOUNT = 5  # scenes of each recorded kernel


def recorded_kernel(case: Case) -> str:
    """Return the recorded kernel: the end of the name."""
    match = re.search(r"\.(nopp|pp|pp\.smp|pp\.a14|v3)\Z", case.name)
    return f"cma-6.1 {match[0] if match else 'without a suffix'}"


def _scenes(config: pytest.Config) -> list[Case]:
    cases = load_all(config.getoption("--oracle", default=None))
    return [case for case in cases if is_scene(case)]


def _fits_a_mount(case: Case) -> bool:
    if any("handle_mm_fault" in str(op) for op in case.ops):
        return False  # the recorder's own page faults, which emptied the LRU batch
    try:
        Scene(case, Plan()).play()
    except LookupError:
        return False
    return case.family == "cma2" or any("errno" in op for op in case.ops)


def _some(cases: list[Case]) -> Iterator[Case]:
    """Yield some scenes of each kernel, as far as a mount can answer them."""
    # Without its last close, a scene of this kind is answered as recorded.
    whole = [case for case in sorted(cases, key=recorded_kernel) if ".1.C." not in case.name]
    cut = [replace(case, ops=cut_for_mount(case)) for case in whole]
    for _, group in groupby(filter(_fits_a_mount, cut), key=recorded_kernel):
        fitting = list(group)
        yield from fitting[:: max(1, len(fitting) // THROUGH_A_MOUNT)][:THROUGH_A_MOUNT]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each scene."""
    for name in ("scene", "mounted_scene"):
        if name in metafunc.fixturenames:
            cases = _scenes(metafunc.config)
            chosen = _some(cases) if name == "mounted_scene" else cases
            metafunc.parametrize(
                name, [pytest.param(case, id=f"{'extra-' if case.extra else ''}{case.name}") for case in chosen]
            )


def _judge(case: Case, answers: list[Comparison]) -> None:
    wrong, used = judge(case.name, answers)
    assert not wrong, "\n".join(wrong)
    if used:
        pytest.xfail("; ".join(dict.fromkeys(caveat.what for caveat in used)))


def test_a_scene_is_answered_as_recorded(scene: Case, record_property: Callable[[str, object], None]) -> None:
    """A Simulation answers like the recorded kernel, or a caveat covers the difference."""
    record_property("kernel", recorded_kernel(scene))
    _judge(scene, play(scene, SimulationWorld))


def test_the_plain_model_answers_as_recorded(scene: Case) -> None:
    """The model that the engine is compared with answers like the recorded kernel."""
    if not scene.extra and SLOW.fullmatch(scene.name):
        pytest.skip(f"the model needs some seconds: {scene.name}")
    answers = play(scene, ModelWorld)
    if not all(answer.same for answer in answers):  # some caveats are the engine's alone
        _judge(scene, answers)


@pytest.mark.mount
def test_a_scene_through_a_mount_is_answered_as_recorded(mounted_scene: Case, tmp_path: Path) -> None:
    """A mount answers like the recorded kernel."""
    _judge(mounted_scene, play_mounted(mounted_scene, tmp_path))
