"""A fake debugfs with Android's page_pinner files, driven by a scenario.

Without a mount:

    simulation = pinnerfs.Simulation(pinnerfs.load("camera-stall"), seed=1)
    simulation.advance("60s")
    print(simulation.cat())

With one:

    with pinnerfs.mounted("camera-stall", seed=1) as device:
        device.advance("60s")
        print(device.text())
"""

from __future__ import annotations

from pinnerfs.lazy import importer

# As typing.TYPE_CHECKING for type checkers. Importing typing would take longer than all the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pinnerfs.client import Client
    from pinnerfs.errors import PinnerfsError
    from pinnerfs.kernel.page_pinner.records import Record
    from pinnerfs.mounting import MountedDevice, mounted
    from pinnerfs.replay import Replay, load_capture
    from pinnerfs.scenario.gallery import gallery, load, parse
    from pinnerfs.scenario.limits import Limits
    from pinnerfs.scenario.schema import Scenario
    from pinnerfs.simulation import Simulation

__all__ = [
    "Client",
    "Limits",
    "MountedDevice",
    "PinnerfsError",
    "Record",
    "Replay",
    "Scenario",
    "Simulation",
    "gallery",
    "load",
    "load_capture",
    "mounted",
    "parse",
]

__version__ = "0.1.0"

_MODULES = {
    "Client": "pinnerfs.client",
    "Limits": "pinnerfs.scenario.limits",
    "MountedDevice": "pinnerfs.mounting",
    "PinnerfsError": "pinnerfs.errors",
    "Record": "pinnerfs.kernel.page_pinner.records",
    "Replay": "pinnerfs.replay.replay",
    "Scenario": "pinnerfs.scenario.schema",
    "Simulation": "pinnerfs.simulation",
    "gallery": "pinnerfs.scenario.gallery",
    "load": "pinnerfs.scenario.gallery",
    "load_capture": "pinnerfs.replay.loading",
    "mounted": "pinnerfs.mounting",
    "parse": "pinnerfs.scenario.gallery",
}

if not TYPE_CHECKING:  # so that a type checker reports a wrong name
    __getattr__ = importer(__name__, _MODULES)
