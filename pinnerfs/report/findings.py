"""Known traps that a dump shows signs of, each with an explanation and advice."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable

from msgspec.structs import replace

from pinnerfs.report.blindspots import BLIND_SPOTS
from pinnerfs.report.evidence import Evidence
from pinnerfs.report.kernels import generations_named
from pinnerfs.report.model import Finding
from pinnerfs.report.units import duration
from pinnerfs.words import count_of

__all__ = ["PAGE", "findings"]

PAGE = "pinnerfs/report/README.md"  # has an anchor for each finding

_MANY = 64  # records of one hold
_NOISE = 3  # records of the allocation for each other record of a failure


def findings(evidence: Evidence) -> tuple[Finding, ...]:
    """Return all findings, those that change who is to blame first."""
    found = [finding for check in _CHECKS if (finding := check(evidence)) is not None]
    return tuple(replace(finding, page=f"{PAGE}#{finding.name}") for finding in found)


def _ring_full(evidence: Evidence) -> Finding | None:
    if not evidence.ring_full:
        return None
    title = "The ring is full: older records are lost"
    explanation = "A new record overwrites the oldest one. What was recorded before the last record here is unknown."
    if not evidence.durations:
        return Finding("ring-full", title, explanation, _larger_ring(evidence))
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


def _larger_ring(evidence: Evidence) -> str:
    """Return what helps against a ring that is full of failures."""
    has_size = {"buffer_size" in kernel.files for kernel in generations_named(evidence.capture.generation)}
    if has_size == {False}:
        return "This kernel has no buffer_size: read the file soon after the first failure."
    if has_size == {True}:
        return "Write a larger number to buffer_size, and try again."
    return "If this kernel has a file buffer_size, write a larger number to it, and try again."


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
    huge = any(hold.compound for hold in holds)
    reason = (
        "A pin of a compound page, such as a huge page, leaves a record for each of its frames, all with the PFN of "
        "its head. The kernel moves it as one page, so it is one page in the order of the table."
    )
    bulk = "A release of a large buffer leaves a record for each of its pages."
    return Finding(
        "one-hold-many-records",
        "One hold has many records",
        f"{reason if huge else bulk} The largest hold here has {largest.records} records of "
        f"{count_of(largest.pages, 'page')}. So the number of records tells nothing about who is worse.",
        "Compare holds, pages and times.",
        tuple(dict.fromkeys(hold.key for hold in holds)),
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


_CHECKS: tuple[Callable[[Evidence], Finding | None], ...] = (
    *BLIND_SPOTS,
    _ring_full,
    _many_records,
    _noise,
    _uptimes,
    _threshold_changed,
    _no_stacks,
    _garbage,
    _read_twice,
)
