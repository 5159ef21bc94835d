"""The command line: one module per command, imported when it is needed.

This module imports nothing slow: SIGINT has to be handled before the slow imports begin.
"""

from __future__ import annotations

import os
import signal

__all__ = ["exit_on_interrupt", "main"]

INTERRUPTED = 128 + signal.SIGINT  # the exit status of a command that Ctrl-C ends, as shells report it


def exit_on_interrupt() -> None:
    """Exit with status 130 on SIGINT, at once and without a traceback; a SIGINT that is ignored stays ignored."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, lambda *_: os._exit(INTERRUPTED))


def main() -> None:
    """Run the program `pinnerfs`."""
    exit_on_interrupt()
    from pinnerfs.cli.commands import commands
    from pinnerfs.cli.launch import launch

    launch(commands, "pinnerfs")
