"""The rows of a sweep as a table, as CSV and as JSON."""

from __future__ import annotations

import csv
import io
from collections import defaultdict
from collections.abc import Iterable, Sequence
from typing import Any

import msgspec

from pinnerfs.jsontext import json_text
from pinnerfs.report.lines import Line
from pinnerfs.report.table import table
from pinnerfs.report.units import duration
from pinnerfs.scenario.messages import shown
from pinnerfs.scenario.quantities import TIMES
from pinnerfs.sweep.play import Result
from pinnerfs.sweep.points import Sweep

__all__ = ["as_lines", "csv_text", "rows", "rows_as_json"]


class Row(msgspec.Struct, frozen=True):
    """A point and what it shows, see `Result`. Times are in µs."""

    settings: dict[str, Any]
    seed: int
    threshold_us: int | None
    records: int
    overwritten: int
    rank: int | None
    max_us: int | None


def rows(sweep: Sweep, results: Iterable[tuple[Result, ...]]) -> list[Row]:
    """Return the rows of the first plays of a sweep, whose results these are."""
    return [
        Row(
            dict(zip((setting.text for setting in sweep.settings), play.settings, strict=True)),
            play.seed,
            result.threshold,
            result.records,
            result.overwritten,
            result.rank,
            result.longest,
        )
        for play, found in zip(sweep.each_play(), results, strict=False)
        for result in found
    ]


def rows_as_json(found: Sequence[Row], sweep: Sweep) -> str:
    """Return the rows as JSON, and what they are about."""
    first = sweep.scenarios[0][1]
    about: dict[str, object] = {
        "scenario": first.name,
        "kernel": sweep.kernel,
        "at_us": sweep.moment,
        "culprit": first.culprit,
    }
    return json_text(about | {"points": found})


def csv_text(found: Sequence[Row], sweep: Sweep) -> str:
    """Return a line for each row."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = [setting.text for setting in sweep.settings]
    writer.writerow([*names, "seed", "threshold_us", "records", "overwritten", "rank", "max_us"])
    for row in found:
        values = map(_text, row.settings.values())
        writer.writerow([*values, row.seed, row.threshold_us, row.records, row.overwritten, row.rank, row.max_us])
    return out.getvalue()


def as_lines(found: Sequence[Row], sweep: Sweep) -> list[Line]:
    """Return a table of the rows. Of several seeds, a second table says how many show the culprit."""
    names = [setting.text for setting in sweep.settings]
    lines = table(
        [*names, "seed", "threshold", "records", "overwritten", "rank", "max"],
        [
            [
                *map(_text, row.settings.values()),
                str(row.seed),
                _exactly(row.threshold_us),
                str(row.records),
                str(row.overwritten),
                "-" if row.rank is None else str(row.rank),
                duration(row.max_us),
            ]
            for row in found
        ],
        [True] * (len(names) + 6),
    )
    return [*lines, (), *_over_seeds(found, names)] if len(sweep.seeds) > 1 and found else lines


def _over_seeds(found: Sequence[Row], names: list[str]) -> list[Line]:
    groups = defaultdict[tuple[str, ...], list[Row]](list)
    for row in found:
        groups[*map(_text, row.settings.values()), _exactly(row.threshold_us)].append(row)
    return table(
        [*names, "threshold", "seeds", "culprit first", "ring overflows"],
        [
            [
                *group,
                str(len(of_seeds)),
                str(sum(row.rank == 1 for row in of_seeds)),
                str(sum(row.overwritten > 0 for row in of_seeds)),
            ]
            for group, of_seeds in groups.items()
        ],
        [True] * (len(names) + 4),
    )


def _text(value: object) -> str:
    return value if isinstance(value, str) else shown(value)


def _exactly(us: int | None) -> str:
    """Return a threshold in the largest unit in which it is a whole number."""
    if us is None:
        return "-"
    unit = next((unit for unit in ("s", "ms") if us and us % TIMES[unit] == 0), "us")
    return f"{us // TIMES[unit]}{unit}"
