"""The options for the memory management around page_pinner: what a kernel does when a CMA allocation fails."""

# Annotations are not postponed: NamedTuple would compile each one again in every process.

import functools
from collections.abc import Callable
from typing import Any, NamedTuple, TypedDict

import click

from pinnerfs.cli.options import Whole
from pinnerfs.kernel.cma.mm import MMS
from pinnerfs.scenario.allocs import MAX_RETRIES

__all__ = ["MmArguments", "MmOptions", "mm"]


class MmArguments(TypedDict):
    """The arguments of a Simulation for the options."""

    mm: str | None
    cma_retries: int | None
    quiet_migration: bool


class MmOptions(NamedTuple):
    """The options of `mm`, a field for each."""

    mm: str | None
    cma_retries: int | None
    quiet_migration: bool

    @property
    def arguments(self) -> MmArguments:
        """Return the arguments of a Simulation."""
        return {"mm": self.mm, "cma_retries": self.cma_retries, "quiet_migration": self.quiet_migration}


_OPTIONS = (
    click.option(
        "--mm",
        type=click.Choice(list(MMS)),
        metavar="NAME",
        help=f"Let CMA allocate as this kernel does, not as that of --kernel: {', '.join(MMS)}.",
    ),
    click.option(
        "--cma-retries",
        type=Whole(0, MAX_RETRIES),
        metavar="N",
        help="Let a failing CMA allocation try again N times, 100 ms apart, whatever the kernel does.",
    ),
    click.option(
        "--quiet-migration",
        is_flag=True,
        help="Leave out the PUT records of each pass in which a page fails to move again.",
    ),
)


def mm(command: Callable[..., None]) -> Callable[..., None]:
    """Give a command the options of the memory management; it gets them as one argument `mm`."""

    @functools.wraps(command)
    def with_options(*args: Any, mm: str | None, cma_retries: int | None, quiet_migration: bool, **others: Any) -> None:
        command(*args, mm=MmOptions(mm, cma_retries, quiet_migration), **others)

    for option in reversed(_OPTIONS):
        with_options = option(with_options)
    return with_options
