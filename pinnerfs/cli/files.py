"""Files that arguments name: they may be inside the mount of a daemon that is stopped."""

from __future__ import annotations

from contextlib import suppress

import click

from pinnerfs.mounts.table import FSTYPE, read_text

__all__ = ["refuse_empty", "wait_for_file", "wait_for_scenario"]


def refuse_empty(option: str, path: str) -> None:
    """Raise UsageError if the file that an option writes has no name."""
    if not path:
        raise click.UsageError(f"{option}: the path is empty; name a file")


def wait_for_file(action: str, path: str, max_wait: float) -> None:
    """Return when the file system of this path answers: see `wait_for_answer`. No wait where no pinnerfs is mounted."""
    with suppress(OSError):
        if FSTYPE not in read_text("/proc/self/mountinfo"):
            return
    from pinnerfs.cli.child import wait_for_answer  # takes a fifth of the time of `pinnerfs check`

    wait_for_answer(action, path, max_wait)


def wait_for_scenario(scenario: str, max_wait: float) -> None:
    """Do the same for the file of a scenario. A name of the gallery and standard input are no paths."""
    if "/" in scenario or scenario.endswith(".toml"):
        wait_for_file("read scenario", scenario, max_wait)
