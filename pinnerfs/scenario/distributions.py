"""Distributions of times: what a file can write for them, their check, and their mean.

The draws themselves are in pinnerfs.workload.draws: this module does not load numpy.
"""

# Annotations are not postponed: msgspec would compile each one again in every process.

import math
import sys

from pinnerfs.scenario.messages import shown
from pinnerfs.scenario.quantities import parse_time
from pinnerfs.scenario.tables import Measure, Number, Table
from pinnerfs.words import count_of

__all__ = [
    "Bounds",
    "Choice",
    "Distribution",
    "Exponential",
    "Lognormal",
    "Normal",
    "Quantity",
    "TimeDistribution",
    "Uniform",
    "read_quantity",
]


class Bounds(Table, frozen=True, kw_only=True):
    """The times from `min` to `max`, both included."""

    min: Measure = "0us"
    max: Measure = "100h"

    def read(self, what: str) -> tuple[int, int]:
        """Return the bounds in µs. Raise ValueError that names `what` if they are wrong."""
        low, high = parse_time(f"{what}.min", self.min), parse_time(f"{what}.max", self.max)
        if low > high:
            raise ValueError(f"{what}.min = {self.min!r} is above {what}.max = {self.max!r}")
        return low, high


class Uniform(Bounds, frozen=True, tag_field="dist", tag="uniform", kw_only=True):
    """Times from `min` to `max`, all equally likely."""

    min: Measure
    max: Measure


class Exponential(Bounds, frozen=True, tag_field="dist", tag="exponential", kw_only=True):
    """Exponentially distributed times with this mean."""

    mean: Measure


class Normal(Bounds, frozen=True, tag_field="dist", tag="normal", kw_only=True):
    """Normally distributed times with this mean and standard deviation."""

    mean: Measure
    sd: Measure


class Lognormal(Bounds, frozen=True, tag_field="dist", tag="lognormal", kw_only=True):
    """Lognormally distributed times with this median; `sigma` is the standard deviation of the logarithm."""

    median: Measure
    sigma: Number


class Choice(Table, frozen=True, tag_field="dist", tag="choice", kw_only=True):
    """One of `values`, in proportion to `weights`; without weights, all equally likely."""

    values: list[Measure]
    weights: list[Number] | None = None


VALUES = 8192  # to find a value among so many more takes as much processor time as one more pin

Distribution = Uniform | Exponential | Normal | Lognormal | Choice
Quantity = Measure | Distribution


class TimeDistribution:
    """A quantity whose parts are read: times in whole µs, always from `low` to `high`.

    `middle` is the mean, or the median of a lognormal. `values` and `weights` belong to a choice; weights add up to 1.
    """

    middle = sd = 0
    values: tuple[int, ...] = ()
    weights: tuple[float, ...] = ()

    def __init__(self, shape: Distribution | int, what: str) -> None:
        self.shape = shape
        match shape:
            case int():
                self.low = self.high = shape
            case Choice():
                self._read_choice(shape, what)
            case _:
                self.low, self.high = shape.read(what)
                self._read_parameters(shape, what)

    def _read_choice(self, choice: Choice, what: str) -> None:
        if not choice.values:
            raise ValueError(f"{what}.values is empty")
        self.values = tuple(parse_time(f"{what}.values", value) for value in choice.values)
        weights = [1] * len(choice.values) if choice.weights is None else choice.weights
        if len(weights) != len(choice.values):
            raise ValueError(
                f"{what}.weights has {count_of(len(weights), 'entry', 'entries')} "
                f"for {count_of(len(choice.values), 'value')}"
            )
        in_range = all(0 <= weight <= sys.float_info.max for weight in weights)
        total = sum(map(float, weights)) if in_range else 0.0
        if not 0 < total < math.inf:
            raise ValueError(f"{what}.weights = {shown(weights)} must be numbers of at least 0, with a sum above 0")
        self.weights = tuple(weight / total for weight in weights)
        self.low, self.high = min(self.values), max(self.values)

    def _read_parameters(self, shape: Uniform | Exponential | Normal | Lognormal, what: str) -> None:
        match shape:
            case Exponential():
                self.middle = self._read_middle(f"{what}.mean", shape.mean, shape)
            case Normal():
                self.middle = self._read_middle(f"{what}.mean", shape.mean, shape)
                self.sd = parse_time(f"{what}.sd", shape.sd)
            case Lognormal():
                self.middle = self._read_middle(f"{what}.median", shape.median, shape)
                if self.middle == 0:
                    raise ValueError(f"{what}.median = {shape.median!r} must be above 0")
                if not 0 <= shape.sigma <= 10:
                    raise ValueError(f"{what}.sigma = {shown(shape.sigma)} must be from 0 to 10")

    def _read_middle(self, what: str, middle: object, bounds: Bounds) -> int:
        # Outside of the bounds, most draws would be clipped to the same time.
        time = parse_time(what, middle)
        if not self.low <= time <= self.high:
            raise ValueError(f"{what} = {middle!r} must be from min = {bounds.min!r} to max = {bounds.max!r}")
        return time

    @property
    def search(self) -> int:
        """Return the work to find a drawn value among those of a choice, in pins; 0 for other distributions."""
        return len(self.values) // VALUES

    @property
    def mean(self) -> float:
        """Return the mean in µs, or slightly more: the effect of clipping is not computed exactly."""
        match self.shape:
            case int():
                mean: float = self.shape
            case Choice():
                mean = sum(value * weight for value, weight in zip(self.values, self.weights, strict=True))
            case Uniform():
                mean = (self.low + self.high) / 2
            case Exponential():
                mean = self.middle + self.low
            case Normal():
                mean = self.middle + self.sd
            case Lognormal():
                mean = self.middle * math.exp(self.shape.sigma**2 / 2) + self.low
        return min(mean, self.high)


def read_quantity(what: str, quantity: Quantity) -> TimeDistribution:
    """Read a quantity of a scenario as a distribution of times. Raise ValueError that names `what` and its mistake."""
    if isinstance(quantity, str | int | float):
        return TimeDistribution(parse_time(what, quantity), what)
    return TimeDistribution(quantity, what)
