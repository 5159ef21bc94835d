"""Draws of times: each distribution, its bounds, and its use of the generator."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pinnerfs.scenario.distributions import Quantity, read_quantity
from pinnerfs.workload.draws import draw


def quantity(value: object) -> Quantity:
    """Return a quantity as it is read from a file."""
    return msgspec.convert(value, Quantity)  # type: ignore[no-any-return]


def draws(value: object, n: int = 10_000) -> list[int]:
    """Return n draws of a quantity."""
    found = draw(read_quantity("hold", quantity(value)), np.random.default_rng(1), n)
    assert found.dtype == np.int64
    return [int(one) for one in found]


def test_a_fixed_quantity_takes_no_randomness() -> None:
    """A fixed time gives the same value each time and uses no randomness."""
    rng = np.random.default_rng(5)
    before = rng.bit_generator.state
    assert draw(read_quantity("hold", "3ms"), rng, 4).tolist() == [3000] * 4
    assert rng.bit_generator.state == before


def test_uniform() -> None:
    """Every time from min to max is drawn, including both ends."""
    assert set(draws({"dist": "uniform", "min": "3us", "max": "6us"})) == {3, 4, 5, 6}


def test_exponential() -> None:
    """Draws have the given mean."""
    assert np.mean(draws({"dist": "exponential", "mean": "10ms"})) == pytest.approx(10_000, rel=0.05)


def test_normal() -> None:
    """Draws have the given mean and standard deviation."""
    found = draws({"dist": "normal", "mean": "10ms", "sd": "1ms"})
    assert np.mean(found) == pytest.approx(10_000, rel=0.02)
    assert np.std(found) == pytest.approx(1_000, rel=0.05)


def test_lognormal() -> None:
    """Half of the draws are below the median, and sigma is the deviation of the logarithm."""
    found = draws({"dist": "lognormal", "median": "10ms", "sigma": 0.5})
    assert np.median(found) == pytest.approx(10_000, rel=0.05)
    assert np.std(np.log(found)) == pytest.approx(0.5, rel=0.05)


def test_choice() -> None:
    """Values are drawn in proportion to their weights; a value of weight 0 never is."""
    found = draws({"dist": "choice", "values": ["1us", "2us", "3us"], "weights": [3, 1, 0]})
    assert set(found) == {1, 2}
    assert found.count(1) == pytest.approx(7_500, rel=0.05)


def test_choice_without_weights() -> None:
    """Without weights all values are equally likely."""
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
    """Draws outside of min and max become min or max; they are not drawn again."""
    found = draws(value)
    assert (min(found), max(found)) == (9_000, 12_000)
    assert found.count(9_000) > 1_000 and found.count(12_000) > 1_000


def test_draws_are_never_negative() -> None:
    """A normal distribution without bounds is clipped at 0."""
    assert min(draws({"dist": "normal", "mean": "1us", "sd": "1s"})) == 0


def test_the_largest_draws_fit() -> None:
    """A draw beyond 64 bits is clipped to 100 hours; it does not wrap around."""
    found = draws({"dist": "lognormal", "median": "100h", "sigma": 10})
    assert max(found) == 100 * 3600 * 10**6
    assert min(found) >= 0


def test_same_generator_same_draws() -> None:
    """Draws depend on the generator alone."""
    one = read_quantity("hold", quantity({"dist": "normal", "mean": "5ms", "sd": "1ms"}))
    first = draw(one, np.random.default_rng(3), 10).tolist()
    assert draw(one, np.random.default_rng(3), 10).tolist() == first
