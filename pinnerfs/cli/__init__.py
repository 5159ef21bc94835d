"""The command line: one module a command, registered in one list, imported when it is asked for."""

from __future__ import annotations

import os
import signal
import sys
from contextlib import suppress
from importlib import import_module

import click

from pinnerfs import __version__
from pinnerfs.errors import PinnerfsError, in_a_line

__all__ = ["launch", "main"]


# What --help says of each, so that it need not import them.
COMMANDS = {
    "check": "Validate scenarios: names of the gallery or paths.",
    "ctl": "Steer a mounted fake device, and ask it.",
    "dump": "Print longterm_pinner as a mount of SCENARIO would show it, without mounting anything.",
    "list": "Print the scenarios of the gallery, one a line, the name first.",
    "mount": "Mount a fake debugfs that plays SCENARIO, a name of the gallery or a path.",
    "run": "Run COMMAND with a fake debugfs that plays SCENARIO over /sys/kernel/debug, seen by it alone.",
    "show": "Explain a scenario: its memory, and what each task does in turn, and what it expects.",
    "umount": "Unmount a fake debugfs, and wait until its daemon is gone.",
}


class _Commands(click.Group):
    """The module `pinnerfs.cli.NAME` holds the command NAME."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*COMMANDS]  # `list` is a module here

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"pinnerfs.cli.{cmd_name}")
        found = getattr(module, "list_" if cmd_name == "list" else cmd_name)
        assert isinstance(found, click.Command)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([*COMMANDS.items()])


@click.group(cls=_Commands, context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
@click.version_option(__version__, prog_name="pinnerfs", message="%(prog)s %(version)s")
def _cli() -> None:
    """A fake debugfs with page_pinner: scripts cannot tell it from the device.

    \b
    Example:
      mkdir /tmp/d
      pinnerfs mount camera-stall /tmp/d
      cat /tmp/d/page_pinner/longterm_pinner
      pinnerfs umount /tmp/d
    """


def _open_standard_files() -> None:
    """See to it that 0, 1 and 2 are taken: whatever is opened next would else be what Python and libfuse print to."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def _leave() -> None:
    """End the process at once: to take apart all that was imported takes longer than many a command."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it is where the descriptor was closed from the start
            stream.flush()
    os._exit(0)


def launch(command: click.Command, name: str) -> None:
    """Run a command as a program. An expected error is one line on stderr, and exits non-zero."""
    # As other tools do: `pinnerfs dump ... | head` ends in silence.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        _open_standard_files()
        command.main(prog_name=name, standalone_mode=False)
        _leave()
    except PinnerfsError as error:
        click.echo(f"Error: {in_a_line(str(error))}", err=True)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        # Such as a full disk under stdout.
        where = f"{error.filename}: " if error.filename else ""
        click.echo(f"Error: {where}{error.strerror or error}", err=True)
        if sys.stdout is sys.__stdout__:
            # The interpreter writes what is left when it ends, and would exit with 120 where that fails again.
            with suppress(OSError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def main() -> None:
    """The program `pinnerfs`."""
    launch(_cli, "pinnerfs")
