"""What a replay plays: the records of a device as bytes, with its settings and its other files."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from pinnerfs.kernel.page_pinner.generations import Generation

__all__ = ["Entry", "Recording"]


class Entry(NamedTuple):
    """A record.

    text: its bytes, with the empty line at its end. time: when it entered the ring, in µs of a time that begins with
    the recording. duration: of a long-term pin, in µs; None for a record that no threshold concerns.
    """

    text: bytes
    time: int
    duration: int | None


class Recording(NamedTuple):
    """What a capture has of one device.

    records: by record file, the oldest first. threshold: in µs, signed, below all durations.
    tracking, buffer_size: the settings of those names. files: the other files, by path below the debugfs root.
    notes: what was left out, and what the capture does not tell; a line each.
    """

    generation: Generation
    records: Mapping[str, tuple[Entry, ...]]
    threshold: int
    tracking: bool
    buffer_size: int
    files: Mapping[str, bytes]
    notes: tuple[str, ...]
