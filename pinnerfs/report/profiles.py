"""Exports of stacks with weights: folded lines for flamegraph.pl, and speedscope's JSON."""

from __future__ import annotations

import json
import re
from typing import Any

from pinnerfs import __version__
from pinnerfs.report.diff import Diff
from pinnerfs.report.lines import clean
from pinnerfs.report.model import Report, Site
from pinnerfs.report.selection import HOLDERS
from pinnerfs.report.text import named_sources

__all__ = ["diff_as_folded", "folded", "frames", "speedscope"]

_OFFSET = re.compile(r"\+0x[0-9a-f]+/0x[0-9a-f]+")


def frames(site: Site) -> list[str]:
    """Return the frames of a site's stack, outermost first, without offsets."""
    return [clean(_OFFSET.sub("", frame).strip()) for frame in reversed(site.stack)] or [clean(site.site)]


def folded(report: Report) -> str:
    """Return one line for each call site: its frames joined by `;`, and its page time in µs."""
    return "".join(f"{_fold(site)} {site.page_us}\n" for site in _holders(report))


def diff_as_folded(diff: Diff) -> str:
    """Return one line for each call site of either report: its frames, and its page time before and after."""
    made = []
    for change in diff.changes:
        site = change.after or change.before
        if site is not None:
            pair = (0 if one is None else one.page_us for one in (change.before, change.after))
            made.append(f"{_fold(site)} {' '.join(map(str, pair))}\n")
    return "".join(made)


def speedscope(report: Report) -> str:
    """Return a file for speedscope with two profiles of the same stacks: page time, and holds."""
    numbers: dict[str, int] = {}
    sites = _holders(report)
    samples = [[numbers.setdefault(frame, len(numbers)) for frame in frames(site)] for site in sites]

    def profile(name: str, unit: str, weights: list[int]) -> dict[str, Any]:
        return {
            "type": "sampled",
            "name": name,
            "unit": unit,
            "startValue": 0,
            "endValue": sum(weights),
            "samples": samples,
            "weights": weights,
        }

    value = {
        "$schema": "https://www.speedscope.app/file-format-schema.json",
        "name": clean(named_sources(report)),
        "exporter": f"pinnerfs {__version__}",
        "activeProfileIndex": 0,
        "shared": {"frames": [{"name": frame} for frame in numbers]},
        "profiles": [
            profile("page time", "microseconds", [site.page_us for site in sites]),
            profile("holds", "none", [site.holds for site in sites]),
        ],
    }
    return json.dumps(value, separators=(",", ":")) + "\n"


def _holders(report: Report) -> list[Site]:
    return [site for site in report.sites if site.role in HOLDERS]


def _fold(site: Site) -> str:
    return ";".join(frame.replace(";", ":") for frame in frames(site))
