"""Calls that wait for a mount, made in a child process.

If a daemon is stopped while it serves a request, no signal ends the process that waits for the answer, not even
SIGKILL. So the process that the shell waits for does not make such a request itself.
"""

from __future__ import annotations

import marshal
import os
import signal
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any, TypeVar, cast

from pinnerfs.errors import PinnerfsError
from pinnerfs.mounts.answers import leads_into_mount, no_answer
from pinnerfs.mounts.namespace import die_with_parent
from pinnerfs.threads import NoAnswerError, in_thread

__all__ = ["in_child", "wait_for_answer"]

_Result = TypeVar("_Result")


def in_child(work: Callable[[], _Result]) -> _Result:
    """Call `work` in a child process. Return its result, or raise its PinnerfsError or OSError.

    `work` must limit its own waiting, by `in_thread`. Its result is a number, a text or None.
    """
    reader, writer = os.pipe()
    parent = os.getpid()
    if os.fork() == 0:
        try:
            os.write(writer, marshal.dumps(_outcome(work, writer, parent)))
        finally:
            os._exit(1)
    os.close(writer)
    # Neither the end of the pipe nor that of the child is waited for: a blocked thread of the child prevents both.
    with os.fdopen(reader, "rb") as pipe:
        try:
            result, refusal, error = marshal.load(pipe)
        except EOFError:
            raise PinnerfsError("the process that accesses the mount was killed; wanted it to finish") from None
    if refusal is not None:
        raise PinnerfsError(*refusal)
    if error is not None:
        raise OSError(*error)
    return cast(_Result, result)


def _detach(kept: int, parent: int) -> None:
    """Close all descriptors but one, which a blocked child would keep open, and die with the parent."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):
        os.dup2(null, descriptor)
    for descriptor in map(int, os.listdir("/proc/self/fd")):
        with suppress(OSError):  # listdir's own descriptor is closed by now
            if descriptor > 2 and descriptor != kept:
                os.close(descriptor)
    die_with_parent(signal.SIGKILL, parent)


def _outcome(work: Callable[[], _Result], kept: int, parent: int) -> tuple[Any, ...]:
    """Return the result, and the arguments of a PinnerfsError and of an OSError; two of them are None."""
    try:
        _detach(kept, parent)
        return work(), None, None
    except PinnerfsError as error:
        return None, (str(error), error.exit_status), None
    except OSError as error:
        filename = error.filename and os.fsdecode(error.filename)
        return None, None, error.args if filename is None else (error.errno, error.strerror, filename)


def wait_for_answer(action: str, mountpoint: str, max_wait: float, call: Callable[[str], object] = os.statvfs) -> None:
    """Return when the file system at this path answers a call, even with an error.

    PinnerfsError after `max_wait` seconds; `action`, such as "unmount", starts the message. Other file systems than
    pinnerfs are not waited for.
    """
    if not leads_into_mount(mountpoint):
        return

    def ask() -> None:
        try:
            with suppress(OSError):  # the command itself finds it again, and tells more
                in_thread(partial(call, mountpoint), max_wait)
        except NoAnswerError:
            raise no_answer(action, mountpoint, max_wait) from None

    in_child(ask)
