"""Every recorded case is replayed on a real mount."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from tests.oracle.calls import Unknown
from tests.oracle.cases import Case, for_generation, load_all
from tests.oracle.caveats import judge
from tests.oracle.forms import Answered
from tests.oracle.manual import completed, of_another_kernel, prepare, state, told
from tests.oracle.replay import Worlds, compare_calls, replay_calls, replay_shell, set_up
from tests.oracle.shells import missing_tools
from tests.oracle.told import answers_of
from tests.oracle.world import World, why_no_mount

pytestmark = pytest.mark.mount


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """One test for each case and generation that can be asked."""
    if "case" not in metafunc.fixturenames:
        return
    further: Path | None = metafunc.config.getoption("--oracle", default=None)
    pairs = [
        pytest.param(asked, kernel, id=f"{kernel}-{'further-' if case.further else ''}{case.name}")
        for kernel in sorted(GENERATIONS)
        for case in load_all(further)
        if (asked := _asked(case, kernel)) is not None
    ]
    metafunc.parametrize(("case", "kernel"), pairs)


def _asked(case: Case, kernel: str) -> Case | None:
    """Return the case as this kernel is asked it; None for one that only another kernel can be asked."""
    if case.problem:
        return case
    asked = for_generation(case, kernel)
    return None if asked is None or of_another_kernel(asked, kernel) else completed(asked)


@pytest.fixture(scope="session")
def mounting(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """Why this machine cannot mount, or None."""
    return why_no_mount(tmp_path_factory.mktemp("trial"))


def _cannot(reason: str) -> None:
    if os.environ.get("PINNERFS_REQUIRE_FUSE"):
        pytest.fail(reason)
    pytest.skip(reason)


def _ask(world: World, case: Case) -> list[Answered]:
    left = prepare(world, case)
    if case.shell is not None:
        return replay_shell(world, case, left)
    try:
        return replay_calls(world, case)
    except Unknown as unknown:
        pytest.skip(f"with a call that is unknown here: {case.name}, {unknown}")


def test_a_case_is_answered_as_recorded(
    case: Case,
    kernel: str,
    worlds: Worlds,
    mounting: str | None,
    record_property: Callable[[str, object], None],
) -> None:
    """The mount answers as the kernel did, or a caveat says why not."""
    record_property("kernel", kernel)
    if (reason := state(case)) is not None:
        pytest.skip(f"{reason}: {case.name}")
    if mounting is not None:
        _cannot(f"this machine cannot mount: {mounting}")
    if missing := missing_tools(case):
        _cannot(f"needs {', '.join(missing)}: {case.name}")
    if told(case):
        _judge(case, compare_calls(case, answers_of(case, kernel, worlds.alone)))
        return
    _judge(case, _replay(worlds.get(case, kernel), case))


def _replay(world: World, case: Case) -> list[Answered]:
    try:
        set_up(world, case)
    except OSError as error:
        pytest.skip(f"with a setup that is refused: {case.name}, {error.strerror}")
    answers = _ask(world, case)
    assert "Traceback" not in world.log() and "ERROR" not in world.log(), world.log()
    return answers


def _judge(case: Case, answers: list[Answered]) -> None:
    wrong, used = judge(case.name, answers)
    assert not wrong, "\n".join(wrong)
    if used:
        pytest.xfail("; ".join(dict.fromkeys(caveat.what for caveat in used)))
