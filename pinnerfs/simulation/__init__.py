"""A scenario played against the accounting, on virtual time. The kernels' names are known without numpy."""

from __future__ import annotations

from pinnerfs.lazy import importer

# As typing.TYPE_CHECKING for type checkers. Importing typing takes time.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from pinnerfs.simulation.profiles import generation, memory_management, need_threshold
    from pinnerfs.simulation.simulation import Observer, Simulation

__all__ = ["Observer", "Simulation", "generation", "memory_management", "need_threshold"]

_MODULES = {
    "Observer": "pinnerfs.simulation.simulation",
    "Simulation": "pinnerfs.simulation.simulation",
    "generation": "pinnerfs.simulation.profiles",
    "memory_management": "pinnerfs.simulation.profiles",
    "need_threshold": "pinnerfs.simulation.profiles",
}

if not TYPE_CHECKING:  # so that a type checker reports a wrong name
    __getattr__ = importer(__name__, _MODULES)
