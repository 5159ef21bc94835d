"""The device that the tests of its files share."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnerfs import Simulation, load
from pinnerfs.clock import ManualClock
from pinnerfs.debugfs.device import Device
from tests.mount.support import scenario


@pytest.fixture
def device(tmp_path: Path) -> Device:
    """A device with a pin of 400 ms each second, ten seconds after its start."""
    return Device(Simulation(load(scenario(tmp_path))), ManualClock(10_000_000))
