"""The speed at which this machine plays a scenario. Only its clock decides here, not the machine itself."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pinnerfs import Simulation, gallery, load, pace
from pinnerfs.pace import LONGEST_TRIAL, TRIAL, reached_speed
from tests.mount.support import scenario


def _no_trial(*arguments: object) -> None:
    raise AssertionError("a trial")


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Callable[[float], None]:
    """Set how many seconds each step of a trial takes."""
    return lambda step: monkeypatch.setattr(pace, "perf_counter", itertools.count(50.0, step).__next__)


@pytest.mark.parametrize("name", sorted(gallery()))
def test_no_trial_at_speed_1(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """No scenario of the gallery needs a trial at speed 1, so that its mount starts fast."""
    monkeypatch.setattr("pinnerfs.simulation.Simulation", _no_trial)
    assert reached_speed(load(name), 1) is None


def test_a_slow_machine(tmp_path: Path, machine: Callable[[float], None]) -> None:
    """A machine that is too slow gets the speed at which it played its trial."""
    machine(TRIAL)  # so the trial ends after its first step
    reached = reached_speed(load(scenario(tmp_path, every="10us", hold="5us")), 1000)
    assert reached is not None
    assert 0 < reached < 1000
    machine(2 * TRIAL)
    assert reached_speed(load(scenario(tmp_path, every="10us", hold="5us")), 1000) == pytest.approx(reached / 2)


@pytest.mark.parametrize("steps", [3, 1000])
def test_a_late_first_event(
    tmp_path: Path, machine: Callable[[float], None], monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    """While no time is reached a trial goes on, for a second at most. The speed is never 0."""

    def late(self: Simulation, moment: int) -> Iterator[int]:
        yield from itertools.repeat(0, steps)
        yield 100

    monkeypatch.setattr(Simulation, "steps_to", late)
    machine(TRIAL)
    reached = reached_speed(load(scenario(tmp_path, every="10us", hold="5us")), 1000)
    assert reached == pytest.approx(100e-6 / (4 * TRIAL) if steps == 3 else 1e-6 / LONGEST_TRIAL)


def test_a_fast_machine(tmp_path: Path, machine: Callable[[float], None]) -> None:
    """On a machine that is fast enough there is nothing to warn of."""
    machine(0)
    assert reached_speed(load(scenario(tmp_path, every="10us", hold="5us")), 3) is None


def test_a_trial_without_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory for a trial there is no warning."""

    def lacking(*arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr("pinnerfs.simulation.Simulation", lacking)
    assert reached_speed(load(scenario(tmp_path, every="10us", hold="5us")), 1000) is None
