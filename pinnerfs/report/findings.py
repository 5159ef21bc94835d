"""Known traps that a dump shows signs of, each with an explanation and advice; and the answer in one sentence."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import NamedTuple

from pinnerfs.report.blame import Blame
from pinnerfs.report.kernels import UNKNOWN, always_records_pins, hides_foll_pin, records_pins
from pinnerfs.report.model import Capture, Finding, Hold, Site
from pinnerfs.report.units import duration
from pinnerfs.words import count_of

__all__ = ["Evidence", "findings", "headline", "what_it_proves"]

_MANY = 64  # records of one hold
_NOISE = 3  # records of the allocation for each other record of a failure


class Evidence(NamedTuple):
    """What the findings look at. durations: of the long-term pins, sorted. twice: records that were read twice.

    uptimes: PUT records that show the uptime.
    """

    capture: Capture
    holds: tuple[Hold, ...]
    blame: Blame
    ring_full: bool
    threshold_us: int | None
    durations: Sequence[int]
    twice: int
    uptimes: int

    @property
    def records(self) -> int:
        """Return how many records there are."""
        return len(self.capture.records)

    def of(self, *roles: str) -> list[Site]:
        """Return the sites with one of these roles."""
        return [site for site in self.blame.sites if site.role in roles]


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Return all findings, those that change who is to blame first."""
    return tuple(finding for check in _CHECKS if (finding := check(evidence)) is not None)


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
        pages = {record.pfn for record in evidence.capture.records}
        who = victims[0].site if victims[0].stack else "an allocation"
        return f"{who} was refused {count_of(len(pages), 'page')}; no record shows who held them"
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
        return (
            f"This {what} no pins, only what happens to a page after an allocation could not move it. "
            "So an empty file proves that no allocation failed on a page since the ring was cleared, and "
            "nothing about pins. A holder that releases by unpin_user_page leaves no record on 6.1 and later."
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


def _put_page(evidence: Evidence) -> Finding | None:
    sites = [site for site in evidence.of("culprit") if site.key in evidence.blame.put_page]
    if not sites:
        return None
    names = ", ".join(dict.fromkeys(site.owner for site in sites))
    return Finding(
        "put-page",
        f"The times of {names} may be those of another holder",
        f"{sites[0].site} is known to release its pins by put_page, which page_pinner does not see. Its mark "
        "stays on the page, and the next put_user_page of that page, by any caller, is recorded with its stack. Such a "
        "record shows how long the other holder kept the page after this pin. How long this site kept it is unknown.",
        "Look for who else pins the same pages: the app whose buffer it is, direct I/O into it, ksmd. A count of 2 "
        "or more in a record of the first kernel is a sign of a pin that ended by put_page.",
        tuple(site.key for site in sites),
    )


def _foll_pin(evidence: Evidence) -> Finding | None:
    generation = evidence.capture.generation
    hides = hides_foll_pin(generation)
    if hides is False or not records_pins(generation):
        return None
    if hides:
        title = "Pins by pin_user_pages are invisible on this kernel"
        kernels = "This kernel records" if always_records_pins(generation) else "This kernel records, if any pins,"
    else:
        title = "Pins by pin_user_pages may be invisible on this kernel"
        kernels = "Nothing here tells which kernel it was. If it records pins, and is not the first, it records"
    return Finding(
        "foll-pin-invisible",
        title,
        f"{kernels} only pins by get_user_pages and its relatives (FOLL_GET). Cameras and other V4L2 devices, "
        "io_uring, VFIO, RDMA and AF_XDP pin by pin_user_pages (FOLL_PIN): they never appear there.",
        "An empty or harmless file does not acquit them. Look at what these drivers had open, or boot a kernel that "
        "records FOLL_PIN.",
    )


def _failures_only(evidence: Evidence) -> Finding | None:
    if records_pins(evidence.capture.generation):
        return None
    return Finding(
        "failures-only",
        "This kernel records failed migrations, and no pins",
        "A page gets a mark when an allocation cannot move it. Only then are its dropped references (`At least, "
        "pinned for`) and its free recorded, with the stacks of those that drop and free it. The stack of the pin "
        "is in no record. On 6.1 and later, a release by unpin_user_page is in none either.",
        "Make the allocation fail again while the suspect holds its pages, then read the file. The time in a record "
        "counts from the first failure, so the page was held for longer than that.",
    )


def _ring_full(evidence: Evidence) -> Finding | None:
    if not evidence.ring_full:
        return None
    title = "The ring is full: older records are lost"
    explanation = "A new record overwrites the oldest one. What was recorded before the last record here is unknown."
    if not evidence.durations:
        return Finding("ring-full", title, explanation, "Write a larger number to buffer_size, and try again.")
    fits = _fitting_threshold(evidence)
    if fits is None:
        longest = evidence.durations[-1]
        equal = len(evidence.durations) - bisect_left(evidence.durations, longest)
        advice = (
            f"Read the file more often: {equal} of the {len(evidence.durations)} records here lasted exactly "
            f"{duration(longest)}, the longest time. A threshold that keeps any of them keeps all of them."
        )
    else:
        threshold, left, sites = fits
        advice = (
            f"Write {threshold} to threshold ({duration(threshold)}). Of the records here it keeps {left} of "
            f"{len(evidence.durations)}, from {count_of(sites, 'call site')} of {len(evidence.of('culprit'))}."
        )
    return Finding("ring-full", title, explanation, advice)


def _fitting_threshold(evidence: Evidence) -> tuple[int, int, int] | None:
    """Return the roundest threshold from the median up that keeps a record, how many it keeps, and of how many sites.

    It keeps half of the records or fewer. None if no threshold does so.
    """
    durations = evidence.durations
    median = durations[(len(durations) - 1) // 2]
    for zeros in range(len(str(median)) - 1, -1, -1):
        threshold = -(-median // 10**zeros) * 10**zeros
        left = len(durations) - bisect_right(durations, threshold)
        if left:
            sites = sum(1 for site in evidence.of("culprit") if (site.max_us or 0) > threshold)
            return threshold, left, sites
    return None


def _many_records(evidence: Evidence) -> Finding | None:
    holds = [hold for hold in evidence.holds if hold.records >= _MANY and hold.kind == "PIN"]
    if not holds:
        return None
    largest = max(holds, key=lambda hold: hold.records)
    huge = any(hold.records > hold.pages for hold in holds)
    reason = "A pin of a compound page leaves a record for each of its frames, all with the PFN of its head."
    bulk = "A release of a large buffer leaves a record for each of its pages."
    return Finding(
        "one-hold-many-records",
        "One hold has many records",
        f"{reason if huge else bulk} The largest hold here has {largest.records} records of "
        f"{count_of(largest.pages, 'page')}. So the number of records tells nothing about who is worse.",
        "Compare holds, pages and times.",
        tuple(dict.fromkeys(hold.key for hold in holds)),
    )


def _marks_gone(evidence: Evidence) -> Finding | None:
    records = evidence.capture.records
    detected = {record.pfn for record in records if record.kind == "DETECT"}
    put = {record.pfn for record in records if record.kind == "PUT"}
    freed = {record.pfn for record in records if record.kind == "FREE"} - detected - put
    generation = evidence.capture.generation
    if not freed or "pixel-5.10" not in generation:
        return None
    pages = count_of(len(freed), "page")
    if generation == "pixel-5.10":
        title, kernel = (
            f"The marks of {pages} that had been pinned went when the pages were freed",
            "This kernel records",
        )
    else:
        title, kernel = (
            f"{pages} may have been pinned until they were freed",
            "If it is pixel-5.10, this kernel records",
        )
    return Finding(
        "marks-gone",
        title,
        f"{kernel} the free of a page that was pinned and not released by put_user_page: its holder "
        "released it by put_page. The mark, with the stack of the pin, is gone, and how long the page was held is "
        "unknown.",
        "GPU drivers, direct I/O and vmsplice release by put_page. The frames of the free tell whose memory it was.",
        tuple(site.key for site in evidence.of("end")),
    )


def _no_release(evidence: Evidence) -> Finding | None:
    if not evidence.of("victim") or evidence.blame.culprit is not None:
        return None
    return Finding(
        "no-release",
        "No record shows who released the pages that blocked the allocation",
        "An allocation failed, and none of the records after that is of a reference that blocked it. The "
        "holder has not released the pages yet, or released them by unpin_user_page, which leaves no record on 6.1 "
        "and later.",
        "Read the file again later. If there is still no such record, look at drivers that pin by pin_user_pages: "
        "cameras and other V4L2 devices, io_uring, VFIO, RDMA, AF_XDP.",
        tuple(site.key for site in evidence.of("victim")),
    )


def _noise(evidence: Evidence) -> Finding | None:
    noise = sum(site.records for site in evidence.of("allocator"))
    others = sum(site.records for site in evidence.of("candidate", "victim", "end"))
    if noise < _MANY or noise < _NOISE * others:
        return None
    return Finding(
        "migration-noise",
        f"{noise} of {evidence.records} records are of the allocation itself",
        "When an allocation tries again to move a page that is marked, it takes and drops references of its own, "
        "and each one leaves a record: 52 for a page of a file in each round. They fill the ring and say nothing "
        "about the holder.",
        "They are set apart here. Write a larger number to buffer_size, if this kernel has it, or read the file soon "
        "after the first failure.",
        tuple(site.key for site in evidence.of("allocator")),
    )


def _uptimes(evidence: Evidence) -> Finding | None:
    if not evidence.uptimes:
        return None
    return Finding(
        "uptime",
        f"{count_of(evidence.uptimes, 'record')} of dropped references show the uptime, not a duration",
        "pixel-5.10 forgets the time of a pin when put_user_page releases it. If a reference to that page is dropped "
        "later, the record counts from boot.",
        "These times are left out of the table. Their records are counted.",
    )


def _no_stacks(evidence: Evidence) -> Finding | None:
    cmdline = evidence.capture.sections.get("/proc/cmdline", "").split()
    disabled = next((word for word in cmdline if word in ("stack_depot_disable=on", "stack_depot_disable=1")), None)
    without = sum(1 for record in evidence.capture.records if not record.stack)
    if disabled is None and not without:
        return None
    sign = (
        f"The kernel was booted with {disabled}."
        if disabled
        else f"{count_of(without, 'record')} came without a stack."
    )
    return Finding(
        "stack-depot-off",
        "Stacks are missing",
        f"{sign} Without its stack depot a kernel stores no stacks, and page_pinner's files look empty for ever: a "
        "record without a stack is the end of the file to a reader.",
        "Boot without stack_depot_disable=on. A single record without a stack hides the ones before it: pread() at "
        "the next positions reads them.",
    )


def _garbage(evidence: Evidence) -> Finding | None:
    garbage = sum(dump.garbage for dump in evidence.capture.dumps)
    if not garbage:
        return None
    return Finding(
        "garbage",
        f"{count_of(garbage, 'record')} of garbage: the ring was not initialised",
        "Kernels that do not clear new memory show what was in it before as records, after boot and after a write to "
        "buffer_size: page frames that no machine has, or negative counts.",
        "They are left out. Boot with init_on_alloc=1 to have a ring that is empty at first.",
    )


def _read_twice(evidence: Evidence) -> Finding | None:
    if not evidence.twice:
        return None
    return Finding(
        "read-twice",
        f"Probably read twice: {count_of(evidence.twice, 'record')}",
        "A file of records has no snapshot. Each record that comes during a read shifts the others by one, so that "
        "the reader gets some of them again. Dumps that were taken one after another have records in common. A dump "
        "may be given twice. Two holds of one page for exactly the same time look the same.",
        "Leave them out with --dedup, or read the file again on an idle device.",
    )


def _threshold_changed(evidence: Evidence) -> Finding | None:
    threshold = evidence.threshold_us
    if threshold is None or not evidence.durations or evidence.durations[0] > threshold:
        return None
    return Finding(
        "threshold-changed",
        "The threshold was different when these records were taken",
        f"The file threshold says {duration(threshold)}, but the shortest record lasted "
        f"{duration(evidence.durations[0])}. A write to threshold clears the records, so the two were read at "
        "different times.",
        "Read threshold and the records together.",
    )


_CHECKS: tuple[Callable[[Evidence], Finding | None], ...] = (
    _put_page,
    _foll_pin,
    _failures_only,
    _no_release,
    _marks_gone,
    _ring_full,
    _many_records,
    _noise,
    _uptimes,
    _threshold_changed,
    _no_stacks,
    _garbage,
    _read_twice,
)
