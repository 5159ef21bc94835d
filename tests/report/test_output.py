"""The report as text: table, victims, findings, map and bars."""

from __future__ import annotations

import pytest

from pinnerfs.report import units
from pinnerfs.report.bars import bars
from pinnerfs.report.blockmap import block_map, block_maps
from pinnerfs.report.lines import Line, plain
from pinnerfs.report.model import Area, Hold, Report
from pinnerfs.report.selection import top
from pinnerfs.report.text import facts, report_lines
from tests.report.made import EVIL, report, site


def printed(one: Report, *, stacks: bool = False) -> str:
    """Return the text of a report."""
    return plain(report_lines(one, stacks=stacks))


@pytest.mark.parametrize(
    ("us", "text"),
    [
        (None, "-"),
        (0, "0 us"),
        (999, "999 us"),
        (1000, "1.00 ms"),
        (9_995, "10.0 ms"),
        (99_940, "99.9 ms"),
        (303_038, "303 ms"),
        (999_499, "999 ms"),
        (999_500, "1.00 s"),
        (1_495_421, "1.50 s"),
        (12_345_678, "12.3 s"),
        (3_600_000_000, "3600 s"),
    ],
)
def test_durations(us: int | None, text: str) -> None:
    """A duration has three digits, and never the wrong unit."""
    assert units.duration(us) == text


def test_small_units() -> None:
    """Sizes and shares are short, and an unknown share says so."""
    assert [units.memory(pages) for pages in (1, 1024, 9216, 1 << 18)] == ["4 KiB", "4 MiB", "36 MiB", "1 GiB"]
    assert [units.percent(part, 3) for part in (None, 0, 2, 3)] == ["unknown", "0%", "67%", "100%"]
    assert units.percent(0, 0) == "-"


def test_the_first_lines() -> None:
    """The first line names the culprit, the second tells what the input is."""
    first, second, *_ = printed(report(site())).splitlines()
    assert first == "v4l2 is to blame"
    assert second == "dump.txt: kernel introduced, 48 records = 3 holds, ring not full, threshold 300 ms"


def test_facts() -> None:
    """The facts tell a full ring, a threshold that only the records bound, and no more than three sources."""
    one = report(site(), ring_full=True, threshold_us=None, sources=("a", "b", "c", "d", "e"))
    assert facts(one) == (
        "a, b, c and 2 more: kernel introduced, 48 records = 3 holds, "
        "ring full: older records may be lost, threshold at most 500 ms"
    )
    assert "threshold" not in facts(report(threshold_us=None, threshold_at_most_us=None))


def test_the_table() -> None:
    """Each site that held pages has a row; numbers are right-aligned; an unknown CMA share is `unknown`."""
    one = report(site(), site("0badcafe", 12, owner="mali", site="kbase_x", cma_pages=None))
    rows = [line for line in printed(one).splitlines() if line.startswith(("key", "5e1f09aa  v4l2", "0badcafe  mali"))]
    assert [" ".join(row.split()) for row in rows] == [
        "key owner site holds recs pages blocks CMA page.s p50 p99 max",
        "5e1f09aa v4l2 vb2_dma_sg_get_userptr 3 48 48 2 100% 28.8 600 ms 700 ms 700 ms",
        "0badcafe mali kbase_x 12 192 192 2 unknown 201.6 1.10 s 1.60 s 1.60 s",
    ]
    assert len({len(row) for row in rows}) == 1


def test_roles_and_refused_allocations() -> None:
    """The columns `role` and `refused` appear if they say something."""
    text = printed(report(site(role="candidate", refused=("cma_heap", "dma"))))
    assert "key       role       owner" in text and "cma_heap, dma" in text
    text = printed(report(site()))
    assert "role" not in text and "refused" not in text


def test_victims_are_apart() -> None:
    """A victim is in the table of refused allocations, and neither in the other table nor in the bars."""
    one = report(site(), site("11111111", 1, role="victim", owner="dma-buf", site="cma_heap_allocate"))
    assert printed(one).count("11111111") == 1
    assert "Who was refused\nkey       owner    site               recs  pages  blocks\n11111111" in printed(one)


def test_what_is_in_no_table() -> None:
    """Records of the allocator itself and of frees are counted in a sentence."""
    one = report(site(), site("22222222", 1, role="allocator"), site("33333333", 2, role="end"))
    assert "Not in the tables: 16 records of the allocation's own handling of pages, 32 records of frees." in " ".join(
        printed(one).split()
    )


def test_findings() -> None:
    """A finding has a title with the keys of its sites, an explanation and an advice, within 80 columns."""
    assert "* One hold, many records (5e1f09aa)\n  It is explained.\n  Count holds.\n" in printed(report(site()))
    long = report(site()).findings[0]
    text = printed(report(site(), findings=(type(long)("n", "t", "many words " * 40, "a"),)))
    assert max(map(len, text.partition("Findings")[2].splitlines())) <= 80


def test_stacks() -> None:
    """--stacks prints the frames as the kernel does, with offsets and a leading space."""
    assert "\n vb2_dma_sg_get_userptr+0x130/0x260\n" in printed(report(site()), stacks=True)
    assert "+0x130" not in printed(report(site()))


