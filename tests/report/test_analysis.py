"""Holds, call sites, and the choice of the culprit."""

from __future__ import annotations

import pytest

from pinnerfs.report import analyse, read_text
from pinnerfs.report.model import Report
from tests.report.texts import CAMERA, MUNMAP, WRITER, detect, freed, hex_pin, pin, put

GPU = ("kbase_unpin+0x1/0x2 [mali_kbase]", "kbase_ioctl+0x1/0x2 [mali_kbase]")
DRIVER = ("my_release+0x1/0x2 [my_camera]", "__fput+0x1/0x2")
ALLOCATOR = ("try_to_migrate_one+0x1/0x2", "migrate_pages+0x1/0x2", *WRITER)


def report(text: str, dedup: bool = False) -> Report:
    """Return the report of a text."""
    return analyse(read_text(text), dedup=dedup)


def test_neighbours_of_one_release_are_one_hold() -> None:
    """Adjacent pages that were released within some µs are one hold; other pages and other times are not."""
    together = report("".join(pin(400_000 + 3 * at, 0x80010 - at) for at in range(8)))
    assert [(hold.records, hold.pages, hold.pfn, hold.duration_us) for hold in together.holds] == [
        (8, 8, 0x80009, 400_021)
    ]
    assert len(report(pin(400_000, 0x80001) + pin(400_100, 0x80002)).holds) == 2
    assert len(report(pin(400_000, 0x80001) + pin(400_000, 0x80003)).holds) == 2
    assert len(report(pin(400_000, 0x80001) + pin(400_000, 0x80002, GPU)).holds) == 2
    assert len(report(pin(400_000, 0x80001) + pin(400_001, 0x80001)).holds) == 2


def test_a_compound_page_is_one_hold() -> None:
    """The records of a 2 MiB page have the PFN of its head: one hold of 512 pages."""
    records = [pin(400_000 + at, 0x80200, names="uptodate|head") for at in range(512)]
    made = report("".join(records))
    (hold,) = made.holds
    assert (hold.records, hold.pages, hold.blocks, hold.cma_pages, hold.compound) == (512, 512, (0x200,), 512, True)
    assert made.sites[0].page_us == 512 * 400_511
    assert (made.sites[0].pages, made.sites[0].cma_pages) == (512, 512)
    # The oldest ones are lost: rounded up to an order.
    assert [hold.pages for hold in report("".join(records[:300])).holds] == [512]
    # The head is aligned to the size of its page, so these are two releases.
    assert [
        (hold.records, hold.pages)
        for hold in report("".join(records[:4] * 2).replace(str(0x80200), str(0x80204))).holds
    ] == [
        (4, 4),
        (4, 4),
    ]
    # A page of 64 MiB touches 16 pageblocks of 4 MiB.
    large = report("".join(pin(400_000, 0x84000, names="head") for _ in range(4096 * 4)))
    assert [(hold.pages, hold.blocks) for hold in large.holds] == [(1 << 14, tuple(range(0x210, 0x220)))]


def test_the_size_of_a_compound_page_with_one_record() -> None:
    """A transparent huge page is on an LRU list or anonymous, and aligned. The size of others is unknown: one page."""

    def pages(text: str) -> list[int]:
        return [hold.pages for hold in report(text).holds]

    assert pages(pin(400_000, 0x80200, names="lru|head")) == [512]
    assert pages(pin(400_000, 0x80200, names="head|swapbacked") * 512) == [512]
    assert pages(pin(400_000, 0x80200, names="head|swapbacked") * 1024) == [512, 512]
    assert pages(pin(400_000, 0x80200, names="head")) == [1]
    assert pages(pin(400_000, 0x80100, names="lru|head")) == [1]
    # Each of these is an event of its own.
    event = put(5, 0x80200, GPU).replace("uptodate|", "head|")
    assert pages(event * 4) == [512]
    assert pages(event.replace("|lru", "") * 4) == [1]


