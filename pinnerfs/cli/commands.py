"""The list of commands, and the group that finds and imports them."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib import import_module
from typing import TYPE_CHECKING, Any, cast

import click

from pinnerfs import __version__
from pinnerfs.cli import without_collections
from pinnerfs.cli.launch import HELP_OPTIONS
from pinnerfs.errors import BAD_INPUT

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

__all__ = ["COMMANDS", "commands"]


COMPLETE = "_PINNERFS_COMPLETE"  # the variable in which click's scripts ask for completion

# One line of --help for each, so that --help need not import them.
COMMANDS = {
    "check": "Validate scenarios.",
    "ctl": "Control a mounted fake device: advance its clock, pin pages, read its counters and its log.",
    "doctor": "Check whether this machine can mount, and print what mends it.",
    "dump": "Print a record file as a mount of SCENARIO would show it, without mounting.",
    "import": "Print a scenario that does what a capture shows: a skeleton to edit.",
    "list": "Print the scenarios that come with pinnerfs, or the kernels.",
    "mount": "Mount a fake debugfs that plays SCENARIO.",
    "record": "Record a debugfs as a capture, one text file that `report` reads and `mount` replays.",
    "report": "Name the culprit of a page_pinner dump: who held pages too long, and where.",
    "run": "Run COMMAND with a fake debugfs over /sys/kernel/debug that only COMMAND sees.",
    "schema": "Print the JSON Schema of scenario files, for editors.",
    "show": "Describe a scenario: its memory, its tasks, its allocs and its expectations.",
    "sweep": "Play SCENARIO with many seeds, thresholds and values, and print one row for each of these points.",
    "umount": "Unmount a fake debugfs and wait until its daemon has ended.",
}


# A keyword of Python is no name of a module, and a builtin no name of a function.
_MODULES = {"import": "import_"}
_FUNCTIONS = {"import": "import_", "list": "list_"}


class _Commands(click.Group):
    """A group whose command NAME is in the module `pinnerfs.cli.NAME`."""

    def main(self, *args: Any, **options: Any) -> Any:
        """Run a command, or complete a word for a shell."""
        if COMPLETE in os.environ:
            from pinnerfs.cli.completion import prepare

            prepare()
        return super().main(*args, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]  # `list` is a module here

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        with without_collections():
            module = import_module(f"pinnerfs.cli.{_MODULES.get(cmd_name, cmd_name)}")
        command = cast(click.Command, getattr(module, _FUNCTIONS.get(cmd_name, cmd_name)))
        if ctx.resilient_parsing:  # a shell completes a word
            from pinnerfs.cli.completion import complete_by_metavar

            complete_by_metavar(command)
        return command

    def shell_complete(self, ctx: click.Context, incomplete: str) -> list[CompletionItem[Any]]:
        """Complete the names of commands and the options, without an import of all commands."""
        from click.shell_completion import CompletionItem  # only a shell needs it

        names = [CompletionItem(name, help=text) for name, text in COMMANDS.items() if name.startswith(incomplete)]
        return names + click.Command.shell_complete(self, ctx, incomplete)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find a command. `SCENARIO MOUNTPOINT -o OPTIONS` is how mount.fuse, the generic mount helper, calls us."""
        name = args[0]
        if name in COMMANDS or ctx.resilient_parsing:
            return super().resolve_command(ctx, args)
        if any(word.startswith("-o") for word in args[1:]):
            from pinnerfs.cli.mount_options import helper

            return "", helper, args
        from pinnerfs.scenario.gallery import gallery
        from pinnerfs.scenario.messages import nearest

        is_scenario = "/" in name or name.endswith(".toml") or name in gallery()
        hint = f"; did you mean 'mount {name}'?" if is_scenario else nearest(name, COMMANDS)
        raise click.UsageError(f"no command {name!r}: wanted one of {', '.join(COMMANDS)}{hint}", ctx)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except click.UsageError as error:
            # click does not tell the command of an option without its value.
            if error.ctx is None and ctx.invoked_subcommand:
                error.ctx = click.Context(self, parent=ctx, info_name=ctx.invoked_subcommand)
            raise

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.group(
    cls=_Commands,
    context_settings=HELP_OPTIONS,
    invoke_without_command=True,
    subcommand_metavar="COMMAND [ARGS]...",
)
@click.version_option(__version__, prog_name="pinnerfs", message="%(prog)s %(version)s")
@click.pass_context
def commands(context: click.Context) -> None:
    """Mount a fake debugfs with Android's page_pinner files, to test scripts and tools without a device.

    \b
    Example:
      mkdir -p /tmp/d
      pinnerfs mount camera-stall /tmp/d --start 60s
      cat /tmp/d/page_pinner/longterm_pinner | head -n 18
      pinnerfs umount /tmp/d
    """
    if context.invoked_subcommand is None:
        with suppress(OSError):
            click.echo(context.get_help(), err=True)
        context.exit(BAD_INPUT)
