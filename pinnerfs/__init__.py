"""pinnerfs: a fake debugfs with page_pinner, played from a scenario.

For tests in Python, without a mount:

    simulation = pinnerfs.Simulation(pinnerfs.load("camera-stall"), seed=1)
    simulation.advance("60s")
    print(simulation.longterm_pinner())
"""

from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.records import Record
from pinnerfs.simulation import Simulation
from pinnerfs.workload.gallery import gallery, load, parse
from pinnerfs.workload.schema import Scenario

__all__ = ["PinnerfsError", "Record", "Scenario", "Simulation", "gallery", "load", "parse"]

__version__ = "0.1.0"
