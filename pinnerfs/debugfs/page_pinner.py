"""The directory `page_pinner/`, with the files that a kernel's page_pinner has."""

from __future__ import annotations

import errno
import logging
from functools import partial

from pinnerfs.debugfs.attributes import number_file
from pinnerfs.debugfs.declaration import Directory, File
from pinnerfs.debugfs.device import Device
from pinnerfs.kernel.attribute import to_signed
from pinnerfs.kernel.page_pinner.generations import Generation

__all__ = ["FailureTracking", "OpenFailures", "OpenRecords", "page_pinner_directory"]

log = logging.getLogger(__name__)

RECORD_BUFFER = 4096  # mm/page_pinner.c formats a record into one page


class OpenRecords:
    """`longterm_pinner`: each read returns one record, and the position counts reads.

    Imitates read_longterm_page_pinner().
    """

    def __init__(self, device: Device) -> None:
        self._device = device
        self._position = 0

    def read(self, size: int) -> bytes:
        text = self._device.text(self._position)
        # Strictly shorter: the kernel's buffer must also hold the NUL that snprintf() appends.
        if text and (len(text) >= size or len(text) >= RECORD_BUFFER):
            raise OSError(errno.ENOMEM, "the record does not fit into the buffer")
        # The kernel advances the position at the end of the ring as well.
        self._position += 1
        return text

    def write(self, data: bytes) -> None:
        raise OSError(errno.EINVAL, "the file has no write operation")


class FailureTracking:
    """The switch behind `failure_tracking`."""

    def __init__(self) -> None:
        self.enabled = True


class OpenFailures:
    """`alloc_contig_failed`: empty, as no allocation fails yet; EINVAL while tracking is off.

    Imitates read_alloc_contig_failed().
    """

    def __init__(self, tracking: FailureTracking) -> None:
        self._tracking = tracking

    def read(self, size: int) -> bytes:
        if not self._tracking.enabled:
            raise OSError(errno.EINVAL, "failure tracking is off")
        return b""

    def write(self, data: bytes) -> None:
        raise OSError(errno.EINVAL, "the file has no write operation")


def page_pinner_directory(device: Device, generation: Generation) -> Directory:
    """Declare `page_pinner/` with the generation's files, in the order in which that kernel creates them."""
    tracking = FailureTracking()

    def get_threshold() -> int:
        return device.threshold

    def put_threshold(value: int) -> None:
        device.write_threshold(to_signed(value))
        log.info("threshold set to %d us: all records cleared", to_signed(value))

    def get_tracking() -> int:
        return tracking.enabled

    def put_tracking(value: int) -> None:
        tracking.enabled = bool(value)

    files = [
        File("longterm_pinner", 0o444, partial(OpenRecords, device)),
        number_file("threshold", get_threshold, put_threshold),
        File("alloc_contig_failed", 0o444, partial(OpenFailures, tracking)),
        number_file("failure_tracking", get_tracking, put_tracking),
    ]
    by_name = {file.name: file for file in files}
    return Directory("page_pinner", 0o755, [by_name[name] for name in generation.files])
