"""Thresholds as users write them."""

from __future__ import annotations

import pytest

from pinnerfs.threshold import parse_threshold


@pytest.mark.parametrize(
    ("value", "threshold"),
    [
        (0, 0),
        (300_000, 300_000),
        ("300ms", 300_000),
        ("1s", 1_000_000),
        ("1.5 s", 1_500_000),
        ("0us", 0),
        ("300000", 300_000),
        ("300000\n", 300_000),
        ("+5", 5),
        ("0x10", 16),
        ("010", 8),
        (1 << 63, -(1 << 63)),
        ((1 << 64) - 1, -1),
        ("18446744073709551615", -1),
    ],
)
def test_a_time_or_what_the_file_takes(value: int | str, threshold: int) -> None:
    """A time has a unit; a number is µs, read as the kernel reads it from the file."""
    assert parse_threshold(value) == threshold


@pytest.mark.parametrize("value", [-1, 1 << 64, 1.5, True, None, "-1", "", "s", "1 x", "-1s", "9" * 20, "9999999h"])
def test_anything_else(value: object) -> None:
    """Anything else is refused with the value that came and what was wanted."""
    with pytest.raises(ValueError) as error:
        parse_threshold(value)
    assert str(error.value) == f'threshold = {value!r}: wanted microseconds from 0 on, or a time such as "300ms"'
