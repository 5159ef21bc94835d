"""The points of a sweep: which values each parameter takes, as users write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from itertools import product

import msgspec

from pinnerfs.scenario.schema import Scenario
from pinnerfs.scenario.settings import Setting
from pinnerfs.threshold import parse_threshold

__all__ = ["MOST_POINTS", "Play", "Sweep", "parse_seeds", "parse_thresholds", "ranges"]

MOST_POINTS = 1_000_000

_SEEDS = re.compile(r"(?P<first>[0-9]{1,20})(?:\.\.(?P<last>[0-9]{1,20}))?", re.ASCII)


class Play(msgspec.Struct, frozen=True):
    """What is played at once: a scenario with one seed, and the points that this gives, one for each threshold.

    settings: the values that were set in the scenario, in the order of the sweep's settings.
    thresholds: in µs, signed. None: a kernel without a threshold.
    moment: up to when it is played, in µs.
    """

    scenario: Scenario
    settings: tuple[object, ...]
    seed: int
    thresholds: tuple[int, ...] | None
    kernel: str
    moment: int
    mm: str | None = None
    cma_retries: int | None = None
    quiet_migration: bool = False


class Sweep(msgspec.Struct, frozen=True):
    """All points: the scenario with each combination of settings, each seed, each threshold, in this order."""

    settings: tuple[Setting, ...]
    scenarios: tuple[tuple[tuple[object, ...], Scenario], ...]
    seeds: tuple[int, ...]
    thresholds: tuple[int, ...] | None
    kernel: str
    moment: int
    mm: str | None = None
    cma_retries: int | None = None
    quiet_migration: bool = False

    @property
    def plays(self) -> int:
        """Return the number of plays."""
        return len(self.scenarios) * len(self.seeds)

    @property
    def points(self) -> int:
        """Return the number of points."""
        return self.plays * (1 if self.thresholds is None else len(self.thresholds))

    def arguments(self, digest: str) -> dict[str, object]:
        """Return all that decides the results, as data. digest: of the scenario file."""
        return {
            "sweep": 1,
            "scenario": digest,
            "seeds": ranges(self.seeds),
            "thresholds": self.thresholds,
            "set": {setting.text: setting.values for setting in self.settings},
            "at_us": self.moment,
            "kernel": self.kernel,
            "mm": self.mm,
            "cma_retries": self.cma_retries,
            "quiet_migration": self.quiet_migration,
        }

    def each_play(self, begin: int = 0) -> Iterator[Play]:
        """Yield the plays in their order, from number `begin` on."""
        for number, ((values, scenario), seed) in enumerate(product(self.scenarios, self.seeds)):
            if number >= begin:
                yield Play(
                    scenario,
                    values,
                    seed,
                    self.thresholds,
                    self.kernel,
                    self.moment,
                    self.mm,
                    self.cma_retries,
                    self.quiet_migration,
                )


def parse_seeds(text: str) -> tuple[int, ...]:
    """Return the seeds of a list such as "0..99" or "1,2,10..19". Raise ValueError for another text."""
    seeds: list[int] = []
    for part in text.split(","):
        match = _SEEDS.fullmatch(part.strip())
        if match is None:
            raise ValueError(f"{text!r}: wanted seeds such as 7, or 0..99, or 1,2,10..19")
        first = int(match["first"])
        last = first if match["last"] is None else int(match["last"])
        if last < first:
            raise ValueError(f"{text!r}: the range is reversed; wanted {last}..{first}")
        if last >= 1 << 64:
            raise ValueError(f"{text!r}: a seed must be from 0 to {(1 << 64) - 1}")
        if last - first >= MOST_POINTS - len(seeds):
            raise ValueError(f"{text!r}: wanted at most {MOST_POINTS} seeds")
        seeds += range(first, last + 1)
    _check_once(text, seeds)
    return tuple(seeds)


def ranges(seeds: Iterable[int]) -> str:
    """Return seeds as `parse_seeds` takes them."""
    found: list[list[int]] = []
    for seed in seeds:
        if found and seed == found[-1][1] + 1:
            found[-1][1] = seed
        else:
            found.append([seed, seed])
    return ",".join(str(first) if first == last else f"{first}..{last}" for first, last in found)


def parse_thresholds(text: str) -> tuple[int, ...]:
    """Return the thresholds (µs, signed) of a list such as "100ms,300ms,1s". Raise ValueError for another text."""
    thresholds = [parse_threshold(part.strip()) for part in text.split(",")]
    _check_once(text, thresholds)
    return tuple(thresholds)


def _check_once(text: str, values: Iterable[int]) -> None:
    """Raise ValueError that quotes `text` if a value comes twice."""
    known = set[int]()
    for value in values:
        if value in known:
            raise ValueError(f"{text!r}: {value} is given twice")
        known.add(value)
