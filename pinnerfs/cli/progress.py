"""A progress bar for simulations that take long."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

import click

from pinnerfs.simulation import Simulation

__all__ = ["advance"]

DELAY = 1.0  # seconds before the bar appears
SHOW_CURSOR = b"\033[?25h\n"


def advance(simulation: Simulation, moment: int) -> None:
    """Advance a simulation to a moment (µs). If that takes long, show a progress bar on a stderr that is a terminal."""
    # stderr is None if its descriptor was closed from the start.
    if sys.stderr is None or not sys.stderr.isatty():
        simulation.advance_to(moment)
        return
    began, start = time.monotonic(), simulation.now
    steps = simulation.steps_to(moment)
    for _ in steps:
        if time.monotonic() - began > DELAY:
            break
    else:
        return
    with (
        _cursor_back_on_interrupt(),
        click.progressbar(length=moment - start, label="running", file=sys.stderr) as bar,
    ):
        bar.update(simulation.now - start)
        done = simulation.now
        for now in steps:
            bar.update(now - done)
            done = now


@contextmanager
def _cursor_back_on_interrupt() -> Iterator[None]:
    """Show the cursor, which the bar hides, before SIGINT ends the process."""
    handler = signal.getsignal(signal.SIGINT)
    if not callable(handler):
        yield  # SIGINT is ignored
        return

    def show_and_exit(number: int, frame: FrameType | None) -> None:
        os.write(2, SHOW_CURSOR)
        handler(number, frame)

    signal.signal(signal.SIGINT, show_and_exit)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)
