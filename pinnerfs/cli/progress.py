"""How a long simulation shows that it goes on."""

from __future__ import annotations

import sys
import time

import click

from pinnerfs.simulation import Simulation

__all__ = ["advance"]

PATIENCE = 1.0  # seconds before a progress bar appears


def advance(simulation: Simulation, moment: int) -> None:
    """Bring the books up to a moment (µs); on a terminal with a progress bar on stderr where that takes long."""
    # It is None where the descriptor was closed from the start.
    if sys.stderr is None or not sys.stderr.isatty():
        simulation.advance_to(moment)
        return
    began, start = time.monotonic(), simulation.now
    steps = simulation.steps_to(moment)
    for _ in steps:
        if time.monotonic() - began > PATIENCE:
            break
    else:
        return
    with click.progressbar(length=moment - start, label="running", file=sys.stderr) as bar:
        bar.update(simulation.now - start)
        done = simulation.now
        for now in steps:
            bar.update(now - done)
            done = now
