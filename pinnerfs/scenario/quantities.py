"""The grammar of quantities: a string of a number and its unit.

Times are kept in whole µs, sizes in bytes, rates in events per µs.
"""

from __future__ import annotations

import re
from decimal import Decimal

from pinnerfs.scenario.messages import shown

__all__ = ["TimeTooLong", "parse_rate", "parse_size", "parse_time"]

TIMES = {"us": 1, "µs": 1, "μs": 1, "ms": 1000, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6}
SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
RATES = {"/us": 1, "/µs": 1, "/μs": 1, "/ms": 10**3, "/s": 10**6, "/min": 60 * 10**6, "/h": 3600 * 10**6}

# A leap year. Sums of thousands of such times still fit into 64 bits of µs.
MAX_TIME = 366 * 24 * 3600 * 10**6

_QUANTITY = re.compile(r"(?P<number>[0-9]{1,25}(?:\.[0-9]{1,25})?) ?(?P<unit>\D*)", re.ASCII)


class TimeTooLong(ValueError):
    """A time with a unit that is longer than MAX_TIME."""


def _split(what: str, text: object, units: dict[str, int], example: str) -> tuple[Decimal, int]:
    if not isinstance(text, str):
        raise ValueError(f"{what} = {shown(text)} has no unit: write a string such as {example!r}")
    match = _QUANTITY.fullmatch(text)
    if match is None or match["unit"] not in units:
        known = ", ".join(unit for unit in units if unit.isascii())
        raise ValueError(f"{what} = {shown(text)} must be a number and a unit ({known}), such as {example!r}")
    return Decimal(match["number"]), units[match["unit"]]


def parse_time(what: str, text: object) -> int:
    """Return a time such as "300ms" in whole µs. Raise ValueError that names `what` if it is not one."""
    number, unit = _split(what, text, TIMES, "300ms")
    time = number * unit
    if time > MAX_TIME:
        raise TimeTooLong(f"{what} = {shown(text)} is longer than a year")
    return round(time)


def parse_size(what: str, text: object) -> int:
    """Return a size such as "64MiB" in bytes. Raise ValueError that names `what` if it is not one."""
    number, unit = _split(what, text, SIZES, "64MiB")
    size = number * unit
    if size != int(size):
        raise ValueError(f"{what} = {shown(text)} is not a whole number of bytes")
    return int(size)


def parse_rate(what: str, text: object) -> float:
    """Return a rate such as "100/s" in events per µs. Raise ValueError that names `what` if it is not one."""
    number, unit = _split(what, text, RATES, "100/s")
    if not Decimal("0.001") / RATES["/h"] <= number / unit <= 1:
        raise ValueError(f"{what} = {shown(text)} must be from 0.001/h to 1/us")
    return float(number / unit)
