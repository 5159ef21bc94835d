"""dump --explain: what the accounting saw, behind the records."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import pinnerfs
from tests.cli.conftest import Run
from tests.workload.stories import source, task


def write(path: Path, *tasks: str) -> Path:
    path.write_text(source(*tasks, stack='frames = ["f"]'))
    return path


def explained(run: Run, *arguments: object) -> list[str]:
    """Return the lines of the explanation, after the records of a plain dump."""
    plain, result = run("dump", *arguments), run("dump", *arguments, "--explain")
    assert (result.status, result.err) == (0, "")
    assert result.out.startswith(plain.out)
    lines = result.out.removeprefix(plain.out).splitlines()
    assert [line[:2] for line in lines] == ["# "] * len(lines)
    return [line[2:] for line in lines]


LONG = task("long", 'for = "1h", every = "1s", hold = "400ms"')
SHORT = task("short-one", 'for = "1h", every = "1s", hold = "1ms"')


def test_the_table(run: Run, tmp_path: Path) -> None:
    """Each task has a row, in the scenario's order, with its numbers below their titles; then come the totals."""
    assert explained(run, write(tmp_path / "a.toml", LONG, SHORT), "--at", "9900ms") == [
        "task       pins  releases  records  still held  marked now  below threshold",
        "long         10        10       10           0           0                0",
        "short-one    10        10        0           0           0               10",
        "10 records now, 0 records overwritten in the ring",
    ]


def test_the_ring(run: Run, tmp_path: Path) -> None:
    """Records that the ring has lost are counted."""
    storm = task("storm", 'repeat = 5000, every = "1ms", hold = "400ms"')
    lines = explained(run, write(tmp_path / "a.toml", storm), "--at", "5s")
    assert lines[2:] == [
        "4096 records now, 505 records overwritten in the ring",
        "the ring holds 4096 records: the oldest were overwritten",
    ]


PAGES_AND_FRAMES = (
    "pins, releases, still held, put_page and untracked calls count pages; "
    "the other columns count the frames of the pages"
)
WHOSE_RECORD = (
    "records and below threshold count for the task that set the mark, not for the one that released the page"
)


@pytest.mark.parametrize(
    ("keys", "options", "sentences"),
    [
        (
            {},
            ["--at", "0s"],
            [
                "no record: no pin was released by put_user_page or unpin_user_page",
                "a page that is still held has no record yet: it comes with the release",
            ],
        ),
        ({"start": "5s"}, ["--at", "1s"], ["no record: no page was pinned"]),
        (
            {},
            ["--at", "39900ms", "--threshold", "1s"],
            ["no record: no mark was older than 1000000 us when its page was released"],
        ),
        (
            {"foll": "FOLL_PIN"},
            ["--at", "9s", "--kernel", "android12-5.10-early"],
            ["no record: no tracked call pinned a page", "FOLL_PIN is not tracked by android12-5.10-early"],
        ),
        (
            {},
            ["--at", "9s", "--kernel", "android14-6.1"],
            [
                "no record: no tracked call pinned a page",
                "no pin is tracked by android14-6.1: it records failed migrations alone",
            ],
        ),
        (
            {"foll": "none"},
            ["--at", "9s"],
            ["no record: no tracked call pinned a page", "a plain get_page is not tracked by any kernel"],
        ),
        (
            {"release": "put_page"},
            ["--at", "500ms"],
            [
                "no record: no pin was released by put_user_page or unpin_user_page",
                "put_page does not end a pin for page_pinner: it takes no record and leaves the mark",
            ],
        ),
        (
            {"order": 2},
            ["--at", "500ms"],
            [PAGES_AND_FRAMES],
        ),
        ({}, ["--at", "500ms"], []),
    ],
)
def test_sentences(run: Run, tmp_path: Path, keys: dict[str, object], options: list[str], sentences: list[str]) -> None:
    """A sentence says why a file is empty, or what a reader of the records has to know."""
    story = task("t", 'for = "1h", every = "1s", hold = "400ms"', **keys)
    assert explained(run, write(tmp_path / "a.toml", story), *options)[3:] == sentences


