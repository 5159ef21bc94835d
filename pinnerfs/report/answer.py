"""The answer of a report in one sentence, and what a dump without a culprit proves."""

from __future__ import annotations

from pinnerfs.report.evidence import Evidence
from pinnerfs.report.extents import union
from pinnerfs.report.kernels import UNKNOWN, hides_foll_pin, records_pins
from pinnerfs.report.model import Site
from pinnerfs.report.units import duration
from pinnerfs.words import count_of

__all__ = ["headline", "what_it_proves"]


def headline(evidence: Evidence) -> str:
    """Return the answer in one sentence."""
    site = evidence.blame.culprit
    if site is None:
        return _no_culprit(evidence)
    where = _who(site)
    pages = count_of(site.pages, "page")
    if site.role == "candidate":
        if not evidence.of("victim"):
            # No record tells of an allocation: the ring may have lost it, and pixel-5.10 also records other pages.
            longest = f", up to {duration(site.max_us)} after page_pinner marked them" if site.max_us else ""
            return f"{where} was the last to drop a reference to {pages}{longest}"
        since = "the pin or the failure" if "pixel-5.10" in evidence.capture.generation else "the failure"
        longest = f", up to {duration(site.max_us)} after {since}" if site.max_us else ""
        for_whom = f" for {site.refused[0]}" if site.refused else ""
        return f"{where} was the last to drop a reference to {pages} that an allocation{for_whom} wanted{longest}"
    blocks = len(site.blocks if site.cma_blocks is None else site.cma_blocks)
    cma = "" if site.cma_blocks is None else " of CMA"
    spoiled = f"; {count_of(blocks, 'pageblock')}{cma} spoiled" if blocks else "; none of it in CMA"
    shown = "was recorded for" if site.key in evidence.blame.put_page else "held"
    return f"{where} {shown} {pages} in {count_of(site.holds, 'hold')}, up to {duration(site.max_us)}{spoiled}"


def _who(site: Site) -> str:
    return f"{site.site} ({site.owner})" if site.stack else "a caller without a stack"


def _no_culprit(evidence: Evidence) -> str:
    if all(dump.unreadable for dump in evidence.capture.dumps):
        return "no record could be read"
    if not evidence.records and evidence.capture.generation == UNKNOWN:
        return "no record"
    victims = evidence.of("victim", "allocator")
    if victims:
        keys = {site.key for site in victims}
        pages = union((hold.pfn, hold.pfn + hold.pages) for hold in evidence.holds if hold.key in keys)
        who = victims[0].site if victims[0].stack else "an allocation"
        return f"{who} was refused {count_of(pages, 'page')}; no record shows who held them"
    if unclear := sum(site.records for site in evidence.of("event")):
        return f"{count_of(unclear, 'record')} without known functions: nothing tells what happened to the pages"
    if evidence.of("end"):
        return "no long-term pin recorded, only pages that were freed"
    return "no failed migration recorded" if _shows_no_pins(evidence) else "no long-term pin recorded"


def _shows_no_pins(evidence: Evidence) -> bool:
    """Tell whether the kernel records no pins, or the files are empty and none of them is about pins."""
    of_failures = all(dump.file in ("alloc_contig_failed", "buffer") for dump in evidence.capture.dumps)
    return not records_pins(evidence.capture.generation) or (of_failures and not evidence.records)


def what_it_proves(evidence: Evidence) -> str:
    """Return what a dump without a culprit does and does not prove on its kernel, or ""."""
    if evidence.blame.culprit is not None or all(dump.unreadable for dump in evidence.capture.dumps):
        return ""
    generation = evidence.capture.generation
    if not evidence.records and generation == UNKNOWN:
        return (
            "Nothing here tells the kernel and the file. An empty longterm_pinner, of a kernel with a file threshold, "
            "proves that no recorded pin that put_user_page or unpin_user_page released was held longer than the "
            "threshold; an empty buffer or alloc_contig_failed proves only that no allocation failed on a page since "
            "the ring was cleared, and nothing about pins."
        )
    if evidence.of("event"):
        return ""
    if _shows_no_pins(evidence):
        what = "file shows" if records_pins(generation) else "kernel records"
        empty = (
            "So an empty file proves that no allocation failed on a page since the ring was cleared, and nothing about "
            "pins. "
        )
        return (
            f"This {what} no pins, only what happens to a page after an allocation could not move it. "
            f"{'' if evidence.records else empty}"
            "A holder that releases by unpin_user_page leaves no record on 6.1 and later."
        )
    if evidence.threshold_us is not None:
        than = f"longer than {duration(evidence.threshold_us)}"
    else:
        than = "longer than the threshold"
    pins = "by get_user_pages or pin_user_pages" if hides_foll_pin(generation) is False else "by get_user_pages"
    return (
        f"No page that was pinned {pins} and released by put_user_page or unpin_user_page was held {than} since the "
        "threshold was written. That does not prove that no page is held: a pin that has not been released yet, a "
        "release by put_page, and a reference by get_page leave no record."
    )
