"""Completion of words in a shell: scenarios, mounts of pinnerfs, files. click completes commands, options and choices.

Imports neither numpy nor FUSE: the user waits for it.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import click
from click.shell_completion import (
    BashComplete,
    CompletionItem,
    FishComplete,
    ShellComplete,
    ZshComplete,
    add_completion_class,
)

from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED
from pinnerfs.mounts.table import FSTYPE, Proc
from pinnerfs.scenario.gallery import gallery

__all__ = ["complete_by_metavar", "prepare"]

Items = Iterator[CompletionItem]


def _files(start: str) -> Items:
    """Leave it to the shell, which knows files better."""
    yield CompletionItem(start, type="file")


def _directories(start: str) -> Items:
    yield CompletionItem(start, type="dir")


def _scenarios(start: str) -> Items:
    """Yield the scenarios of the gallery. A word that none of them begins with is a path."""
    names = [name for name in gallery() if name.startswith(start)]
    yield from map(CompletionItem, names)
    if not names:
        yield from _files(start)


def _mounts(start: str) -> Items:
    """Yield the mount points of pinnerfs, as the user began to write them: absolute, or from the working directory.

    Reads only the mount table: a dead or stopped mount does not block the shell. For the same reason the shell is not
    asked for directories.
    """
    with Proc() as proc:
        paths = [mount.path for mount in proc.mounts() if mount.fstype == FSTYPE]
    if not start.startswith("/"):
        with suppress(OSError):  # the working directory was deleted
            here, dot = f"{os.getcwd().rstrip('/')}/", "./" if start.startswith("./") else ""
            paths = [dot + path.removeprefix(here) for path in paths if path.startswith(here)]
    # The scripts of click insert words as they are, so one that needs quotes is left out.
    yield from (CompletionItem(path) for path in paths if path.startswith(start) and shlex.quote(path) == path)


# What to complete, by the name of the value in the help. `mount` takes a directory that is not a mount yet.
BY_METAVAR: dict[str, Callable[[str], Items]] = {
    "SCENARIO": _scenarios,
    "SCENARIO...": _scenarios,
    "MOUNTPOINT": _mounts,
    "PATH": _directories,
    "FILE": _files,
    "INPUT": _files,
    "INPUT...": _files,
    "CAPTURE": _files,
    "-- COMMAND...": _files,
}


class _Completed(click.types.StringParamType):
    """A string that a function completes."""

    def __init__(self, find: Callable[[str], Items]) -> None:
        self._find = find

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        return list(self._find(incomplete))


class _RecordFile(click.types.StringParamType):
    """The name of a record file, of the kernel that --kernel names before it."""

    def shell_complete(self, ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem[Any]]:
        generation = GENERATIONS[ctx.params.get("kernel") or INTRODUCED.name]
        return [CompletionItem(file) for file in generation.record_files if file.startswith(incomplete)]


def complete_by_metavar(command: click.Command) -> None:
    """Let the plain strings of a command complete what their metavar names."""
    for param in command.params:
        find = BY_METAVAR.get(param.metavar or "")
        if command.name == "mount" and param.name == "mountpoint":
            find = _directories
        if (command.name, param.name) == ("dump", "file"):
            param.type = _RecordFile()
        elif find is not None and isinstance(
            param.type, click.types.StringParamType | click.types.UnprocessedParamType
        ):
            param.type = _Completed(find)


class _Complete(ShellComplete):
    """Completion of a word such as `--kernel=pix`: the shell replaces the whole word, so the option is kept in it."""

    def get_completions(self, args: list[str], incomplete: str) -> list[CompletionItem[str]]:
        option, equals, _ = incomplete.partition("=")
        found = super().get_completions(args, incomplete)
        if equals and option.startswith("--"):
            for item in found:
                if item.type == "plain":
                    item.value = f"{option}={item.value}"
        return found


class _Bash(_Complete, BashComplete):
    """Completion in bash, which takes `--kernel=` for two words."""

    def get_completion_args(self) -> tuple[list[str], str]:
        args, incomplete = super().get_completion_args()
        if incomplete == "=":
            incomplete = ""
        elif args[-1:] == ["="]:
            args.pop()
        return args, incomplete


class _Zsh(_Complete, ZshComplete):
    """Completion in zsh."""


class _Fish(_Complete, FishComplete):
    """Completion in fish."""


def prepare() -> None:
    """Let click use the classes of this module."""
    for shell in (_Bash, _Zsh, _Fish):
        add_completion_class(shell)
