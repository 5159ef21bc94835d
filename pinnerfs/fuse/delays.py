"""Answer requests later, while other requests are served."""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections.abc import Callable

from pinnerfs.fuse import libfuse

__all__ = ["Delays"]

Answer = Callable[[], None]


class Delays:
    """The requests that wait, and the thread that answers them.

    `interrupted` answers a request whose caller got a signal.
    """

    def __init__(self, interrupted: Callable[[int], None]) -> None:
        self._interrupted = interrupted
        self._waiting: dict[int, tuple[int, Answer]] = {}  # by request
        self._due: list[tuple[float, int, int]] = []  # time, number, request; also of requests that were interrupted
        self._numbers = itertools.count()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._on_interrupt = libfuse.InterruptFunction(self._interrupt)

    def add(self, request: int, seconds: float, answer: Answer) -> None:
        """Call `answer` after this time, in a thread."""
        number = next(self._numbers)
        with self._changed:
            self._waiting[request] = number, answer
            heapq.heappush(self._due, (time.monotonic() + seconds, number, request))
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, daemon=True)
                self._thread.start()
            self._changed.notify()
        libfuse.on_interrupt(request, self._on_interrupt, None)

    def _interrupt(self, request: int, data: None) -> None:
        # libfuse holds a lock of the request, so that this thread must not answer it.
        with self._changed:
            if request in self._waiting:
                number = next(self._numbers)
                self._waiting[request] = number, lambda: self._interrupted(request)
                heapq.heappush(self._due, (0.0, number, request))
                self._changed.notify()

    def _run(self) -> None:
        while True:
            with self._changed:
                while (wait := self._due[0][0] - time.monotonic() if self._due else None) is None or wait > 0:
                    self._changed.wait(wait)
                _, number, request = heapq.heappop(self._due)
                if request not in self._waiting or self._waiting[request][0] != number:
                    continue
                answer = self._waiting.pop(request)[1]
            answer()
