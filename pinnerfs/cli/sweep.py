"""pinnerfs sweep."""

from __future__ import annotations

import hashlib
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from types import FrameType

import click

from pinnerfs.cli import INTERRUPTED, options
from pinnerfs.cli.files import refuse_empty, wait_for_file, wait_for_scenario
from pinnerfs.cli.kernel import kernel
from pinnerfs.cli.launch import say
from pinnerfs.cli.load_numpy import load_numpy
from pinnerfs.cli.memory import memory_for
from pinnerfs.cli.mm import MmOptions, mm
from pinnerfs.errors import in_a_line
from pinnerfs.scenario.gallery import read_source
from pinnerfs.scenario.limits import Limits
from pinnerfs.scenario.settings import Setting, parse_setting
from pinnerfs.sweep.plan import BACKENDS, plan
from pinnerfs.sweep.points import parse_thresholds
from pinnerfs.words import count_of

__all__ = ["sweep"]


def _thresholds(context: click.Context, option: click.Parameter, value: str | None) -> tuple[int, ...] | None:
    return None if value is None else options.accepted(parse_thresholds, value, context, option)


def _settings(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[Setting, ...]:
    settings = tuple(options.accepted(parse_setting, value, context, option) for value in values)
    for place, setting in enumerate(settings):
        if any(setting.path == other.path for other in settings[:place]):
            raise click.BadParameter(f"{setting.text!r} is given twice; write all its values in one", context, option)
    return settings


@click.command()
@options.scenario
@click.option(
    "--at",
    "moment",
    type=options.TIME,
    metavar="TIME",
    help="Play up to TIME. The default is the scenario's duration, or its last expectation.",
)
@options.seeds
@click.option("--thresholds", callback=_thresholds, metavar="LIST", help="Thresholds, such as 100ms,300ms,1s.")
@click.option(
    "--set",
    "settings",
    multiple=True,
    callback=_settings,
    metavar="PATH=LIST",
    help="Values of a key, such as task.camera.instances=2,4,8. Can be repeated: all combinations are played.",
)
@kernel
@mm
@click.option("--csv", "csv", is_flag=True, help="Print CSV; times in us.")
@options.as_json
@click.option("-o", "--output", "path", metavar="FILE", help="Keep results in FILE, and go on with those it has.")
@click.option(
    "--jobs", type=click.IntRange(1, 4096), default=1, show_default=True, metavar="N", help="Play in N processes."
)
@click.option(
    "--backend",
    type=click.Choice(BACKENDS),
    default=BACKENDS[0],
    show_default=True,
    help="Play in processes of this machine, or on all workers of a dask cluster.",
)
@click.option("--address", metavar="URL", help="The scheduler of the cluster, such as tcp://host:8786.")
@options.limit
@options.max_wait
def sweep(
    scenario: str,
    moment: int | None,
    seeds: tuple[int, ...] | None,
    thresholds: tuple[int, ...] | None,
    settings: tuple[Setting, ...],
    kernel: str,
    mm: MmOptions,
    csv: bool,
    as_json: bool,
    path: str | None,
    jobs: int,
    backend: str,
    address: str | None,
    limits: Limits,
    max_wait: float,
) -> None:
    """Play SCENARIO with many seeds, thresholds and values, and print one row for each of these points.

    A row tells how many records the main record file shows and how many its ring has overwritten, the place of the
    scenario's culprit among the call sites that `pinnerfs report` blames, and the longest hold.

    SCENARIO is a name from `pinnerfs list`, a path to a .toml file, or `-` for standard input. Ctrl-C prints the rows
    that are done.

    \b
    Example:
      pinnerfs sweep camera-stall --seeds 0..9 --thresholds 100ms,300ms,1s
    """
    if csv and as_json:
        raise click.UsageError("only one format can be printed; wanted one of --csv and --json")
    if address is not None and backend == "processes":
        raise click.UsageError("--address goes with --backend dask")
    if jobs > 1 and backend != "processes":
        raise click.UsageError("--jobs is for processes of this machine; a cluster uses all of its workers")
    if path is not None:
        refuse_empty("-o", path)
    if path == "-":
        raise click.UsageError("-o: standard output (-) has the rows, and keeps no results; name a file")
    load_numpy()
    from pinnerfs.report.terminal import show
    from pinnerfs.sweep.outputs import as_lines, csv_text, rows, rows_as_json
    from pinnerfs.sweep.resume import opened
    from pinnerfs.sweep.runners import results

    wait_for_scenario(scenario, max_wait)
    source = read_source(scenario, limits)
    wanted = plan(
        source,
        settings=settings,
        seeds=seeds,
        thresholds=thresholds,
        moment=moment,
        kernel=kernel,
        limits=limits,
        **mm.arguments,
    )
    interrupted = False
    with ExitStack() as using:
        file, done = None, []
        if path is not None:
            wait_for_file("write", path, max_wait)
            digest = hashlib.sha256(source.text.encode()).hexdigest()
            file = using.enter_context(opened(path, wanted.arguments(digest), wanted.plays))
            done = file.done
        try:
            with _interrupts(), _bar(wanted.plays, len(done)) as update, memory_for(wanted.scenarios[0][1]):
                # No more processes than plays that are left.
                processes = max(1, min(jobs, wanted.plays - len(done)))
                for found in results(wanted.each_play(len(done)), processes, backend, address):
                    if file is not None:
                        file.add(found)
                    done.append(found)
                    update(1)
        except KeyboardInterrupt:
            interrupted = True
    found_rows = rows(wanted, done)
    if csv or as_json:
        click.echo(csv_text(found_rows, wanted) if csv else rows_as_json(found_rows, wanted), nl=False)
    else:
        show(as_lines(found_rows, wanted))
    if interrupted:
        kept = "" if path is None else f" and kept in {in_a_line(path)}; run it again with the same arguments to go on"
        say(f"Interrupted: {len(done)} of {count_of(wanted.plays, 'play')} done{kept}")
        raise SystemExit(INTERRUPTED)


@contextmanager
def _interrupts() -> Iterator[None]:
    """Raise KeyboardInterrupt on SIGINT, unless it is ignored: the results so far are to be printed."""
    handler = signal.getsignal(signal.SIGINT)

    def interrupt(number: int, frame: FrameType | None) -> None:
        signal.signal(signal.SIGINT, handler)  # a second one ends the process at once
        raise KeyboardInterrupt

    if handler is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, handler)


@contextmanager
def _bar(plays: int, done: int) -> Iterator[Callable[[int], None]]:
    """Show progress on a stderr that is a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield lambda _: None
        return
    with click.progressbar(length=plays, label="playing", show_pos=True, file=sys.stderr) as bar:
        bar.update(done)
        yield bar.update