def test_a_compound_page_is_one_page_in_the_order_of_sites() -> None:
    """512 pages that the kernel moves as one do not make a short hold worse than longer ones. The page time is true."""
    huge = "".join(pin(400_000, 0x80200, type="Movable", names="lru|head") for _ in range(512))
    small = "".join(pin(1_000_000 + 100 * at, 0x90000 + 2 * at, GPU, "Movable") for at in range(30))
    made = report(huge + small)
    assert [(site.owner, site.page_us // 10**6) for site in made.sites] == [("mali", 30), ("v4l2", 204)]
    assert made.culprit == made.sites[0].key


def test_sums_of_a_site() -> None:
    """A site has its holds' records, distinct pages and blocks, page time and quantiles by nearest rank."""
    made = report("".join(pin(1000 * (at + 1), 0x80000 + 1024 * at) for at in range(10)))
    (site,) = made.sites
    assert (site.holds, site.records, site.pages, site.blocks) == (10, 10, 10, tuple(range(0x200, 0x20A)))
    assert (site.page_us, site.p50_us, site.p99_us, site.max_us) == (55_000, 5000, 10_000, 10_000)
    assert (site.cma_pages, site.cma_blocks) == (10, site.blocks)
    assert site.stack == CAMERA
    assert (made.pageblock_order, made.threshold_at_most_us) == (10, 999)


def test_the_order_of_sites() -> None:
    """Pageblocks in CMA come first, then page time, then the longest hold."""
    blocks = pin(300_001, 0x80000) + pin(300_001, 0x80800)
    page_time = "".join(pin(5_000_000, 0x90000 + at, ("try_grab_page", *GPU), "Movable") for at in range(4))
    longest = pin(9_000_000, 0xA0000, ("try_grab_page", *DRIVER), "Movable")
    made = report(longest + page_time + blocks)
    assert [site.owner for site in made.sites] == ["v4l2", "mali", "my_camera"]
    assert made.culprit == made.sites[0].key
    assert made.headline == (
        "vb2_dma_sg_get_userptr (v4l2) held 2 pages in 2 holds, up to 300 ms; 2 pageblocks of CMA spoiled"
    )


def test_cma_is_unknown_without_a_place() -> None:
    """Without a migratetype or an area, the share of CMA is None; with an area it is counted."""
    text = hex_pin(400_000, 0x80001) + hex_pin(500_000, 0x90001)
    (site,) = report(text).sites
    assert (site.cma_pages, site.cma_blocks, len(site.blocks)) == (None, None, 2)
    (site,) = report("cma: Reserved 16 MiB at 0x0000000080000000\n" + text).sites
    assert (site.cma_pages, site.cma_blocks) == (1, (0x200,))


def test_failures_are_joined_by_page() -> None:
    """The last foreign reference of a page that an allocation met is the candidate, and the victim is named."""
    made = report(
        freed(9_000_000, 0x80001)
        + put(1_900_000, 0x80001, MUNMAP)
        + put(1_500_000, 0x80001, DRIVER)
        + put(1_200_000, 0x80001, GPU)
        + put(100_000, 0x80001, ALLOCATOR)
        + detect(7_000_000, 0x80001)
    )
    assert [(site.site, site.role) for site in made.sites] == [
        ("my_release", "candidate"),
        ("kbase_unpin", "candidate"),
        ("unmap_region", "candidate"),
        ("cma_heap_allocate", "victim"),
        ("cma_heap_allocate", "allocator"),
        ("unmap_region", "end"),
    ]
    culprit = next(site for site in made.sites if site.key == made.culprit)
    assert (culprit.site, culprit.refused) == ("my_release", ("cma_heap_allocate",))
    assert made.victims == ("cma_heap_allocate",)
    assert made.headline == (
        "my_release (my_camera) was the last to drop a reference to 1 page that an allocation for cma_heap_allocate "
        "wanted, up to 1.50 s after the failure"
    )
    hold = next(hold for hold in made.holds if hold.key == culprit.key)
    assert hold.end_us == 8_500_000


def test_a_page_frame_that_is_used_again() -> None:
    """A free ends the life of a page: each life has its own failure, and its own last reference."""
    first = freed(3_000_000, 0x80001) + put(900_000, 0x80001, GPU) + detect(2_000_000, 0x80001)
    second = freed(9_000_000, 0x80001) + put(1_500_000, 0x80001, DRIVER) + detect(7_000_000, 0x80001)
    other = freed(3_000_000, 0x80005) + put(800_000, 0x80005, GPU) + detect(2_000_000, 0x80005)
    made = report(second + other + first)
    ends = {(hold.duration_us, hold.end_us) for hold in made.holds if hold.kind == "PUT"}
    assert ends == {(1_500_000, 8_500_000), (900_000, 2_900_000), (800_000, 2_800_000)}
    # Without a free, the last reference before it is the one that counts, and the first failure.
    made = report(put(1_500_000, 0x80001, DRIVER) + detect(2_500_000, 0x80001) + detect(2_000_000, 0x80001))
    assert [hold.end_us for hold in made.holds if hold.kind == "PUT"] == [3_500_000]
    # Two devices or two boots have page frames of the same numbers.
    title = "------ a (/sys/kernel/debug/page_pinner/buffer) ------\n"
    made = report(title + put(1_500_000, 0x80001, DRIVER) + title + detect(2_000_000, 0x80001))
    assert [hold.end_us for hold in made.holds if hold.kind == "PUT"] == [None]


def test_the_last_reference_of_each_life_counts() -> None:
    """A driver that blocked one page frame twice is worse than one that blocked another once, and later."""
    lives = [put(900_000, 0x80001, GPU) + detect(2_000_000, 0x80001) for _ in range(2)]
    once = put(5_000_000, 0x90005, DRIVER) + detect(2_000_000, 0x90005)
    made = report(once + freed(9_000_000, 0x80001).join(lives))
    assert made.culprit == next(site.key for site in made.sites if site.site == "kbase_unpin")
    made = report(once + "".join(lives))
    assert made.culprit == next(site.key for site in made.sites if site.site == "my_release")


def test_an_allocation_meets_one_life_of_a_page_frame() -> None:
    """A free ends a page: the allocation that met it did not meet those who held the page frame before or after."""
    other = tuple(frame.replace("cma_heap_allocate", "other_allocate") for frame in WRITER)
    newer = put(900_000, 0x80001, GPU) + detect(8_000_000, 0x80001)
    older = put(900_000, 0x80001, DRIVER) + detect(2_000_000, 0x80001, other)
    found = {site.site: site.refused for site in report(newer + freed(6_000_000, 0x80001) + older).sites}
    assert (found["kbase_unpin"], found["my_release"]) == (("cma_heap_allocate",), ("other_allocate",))
    # Without a free it is one page. In another dump, as of another file, nothing tells which one it is.
    both = ("cma_heap_allocate", "other_allocate")
    made = report(newer + older)
    assert all(site.refused == both for site in made.sites if site.role == "candidate")
    title = "------ a (/sys/kernel/debug/page_pinner/longterm_pinner) ------\n"
    made = report(newer + freed(6_000_000, 0x80001) + older + title + hex_pin(400_000, 0x80001))
    assert next(site.refused for site in made.sites if site.role == "culprit") == both


def test_only_refused_pages_were_refused() -> None:
    """Pages that were only freed are not among those that an allocation was refused."""
    made = report(detect(7_000_000, 0x80001) + freed(2_000_000, 0x90001) + freed(2_000_000, 0x90005))
    assert made.headline == "cma_heap_allocate was refused 1 page; no record shows who held them"
    assert "empty file" not in made.proves and made.proves


def test_the_allocator_and_munmap_are_never_blamed() -> None:
    """The allocation's own references, and those that every page loses, are no culprits."""
    made = report(put(900_000, 0x80001, MUNMAP) + put(100_000, 0x80001, ALLOCATOR) + detect(7_000_000, 0x80001))
    assert made.culprit is None
    assert made.headline == "cma_heap_allocate was refused 1 page; no record shows who held them"


@pytest.mark.parametrize("between", [1, 2, 5])
def test_records_that_were_read_twice(between: int) -> None:
    """Records that come while a reader reads make it read as many again; dedup drops these."""
    texts = [pin(300_001 + 7919 * at % 100_000, 0x80000 + 3 * at) for at in range(20)]
    twice = "".join(texts[:10] + texts[10 - between :])
    assert report(twice).records == 20 + between
    assert report(twice, dedup=True).records == 20
    assert report("".join(texts), dedup=True).records == 20
    assert [finding.name for finding in report(twice).findings] == ["read-twice"]
    assert not report(twice, dedup=True).findings


def test_dumps_that_overlap() -> None:
    """A dump given twice, as one text or as two, and a later dump of the same ring count once with dedup."""
    texts = [pin(300_001 + 7919 * at % 100_000, 0x80000 + 3 * at) for at in range(200)]
    title = "------ a (/sys/kernel/debug/page_pinner/longterm_pinner) ------\n"
    older, newer = "".join(texts[30:]), "".join(texts[:190])
    for text, records in (
        ("".join(texts) * 2, 200),
        (2 * (title + "".join(texts)), 200),
        (2 * (title + texts[0]), 1),
        (title + older + title + newer, 200),
        (title + newer + title + older, 200),
        (title + "".join(texts[3:5]) + title + "".join(texts[:5]), 5),
        (title + "".join(texts[:5]) + title + "".join(texts[3:5]), 5),
    ):
        assert "read-twice" in {finding.name for finding in report(text).findings}
        assert report(text, dedup=True).records == records
    # A later dump ends with the whole earlier one. Other short runs, or one record, may be equal by accident.
    for first, second in ((0, 5), (3, 9)), ((3, 5), (0, 9)), ((4, 5), (0, 5)), ((0, 5), (4, 5)):
        two = title + "".join(texts[slice(*first)]) + title + "".join(texts[slice(*second)])
        assert report(two, dedup=True).records == first[1] - first[0] + second[1] - second[0]


def test_dumps_of_huge_pages_that_overlap() -> None:
    """Huge pages have equal records. Several of them in the same order are a dump that is given twice."""
    huge = [pin(300_001 + at, 0x80000 + 0x200 * at, names="lru|head") * 512 for at in range(8)]
    title = "------ a (/sys/kernel/debug/page_pinner/longterm_pinner) ------\n"
    for text, records in (
        (2 * (title + "".join(huge)), 4096),
        (title + "".join(huge[3:]) + title + "".join(huge), 4096),
        (title + "".join(huge[:1]) * 2, 1024),
        (title + "".join(huge[:1]) + title + "".join(huge[1:]), 4096),
    ):
        assert report(text, dedup=True).records == records


def test_the_bound_of_the_threshold() -> None:
    """The shortest pin was longer than the threshold, which is not below 0."""
    assert report(pin(500_000, 0x80001) + pin(400_000, 0x80401)).threshold_at_most_us == 399_999
    assert report(pin(0, 0x80001)).threshold_at_most_us == 0


def test_a_full_ring() -> None:
    """4096 records, or as many as buffer_size says, fill the ring."""
    texts = [pin(300_001 + at, 0x80000 + 2 * at) for at in range(4096)]
    assert report("".join(texts)).ring_full
    assert not report("".join(texts[1:])).ring_full
    size = "------ a (/sys/kernel/debug/page_pinner/buffer_size) ------\n16\n\n"
    title = "------ b (/sys/kernel/debug/page_pinner/buffer) ------\n"
    events = [detect(1000 * at, 0x80000 + at) for at in range(16)]
    assert report(size + title + "".join(events)).ring_full
    assert not report(size + title + "".join(events[1:])).ring_full
    # A file that was copied under another name: only `buffer` is beside a buffer_size.
    assert report(size + "".join(events)).ring_full
    assert not report(size.replace("16", "-16") + title + "".join(events)).ring_full
