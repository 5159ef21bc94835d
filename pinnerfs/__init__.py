"""pinnerfs: a fake debugfs with page_pinner, played from a scenario.

For tests in Python, without a mount:

    simulation = pinnerfs.Simulation(pinnerfs.load("camera-stall"), seed=1)
    simulation.advance("60s")
    print(simulation.longterm_pinner())
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pinnerfs.errors import PinnerfsError
    from pinnerfs.kernel.page_pinner.records import Record
    from pinnerfs.scenario.gallery import gallery, load, parse
    from pinnerfs.scenario.limits import Limits
    from pinnerfs.scenario.schema import Scenario
    from pinnerfs.simulation import Simulation

__all__ = ["Limits", "PinnerfsError", "Record", "Scenario", "Simulation", "gallery", "load", "parse"]

__version__ = "0.1.0"

_HOMES = {
    "Limits": "pinnerfs.scenario.limits",
    "PinnerfsError": "pinnerfs.errors",
    "Record": "pinnerfs.kernel.page_pinner.records",
    "Scenario": "pinnerfs.scenario.schema",
    "Simulation": "pinnerfs.simulation",
    "gallery": "pinnerfs.scenario.gallery",
    "load": "pinnerfs.scenario.gallery",
    "parse": "pinnerfs.scenario.gallery",
}

if not TYPE_CHECKING:  # a type checker shall still know a wrong name

    def __getattr__(name: str) -> object:
        """Imported when first asked for: every run of pytest imports this package for its plugin, most for no more."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(_HOMES[name]), name)
