"""Distributions of times."""

from __future__ import annotations

import msgspec
import pytest

from pinnerfs.scenario.distributions import Quantity, read_quantity


def quantity(value: object) -> Quantity:
    """Return a quantity as a file has it."""
    return msgspec.convert(value, Quantity)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("value", "words"),
    [
        ({"dist": "uniform", "min": "5us", "max": "4us"}, r"hold.min = '5us' is above hold.max = '4us'"),
        ({"dist": "uniform", "min": 5, "max": "4us"}, r"hold.min = 5 has no unit"),
        ({"dist": "exponential", "mean": 5}, r"hold.mean = 5 has no unit"),
        ({"dist": "normal", "mean": "5us", "sd": 1.5}, r"hold.sd = 1.5 has no unit"),
        ({"dist": "lognormal", "median": "0us", "sigma": 1}, r"hold.median = '0us' must be above 0"),
        (
            {"dist": "exponential", "mean": "5ms", "min": "6ms"},
            r"^hold.mean = '5ms' must be from min = '6ms' to max = '100h'$",
        ),
        ({"dist": "normal", "mean": "5ms", "sd": "1ms", "max": "4999us"}, r"^hold.mean = '5ms' must be from min = "),
        ({"dist": "lognormal", "median": "101h", "sigma": 1}, r"^hold.median = '101h' must be .* to max = '100h'$"),
        ({"dist": "lognormal", "median": "5us", "sigma": 11}, r"hold.sigma = 11.0 must be from 0 to 10"),
        ({"dist": "lognormal", "median": "5us", "sigma": -1}, r"hold.sigma = -1.0 must be from 0 to 10"),
        ({"dist": "lognormal", "median": "5us", "sigma": float("nan")}, r"hold.sigma = nan must be from 0 to 10"),
        ({"dist": "choice", "values": []}, r"hold.values is empty"),
        ({"dist": "choice", "values": [1]}, r"hold.values = 1 has no unit"),
        ({"dist": "choice", "values": ["1us"], "weights": [1, 2]}, r"hold.weights has 2 entries for 1 value$"),
        ({"dist": "choice", "values": ["1us"], "weights": [0]}, r"with a sum above 0"),
        ({"dist": "choice", "values": ["1us", "2us"], "weights": [2, -1]}, r"must be numbers of at least 0"),
        ({"dist": "choice", "values": ["1us"], "weights": [float("inf")]}, r"with a sum above 0"),
        ({"dist": "choice", "values": ["1us"], "weights": [float("nan")]}, r"with a sum above 0"),
    ],
)
def test_refused_distributions(value: dict[str, object], words: str) -> None:
    """A wrong distribution is refused with the name of the parameter and the reason."""
    with pytest.raises(ValueError, match=words):
        read_quantity("hold", quantity(value))
