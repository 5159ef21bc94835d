"""Replay every recorded case on a real mount."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from tests.oracle.calls import UnknownCall
from tests.oracle.cases import Case, for_generation, load_all
from tests.oracle.caveats import judge
from tests.oracle.comparison import Comparison
from tests.oracle.custom_scenarios import play
from tests.oracle.replay import SandboxPool, compare_calls, replay_calls, replay_shell, set_up
from tests.oracle.sandbox import Sandbox, why_no_mount
from tests.oracle.setups import (
    has_custom_scenario,
    only_for_another_kernel,
    prepare,
    why_not_replayable,
    with_implied_pins,
)
from tests.oracle.shells import missing_tools

pytestmark = pytest.mark.mount


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make one test for each pair of a case and a generation that it applies to."""
    if "case" not in metafunc.fixturenames:
        return
    extra: Path | None = metafunc.config.getoption("--oracle", default=None)
    pairs = [
        pytest.param(adapted, kernel, id=f"{kernel}-{'extra-' if case.extra else ''}{case.name}")
        for kernel in sorted(GENERATIONS)
        for case in load_all(extra)
        if (adapted := _for_kernel(case, kernel)) is not None
    ]
    metafunc.parametrize(("case", "kernel"), pairs)


def _for_kernel(case: Case, kernel: str) -> Case | None:
    """Return the case for this kernel, or None if it applies only to other kernels."""
    if case.problem:
        return case
    adapted = for_generation(case, kernel)
    return None if adapted is None or only_for_another_kernel(adapted, kernel) else with_implied_pins(adapted)


@pytest.fixture(scope="session")
def no_mount_reason(tmp_path_factory: pytest.TempPathFactory) -> str | None:
    """Return why this machine cannot mount, or None if it can."""
    return why_no_mount(tmp_path_factory.mktemp("trial"))


def _fail_or_skip(reason: str) -> None:
    if os.environ.get("PINNERFS_REQUIRE_FUSE"):
        pytest.fail(reason)
    pytest.skip(reason)


def _answers(sandbox: Sandbox, case: Case) -> list[Comparison]:
    leftovers = prepare(sandbox, case)
    if case.shell is not None:
        return replay_shell(sandbox, case, leftovers)
    try:
        return replay_calls(sandbox, case)
    except UnknownCall as unknown:
        pytest.skip(f"unsupported call: {case.name}, {unknown}")


def test_a_case_is_answered_as_recorded(
    case: Case,
    kernel: str,
    sandboxes: SandboxPool,
    no_mount_reason: str | None,
    record_property: Callable[[str, object], None],
) -> None:
    """The mount answers like the recorded kernel, or a caveat covers the difference."""
    record_property("kernel", kernel)
    if (reason := why_not_replayable(case)) is not None:
        pytest.skip(f"{reason}: {case.name}")
    if no_mount_reason is not None:
        _fail_or_skip(f"this machine cannot mount: {no_mount_reason}")
    if missing := missing_tools(case):
        _fail_or_skip(f"needs {', '.join(missing)}: {case.name}")
    if has_custom_scenario(case):
        _judge(case, compare_calls(case, play(case, kernel, sandboxes.alone)))
        return
    _judge(case, _replay(sandboxes.get(case, kernel), case))


def _replay(sandbox: Sandbox, case: Case) -> list[Comparison]:
    try:
        set_up(sandbox, case)
    except OSError as error:
        pytest.skip(f"setup failed: {case.name}, {error.strerror}")
    answers = _answers(sandbox, case)
    assert "Traceback" not in sandbox.log() and "ERROR" not in sandbox.log(), sandbox.log()
    return answers


def _judge(case: Case, answers: list[Comparison]) -> None:
    wrong, used = judge(case.name, answers)
    assert not wrong, "\n".join(wrong)
    if used:
        pytest.xfail("; ".join(dict.fromkeys(caveat.what for caveat in used)))
