"""A threshold as users write it, on the command line and in Python."""

from __future__ import annotations

from pinnerfs.kernel.attribute import parse_simple_attribute, to_signed
from pinnerfs.scenario.quantities import TimeTooLong, parse_time

__all__ = ["no_threshold", "parse_threshold"]


def no_threshold(kernel: str) -> str:
    """Return why a kernel without the file `threshold` refuses a threshold. `kernel` names it."""
    return f"{kernel} has no threshold: it records failed migrations alone; leave it out, or choose another kernel"


def parse_threshold(value: object) -> int:
    """Return a threshold in µs, signed: from a time such as "300ms", or a number as `page_pinner/threshold` takes it.

    Raise ValueError for anything else. -1 is refused as well: 18446744073709551615 is how the file takes it.
    """
    if isinstance(value, str):
        try:
            return parse_time("threshold", value)
        except TimeTooLong:
            raise
        except ValueError:
            number = value
    else:
        number = "" if isinstance(value, bool) or not isinstance(value, int) else f"{value:d}"
    try:
        return to_signed(parse_simple_attribute(number.encode(errors="surrogateescape")))
    except OSError:
        wanted = 'wanted microseconds from 0 on, or a time such as "300ms"'
        raise ValueError(f"threshold = {value!r}: {wanted}") from None
