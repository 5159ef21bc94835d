"""Findings about what this kernel's records cannot show: those that change who is to blame."""

from __future__ import annotations

from pinnerfs.report.evidence import Evidence
from pinnerfs.report.kernels import UNKNOWN, always_records_pins, hides_foll_pin, records_pins
from pinnerfs.report.model import Finding
from pinnerfs.words import count_of

__all__ = ["BLIND_SPOTS"]


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


def _several_kernels(evidence: Evidence) -> Finding | None:
    if not evidence.records or evidence.capture.generation != UNKNOWN:
        return None
    return Finding(
        "several-kernels",
        "No known kernel prints all of these records",
        "The input may be of several devices. Then a page frame of one is taken for that of another: the numbers of "
        "pages and pageblocks can be too small, and an allocation that was refused can be joined to the wrong holder.",
        "Report the files of each device on their own. Compare two with --diff.",
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


BLIND_SPOTS = (_put_page, _several_kernels, _foll_pin, _failures_only, _no_release, _marks_gone)
