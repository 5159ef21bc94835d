"""What --verbose and --trace log. Where nobody asks for it, none of this stands in anybody's way."""

from __future__ import annotations

import errno
import logging
import time
from collections.abc import Callable, Collection, Iterator
from types import GeneratorType
from typing import Any

from pinnerfs.kernel.events import Event, EventBatch
from pinnerfs.simulation import Simulation

__all__ = ["LAYERS", "TracedSimulation", "choose", "traced_operations"]

LAYERS = ("fuse", "engine", "scenario")
SHOWN = 64  # bytes of what is read or written

_loggers = {layer: logging.getLogger(f"pinnerfs.trace.{layer}") for layer in LAYERS}


def choose(verbose: bool, layers: Collection[str]) -> None:
    """Say what is to be logged beside warnings and errors: what happens to the device, and each step of some layers."""
    logging.getLogger("pinnerfs").setLevel(logging.INFO if verbose else logging.WARNING)
    for layer in layers:
        _loggers[layer].setLevel(logging.DEBUG)


class TracedSimulation(Simulation):
    """A simulation that logs its steps, and what the scenario and live actions bring for each."""

    def steps_to(self, moment: int) -> Iterator[int]:
        steps = super().steps_to(moment)
        before = self.stats()
        while True:
            began = time.perf_counter()
            if (now := next(steps, None)) is None:
                return
            took = time.perf_counter() - began
            after = self.stats()
            new = {name: after[name] - before[name] for name in ("pins", "releases", "longterm_records")}
            words = ", ".join(f"{count} {name}" for name, count in new.items())
            _loggers["engine"].debug("engine: up to %d us: %s, in %.3f ms", now, words, took * 1000)
            yield now
            before = self.stats()

    def _take(self, moment: int) -> EventBatch:
        batch = super()._take(moment)
        if len(batch):
            counts = [(int(batch.pages[batch.kind == kind].sum()), kind.name) for kind in Event]
            words = ", ".join(f"{count} {name}" for count, name in counts if count)
            first, last = batch.time[[0, -1]].tolist()
            _loggers["scenario"].debug(
                "scenario: events from %d to %d us, wanted up to %d: %s", first, last, moment, words
            )
        return batch


def traced_operations(operations: Any) -> Any:
    """FUSE's operations, each logged with its arguments and its answer if that is asked for, else as they are."""
    return _Operations(operations) if _loggers["fuse"].isEnabledFor(logging.DEBUG) else operations


def _call(name: str, function: Callable[..., Any], *arguments: Any) -> Any:
    shown = f"{name}({', '.join(map(_shown, arguments))})"
    try:
        answer = function(*arguments)
        if isinstance(answer, GeneratorType):
            answer = [*answer]
    except OSError as error:
        _loggers["fuse"].debug("fuse: %s: %s", shown, errno.errorcode.get(error.errno or 0, error))
        raise
    except BaseException as error:
        _loggers["fuse"].debug("fuse: %s: %r", shown, error)
        raise
    _loggers["fuse"].debug("fuse: %s: %s", shown, "done" if answer is None else _shown(answer))
    return answer


def _shown(value: Any) -> str:
    if isinstance(value, bytes) and len(value) > SHOWN:
        return f"{value[:SHOWN]!r}... ({len(value)} bytes)"
    if hasattr(value, "nlink"):
        return f"ino {value.ino} mode {value.mode:o} owner {value.uid}:{value.gid} size {value.size}"
    return repr(value)


class _File:
    """An open file, by a number that its log lines have in common."""

    def __init__(self, file: Any, number: int) -> None:
        self._file = file
        self._name = f"file {number}"

    def __repr__(self) -> str:
        return self._name

    def read(self, size: int, owner: int) -> Any:
        # Of the owner it matters alone whether there is one: sendfile has none.
        return _call(f"{self._name}.{'read' if owner else 'sendfile'}", lambda size: self._file.read(size, owner), size)

    def write(self, data: bytes, offset: int) -> None:
        _call(f"{self._name}.write", self._file.write, data, offset)

    def truncate(self, size: int) -> None:
        _call(f"{self._name}.truncate", self._file.truncate, size)

    def fsync(self) -> None:
        _call(f"{self._name}.fsync", self._file.fsync)

    def release(self) -> None:
        _call(f"{self._name}.release", self._file.release)

    @property
    def node(self) -> Any:
        return _call(f"{self._name}.getattr", lambda: self._file.node)


class _Operations:
    """All that the operations offer, and nothing more: what is missing is missing here, too."""

    def __init__(self, operations: Any) -> None:
        self._operations = operations
        self._opened = 0

    def __call__(self, operation: str, *arguments: Any) -> Any:
        return _call(operation, getattr(self._operations, operation), *arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._operations, name)

    def getattr(self, path: str) -> Any:
        return _call("getattr", self._operations.getattr, path)

    def open(self, path: str, flags: int) -> Any:
        self._opened += 1
        return _call("open", lambda path, flags: _File(self._operations.open(path, flags), self._opened), path, flags)
