"""Replay every recorded case on a real mount."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from tests.oracle.acf import needs_failure, play_story
from tests.oracle.calls import UnknownCall
from tests.oracle.cases import Case, for_introduced, load_all
from tests.oracle.caveats import judge
from tests.oracle.cma import is_cma
from tests.oracle.comparison import Comparison
from tests.oracle.custom_scenarios import play
from tests.oracle.replay import SandboxPool, compare_calls, replay_calls, replay_shell, set_up
from tests.oracle.sandbox import Sandbox, why_no_mount
from tests.oracle.scene import is_scene
from tests.oracle.setups import (
    applies_to,
    has_custom_scenario,
    prepare,
    why_not_replayable,
    with_implied_pins,
)
from tests.oracle.shells import missing_tools

pytestmark = pytest.mark.mount


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each case of a recorded kernel, and those that also apply to `introduced`."""
    if "case" not in metafunc.fixturenames:
        return
    recorded = load_all(metafunc.config.getoption("--oracle", default=None))
    derived = [for_introduced(case) for case in recorded if not case.problem]
    cases = [case for case in [*recorded, *derived] if case is not None and (case.problem or applies_to(case))]
    cases = [case for case in cases if not is_scene(case) or is_cma(case)]  # those are in test_scenes
    params = [
        pytest.param(
            case if case.problem else with_implied_pins(case),
            id=f"{case.generation}-{'extra-' if case.extra else ''}{case.name}",
        )
        for case in cases
    ]
    metafunc.parametrize("case", params)


@pytest.fixture(scope="session")
def no_mount_reason(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """Return why this machine cannot mount, or None if it can."""
    return why_no_mount(tmp_path_factory.mktemp("trial"))


def _fail_or_skip(reason: str) -> None:
    if os.environ.get("PINNERFS_REQUIRE_FUSE"):
        pytest.fail(reason)
    pytest.skip(reason)


def _answers(sandbox: Sandbox, case: Case, leftovers: dict[str, str]) -> list[Comparison]:
    if case.shell is not None:
        return replay_shell(sandbox, case, leftovers)
    try:
        return replay_calls(sandbox, case)
    except UnknownCall as unknown:
        pytest.skip(f"unsupported call: {case.name}, {unknown}")


def test_a_case_is_answered_as_recorded(
    case: Case,
    sandboxes: SandboxPool,
    no_mount_reason: str | None,
    record_property: Callable[[str, object], None],
) -> None:
    """The mount answers like the recorded kernel, or a caveat covers the difference."""
    record_property("kernel", case.generation)
    if (reason := why_not_replayable(case)) is not None:
        pytest.skip(f"{reason}: {case.name}")
    if no_mount_reason is not None:
        _fail_or_skip(f"this machine cannot mount: {no_mount_reason}")
    if missing := missing_tools(case):
        _fail_or_skip(f"needs {', '.join(missing)}: {case.name}")
    if needs_failure(case):
        _judge(case, play_story(case, sandboxes.alone, lambda sandbox, case: replay_shell(sandbox, case, {})))
        return
    if has_custom_scenario(case):
        _judge(case, compare_calls(case, play(case, sandboxes.alone)))
        return
    _judge(case, _replay(sandboxes.get(case), case))


def _replay(sandbox: Sandbox, case: Case) -> list[Comparison]:
    try:
        set_up(sandbox, case)
        leftovers = prepare(sandbox, case)
    except OSError as error:
        pytest.skip(f"setup failed: {case.name}, {error.strerror}")
    answers = _answers(sandbox, case, leftovers)
    assert "Traceback" not in sandbox.log() and "ERROR" not in sandbox.log(), sandbox.log()
    return answers


def _judge(case: Case, answers: list[Comparison]) -> None:
    wrong, used = judge(case.name, answers)
    assert not wrong, "\n".join(wrong)
    if used:
        pytest.xfail("; ".join(dict.fromkeys(caveat.what for caveat in used)))
