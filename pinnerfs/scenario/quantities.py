"""The one grammar of quantities: a string with its unit, or a distribution to draw from.

Times are kept in whole µs, sizes in bytes, rates in events a µs.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from pinnerfs.kernel.pages import Int64s

__all__ = [
    "Bounds",
    "Choice",
    "Distribution",
    "Exponential",
    "Lognormal",
    "Normal",
    "Quantity",
    "Sampler",
    "Uniform",
    "parse_rate",
    "parse_size",
    "parse_time",
    "sampler",
]

TIMES = {"us": 1, "µs": 1, "μs": 1, "ms": 1000, "s": 10**6, "min": 60 * 10**6, "h": 3600 * 10**6}
SIZES = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}
RATES = {"/us": 1, "/µs": 1, "/μs": 1, "/ms": 10**3, "/s": 10**6, "/min": 60 * 10**6, "/h": 3600 * 10**6}

# A year: beyond any scenario, and thousands of them in a row stay below where 64 bits of µs end.
MAX_TIME = 366 * 24 * 3600 * 10**6

_QUANTITY = re.compile(r"(?P<number>[0-9]{1,25}(?:\.[0-9]{1,25})?) ?(?P<unit>\D*)", re.ASCII)


def _split(what: str, text: object, units: dict[str, int], example: str) -> tuple[Decimal, int]:
    if not isinstance(text, str):
        raise ValueError(f"{what} = {text!r} has no unit: write a string such as {example!r}")
    match = _QUANTITY.fullmatch(text)
    if match is None or match["unit"] not in units:
        known = ", ".join(unit for unit in units if unit.isascii())
        raise ValueError(f"{what} = {text!r} must be a number and a unit ({known}), such as {example!r}")
    return Decimal(match["number"]), units[match["unit"]]


def parse_time(what: str, text: object) -> int:
    """A time such as "300ms" in whole µs. ValueError names `what`, and says what was wanted and what came."""
    number, unit = _split(what, text, TIMES, "300ms")
    if number * unit > MAX_TIME:
        raise ValueError(f"{what} = {text!r} is longer than a year")
    return round(number * unit)


def parse_size(what: str, text: object) -> int:
    """A size such as "64MiB" in bytes. ValueError as `parse_time`, and where it is no whole number of bytes."""
    number, unit = _split(what, text, SIZES, "64MiB")
    if number * unit != int(number * unit):
        raise ValueError(f"{what} = {text!r} is no whole number of bytes")
    return int(number * unit)


def parse_rate(what: str, text: object) -> float:
    """A rate such as "100/s", in events a µs. ValueError as `parse_time`, and out of bounds."""
    number, unit = _split(what, text, RATES, "100/s")
    if not Decimal("0.001") / RATES["/h"] <= number / unit <= 1:
        raise ValueError(f"{what} = {text!r} must lie from 0.001/h to 1/us")
    return float(number / unit)


class Bounds(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """From `min` to `max`, both included."""

    min: str | int | float = "0us"
    max: str | int | float = "100h"

    def read(self, what: str) -> tuple[int, int]:
        """The bounds in µs. ValueError names `what` and what is wrong with them."""
        low, high = parse_time(f"{what}.min", self.min), parse_time(f"{what}.max", self.max)
        if low > high:
            raise ValueError(f"{what}.min = {self.min!r} lies above {what}.max = {self.max!r}")
        return low, high


class Uniform(Bounds, frozen=True, tag_field="dist", tag="uniform", forbid_unknown_fields=True, kw_only=True):
    """Every time from `min` to `max` is as likely."""

    min: str | int | float
    max: str | int | float


class Exponential(Bounds, frozen=True, tag_field="dist", tag="exponential", forbid_unknown_fields=True, kw_only=True):
    """Exponential with this mean."""

    mean: str | int | float


class Normal(Bounds, frozen=True, tag_field="dist", tag="normal", forbid_unknown_fields=True, kw_only=True):
    """Normal with this mean and standard deviation."""

    mean: str | int | float
    sd: str | int | float


class Lognormal(Bounds, frozen=True, tag_field="dist", tag="lognormal", forbid_unknown_fields=True, kw_only=True):
    """Lognormal: half of the draws below `median`; `sigma` is the standard deviation of the logarithm."""

    median: str | int | float
    sigma: float


class Choice(msgspec.Struct, frozen=True, tag_field="dist", tag="choice", forbid_unknown_fields=True, kw_only=True):
    """One of `values`, in proportion to `weights`; without weights each is as likely."""

    values: list[str | int | float]
    weights: list[float] | None = None


Distribution = Uniform | Exponential | Normal | Lognormal | Choice
# Numbers are let through to `sampler`, whose refusal says what a quantity looks like.
Quantity = str | int | float | Distribution


class Sampler:
    """Draws times in whole µs, within [low, high]: `draw(rng, n)` gives n of them."""

    def __init__(self, distribution: Distribution | int, what: str) -> None:
        self._distribution = distribution
        if isinstance(distribution, int):
            self._low = self._high = distribution
        elif isinstance(distribution, Choice):
            self._init_choice(distribution, what)
        else:
            self._low, self._high = distribution.read(what)
            self._init_parameters(distribution, what)

    def _init_choice(self, choice: Choice, what: str) -> None:
        if not choice.values:
            raise ValueError(f"{what}.values is empty")
        self._values = [parse_time(f"{what}.values", value) for value in choice.values]
        weights = [1.0] * len(choice.values) if choice.weights is None else choice.weights
        if len(weights) != len(choice.values):
            raise ValueError(f"{what}.weights has {len(weights)} entries for {len(choice.values)} values")
        if min(weights) < 0 or not 0 < sum(weights) < math.inf:
            raise ValueError(f"{what}.weights = {weights!r} must be numbers from 0 on, with a sum above 0")
        total = sum(weights)
        self._weights = [weight / total for weight in weights]
        self._arrays: tuple[Int64s, npt.NDArray[np.float64]] | None = None  # the same, once something is drawn
        self._low, self._high = min(self._values), max(self._values)

    def _init_parameters(self, distribution: Uniform | Exponential | Normal | Lognormal, what: str) -> None:
        match distribution:
            case Exponential():
                self._mean = self._middle(f"{what}.mean", distribution.mean, distribution)
            case Normal():
                self._mean = self._middle(f"{what}.mean", distribution.mean, distribution)
                self._sd = parse_time(f"{what}.sd", distribution.sd)
            case Lognormal():
                self._mean = self._middle(f"{what}.median", distribution.median, distribution)
                if self._mean == 0:
                    raise ValueError(f"{what}.median = {distribution.median!r} must be above 0")
                if not 0 <= distribution.sigma <= 10:
                    raise ValueError(f"{what}.sigma = {distribution.sigma!r} must lie from 0 to 10")

    def _middle(self, what: str, middle: object, bounds: Bounds) -> int:
        """A mean or median: outside of the bounds, it would have most draws clipped to one and the same time."""
        time = parse_time(what, middle)
        if not self._low <= time <= self._high:
            raise ValueError(f"{what} = {middle!r} must lie from min = {bounds.min!r} to max = {bounds.max!r}")
        return time

    @property
    def mean(self) -> float:
        """The mean in µs, or rather more than less: what is clipped is not reckoned to the last."""
        match self._distribution:
            case int():
                mean: float = self._distribution
            case Choice():
                mean = sum(value * weight for value, weight in zip(self._values, self._weights, strict=True))
            case Uniform():
                mean = (self._low + self._high) / 2
            case Exponential():
                mean = self._mean + self._low
            case Normal():
                mean = self._mean + self._sd
            case Lognormal():
                mean = self._mean * math.exp(self._distribution.sigma**2 / 2) + self._low
        return min(mean, self._high)

    @property
    def median(self) -> float:
        """Half of the draws are at least so long (µs)."""
        match self._distribution:
            case Choice():
                left = 0.5
                for value, weight in sorted(zip(self._values, self._weights, strict=True), reverse=True):
                    left -= weight
                    if left <= 0:
                        return value
                return self._low
            case int() | Uniform():
                return (self._low + self._high) / 2
            case Exponential():
                return max(self._low, self._mean * math.log(2))
            case Normal() | Lognormal():
                return self._mean

    @property
    def longest(self) -> float:
        """Longer draws (µs) are one in a thousand million."""
        match self._distribution:
            case Exponential():
                longest: float = self._mean * 21
            case Normal():
                longest = self._mean + 6 * self._sd
            case Lognormal():
                longest = self._mean * math.exp(6 * self._distribution.sigma)
            case Choice():
                longest = max(value for value, weight in zip(self._values, self._weights, strict=True) if weight)
            case int() | Uniform():
                longest = self._high
        return min(longest, self._high)

    def draw(self, rng: np.random.Generator, n: int) -> Int64s:
        """n draws. A fixed quantity consumes no randomness."""
        import numpy as np  # not above: to look at a scenario takes a tenth of a second less without it

        match self._distribution:
            case int():
                return np.full(n, self._distribution, dtype=np.int64)
            case Choice():
                if self._arrays is None:
                    self._arrays = np.array(self._values), np.array(self._weights)
                values, weights = self._arrays
                return values[rng.choice(len(values), size=n, p=weights)]
            case Uniform():
                return rng.integers(self._low, self._high, size=n, endpoint=True)
            case Exponential():
                draws = rng.exponential(self._mean, n)
            case Normal():
                draws = rng.normal(self._mean, self._sd, n)
            case Lognormal():
                draws = rng.lognormal(math.log(self._mean), self._distribution.sigma, n)
        # Clipped first: a draw may lie beyond what 64 bits hold.
        return np.rint(np.minimum(np.maximum(draws, self._low), self._high)).astype(np.int64)


def sampler(what: str, quantity: Quantity) -> Sampler:
    """A sampler of times for a quantity of a scenario. ValueError names `what` and what is wrong with it."""
    if isinstance(quantity, str | int | float):
        return Sampler(parse_time(what, quantity), what)
    return Sampler(quantity, what)
