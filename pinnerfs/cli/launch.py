"""Run a click command as a program: standard files, errors and the exit status."""

from __future__ import annotations

import errno
import io
import os
import re
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Any

import click

from pinnerfs.cli import limits_memory
from pinnerfs.errors import BAD_INPUT, PinnerfsError, in_a_line

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["HELP_OPTIONS", "launch", "say"]

HELP_OPTIONS: dict[str, Any] = {"help_option_names": ["-h", "--help"]}

_exit = os._exit  # the tests replace it

# Remedies for errors that no command expects.
_REMEDIES = {
    errno.EAGAIN: "; wanted room for more processes of this user (ulimit -u)",
    errno.EMFILE: "; wanted room for more open files (ulimit -n)",
}


def launch(find: Callable[[], click.Command], name: str, ready: Callable[[], None] | None = None) -> None:
    """Run the command that `find` returns, and exit. An expected error is one line on stderr and a non-zero status.

    With `ready`, `mount` serves in this process, and calls `ready` when the mount answers. Return after the unmount.
    """
    # As other tools do: `pinnerfs dump ... | head` ends in silence.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    try:
        _open_standard_files()
        _guard_stdout()
        result = find().main(prog_name=name, standalone_mode=False, obj=ready)
        status = result if isinstance(result, int) else 0
    except PinnerfsError as error:
        say(f"Error: {error}")
        status = error.exit_status
    except click.UsageError as error:
        say(f"Error: {_with_hint(error, name)}")
        status = BAD_INPUT
    except OSError as error:
        if error.errno == errno.ENOMEM and limits_memory():
            raise MemoryError from None
        where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
        remedy = _REMEDIES.get(error.errno or 0, "")
        if where.startswith("/proc/") and error.errno == errno.ENOENT:
            remedy = "; wanted /proc to be mounted"
        say(f"Error: {where}{error.strerror or error}{remedy}")
        status = 1
    except SystemExit as error:
        status = error.code if isinstance(error.code, int) else 0
    if ready is not None and status == 0:
        return
    # At once: taking apart all that was imported takes longer than many a command. click.echo has flushed.
    _exit(status)


def _open_standard_files() -> None:
    """Make sure that 0, 1 and 2 are open: else Python and libfuse would print into the next file that is opened.

    A closed stdout becomes read-only: a write to it still fails.
    """
    for number, mode in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_RDWR)):
        descriptor = os.open(os.devnull, mode)
        if descriptor != number:
            os.close(descriptor)


class _StandardOutput(io.FileIO):
    """Standard output that raises PinnerfsError where a write fails."""

    def write(self, data: Buffer, /) -> int:
        try:
            return super().write(data)
        except OSError as error:
            raise PinnerfsError(f"cannot write to standard output: {error.strerror}") from None


def _guard_stdout() -> None:
    """Replace sys.stdout: the errors of the original show at the interpreter's exit, or have no file name.

    With PYTHONUNBUFFERED the original also loses what a full disk takes only a part of.
    """
    stdout = sys.__stdout__
    if stdout is not sys.stdout:
        return  # a test has replaced it
    guarded = io.BufferedWriter(_StandardOutput(1, "w", closefd=False))
    # stdout is None if its descriptor was closed from the start.
    encoding, errors = (stdout.encoding, stdout.errors) if stdout is not None else ("utf-8", "strict")
    sys.stdout = io.TextIOWrapper(guarded, encoding=encoding, errors=errors)


def say(message: str) -> None:
    """Print one line on stderr, and go on if that fails."""
    with suppress(OSError):
        click.echo(in_a_line(message), err=True)


def _with_hint(error: click.UsageError, name: str) -> str:
    command = name if error.ctx is None else error.ctx.command_path.strip()  # `SCENARIO -o ...` has no name
    message = re.sub(r"(?<!\.)\.$", "", error.format_message())
    return f"{message} (see '{command} --help')"
