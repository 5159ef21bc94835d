"""The findings of a report, and what an empty dump proves."""

from __future__ import annotations

import re
from itertools import combinations
from pathlib import Path

import pytest
from msgspec.structs import replace

import pinnerfs
from pinnerfs.report import analyse, read_text
from pinnerfs.report.findings import PAGE
from pinnerfs.report.model import Finding, Report
from tests.report.texts import MUNMAP, WRITER, detect, freed, hex_pin, pin, put, recorded_texts

ROOT = Path(__file__).parents[2]
EMPTY = "------ a (/sys/kernel/debug/page_pinner/{}) ------\n\n"


def report(text: str, file: str = "") -> Report:
    """Return the report of a text."""
    return analyse(read_text(text, file=file))


def finding(made: Report, name: str) -> Finding:
    """Return the finding with this name."""
    return next(finding for finding in made.findings if finding.name == name)


def names(made: Report) -> set[str]:
    """Return the names of all findings."""
    return {finding.name for finding in made.findings}


def of_gallery(scenario: str, at: str = "60s", kernel: str = "introduced", file: str | None = None) -> Report:
    """Return the report of a scenario's dump."""
    simulation = pinnerfs.Simulation(pinnerfs.load(scenario), kernel=kernel)
    simulation.advance(at)
    return report(simulation.cat(file), file or "")


def test_released_by_put_page() -> None:
    """A driver that releases by put_page is not said to have held the pages for the times recorded."""
    made = of_gallery("gpu-put-page")
    found = finding(made, "put-page")
    assert found.title == "The times of mali may be those of another holder"
    assert found.sites == (made.culprit,)
    assert made.headline.startswith("kbase_jd_user_buf_pin_pages (mali) was recorded for 120 pages")
    assert "put-page" not in names(of_gallery("camera-stall"))


def test_pins_that_put_page_cannot_end() -> None:
    """A pin by pin_user_pages, or one that the page's count shows to be its only one, is not said to be another's."""
    made = of_gallery("faceunlock-fixed")
    assert made.headline.startswith("kbase_jd_user_buf_pin_pages (mali) held 12 pages in 1 hold, up to 6.00 s")
    assert "put-page" not in names(made)
    gpu = ("get_user_pages_remote+0x1/0x2", "kbase_jd_user_buf_pin_pages+0x1/0x2 [mali_kbase]")
    one = pin(400_000, 0x80001, gpu)
    assert "put-page" not in names(report(one))
    assert "put-page" in names(report(one.replace("count 1", "count 2")))
    assert "put-page" in names(report(hex_pin(400_000, 0x80001, gpu)))
    assert "put-page" not in names(report(one.replace("count 1", "count 2").replace("get_user", "pin_user")))


@pytest.mark.parametrize(
    ("text", "title"),
    [
        (pin(400_000, 0x80001), None),
        (hex_pin(400_000, 0x80001), "Pins by pin_user_pages are invisible on this kernel"),
        (EMPTY.format("alloc_contig_failed"), "Pins by pin_user_pages are invisible on this kernel"),
        (EMPTY.format("longterm_pinner"), "Pins by pin_user_pages may be invisible on this kernel"),
        (EMPTY.format("buffer"), None),
    ],
)
def test_pins_that_a_kernel_hides(text: str, title: str | None) -> None:
    """5.10's kernels do not record FOLL_PIN; where the kernel is unknown, they may not."""
    titles = [found.title for found in report(text).findings if found.name == "foll-pin-invisible"]
    assert titles == ([] if title is None else [title])


def test_records_of_several_kernels() -> None:
    """Records that no kernel prints together are told: page frames of two devices may be joined."""
    both = report(pin(400_000, 0x80001) + detect(7_000_000, 0x80001))
    assert both.generation == "unknown" and "several-kernels" in names(both)
    for one in pin(400_000, 0x80001), detect(7_000_000, 0x80001), EMPTY.format("buffer"):
        assert "several-kernels" not in names(report(one))


