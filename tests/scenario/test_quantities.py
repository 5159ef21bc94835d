"""Quantities: a string with its unit, or a distribution."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pinnerfs.scenario.quantities import Quantity, Sampler, parse_rate, parse_size, parse_time, sampler


def quantity(value: object) -> Quantity:
    """A quantity as it comes out of a file."""
    return msgspec.convert(value, Quantity)  # type: ignore[no-any-return]


def draws(value: object, n: int = 10_000) -> list[int]:
    """n draws of a quantity."""
    found = sampler("hold", quantity(value)).draw(np.random.default_rng(1), n)
    assert found.dtype == np.int64
    return [int(one) for one in found]


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
    """Where a unit is needed, a bare number is refused with words that say so."""
    with pytest.raises(ValueError, match=r"^hold = .* has no unit: write a string such as '300ms'$"):
        parse_time("hold", value)


@pytest.mark.parametrize("text", ["8785h", "99999999999999999999999h", "9" * 25 + "us"])
def test_no_time_is_longer_than_a_year(text: str) -> None:
    """A time beyond a year is refused: sums of thousands of times must fit into 64 bits."""
    with pytest.raises(ValueError, match="longer than a year"):
        parse_time("hold", text)


@pytest.mark.parametrize("parse", [parse_time, parse_size, parse_rate])
def test_a_number_of_a_million_digits(parse: object) -> None:
    """A number beyond all arithmetic is refused as any other text is."""
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
    """Decimal units, bare numbers and the rest are refused with the units that there are."""
    with pytest.raises(ValueError, match=r"size = .* \(B, KiB, MiB, GiB, TiB\), such as '64MiB'"):
        parse_size("size", text)


def test_half_a_byte() -> None:
    """A size that is no whole number of bytes is refused."""
    with pytest.raises(ValueError, match=r"size = '0\.3KiB' is no whole number of bytes"):
        parse_size("size", "0.3KiB")


@pytest.mark.parametrize(
    ("text", "per_microsecond"),
    [("1/us", 1.0), ("1/µs", 1.0), ("2/ms", 0.002), ("100/s", 1e-4), ("60/min", 1e-6), ("36/h", 1e-8)],
)
def test_rates(text: str, per_microsecond: float) -> None:
    """A rate is a number and a unit, and is kept in events a µs."""
    assert parse_rate("rate", text) == pytest.approx(per_microsecond)


@pytest.mark.parametrize("text", ["0/s", "1.1/us", "1001/ms", "0.0009/h"])
def test_rates_out_of_bounds(text: str) -> None:
    """A rate lies from 0.001 an hour to one a µs."""
    with pytest.raises(ValueError, match=r"rate = .* must lie from 0.001/h to 1/us"):
        parse_rate("rate", text)


def test_a_fixed_quantity_takes_no_randomness() -> None:
    """A plain time gives the same value each time, and leaves the generator as it was."""
    rng = np.random.default_rng(5)
    before = rng.bit_generator.state
    assert sampler("hold", "3ms").draw(rng, 4).tolist() == [3000] * 4
    assert rng.bit_generator.state == before


def test_uniform() -> None:
    """Every time from min to max is drawn, both ends included."""
    assert set(draws({"dist": "uniform", "min": "3us", "max": "6us"})) == {3, 4, 5, 6}


def test_exponential() -> None:
    """Draws have the mean that is asked for."""
    assert np.mean(draws({"dist": "exponential", "mean": "10ms"})) == pytest.approx(10_000, rel=0.05)


def test_normal() -> None:
    """Draws have the mean and the standard deviation that are asked for."""
    found = draws({"dist": "normal", "mean": "10ms", "sd": "1ms"})
    assert np.mean(found) == pytest.approx(10_000, rel=0.02)
    assert np.std(found) == pytest.approx(1_000, rel=0.05)


def test_lognormal() -> None:
    """Half of the draws lie below the median, and sigma is the deviation of the logarithm."""
    found = draws({"dist": "lognormal", "median": "10ms", "sigma": 0.5})
    assert np.median(found) == pytest.approx(10_000, rel=0.05)
    assert np.std(np.log(found)) == pytest.approx(0.5, rel=0.05)


def test_choice() -> None:
    """Values come in proportion to their weights; one of weight 0 never does."""
    found = draws({"dist": "choice", "values": ["1us", "2us", "3us"], "weights": [3, 1, 0]})
    assert set(found) == {1, 2}
    assert found.count(1) == pytest.approx(7_500, rel=0.05)


def test_choice_without_weights() -> None:
    """Without weights each value is as likely."""
    assert draws({"dist": "choice", "values": ["1us", "2us"]}).count(1) == pytest.approx(5_000, rel=0.05)


@pytest.mark.parametrize(
    "value",
    [
        {"dist": "normal", "mean": "10ms", "sd": "100ms", "min": "9ms", "max": "12ms"},
        {"dist": "exponential", "mean": "10ms", "min": "9ms", "max": "12ms"},
        {"dist": "lognormal", "median": "10ms", "sigma": 10, "min": "9ms", "max": "12ms"},
    ],
)
def test_draws_outside_of_the_bounds_are_clipped(value: dict[str, object]) -> None:
    """No draw lies outside of min and max, and those that would lie on them: they are not drawn again."""
    found = draws(value)
    assert (min(found), max(found)) == (9_000, 12_000)
    assert found.count(9_000) > 1_000 and found.count(12_000) > 1_000


def test_draws_are_never_negative() -> None:
    """Without bounds of its own a normal is clipped at 0."""
    assert min(draws({"dist": "normal", "mean": "1us", "sd": "1s"})) == 0


def test_the_largest_draws_fit() -> None:
    """A draw beyond 64 bits is clipped to 100 hours, and not wrapped around."""
    found = draws({"dist": "lognormal", "median": "100h", "sigma": 10})
    assert max(found) == 100 * 3600 * 10**6
    assert min(found) >= 0


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"dist": "uniform", "min": "5us", "max": "4us"}, r"hold.min = '5us' lies above hold.max = '4us'"),
        ({"dist": "uniform", "min": 5, "max": "4us"}, r"hold.min = 5 has no unit"),
        ({"dist": "exponential", "mean": 5}, r"hold.mean = 5 has no unit"),
        ({"dist": "normal", "mean": "5us", "sd": 1.5}, r"hold.sd = 1.5 has no unit"),
        ({"dist": "lognormal", "median": "0us", "sigma": 1}, r"hold.median = '0us' must be above 0"),
        (
            {"dist": "exponential", "mean": "5ms", "min": "6ms"},
            r"^hold.mean = '5ms' must lie from min = '6ms' to max = '100h'$",
        ),
        ({"dist": "normal", "mean": "5ms", "sd": "1ms", "max": "4999us"}, r"^hold.mean = '5ms' must lie from min = "),
        ({"dist": "lognormal", "median": "101h", "sigma": 1}, r"^hold.median = '101h' must lie .* to max = '100h'$"),
        ({"dist": "lognormal", "median": "5us", "sigma": 11}, r"hold.sigma = 11.0 must lie from 0 to 10"),
        ({"dist": "lognormal", "median": "5us", "sigma": -1}, r"hold.sigma = -1.0 must lie from 0 to 10"),
        ({"dist": "lognormal", "median": "5us", "sigma": float("nan")}, r"hold.sigma = nan must lie from 0 to 10"),
        ({"dist": "choice", "values": []}, r"hold.values is empty"),
        ({"dist": "choice", "values": [1]}, r"hold.values = 1 has no unit"),
        ({"dist": "choice", "values": ["1us"], "weights": [1, 2]}, r"hold.weights has 2 entries for 1 values"),
        ({"dist": "choice", "values": ["1us"], "weights": [0]}, r"with a sum above 0"),
        ({"dist": "choice", "values": ["1us", "2us"], "weights": [2, -1]}, r"must be numbers from 0 on"),
        ({"dist": "choice", "values": ["1us"], "weights": [float("inf")]}, r"with a sum above 0"),
        ({"dist": "choice", "values": ["1us"], "weights": [float("nan")]}, r"with a sum above 0"),
    ],
)
def test_refused_distributions(value: dict[str, object], words: str) -> None:
    """A distribution that cannot be is refused with the name of the parameter and what is wrong."""
    with pytest.raises(ValueError, match=words):
        sampler("hold", quantity(value))


def test_same_generator_same_draws() -> None:
    """Draws come from the generator alone."""
    one: Sampler = sampler("hold", quantity({"dist": "normal", "mean": "5ms", "sd": "1ms"}))
    first = one.draw(np.random.default_rng(3), 10).tolist()
    assert one.draw(np.random.default_rng(3), 10).tolist() == first
