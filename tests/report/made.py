"""Reports for the tests of the output, built from records in memory."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from pinnerfs.report.model import Area, Finding, Hold, Note, Report, Role, Site

__all__ = ["EVIL", "report", "site"]

# What a hostile dump may have in a name: an escape sequence, markup, separators of the exports, undecodable bytes.
EVIL = '\x1b[31m</pre><script>alert(1)</script>|;,"\r\n\x9b31m\u202e\udcff'

_STACK = ("get_user_pages+0x10/0x20", "vb2_dma_sg_get_userptr+0x130/0x260", "v4l2_ioctl+0x258/0x3b4")


def site(key: str = "5e1f09aa", holds: int = 3, *, role: Role = "culprit", **fields: Any) -> Site:
    """Return a site whose holds last 0.5 s, 0.6 s, ..."""
    made = Site(
        key=key,
        owner="v4l2",
        site="vb2_dma_sg_get_userptr",
        frame=_STACK[1],
        stack=_STACK,
        role=role,
        holds=holds,
        records=16 * holds,
        pages=16 * holds,
        blocks=(994, 1001),
        cma_pages=16 * holds,
        cma_blocks=(994, 1001),
        page_us=16 * sum(_durations(holds)),
        p50_us=_durations(holds)[holds // 2],
        p99_us=_durations(holds)[-1],
        max_us=_durations(holds)[-1],
    )
    return replace(made, **fields)


def report(*sites: Site, **fields: Any) -> Report:
    """Return a report with these sites, and the holds that they count."""
    holds = [
        Hold(
            key=one.key,
            kind="DETECT" if one.role == "victim" else "PIN",
            pfn=one.blocks[at % len(one.blocks)] << 10,
            pages=16,
            records=16,
            blocks=(one.blocks[at % len(one.blocks)],),
            cma_pages=16,
            duration_us=None if one.role == "victim" else duration,
            at_us=2_000_000 + 250_000 * at,
        )
        for one in sites
        for at, duration in enumerate(_durations(one.holds))
    ]
    made = Report(
        sources=("dump.txt",),
        generation="introduced",
        pageblock_order=10,
        threshold_us=300_000,
        threshold_at_most_us=499_999,
        ring_full=False,
        records=sum(one.records for one in sites),
        holds=tuple(holds),
        sites=sites,
        victims=(),
        findings=(Finding("one-hold", "One hold, many records", "It is explained.", "Count holds.", ("5e1f09aa",)),),
        notes=(Note("dump.txt", "the end is cut", 7),),
        areas=(Area("reserved", 992 << 10, 24 << 10),),
        culprit=sites[0].key if sites else None,
        headline="v4l2 is to blame" if sites else "no long-term pin recorded",
    )
    return replace(made, **fields)


def _durations(holds: int) -> list[int]:
    return [500_000 + 100_000 * at for at in range(holds)]
