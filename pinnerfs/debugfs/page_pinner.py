"""The directory `page_pinner/`, with the files that a kernel's page_pinner has."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial

from pinnerfs.debugfs.attributes import number_file
from pinnerfs.debugfs.declaration import Directory, File
from pinnerfs.debugfs.device import Device
from pinnerfs.kernel.attribute import to_signed
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.page_pinner.layouts import RING_SIZE

__all__ = ["OpenRecords", "page_pinner_directory"]

log = logging.getLogger(__name__)

RECORD_BUFFER = 4096  # mm/page_pinner.c formats a record into one page


class OpenRecords:
    """A record file: each read returns one record, and the position counts reads.

    Imitates read_longterm_page_pinner(), read_alloc_contig_failed() and the read of `buffer`. `size` returns the number
    of slots of the file's ring, which is RING_SIZE by default. While `enabled` returns False, every read is EINVAL.
    """

    def __init__(
        self,
        device: Device,
        file: str = "longterm_pinner",
        size: Callable[[], int] | None = None,
        enabled: Callable[[], bool] | None = None,
    ) -> None:
        self._device = device
        self._file = file
        self._size = size
        self._enabled = enabled
        self._position = 0

    def read(self, size: int) -> bytes:
        if self._enabled is not None and not self._enabled():
            raise OSError(errno.EINVAL, "failure_tracking is 0")
        text = self._device.text(self._position, self._file)
        # Strictly shorter: the kernel's buffer must also hold the NUL that snprintf() appends.
        if text and (len(text) >= size or len(text) >= RECORD_BUFFER):
            raise OSError(errno.ENOMEM, "the record does not fit into the buffer")
        # The kernel advances the position at an empty slot as well, but not behind the last slot.
        if self._position < (RING_SIZE if self._size is None else self._size()):
            self._position += 1
        return text

    def write(self, data: bytes) -> None:
        raise OSError(errno.EINVAL, "the file has no write operation")


def page_pinner_directory(device: Device, generation: Generation) -> Directory:
    """Declare `page_pinner/` with the generation's files, in the order in which that kernel creates them."""

    def put_threshold(value: int) -> None:
        threshold = to_signed(value)
        device.write_threshold(threshold)
        log.info("threshold set to %d us: all records of longterm_pinner cleared", threshold)

    def put_tracking(value: int) -> None:
        device.write_tracking(bool(value))
        log.info("failure_tracking set to %d", bool(value))

    def put_size(value: int) -> None:
        device.write_buffer_size(value)
        log.info("buffer_size set to %d: all records of buffer cleared", value)

    files = [
        File("longterm_pinner", 0o444, partial(OpenRecords, device)),
        number_file("threshold", device.read_threshold, put_threshold),
        File(
            "alloc_contig_failed",
            0o444,
            partial(OpenRecords, device, "alloc_contig_failed", enabled=device.read_tracking),
        ),
        File("buffer", 0o444, partial(OpenRecords, device, "buffer", device.read_buffer_size, device.read_tracking)),
        number_file("failure_tracking", device.read_tracking, put_tracking),
        number_file("buffer_size", device.read_buffer_size, put_size),
    ]
    by_name = {file.name: file for file in files}
    return Directory("page_pinner", 0o755, [by_name[name] for name in generation.files])