_OF_PINS = ("introduced", "android12-5.10", "pixel-5.10")
_OF_FAILURES = ("android12-5.10-early", "android12-5.10", "pixel-5.10", "android14-6.1")


@pytest.mark.parametrize(
    ("scenario", "file", "one", "other"),
    [
        *(("every-kernel", "longterm_pinner", *pair) for pair in combinations(_OF_PINS, 2)),
        *(("faceunlock-fails", None, *pair) for pair in combinations(_OF_FAILURES, 2)),
    ],
)
def test_records_of_two_kernels_alike(scenario: str, file: str | None, one: str, other: str) -> None:
    """Records of one file of two kernels are told apart, in both orders, also by the flags only."""
    texts = []
    for kernel in one, other:
        simulation = pinnerfs.Simulation(pinnerfs.load(scenario), kernel=kernel)
        simulation.advance("60s")
        text = simulation.cat(file or ("buffer" if kernel == "android14-6.1" else "alloc_contig_failed"))
        # A ring has thousands.
        texts.append("".join(f"{record}\n\n" for record in text.split("\n\n")[:40] if record))
    for text in texts[0] + texts[1], texts[1] + texts[0]:
        assert "several-kernels" in names(report(text)), text
    assert not any("several-kernels" in names(report(text)) for text in texts)


def test_a_kernel_that_records_only_failures() -> None:
    """The kernels with `buffer` show no pins."""
    assert "failures-only" in names(report(EMPTY.format("buffer")))
    assert "failures-only" in names(report(detect(1, 0x80001)))


def test_the_threshold_that_would_fit() -> None:
    """A full ring comes with the round threshold that keeps half of its records or fewer."""
    made = report("".join(pin(300_001 + 500 * at, 0x80000 + 2 * at) for at in range(4096)))
    found = finding(made, "ring-full")
    assert found.advice == (
        "Write 2000000 to threshold (2.00 s). Of the records here it keeps 696 of 4096, from 1 call site of 1."
    )
    same = report("".join(pin(300_001, 0x80000 + 2 * at) for at in range(4096)))
    assert "4096 of the 4096 records here lasted exactly 300 ms" in finding(same, "ring-full").advice
    narrow = report("".join(pin(478_000 + 97 * at, 0x80000 + 2 * at) for at in range(4096)))
    assert "Write 700000 to threshold (700 ms). Of the records here it keeps 1807 of 4096" in (
        finding(narrow, "ring-full").advice
    )
    dense = report("".join(pin(500_100 + at % 3, 0x80000 + 2 * at) for at in range(4096)))
    assert "Write 500101 to threshold (500 ms). Of the records here it keeps 1365" in finding(dense, "ring-full").advice
    assert "ring-full" not in names(of_gallery("camera-stall"))


def test_a_ring_full_of_failures() -> None:
    """The advice names buffer_size only if the kernel may have that file."""
    text = "".join(detect(1_000 + at, 0x80000 + 2 * at) for at in range(4096))
    title = "------ a (/sys/kernel/debug/page_pinner/{}) ------\n"
    for file, advice in (
        ("alloc_contig_failed", "This kernel has no buffer_size: read the file soon after the first failure."),
        ("buffer", "Write a larger number to buffer_size, and try again."),
    ):
        assert finding(report(title.format(file) + text), "ring-full").advice == advice
    unknown = "If this kernel has a file buffer_size, write a larger number to it, and try again."
    both = re.sub(r"Flags 0x\w+\((0x\w+\([^)]*?)(\|zone=\d+)?\)\)", r"Flags \1)", text)
    assert report(both).generation == "pixel-5.10|android13-5.10-buffer"
    assert finding(report(both), "ring-full").advice == unknown


def test_one_hold_with_many_records() -> None:
    """The records of a huge page are one hold, and the other site is to blame."""
    made = of_gallery("huge-pages")
    assert "512 records of 512 pages" in finding(made, "one-hold-many-records").explanation
    assert next(site for site in made.sites if site.key == made.culprit).site == "mem_rw"


