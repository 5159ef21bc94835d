"""Pixel 6 from 2022-04 on, with Android 13: one file, `buffer`, and pins by get_user_pages are no longer marked."""

from __future__ import annotations

from pinnerfs.kernel.page_pinner.generations.generation import Mark
from pinnerfs.kernel.page_pinner.generations.pixel_5_10 import PIXEL_5_10
from pinnerfs.kernel.page_pinner.layouts import LEAST_FAILURES

__all__ = ["ANDROID13_5_10_BUFFER"]

ANDROID13_5_10_BUFFER = PIXEL_5_10._replace(
    name="android13-5.10-buffer",
    about="Pixel 6 from 2022-04 on, Android 13 on 5.10",
    evidence="read in source",
    evidence_about="the rules of android14-6.1, which are recorded, on a 5.10 kernel",
    files=("buffer", "failure_tracking", "buffer_size"),
    layouts={"buffer": LEAST_FAILURES},
    pins=frozenset(),
    releases=frozenset(),
    release_clears_ts=False,
    freed=Mark.FAILED,
    freed_recorded=Mark.FAILED,
)
