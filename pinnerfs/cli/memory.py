"""The error of a simulation that needs more memory than this process can get."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.schema import Scenario

__all__ = ["memory_for"]


@contextmanager
def memory_for(scenario: Scenario) -> Iterator[None]:
    """Raise PinnerfsError that names the scenario and its page frames if the block runs out of memory."""
    try:
        yield
    except (MemoryError, OSError) as error:
        if isinstance(error, OSError) and error.errno != errno.ENOMEM:
            raise
        raise PinnerfsError(
            f"cannot allocate memory to play {scenario.name} with its {scenario.memory.frames} page frames (memory "
            f"size = {scenario.memory.size}); wanted a smaller size, or a higher limit on this process (ulimit -v)"
        ) from None
