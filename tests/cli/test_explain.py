"""dump --explain: what the accounting saw, behind the records."""

from __future__ import annotations

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
        "task       pins  releases  records  still held  below threshold",
        "long         10        10       10           0                0",
        "short-one    10        10        0           0               10",
        "10 records now, 0 overwritten",
    ]


def test_the_ring(run: Run, tmp_path: Path) -> None:
    """Records that the ring has lost are counted."""
    storm = task("storm", 'repeat = 5000, every = "1ms", hold = "400ms"')
    lines = explained(run, write(tmp_path / "a.toml", storm), "--at", "5s")
    assert lines[2:] == [
        "4096 records now, 505 overwritten",
        "the ring holds 4096 records: the oldest were overwritten",
    ]


@pytest.mark.parametrize(
    ("keys", "options", "sentences"),
    [
        ({}, ["--at", "0s"], ["no record: no pin was released by put_user_page or unpin_user_page"]),
        ({"start": "5s"}, ["--at", "1s"], ["no record: no page was pinned"]),
        (
            {},
            ["--at", "39900ms", "--threshold", "1s"],
            ["no record: all 40 releases were at most 1000000 us long"],
        ),
        ({}, ["--at", "500ms", "--threshold", "1s"], ["no record: the release was at most 1000000 us long"]),
        (
            {"foll": "FOLL_PIN"},
            ["--at", "9s", "--kernel", "android12-5.10-early"],
            ["no record: no page was pinned", "FOLL_PIN is not tracked by android12-5.10-early"],
        ),
        (
            {"foll": "none"},
            ["--at", "9s"],
            ["no record: no page was pinned", "a plain get_page is not tracked by any kernel"],
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
            ["pins, releases and put_page count pages; the other columns count the frames of the pages"],
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
    assert lines[0].endswith("marks overwritten  put_page")


@pytest.mark.parametrize("kernel", ["introduced", "android12-5.10-early"])
@pytest.mark.parametrize("name", sorted(pinnerfs.gallery()))
def test_the_gallery(run: Run, name: str, kernel: str) -> None:
    """Every scenario can be explained: a row for each task, aligned, and the number of records."""
    lines = explained(run, name, "--at", "20s", "--kernel", kernel)
    scenario = pinnerfs.load(name)
    table = lines[: 1 + len(scenario.task)]
    assert [line.split()[0] for line in table[1:]] == [task.name for task in scenario.task]
    assert len({len(line) for line in table}) == 1
    count = run("dump", name, "--at", "20s", "--kernel", kernel).out.count("Page pinned")
    assert lines[len(table)].startswith(f"{count} record")
