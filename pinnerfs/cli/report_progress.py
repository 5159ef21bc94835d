"""How much of the input has been read, on a terminal, when that takes long."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

from pinnerfs.errors import in_a_line
from pinnerfs.report.source import Source

__all__ = ["Progress"]

_DELAY = 1.0  # seconds before the line appears
_STEP = 0.2  # seconds between two lines
_CLEAR = "\r\x1b[K"
_NAME = 50  # characters


class Progress:
    """A line on a stderr that is a terminal: the source and the bytes that have been read of it."""

    def __init__(self) -> None:
        # stderr is None if its descriptor was closed from the start.
        self._on = sys.stderr is not None and sys.stderr.isatty()
        self._next = time.monotonic() + _DELAY
        self._shown = False

    def watch(self, found: Iterator[Source]) -> Iterator[Source]:
        """Yield the sources. Each piece of them updates the line, and the end of the last one removes it."""
        if not self._on:
            yield from found
            return
        try:
            for source in found:
                yield source._replace(pieces=self._pieces(source))
        finally:
            if self._shown:
                self._write("")

    def _pieces(self, source: Source) -> Iterator[bytes]:
        size = 0
        for piece in source.pieces:
            size += len(piece)
            if time.monotonic() >= self._next:
                self._write(f"reading {in_a_line(source.name[-_NAME:])}: {size >> 20} MiB")
                self._shown = True
                self._next = time.monotonic() + _STEP
            yield piece

    def _write(self, text: str) -> None:
        sys.stderr.write(_CLEAR + text)
        sys.stderr.flush()
