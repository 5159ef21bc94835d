"""Logs for --verbose and --trace. A layer that is not traced costs nothing.

The layers are fuse (requests and answers), engine (the accounting) and scenario (events).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Collection
from typing import TYPE_CHECKING

from pinnerfs.kernel.calls import Event

if TYPE_CHECKING:
    from pinnerfs.kernel.events import EventBatch

__all__ = ["LAYERS", "SimulationTrace", "choose"]

LAYERS = ("fuse", "engine", "scenario")

_loggers = {layer: logging.getLogger(f"pinnerfs.trace.{layer}") for layer in LAYERS}


def choose(verbose: bool, layers: Collection[str]) -> None:
    """Log what is done to the device if `verbose`, and each step of these layers, beside warnings and errors."""
    logging.getLogger("pinnerfs").setLevel(logging.INFO if verbose else logging.WARNING)
    for layer, logger in _loggers.items():
        logger.setLevel(logging.DEBUG if layer in layers else logging.NOTSET)


class SimulationTrace:
    """An observer of a simulation that logs the events of each step, and what the accounting makes of them."""

    def __init__(self) -> None:
        self._stats: Counter[str] = Counter()
        self._began = 0.0

    def generated(self, batch: EventBatch, until: int) -> None:
        """Log the events, by call."""
        if len(batch):
            counts = [(int(batch.pages[batch.kind == kind].sum()), kind.name) for kind in Event]
            calls = ", ".join(f"{count} {name}" for count, name in counts if count)
            first, last = batch.time[[0, -1]].tolist()
            _loggers["scenario"].debug("scenario: events from %d to %d us, of %d us: %s", first, last, until, calls)
        self._began = time.perf_counter()

    def applied(self, now: int, stats: dict[str, int]) -> None:
        """Log what was counted in this step, and how long the accounting took."""
        took = time.perf_counter() - self._began
        new = ", ".join(
            f"{stats[name] - self._stats[name]} {name}" for name in ("pins", "releases", "longterm_records")
        )
        _loggers["engine"].debug("engine: up to %d us: %s, in %.3f ms", now, new, took * 1000)
        self._stats = Counter(stats)
