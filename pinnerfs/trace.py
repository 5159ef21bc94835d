"""What --verbose and --trace log. Where nobody asks for it, none of this stands in anybody's way."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection, Iterator

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.simulation import Simulation

__all__ = ["LAYERS", "TracedSimulation", "choose"]

LAYERS = ("fuse", "engine", "scenario")

_loggers = {layer: logging.getLogger(f"pinnerfs.trace.{layer}") for layer in LAYERS}


def choose(verbose: bool, layers: Collection[str]) -> None:
    """Say what is to be logged beside warnings and errors: what happens to the device, and each step of some layers."""
    logging.getLogger("pinnerfs").setLevel(logging.INFO if verbose else logging.WARNING)
    for layer in layers:
        _loggers[layer].setLevel(logging.DEBUG)


class TracedSimulation(Simulation):
    """A simulation that logs its steps, and what the scenario and live actions bring for each."""

    def steps_to(self, moment: int) -> Iterator[int]:
        steps = super().steps_to(moment)
        before = self.stats()
        while True:
            began = time.perf_counter()
            if (now := next(steps, None)) is None:
                return
            took = time.perf_counter() - began
            after = self.stats()
            new = {name: after[name] - before[name] for name in ("pins", "releases", "longterm_records")}
            words = ", ".join(f"{count} {name}" for name, count in new.items())
            _loggers["engine"].debug("engine: up to %d us: %s, in %.3f ms", now, words, took * 1000)
            yield now
            before = self.stats()

    def _take(self, moment: int) -> EventBatch:
        batch = super()._take(moment)
        if len(batch):
            counts = [(int(batch.pages[batch.kind == kind].sum()), kind.name) for kind in Event]
            words = ", ".join(f"{count} {name}" for count, name in counts if count)
            first, last = batch.time[[0, -1]].tolist()
            _loggers["scenario"].debug(
                "scenario: events from %d to %d us, wanted up to %d: %s", first, last, moment, words
            )
        return batch
