"""Checks of what Python code gives to a simulation. A wrong value raises PinnerfsError."""

from __future__ import annotations

from typing import TypeGuard

from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.scenario.allocs import MAX_RETRIES
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.threshold import parse_threshold

__all__ = [
    "checked_microseconds",
    "checked_number",
    "checked_retries",
    "checked_seed",
    "checked_step",
    "checked_threshold",
    "no_record_file",
]


def checked_threshold(value: int | str) -> int:
    """Return a threshold in µs, signed, from one as `parse_threshold` takes it, or from a signed number of µs."""
    # What the kernel's s64 holds needs no parsing. Every write of page_pinner/threshold comes here.
    if _is_int(value) and -(1 << 63) <= value < 1 << 63:
        return value
    try:
        return parse_threshold(value)
    except ValueError as error:
        raise PinnerfsError(str(error)) from None


def checked_seed(value: int) -> int:
    """Return a seed of 64 bits."""
    return checked_number("seed", value, (1 << 64) - 1)


def checked_retries(value: int, what: str = "cma_retries") -> int:
    """Return a number of retries of a CMA allocation."""
    return checked_number(what, value, MAX_RETRIES)


def checked_number(what: str, value: int, most: int, least: int = 0) -> int:
    """Return a whole number from `least` to `most`."""
    if not _is_int(value) or not least <= value <= most:
        raise PinnerfsError(f"{what} = {value!r}: wanted a whole number from {least} to {most}")
    return value


def checked_step(value: int | str, what: str = "step") -> int:
    """Return a step in µs, from one in µs or from a time such as "5s"."""
    if not isinstance(value, str):
        return checked_microseconds(what, value)
    try:
        return parse_time(what, value)
    except ValueError as error:
        raise PinnerfsError(str(error)) from None


def checked_microseconds(what: str, value: int) -> int:
    """Return a whole number of µs."""
    if not _is_int(value):
        raise PinnerfsError(f"{what} = {value!r}: wanted a whole number of microseconds")
    return value


def no_record_file(kernel: Generation, file: str) -> PinnerfsError:
    """Return the error of a record file that this kernel does not have."""
    known = ", ".join(kernel.record_files)
    return PinnerfsError(f"kernel {kernel.name} has no record file {file!r}: it has {known}")


def _is_int(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)
