"""Every recorded case is replayed on a real mount."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinnerfs.kernel.generations import GENERATIONS
from tests.oracle.calls import Unknown
from tests.oracle.cases import Case, for_generation, load_all
from tests.oracle.caveats import judge
from tests.oracle.manual import completed, prepare, state, told
from tests.oracle.replay import Worlds, compare_calls, replay_calls, replay_shell, set_up
from tests.oracle.shells import begins_with_sendfile, missing_tools
from tests.oracle.told import answers_of
from tests.oracle.world import World, why_no_mount

pytestmark = pytest.mark.mount


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each case and generation that can be asked."""
    if "case" not in metafunc.fixturenames:
        return
    further: Path | None = metafunc.config.getoption("--oracle", default=None)
    pairs = [
        pytest.param(completed(asked), kernel, id=f"{kernel}-{case.name}")
        for kernel in sorted(GENERATIONS)
        for case in load_all(further)
        if (asked := for_generation(case, kernel)) is not None
    ]
    metafunc.parametrize(("case", "kernel"), pairs)


@pytest.fixture(scope="session")
def mounting() -> str | None:
    """Why this machine cannot mount, or None."""
    return why_no_mount()


def _cannot(reason: str) -> None:
    if os.environ.get("PINNERFS_REQUIRE_FUSE"):
        pytest.fail(reason)
    pytest.skip(reason)


def _differences(world: World, case: Case) -> tuple[list[str], dict[str, str]]:
    """The names of a case's answers, and how those differ that do."""
    left = prepare(world, case)
    if case.shell is not None:
        return ["exit", "stdout", "stderr"], replay_shell(world, case, left)
    try:
        return replay_calls(world, case)
    except Unknown as unknown:
        pytest.skip(f"not replayed: {case.name} has a call that is unknown here: {unknown}")


def test_a_case_is_answered_as_recorded(case: Case, kernel: str, worlds: Worlds, mounting: str | None) -> None:
    """The mount answers as the kernel did, or a caveat says why not."""
    if (reason := state(case, kernel)) is not None:
        pytest.skip(f"{reason}: {case.name}")
    if mounting is not None:
        _cannot(f"this machine cannot mount: {mounting}")
    if missing := missing_tools(case):
        _cannot(f"{case.name} needs {', '.join(missing)}")
    if told(case):
        _judge(case, kernel, *compare_calls(case, answers_of(case, kernel, worlds.alone)))
        return
    world = worlds.get(case, kernel)
    set_up(world, case)
    answers, differing = _differences(world, case)
    assert "Traceback" not in world.log() and "ERROR" not in world.log(), world.log()
    if differing and begins_with_sendfile(case) and judge(case.name, kernel, answers, differing)[0]:
        # What `--sendfile` is for: it must then be as recorded.
        world = worlds.get(case, kernel, sendfile=True)
        set_up(world, case)
        answers, differing = _differences(world, case)
    _judge(case, kernel, answers, differing)


def _judge(case: Case, kernel: str, answers: list[str], differing: dict[str, str]) -> None:
    wrong, used = judge(case.name, kernel, answers, differing)
    assert not wrong, "\n".join(wrong)
    if used:
        pytest.xfail("; ".join(dict.fromkeys(caveat.what for caveat in used)))
