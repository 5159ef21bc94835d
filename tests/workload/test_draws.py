"""Draws of times: each distribution, its bounds, and its use of the generator."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest

from pinnerfs.scenario.distributions import Quantity, read_quantity
from pinnerfs.workload.draws import draw


def quantity(value: object) -> Quantity:
    """Return a quantity as a file has it."""
    return msgspec.convert(value, Quantity)  # type: ignore[no-any-return]


def draws(value: object, n: int = 10_000) -> list[int]:
    """n draws of a quantity."""
    found = draw(read_quantity("hold", quantity(value)), np.random.default_rng(1), n)
    assert found.dtype == np.int64
    return [int(one) for one in found]


def test_a_fixed_quantity_takes_no_randomness() -> None:
    """A plain time gives the same value each time, and leaves the generator as it was."""
    rng = np.random.default_rng(5)
    before = rng.bit_generator.state
    assert draw(read_quantity("hold", "3ms"), rng, 4).tolist() == [3000] * 4
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


def test_same_generator_same_draws() -> None:
    """Draws come from the generator alone."""
    one = read_quantity("hold", quantity({"dist": "normal", "mean": "5ms", "sd": "1ms"}))
    first = draw(one, np.random.default_rng(3), 10).tolist()
    assert draw(one, np.random.default_rng(3), 10).tolist() == first
