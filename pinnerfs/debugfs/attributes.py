"""What an open file of page_pinner/ answers to read and write."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Protocol

from pinnerfs.kernel.attribute import parse_simple_attribute, to_signed

if TYPE_CHECKING:
    from pinnerfs.debugfs.device import Device

__all__ = ["FILES", "Failures", "OpenFile", "OpenRecords", "OpenSimpleAttribute"]

log = logging.getLogger(__name__)

# mm/page_pinner.c prints a record into one page.
RECORD_BUFFER = 4096


class OpenFile(Protocol):
    """An open file. Both calls raise OSError with the kernel's errno."""

    def read(self, size: int) -> bytes:
        """The next read of at most `size` bytes; b"" at the end."""

    def write(self, data: bytes) -> None:
        """One write, accepted whole or refused."""


class OpenRecords:
    """`longterm_pinner`: one record a read, its position counted in reads. Imitates `read_longterm_page_pinner`."""

    def __init__(self, device: Device) -> None:
        self._device = device
        self._position = 0

    def read(self, size: int) -> bytes:
        text = self._device.text(self._position)
        # The kernel's buffer must hold the NUL that snprintf puts behind the text, too.
        if text and (len(text) >= size or len(text) >= RECORD_BUFFER):
            raise OSError(errno.ENOMEM, "the record does not fit")
        # A read that meets the end moves the position on as well.
        self._position += 1
        return text

    def write(self, data: bytes) -> None:
        raise OSError(errno.EINVAL, "the file has no write")


class OpenSimpleAttribute:
    """A simple attribute: one number as text. Imitates `simple_attr_read` and `simple_attr_write` of libfs."""

    def __init__(self, get: Callable[[], int], put: Callable[[int], None]) -> None:
        self._get = get
        self._put = put
        self._text = b""
        self._position = 0

    def read(self, size: int) -> bytes:
        if self._position == 0:
            self._text = b"%d\n" % self._get()
        part = self._text[self._position : self._position + size]
        self._position += len(part)
        return part

    def write(self, data: bytes) -> None:
        self._put(parse_simple_attribute(data))


class Failures:
    """`alloc_contig_failed` and `failure_tracking`. No scenario has allocations that fail: the file stays empty."""

    def __init__(self) -> None:
        self.tracking = True


class OpenFailures:
    """`alloc_contig_failed`: refuses to be read while tracking is off. Imitates `read_alloc_contig_failed`."""

    def __init__(self, failures: Failures) -> None:
        self._failures = failures

    def read(self, size: int) -> bytes:
        if not self._failures.tracking:
            raise OSError(errno.EINVAL, "failure tracking is off")
        return b""

    def write(self, data: bytes) -> None:
        raise OSError(errno.EINVAL, "the file has no write")


def _longterm_pinner(device: Device, failures: Failures) -> Callable[[], OpenFile]:
    return lambda: OpenRecords(device)


def _threshold(device: Device, failures: Failures) -> Callable[[], OpenFile]:
    def get() -> int:
        return device.threshold

    def put(value: int) -> None:
        device.write_threshold(to_signed(value))
        log.info("threshold is %d us, and the records are cleared", to_signed(value))

    return lambda: OpenSimpleAttribute(get, put)


def _alloc_contig_failed(device: Device, failures: Failures) -> Callable[[], OpenFile]:
    return lambda: OpenFailures(failures)


def _failure_tracking(device: Device, failures: Failures) -> Callable[[], OpenFile]:
    def get() -> int:
        return failures.tracking

    def put(value: int) -> None:
        failures.tracking = bool(value)

    return lambda: OpenSimpleAttribute(get, put)


# Every file that some generation has: its permissions, and what makes the function that opens it.
FILES: dict[str, tuple[int, Callable[[Device, Failures], Callable[[], OpenFile]]]] = {
    "longterm_pinner": (0o444, _longterm_pinner),
    "threshold": (0o644, _threshold),
    "alloc_contig_failed": (0o444, _alloc_contig_failed),
    "failure_tracking": (0o644, _failure_tracking),
}