def test_an_empty_report() -> None:
    """Without a record there is a headline and what that proves, and neither table nor picture."""
    text = printed(report(proves="It proves little.", findings=()))
    assert text == (
        "no long-term pin recorded\n"
        "dump.txt: kernel introduced, 0 records = 0 holds, ring not full, threshold 300 ms\n\nIt proves little.\n"
    )


def test_a_hostile_dump() -> None:
    """No control character of a dump is printed, wherever it stands."""
    one = report(
        site(owner=EVIL, site=EVIL, stack=(EVIL,), refused=(EVIL,)),
        headline=EVIL,
        sources=(EVIL,),
        generation=EVIL,
        areas=(Area(EVIL, 992 << 10, 24 << 10),),
        proves=EVIL,
    )
    text = printed(one, stacks=True)
    assert all(char == "\n" or char.isprintable() for char in text)
    assert r"\x1b[31m" in text and r"\u202e" in text and r"\xff" in text


def cells(lines: list[Line]) -> dict[str, str]:
    """Return the rows of a map or of bars by their labels."""
    rows = plain(lines).splitlines()
    return {row[:10].strip(): row[10:] for row in rows if row[:10].strip() in ("all", "5e1f09aa", "0badcafe")}


def hold(key: str, pfn: int, pages: int, *blocks: int) -> Hold:
    """Return a hold of half a second."""
    return Hold(key, "PIN", pfn, pages, pages, blocks, pages, 500_000)


def test_the_map() -> None:
    """A cell tells the share of a block's pages that were held; pages held twice count once."""
    one = report(
        site(blocks=(992, 993, 994, 995)),
        areas=(Area("reserved", 992 << 10, 8 << 10),),
        holds=(
            hold("5e1f09aa", 992 << 10, 1, 992),
            hold("5e1f09aa", 993 << 10, 512, 993),
            hold("5e1f09aa", (993 << 10) + 256, 256, 993),
            hold("5e1f09aa", 994 << 10, 2048, 994, 995),
        ),
    )
    assert cells(block_map(one)) == {"all": "0599...."}


def test_the_map_of_a_report_with_top() -> None:
    """The first row of a map is of all sites, also of those that --top left out."""
    both = report(site("0badcafe", blocks=(992,)), site(blocks=(995,)), areas=(Area("reserved", 992 << 10, 4 << 10),))
    assert cells(block_map(both)) == {"all": "0..0", "0badcafe": "0...", "5e1f09aa": "...0"}
    assert cells(block_map(top(both, 1))) == {"all": "0..0", "0badcafe": "0..."}


def test_scattered_pages() -> None:
    """A hold of scattered pages shows in each of its blocks."""
    one = report(
        site(blocks=(992, 994)),
        areas=(Area("reserved", 992 << 10, 4 << 10),),
        holds=(hold("5e1f09aa", 992 << 10, 2, 992, 994),),
    )
    assert cells(block_map(one)) == {"all": "0.0."}


def test_a_map_has_at_most_80_columns() -> None:
    """A large area has several blocks in a cell."""
    one = report(site(blocks=(0, 999)), areas=(Area("large", 0, 1000 << 10),))
    assert max(map(len, plain(block_map(one)).splitlines())) <= 80
    assert "blocks 0-999, 4 MiB each, 15 blocks a column" in plain(block_map(one))
    assert len(cells(block_map(one))["all"]) == 67


def test_an_area_of_any_size() -> None:
    """An area that is larger than any memory has a map, too."""
    assert cells(block_map(report(site(), areas=(Area("x", 0, 1 << 63),))))["all"] == "0" + "." * 69


def test_maps_of_several_areas() -> None:
    """Each area with a held page has a map, and other areas have none."""
    areas = (Area("a", 992 << 10, 4 << 10), Area("b", 1000 << 10, 4 << 10), Area("c", 0, 4 << 10))
    assert [one.name for one in block_maps(report(site(), areas=areas))] == ["a", "b"]


def test_a_map_without_areas() -> None:
    """Without an area the map is of all blocks touched; without a pageblock order there is no map."""
    assert "all blocks touched: blocks 994-1001" in plain(block_map(report(site(), areas=())))
    assert block_map(report(site(), pageblock_order=None)) == []
    assert block_map(report()) == []


def test_the_bars() -> None:
    """A bar reaches to the longest hold, and the threshold is at its place."""
    bar = cells(bars(report(site(), site("0badcafe", 1))))
    assert bar == {
        "5e1f09aa": "#" * 30 + "|" + "#" * 29 + "=" * 10,
        "0badcafe": "#" * 30 + "|" + "#" * 19,
    }


def test_bars_without_a_threshold() -> None:
    """A kernel without a threshold has bars without the mark; sites without durations have no bars."""
    one = report(site(), threshold_us=None, threshold_at_most_us=None)
    assert "|" not in printed(one)
    assert "How long" not in printed(report(site(p50_us=None, p99_us=None, max_us=None)))
