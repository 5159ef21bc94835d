"""Captures where commands take a scenario: tell them apart, refuse options of the other kind, and load a replay."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pinnerfs.cli.launch import say
from pinnerfs.cli.load_numpy import load_numpy
from pinnerfs.cli.options import TIME
from pinnerfs.errors import in_a_line
from pinnerfs.replay.content import is_capture

if TYPE_CHECKING:
    from pinnerfs.replay import Replay

__all__ = ["load_replay", "names_capture", "over_and_loop", "refuse_options"]

_OF_SCENARIOS = ("--seed", "--mm", "--cma-retries", "--quiet-migration", "--limit", "--explain")
_OF_CAPTURES = ("--over", "--loop")

over_and_loop = (
    click.option(
        "--over", type=TIME, metavar="TIME", help="Let the records of a capture come within TIME, one by one."
    ),
    click.option("--loop", is_flag=True, help="With --over, let them come again in each further TIME."),
)


def names_capture(scenario: str) -> bool:
    """Tell whether a SCENARIO argument is a capture. A name of the gallery and standard input are none."""
    return "/" in scenario and is_capture(scenario)


def refuse_options(scenario: str, *, capture: bool, trace: Sequence[str] = ()) -> None:
    """Raise UsageError for options of the running command that are for scenarios only, or for captures only.

    trace: layers of --trace that a capture does not have.
    """
    for option in _given():
        if capture and option in _OF_SCENARIOS:
            reason = "is for scenarios: a capture is replayed as it was recorded"
            raise click.UsageError(f"{option} {reason}; {in_a_line(repr(scenario))} is a capture")
        if not capture and option in _OF_CAPTURES:
            raise click.UsageError(f"{option} is for captures; {in_a_line(repr(scenario))} is a scenario")
    if trace:
        raise click.UsageError(f"--trace {trace[0]} is for scenarios: a replay has only the layer fuse")


def _given() -> list[str]:
    """Return the options that the command line has."""
    context = click.get_current_context()
    return [
        option.opts[0]
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]


def load_replay(path: str, *, over: int | None, loop: bool, threshold: int | None) -> Replay:
    """Load a capture and return its replay at time 0. Print what was left out.

    Raise PinnerfsError for a kernel that --kernel names and the capture is not of.
    """
    load_numpy()
    from pinnerfs.replay import Replay, load_capture

    kernel = click.get_current_context().params.get("kernel") if "--kernel" in _given() else None
    recording = load_capture(path, kernel=kernel)
    if loop and over is None:
        raise click.UsageError("--loop needs --over, the time of a round")
    if over == 0:
        raise click.UsageError("--over must be more than 0us")
    replay = Replay(recording, over=over, loop=loop, threshold=threshold)
    for note in recording.notes:
        say(note)
    return replay
