"""The message of a daemon to the process that waits until its mount answers."""

from __future__ import annotations

import os

__all__ = ["is_ready", "not_ready", "report_ready"]

_READY = b"ready"


def report_ready(pipe: int) -> None:
    """Write to a pipe that the mount answers, and close it. BrokenPipeError if the process that waits is gone."""
    os.write(pipe, _READY)
    os.close(pipe)


def is_ready(message: bytes) -> bool:
    """Return whether all that was written to the pipe says that the mount answers."""
    return message == _READY


def not_ready(mountpoint: str, exit_status: int) -> str:
    """Return the error of a daemon that ended too early, without a reason. Its exit status is below 0 for a signal."""
    ended = f"was killed by signal {-exit_status}" if exit_status < 0 else f"exited with status {exit_status}"
    return f"cannot mount on {mountpoint}: the daemon {ended} before it was ready"