def test_an_overwritten_mark(run: Run) -> None:
    """The known false positive is explained."""
    lines = explained(run, "gpu-put-page", "--at", "30s")
    assert "a page has one mark: a later pin overwrites it, and takes the blame" in lines
    assert WHOSE_RECORD in lines
    assert lines[0].endswith("marks overwritten  put_page")


@pytest.mark.parametrize("order", [0, 3])
def test_a_release_that_finds_no_mark(run: Run, tmp_path: Path, order: int) -> None:
    """Each release of two holders is explained: the second one to release finds no mark."""
    once, frames = 'repeat = 1, every = "1h", hold = "{}"', 1 << order
    holders = [
        task("a", once.format("500ms"), pfn=4096, order=order),
        task("b", once.format("600ms"), pfn=4096, order=order, start="1ms"),
    ]
    lines = explained(run, write(tmp_path / "a.toml", *holders), "--at", "990ms", "--threshold", "2s")
    assert [line.split() for line in lines[1:3]] == [
        ["a", "1", "1", "0", "0", "0", "0", "0", f"{frames}"],
        ["b", "1", "1", "0", "0", "0", f"{frames}", f"{frames}", "0"],
    ]
    assert lines[0].endswith("still held  marked now  below threshold  no mark found  marks overwritten")
    assert lines[3:] == [
        "0 records now, 0 records overwritten in the ring",
        "no record: no mark was older than 2000000 us when its page was released",
        WHOSE_RECORD,
        "a page has one mark: a later pin overwrites it, and takes the blame",
        *([PAGES_AND_FRAMES] if order else []),
    ]


def test_pages_still_held(run: Run) -> None:
    """After put_page a page is not held any more, but its frames are still marked. An untracked pin is held, too."""
    lines = explained(run, "slow-direct-io", "--at", "60s")
    player = dict(zip(re.split(r"  +", lines[0]), lines[1].split(), strict=True))
    assert int(player["still held"]) == int(player["pins"]) - int(player["put_page"]) < int(player["marked now"])
    lines = explained(run, "camera-stall", "--at", "60s", "--kernel", "android12-5.10-early")
    assert lines[:2] == [
        "task    pins  releases  records  still held  marked now  untracked calls",
        "camera     0         0        0          32           0            49696",
    ]


@pytest.mark.parametrize("kernel", ["introduced", "android12-5.10-early"])
@pytest.mark.parametrize("name", sorted(pinnerfs.gallery()))
def test_the_gallery(run: Run, name: str, kernel: str) -> None:
    """Every scenario can be explained: a row for each task and each alloc, aligned, and the number of records."""
    lines = explained(run, name, "--at", "20s", "--kernel", kernel)
    scenario = pinnerfs.load(name)
    table = lines[: 1 + len(scenario.task)]
    assert [line.split()[0] for line in table[1:]] == [task.name for task in scenario.task]
    assert len({len(line) for line in table}) == 1
    count = run("dump", name, "--at", "20s", "--kernel", kernel).out.count("Page pinned")
    rest = lines[len(table) :]
    if scenario.alloc:
        allocs, rest = rest[: 1 + len(scenario.alloc)], rest[1 + len(scenario.alloc) :]
        assert [line.split()[0] for line in allocs[1:]] == [alloc.name for alloc in scenario.alloc]
        assert len({len(line) for line in allocs}) == 1
    assert rest[0].startswith(f"{count} record")


@pytest.mark.parametrize(("kernel", "where"), [("introduced", ""), ("pixel-5.10", " in longterm_pinner")])
def test_the_records_of_two_files(run: Run, tmp_path: Path, kernel: str, where: str) -> None:
    """On a kernel with two record files, the number of records says of which file it is."""
    path = write(tmp_path / "a.toml", task("t", 'for = "1h", every = "1s", hold = "400ms"'))
    lines = explained(run, path, "--at", "900ms", "--kernel", kernel)
    assert lines[2] == f"1 record now{where}, 0 records overwritten in the ring"
