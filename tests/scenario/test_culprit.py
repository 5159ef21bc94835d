"""The key `culprit` of a scenario."""

from __future__ import annotations

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import parse
from tests.workload.stories import source, task

TASK = task("app", 'for = "1s", every = "10ms", hold = "1ms"')


def with_culprit(name: str) -> str:
    """Return a scenario with this culprit."""
    return f'culprit = "{name}"\n{source(TASK)}'


@pytest.mark.parametrize("name", ["app", "none"])
def test_a_task_or_none(name: str) -> None:
    """The culprit is a task of the scenario, or "none"."""
    assert parse(with_culprit(name)).culprit == name
    assert parse(source(TASK)).culprit is None


def test_an_unknown_task() -> None:
    """A culprit that is no task is refused at its line."""
    with pytest.raises(PinnerfsError, match=r"scenario:1: culprit = 'ap' must be one of 'app', 'none'; did you mean"):
        parse(with_culprit("ap"))
