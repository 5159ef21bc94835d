"""The command line: one module a command, registered in one list."""

from __future__ import annotations

import os
import signal
import sys

import click

from pinnerfs import __version__
from pinnerfs.cli.check import check
from pinnerfs.cli.ctl import ctl
from pinnerfs.cli.dump import dump
from pinnerfs.cli.list import list_
from pinnerfs.cli.mount import mount
from pinnerfs.cli.run import run
from pinnerfs.cli.show import show
from pinnerfs.cli.umount import umount
from pinnerfs.errors import PinnerfsError

__all__ = ["launch", "main"]


@click.group(context_settings={"help_option_names": ["-h", "--help"]}, no_args_is_help=True)
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


for _command in (mount, umount, run, ctl, dump, check, list_, show):
    _cli.add_command(_command)


def _open_standard_files() -> None:
    """See to it that 0, 1 and 2 are taken: whatever is opened next would else be what Python and libfuse print to."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= 2:
        pass
    os.close(descriptor)


def launch(command: click.Command, name: str) -> None:
    """Run a command as a program. An expected error is one line on stderr, and exits non-zero."""
    _open_standard_files()
    # As other tools do: `pinnerfs dump ... | head` ends in silence.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        command.main(prog_name=name, standalone_mode=False)
    except PinnerfsError as error:
        click.echo(f"Error: {error}", err=True)
        sys.exit(error.exit_status)
    except click.ClickException as error:
        error.show()
        sys.exit(error.exit_code)
    except OSError as error:
        # Such as a full disk under stdout.
        click.echo(f"Error: {error.strerror or error}", err=True)
        sys.exit(1)
    except (click.Abort, KeyboardInterrupt):
        sys.exit(130)


def main() -> None:
    """The program `pinnerfs`."""
    launch(_cli, "pinnerfs")
