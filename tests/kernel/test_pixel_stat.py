"""The counters that a Pixel has for each CMA area."""

from __future__ import annotations

import pytest

from pinnerfs.kernel.cma.pixel import PixelStat


def _changed(stat: PixelStat) -> dict[str, int]:
    return {name: value for name, value in stat.counters.items() if value}


@pytest.mark.parametrize(
    ("began", "ended", "level"),
    [
        (0, 0, "low"),
        (0, 499_999, "low"),
        (0, 500_000, "mid"),
        # Both times are whole milliseconds before they are subtracted.
        (999, 500_000, "mid"),
        (999, 499_999, "low"),
        (1, 1_499_999, "mid"),
        (1, 1_500_000, "high"),
    ],
)
def test_latencies(began: int, ended: int, level: str) -> None:
    """A call counts as low below 500 ms, as mid below 1500 ms, and else as high."""
    stat = PixelStat()
    stat.finish(7, got=True, noretry=False, began=began, ended=ended)
    assert _changed(stat) == {f"latency_{level}": 1, "alloc_pages_attempts": 7}


@pytest.mark.parametrize(
    ("got", "noretry", "counter"),
    [
        (True, False, "alloc_pages_attempts"),
        (True, True, "alloc_pages_failfast_attempts"),
        (False, False, "fail_pages"),
        (False, True, "fail_failfast_pages"),
    ],
)
def test_pages(got: bool, noretry: bool, counter: str) -> None:
    """The pages of a call count by its outcome and by GFP_NORETRY. A negative number wraps at 64 bits."""
    stat = PixelStat()
    for pages in 3, 4, -8:
        stat.finish(pages, got=got, noretry=noretry, began=0, ended=0)
    assert _changed(stat) == {"latency_low": 3, counter: 2**64 - 1}


def test_bounds() -> None:
    """The bounds of the moment count, and the lower one stays below the other."""
    stat = PixelStat()
    stat.set_bound("low", b"10\n")
    stat.set_bound("mid", b"+20")
    for data in b"20", b"21", b"-1", b"", b"1 ", b"0x5", b"5\n\n", b"five", str(1 << 64).encode():
        with pytest.raises(ValueError, match="latency_low_bound"):
            stat.set_bound("low", data)
    for data in b"10", b"9", str(1 << 64).encode():
        with pytest.raises(ValueError, match="latency_mid_bound"):
            stat.set_bound("mid", data)
    assert stat.bounds == {"low": 10, "mid": 20}
    for ended in 9_000, 10_000, 20_000:
        stat.finish(1, got=False, noretry=False, began=0, ended=ended)
    assert _changed(stat) == {"latency_low": 1, "latency_mid": 1, "latency_high": 1, "fail_pages": 3}
