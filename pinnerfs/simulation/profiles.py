"""The kernels and memory managements by their names. Does not import numpy."""

from __future__ import annotations

from pinnerfs.errors import BAD_INPUT, PinnerfsError
from pinnerfs.kernel.cma.mm import MMS, Mm
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, Generation
from pinnerfs.threshold import no_threshold

__all__ = ["generation", "memory_management", "need_threshold"]


def generation(name: str) -> Generation:
    """Return a kernel's profile. Raise PinnerfsError with the known names for an unknown one."""
    if name not in GENERATIONS:
        raise PinnerfsError(f"no kernel {name!r}: wanted one of {', '.join(GENERATIONS)}")
    return GENERATIONS[name]


def memory_management(name: str) -> Mm:
    """Return a kernel's memory management. Raise PinnerfsError with the known names for an unknown one."""
    if name not in MMS:
        raise PinnerfsError(f"no mm {name!r}: wanted one of {', '.join(MMS)}", BAD_INPUT)
    return MMS[name]


def need_threshold(generation: Generation) -> None:
    """Raise PinnerfsError for a kernel that has no threshold."""
    if not generation.has_threshold:
        raise PinnerfsError(no_threshold(f"kernel {generation.name}"), BAD_INPUT)
