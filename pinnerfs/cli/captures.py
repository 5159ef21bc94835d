"""Captures where commands take a scenario: tell them apart, refuse options of the other kind, and load either."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from pinnerfs.cli.launch import say
from pinnerfs.cli.load_numpy import load_numpy
from pinnerfs.cli.options import TIME
from pinnerfs.errors import in_a_line
from pinnerfs.replay.content import BEGIN, is_capture, stdin_is_capture
from pinnerfs.scenario.content import is_dump
from pinnerfs.scenario.gallery import cannot_read, load
from pinnerfs.scenario.limits import Limits
from pinnerfs.scenario.reading import Input, open_pipe

if TYPE_CHECKING:
    from pinnerfs.replay import Replay
    from pinnerfs.scenario.schema import Scenario

__all__ = ["load_argument", "over_and_loop"]

_OF_SCENARIOS = ("--seed", "--mm", "--cma-retries", "--quiet-migration", "--limit", "--explain")
_OF_CAPTURES = ("--over", "--loop")

over_and_loop = (
    click.option(
        "--over", type=TIME, metavar="TIME", help="Let the records of a capture come within TIME, one by one."
    ),
    click.option("--loop", is_flag=True, help="With --over, let them come again in each further TIME."),
)


def load_argument(
    scenario: str,
    limits: Limits,
    *,
    over: int | None,
    loop: bool,
    threshold: int | None,
    max_wait: float,
    trace: Sequence[str] = (),
) -> Scenario | Replay:
    """Load what a SCENARIO argument names: a scenario, or a capture as its replay at time 0. Print what was left out.

    trace: layers of --trace that a capture does not have. Raise UsageError for options of the running command that are
    for scenarios only, or for captures only; and PinnerfsError if it cannot be loaded, or --kernel does not fit.
    """
    with open_pipe(scenario) as pipe:
        capture = _is_capture(scenario, pipe)
        _refuse_options(scenario, capture, trace)
        if not capture:
            return load(scenario, limits, pipe)
        return _load_replay(scenario, pipe, over, loop, threshold, max_wait)


def _is_capture(scenario: str, pipe: Input | None) -> bool:
    """Tell whether a SCENARIO argument is a capture. A name of the gallery is none."""
    if pipe is None and scenario != "-":
        return "/" in scenario and is_capture(scenario)
    try:
        return stdin_is_capture() if pipe is None else is_dump(pipe.peek(BEGIN))
    except (OSError, ValueError) as error:
        raise cannot_read(scenario, error) from None


def _refuse_options(scenario: str, capture: bool, trace: Sequence[str]) -> None:
    name = "stdin" if scenario == "-" else in_a_line(repr(scenario))
    for option in _given():
        if capture and option in _OF_SCENARIOS:
            reason = "is for scenarios: a capture is replayed as it was recorded"
            raise click.UsageError(f"{option} {reason}; {name} is a capture")
        if capture and option == "--json":
            raise click.UsageError("--json is for scenarios: `pinnerfs report --json` has the data of a capture")
        if not capture and option in _OF_CAPTURES:
            raise click.UsageError(f"{option} is for captures; {name} is a scenario")
    if capture and trace:
        raise click.UsageError(f"--trace {trace[0]} is for scenarios: a replay has only the layer fuse")


def _given() -> list[str]:
    """Return the options that the command line has."""
    context = click.get_current_context()
    return [
        option.opts[0]
        for option in context.command.params
        if option.name and context.get_parameter_source(option.name) is ParameterSource.COMMANDLINE
    ]


def _load_replay(
    path: str, pipe: Input | None, over: int | None, loop: bool, threshold: int | None, max_wait: float
) -> Replay:
    load_numpy()
    from pinnerfs.replay import Replay, load_capture

    kernel = click.get_current_context().params.get("kernel") if "--kernel" in _given() else None
    if loop and over is None:
        raise click.UsageError("--loop needs --over, the time of a round")
    if over == 0:
        raise click.UsageError("--over must be more than 0us")
    recording = load_capture(path, kernel=kernel, max_wait=max_wait, opened=pipe)
    replay = Replay(recording, over=over, loop=loop, threshold=threshold)
    for note in recording.notes:
        say(note)
    return replay
