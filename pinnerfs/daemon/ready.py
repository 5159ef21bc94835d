"""The message of a daemon to the process that waits until its mount answers."""

from __future__ import annotations

import os
import signal
import socket
from contextlib import suppress
from types import FrameType

__all__ = ["is_ready", "not_ready", "report_ready", "wait_until_ready"]

_READY = b"ready"


def report_ready(connection: int) -> None:
    """Write to a pipe or a socket that the mount answers, and close it. BrokenPipeError if no process waits for it."""
    os.write(connection, _READY)
    os.close(connection)


def wait_until_ready(connection: socket.socket) -> bytes:
    """Return all that a daemon writes to the other end.

    SIGINT ends the wait, unless it is ignored. Then either the daemon was ready before, or `report_ready` fails: no
    mount is left without a message.
    """
    before, interrupted = signal.getsignal(signal.SIGINT), False

    def interrupt(number: int, frame: FrameType | None) -> None:
        nonlocal interrupted
        interrupted = True
        with suppress(OSError):  # it is closed by now
            connection.shutdown(socket.SHUT_RD)  # what is sent already can still be received

    if before is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, interrupt)
    answer = b""
    while part := connection.recv(4096):
        answer += part
    if interrupted and not is_ready(answer):
        signal.signal(signal.SIGINT, before)
        signal.raise_signal(signal.SIGINT)
    return answer


def is_ready(message: bytes) -> bool:
    """Return whether all that was written says that the mount answers."""
    return message == _READY


def not_ready(mountpoint: str, exit_status: int) -> str:
    """Return the error of a daemon that ended too early, without a reason. Its exit status is below 0 for a signal."""
    ended = f"was killed by signal {-exit_status}" if exit_status < 0 else f"exited with status {exit_status}"
    return f"cannot mount on {mountpoint}: the daemon {ended} before it was ready"