def test_marks_that_a_free_took_away() -> None:
    """On pixel-5.10, frees without a failure are of pages that put_page released."""
    made = of_gallery("every-kernel", "10s", "pixel-5.10", "alloc_contig_failed")
    assert finding(made, "marks-gone").title.startswith("The marks of ")
    assert made.culprit is None
    assert made.headline == "no long-term pin recorded, only pages that were freed"
    assert "marks-gone" not in names(report(freed(2, 0x80001) + detect(1, 0x80001)))


def test_no_release_was_recorded() -> None:
    """A failure without a foreign reference behind it leaves the holder unknown."""
    made = report(detect(1, 0x80001))
    assert "unpin_user_page, which leaves no record" in finding(made, "no-release").explanation
    assert "no-release" in names(report(put(5, 0x80001, MUNMAP) + detect(1, 0x80001)))
    driver = ("kbase_unpin [mali_kbase]",)
    assert "no-release" not in names(report(put(5, 0x80001, driver) + detect(1, 0x80001)))


def test_noise_of_retried_migration() -> None:
    """Many records of the allocation itself are set apart."""
    noise = ("try_to_migrate_one", "migrate_pages", *WRITER)
    text = "".join(put(100_000 + at, 0x80001, noise) for at in range(52, 0, -1)) * 2 + detect(7_000_000, 0x80001)
    made = report(text)
    assert finding(made, "migration-noise").title == "104 of 105 records are of the allocation itself"
    assert "migration-noise" not in names(report(detect(7_000_000, 0x80001)))


def test_the_uptime_is_no_duration() -> None:
    """pixel-5.10 shows the uptime in a PUT record of a page that was released before."""
    title = "------ a (/sys/kernel/debug/page_pinner/alloc_contig_failed) ------\n"
    text = (
        title
        + put(10_397_684, 0x80001, ("my_put",))
        + put(2_000_000, 0x80002, ("my_put",))
        + detect(8_000_000, 0x80001)
    )
    made = report(text.replace("0x14(0x14(uptodate|lru|zone=0))", "0x14(uptodate|lru)"))
    assert made.generation == "pixel-5.10"
    assert finding(made, "uptime").title.startswith("1 record ")
    assert [(hold.duration_us, hold.end_us) for hold in made.holds if hold.kind == "PUT"] == [
        (None, 10_397_684),
        (2_000_000, None),
    ]


def test_stack_depot_is_off() -> None:
    """A kernel without its stack depot stores no stacks."""
    cmdline = "------ a (/proc/cmdline) ------\nquiet stack_depot_disable=on page_pinner\n"
    made = report(EMPTY.format("longterm_pinner") + cmdline)
    assert "booted with stack_depot_disable=on" in finding(made, "stack-depot-off").explanation
    assert "1 record came without a stack" in finding(report(pin(400_000, 1, ())), "stack-depot-off").explanation
    assert "stack-depot-off" not in names(report(EMPTY.format("longterm_pinner")))


def test_garbage() -> None:
    """Garbage of an uninitialised ring, as a kernel without init_on_alloc printed it, is told apart."""
    text = next(text for text in recorded_texts("android14-6.1") if text.startswith("Failure detected at [183"))
    made = report(text)
    assert finding(made, "garbage").title == "1 record of garbage: the ring was not initialised"
    assert (made.records, made.culprit) == (0, None)


def test_a_threshold_of_another_moment() -> None:
    """Records that are shorter than the threshold were taken under another one."""
    section = "------ a (/sys/kernel/debug/page_pinner/threshold) ------\n1000000\n\n"
    assert "1.00 s" in finding(report(section + pin(400_000, 1)), "threshold-changed").explanation
    assert "threshold-changed" not in names(report(section + pin(1_000_001, 1)))
    assert report(section + pin(1_000_001, 1)).threshold_us == 1_000_000


