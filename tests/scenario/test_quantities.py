"""Quantities: a string of a number and its unit."""

from __future__ import annotations

import pytest

from pinnerfs.scenario.quantities import parse_rate, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "microseconds"),
    [
        ("0us", 0),
        ("7us", 7),
        ("7µs", 7),
        ("7μs", 7),
        ("300ms", 300_000),
        ("300 ms", 300_000),
        ("1.5s", 1_500_000),
        ("2min", 120_000_000),
        ("1h", 3_600_000_000),
        ("0.4us", 0),
        ("0.6us", 1),
        ("366.0000s", 366_000_000),
        ("8784h", 366 * 24 * 3600 * 10**6),
    ],
)
def test_times(text: str, microseconds: int) -> None:
    """A time is a number and a unit, and is kept in whole µs."""
    assert parse_time("hold", text) == microseconds


@pytest.mark.parametrize(
    "text",
    ["", "300", "ms", "-1s", "+1s", "1e3s", "1 000s", "1,5s", ".5s", "1.s", "1S", "1 s ", " 1s", "1m", "1sec", "٣s"],
)
def test_what_is_no_time(text: str) -> None:
    """Any other text is refused with its name, what came, the units and an example."""
    with pytest.raises(
        ValueError, match=r"^hold = .* must be a number and a unit \(us, ms, s, min, h\), such as '300ms'$"
    ) as caught:
        parse_time("hold", text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("value", [300, 0, 1.5, True, None])
def test_a_bare_number_is_no_time(value: object) -> None:
    """A bare number is refused with an example that has a unit."""
    with pytest.raises(ValueError, match=r"^hold = .* has no unit: write a string such as '300ms'$"):
        parse_time("hold", value)


@pytest.mark.parametrize("text", ["8785h", "99999999999999999999999h", "9" * 25 + "us"])
def test_no_time_is_longer_than_a_year(text: str) -> None:
    """A time beyond a year is refused: sums of thousands of times must fit into 64 bits."""
    with pytest.raises(ValueError, match="longer than a year"):
        parse_time("hold", text)


@pytest.mark.parametrize("parse", [parse_time, parse_size, parse_rate])
def test_a_number_of_a_million_digits(parse: object) -> None:
    """A number of a million digits is refused like any other text."""
    assert callable(parse)
    for text in ("9" * 1_000_010 + "s", "0." + "1" * 1_000_000 + "s"):
        with pytest.raises(ValueError, match="must be a number and a unit"):
            parse("hold", text)


@pytest.mark.parametrize(
    ("text", "size"), [("4096B", 4096), ("4KiB", 4096), ("64MiB", 64 << 20), ("1.5GiB", 3 << 29), ("1TiB", 1 << 40)]
)
def test_sizes(text: str, size: int) -> None:
    """A size is a number and a unit of bytes."""
    assert parse_size("size", text) == size


@pytest.mark.parametrize("text", ["64", "64MB", "64M", "-1KiB", "64 mib"])
def test_what_is_no_size(text: str) -> None:
    """Other texts, such as decimal units, are refused with the list of units."""
    with pytest.raises(ValueError, match=r"size = .* \(B, KiB, MiB, GiB, TiB\), such as '64MiB'"):
        parse_size("size", text)


def test_half_a_byte() -> None:
    """A size that is not a whole number of bytes is refused."""
    with pytest.raises(ValueError, match=r"size = '0\.3KiB' is not a whole number of bytes"):
        parse_size("size", "0.3KiB")


@pytest.mark.parametrize(
    ("text", "per_microsecond"),
    [("1/us", 1.0), ("1/µs", 1.0), ("2/ms", 0.002), ("100/s", 1e-4), ("60/min", 1e-6), ("36/h", 1e-8)],
)
def test_rates(text: str, per_microsecond: float) -> None:
    """A rate is a number and a unit, and is kept in events per µs."""
    assert parse_rate("rate", text) == pytest.approx(per_microsecond)


@pytest.mark.parametrize("text", ["0/s", "1.1/us", "1001/ms", "0.0009/h"])
def test_rates_out_of_bounds(text: str) -> None:
    """A rate is from 0.001 per hour to 1 per µs."""
    with pytest.raises(ValueError, match=r"rate = .* must be from 0.001/h to 1/us"):
        parse_rate("rate", text)
