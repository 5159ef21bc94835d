"""Start threads, and wait for a call with a limit."""

from __future__ import annotations

import signal
import threading

# signal.pthread_sigmask makes enum members of all 64 signals, which takes nearly as long as the start of a thread.
from _signal import pthread_sigmask  # type: ignore[import-not-found]
from collections.abc import Callable
from typing import TypeVar

from pinnerfs.errors import PinnerfsError

__all__ = ["NoAnswerError", "in_thread", "start_thread"]

_Result = TypeVar("_Result")

_ALL_SIGNALS = signal.valid_signals()


class NoAnswerError(Exception):
    """A file system did not answer in time."""


def start_thread(target: Callable[..., object], *arguments: object) -> threading.Thread:
    """Start a thread that handles no signals, and that the end of the process does not wait for. Return it.

    PinnerfsError if the process cannot start a thread.
    """
    # The thread inherits the mask.
    before = pthread_sigmask(signal.SIG_SETMASK, _ALL_SIGNALS)
    try:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        thread.start()
    except RuntimeError:
        raise PinnerfsError(
            "cannot start a thread; wanted room for more processes of this user (ulimit -u), or more memory (ulimit -v)"
        ) from None
    finally:
        pthread_sigmask(signal.SIG_SETMASK, before)
    return thread


def in_thread(work: Callable[[], _Result], max_wait: float, progress: Callable[[], int] = lambda: 0) -> _Result:
    """Call `work` in a thread of its own, and return its result.

    NoAnswerError if it makes no progress for `max_wait` seconds. The thread then stays blocked until the file system
    answers, or its daemon ends.
    """
    results: list[_Result] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def call() -> None:
        try:
            results.append(work())
        except BaseException as error:
            errors.append(error)
        done.set()

    before = progress()
    start_thread(call)
    while not done.wait(max_wait):
        now = progress()
        if now == before:
            raise NoAnswerError
        before = now
    if errors:
        raise errors[0]
    return results[0]