@pytest.mark.parametrize(
    ("file", "headline", "proves"),
    [
        ("longterm_pinner", "no long-term pin recorded", "That does not prove that no page is held"),
        ("buffer", "no failed migration recorded", "This kernel records no pins, only"),
        ("alloc_contig_failed", "no failed migration recorded", "This file shows no pins, only"),
    ],
)
def test_what_an_empty_file_proves(file: str, headline: str, proves: str) -> None:
    """An empty record file says what it proves on its kernel, and what it does not."""
    made = report(EMPTY.format(file))
    assert made.headline == headline
    assert proves in made.proves
    assert report(pin(400_000, 1)).proves == ""


def test_what_an_empty_file_of_an_unknown_kernel_proves() -> None:
    """Nothing about pins is claimed where the empty file can be one that never shows them."""
    made = report("")
    assert made.headline == "no record"
    assert "Nothing here tells the kernel and the file." in made.proves
    assert "an empty buffer or alloc_contig_failed proves only" in made.proves


def test_records_without_stacks() -> None:
    """The form of a long-term pin tells what it is without a stack. Where nothing tells it, nothing is invented."""
    for text in pin(400_000, 0x80001, ()), hex_pin(400_000, 0x80001, ()):
        made = report(text)
        assert made.headline.startswith("a caller without a stack held 1 page in 1 hold, up to 400 ms")
    bare = pin(400_000, 0x80001, ("0xffffffc010123456",))
    assert report(bare).headline.startswith("0xffffffc010123456 (kernel) held 1 page")
    for text in pin(400_000, 0x80001, ()), bare:
        made = report(text.replace("count 1", "count 0"))
        assert made.headline.startswith("1 record without known functions")
        assert (made.culprit, made.proves) == (None, "")
    made = report(put(400_000, 0x80001, ()))
    assert made.headline == (
        "a caller without a stack was the last to drop a reference to 1 page, "
        "up to 400 ms after page_pinner marked them"
    )
    assert report(detect(1, 0x80001, ())).headline == (
        "an allocation was refused 1 page; no record shows who held them"
    )


@pytest.mark.parametrize("names", ["pixel-5.10", "android13-5.10-buffer|pixel-5.10"])
def test_no_fact_about_a_kernel_that_is_not_known(names: str) -> None:
    """Where another kernel also fits, the findings of pixel-5.10 are conditions."""
    made = analyse(replace(read_text(freed(2, 0x80001)), generation=names))
    known = names == "pixel-5.10"
    assert finding(made, "marks-gone").explanation.startswith("This kernel records") == known
    assert finding(made, "marks-gone").title.startswith("The marks of ") == known
    assert ("if any pins" in finding(made, "foll-pin-invisible").explanation) == (not known)


def test_an_unreadable_file_proves_nothing() -> None:
    """A dump program's error is no empty file."""
    made = report(EMPTY.format("buffer").replace("\n\n", "\nUnable to read /sys/kernel/debug/page_pinner/buffer\n"))
    assert (made.headline, made.proves) == ("no record could be read", "")


def test_all_findings_are_complete() -> None:
    """Each finding has a title, an explanation and advice, as sentences, and a place in a page that exists."""
    made = [
        of_gallery("gpu-put-page", kernel="pixel-5.10"),
        of_gallery("ring-overflow"),
        report(detect(1, 0x80001)),
        report(pin(1, 1, ())),
    ]
    for found in (found for one in made for found in one.findings):
        assert found.title and not found.title.endswith(".")
        assert found.explanation.endswith(".") and found.advice.endswith(".")
        file, _, anchor = found.page.partition("#")
        assert anchor == found.name
        assert f'<a id="{anchor}"></a>' in (ROOT / file).read_text()


def test_the_page_explains_all_findings() -> None:
    """The page has an anchor for each finding in the code, and for no other."""
    code = "".join((ROOT / "pinnerfs" / "report" / f"{name}.py").read_text() for name in ("blindspots", "findings"))
    named = re.findall(r'Finding\(\s*"([a-z-]+)"', code)
    assert sorted(re.findall('<a id="([a-z-]+)"></a>', (ROOT / PAGE).read_text())) == sorted(set(named))
