"""A scenario played against page_pinner: all of pinnerfs without a mount."""

from pinnerfs.simulation.profiles import generation, memory_management
from pinnerfs.simulation.simulation import Observer, Simulation

__all__ = ["Observer", "Simulation", "generation", "memory_management"]
