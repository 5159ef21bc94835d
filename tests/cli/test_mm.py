"""The options --mm, --cma-retries and --quiet-migration, and the outcomes of allocations in dump, check and show."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.workload.stories import alloc, source, task

# From one second on, an allocation of the whole area meets a page that is pinned for ten seconds.
MEMORY = """
[memory]
size = "32MiB"
base_pfn = 4096
region = [{ name = "camera", size = "16MiB", migratetype = "CMA", cma = "camera", pages = "file", flags = ["lru"] }]
"""
STORY = (
    task("gpu", 'repeat = 1, every = "8000h", hold = "10s"', region="camera", release="put_page"),
    alloc("camera", 'repeat = 1, every = "8000h", hold = "1s"', area="camera", pages=4096, start="1s"),
)


def write(path: Path, *expectations: str) -> Path:
    """Write the scenario with an [[expect]] for each of these keys."""
    path.write_text(source(*STORY, *(f"[[expect]]\n{keys}\n" for keys in expectations), memory=MEMORY))
    return path


def row(run: Run, *arguments: object) -> list[str]:
    """Return the row of the alloc in a dump's explanation: allocations, got, failed, not over, pages now."""
    result = run("dump", *arguments, "--explain")
    assert (result.status, result.err) == (0, "")
    lines = [line.split() for line in result.out.splitlines() if line.startswith("# ")]
    (title,) = (line for line in lines if line[1] == "alloc")
    assert " ".join(title[2:]) == "allocations got their pages failed not over pages now"
    return lines[lines.index(title) + 1][2:]


@pytest.mark.parametrize(
    ("options", "over"),
    [
        ((), "2050ms"),
        (("--kernel", "pixel-5.10"), "1530ms"),
        (("--kernel", "android14-6.1"), "1530ms"),
        (("--mm", "6.1.192"), "1s"),
        (("--kernel", "android14-6.1", "--mm", "android12-5.10"), "2050ms"),
        (("--cma-retries", "2"), "1220ms"),
        (("--cma-retries", "0"), "1s"),
    ],
)
def test_retries(run: Run, tmp_path: Path, options: tuple[str, ...], over: str) -> None:
    """The kernel's memory management decides when a failing allocation is over, and the options change it."""
    path = write(tmp_path / "a.toml")
    assert row(run, path, "--at", "999ms", *options) == ["0", "0", "0", "0", "0"]
    assert row(run, path, "--at", over, *options) == ["1", "0", "1", "0", "0"]
    if over != "1s":
        assert row(run, path, "--at", "1s", *options) == ["1", "0", "0", "1", "0"]


def test_pages_now(run: Run, tmp_path: Path) -> None:
    """After the pin has ended, an allocation gets its pages, and has them until its hold ends."""
    path = tmp_path / "a.toml"
    path.write_text(
        source(
            STORY[0],
            alloc("a", 'repeat = 1, every = "8000h", hold = "1s"', start="11s"),
            memory=MEMORY.replace('cma = "camera"', 'cma = "area"'),
        )
    )
    assert row(run, path, "--at", "11s") == ["1", "1", "0", "0", "1"]
    assert row(run, path, "--at", "12s") == ["1", "1", "0", "0", "0"]


def test_no_record_on_the_first_kernel(run: Run, tmp_path: Path) -> None:
    """`introduced` has no file for failed allocations, and the explanation says so."""
    result = run("dump", write(tmp_path / "a.toml"), "--at", "3s", "--explain")
    assert "# a failed allocation leaves no record on introduced" in result.out.splitlines()
    result = run("dump", write(tmp_path / "a.toml"), "--at", "3s", "--explain", "--kernel", "android14-6.1")
    assert "leaves no record" not in result.out


def test_quiet_migration(run: Run, tmp_path: Path) -> None:
    """Without the records of each pass, those of the first failure are still there."""
    path = write(tmp_path / "a.toml")
    dumps = [
        run("dump", path, "--at", "3s", "--kernel", "android14-6.1", *options).out
        for options in ((), ("--quiet-migration",))
    ]
    passes = [dump.count(" try_to_migrate_one+") for dump in dumps]
    assert passes == [50 * 5, 0]
    assert [dump.count("Failure detected at") for dump in dumps] == [1, 1]


def test_expected_outcomes(run: Run, tmp_path: Path) -> None:
    """`check --expect` says how many allocations got their pages and how many failed, and takes the options."""
    keys = ['at = "1500ms"\nallocs = { failed = 0 }', 'at = "3s"\nallocs = { name = "camera", got = { max = 3 } }']
    path = write(tmp_path / "a.toml", *keys)
    result = run("check", "--expect", path)
    assert (result.status, result.err) == (0, "")
    assert result.out.splitlines()[:2] == [
        f"{path}: ok at 1500ms: wanted allocations: 0 failed; came 0 got, 0 failed, 1 not over",
        f"{path}: ok at 3s: wanted allocations of camera: 0 to 3 got; came 0 got, 1 failed",
    ]
    result = run("check", "--expect", path, "--cma-retries", "0")
    assert (result.status, result.err) == (1, "Error: 1 of 2 expectations failed\n")
    assert "FAILED at 1500ms: wanted allocations: 0 failed; came 0 got, 1 failed\n" in result.out


def test_show(run: Run, tmp_path: Path) -> None:
    """`show` describes areas and allocs."""
    out = run("show", write(tmp_path / "a.toml")).out
    assert "  camera: 16MiB CMA (lru), pages of a file, CMA area camera\n" in out
    assert "alloc camera: 4096 pages of area camera, stack s, from 1s\n  1 time: every 8000h, each held 1s\n" in out


@pytest.mark.parametrize("command", [("dump", "--at", "1s"), ("check",), ("mount", "/nowhere"), ("run", "--", "true")])
@pytest.mark.parametrize(
    ("option", "words"),
    [
        (("--mm", "6.6"), "Invalid value for '--mm': '6.6' is not one of '6.1.192', 'android12-5.10', "),
        (("--cma-retries", "-1"), "Invalid value for '--cma-retries': -1 is not in the range 0<=x<=1000"),
        (("--cma-retries", "x"), "Invalid value for '--cma-retries': 'x' is not a valid whole number from 0 to 1000"),
        (("--cma-retries", "1001"), "Invalid value for '--cma-retries': 1001 is not in the range 0<=x<=1000"),
    ],
)
def test_wrong_values(run: Run, tmp_path: Path, command: tuple[str, ...], option: tuple[str, ...], words: str) -> None:
    """A wrong value is refused by all commands that play a scenario."""
    verb, *rest = command
    result = run(verb, *option, write(tmp_path / "a.toml"), *rest)
    assert (result.status, result.out) == (2, "")
    assert result.err.startswith(f"Error: {words}") and result.err.count("\n") == 1


def test_retries_that_take_too_long(run: Run, tmp_path: Path) -> None:
    """A mount whose users could begin an allocation of too much work is refused. A dump has no such users."""
    path, limit = write(tmp_path / "a.toml"), ("--limit", "work=7103095")
    result = run("mount", path, tmp_path / "mount", "--cma-retries", "1000", *limit)
    assert (result.status, result.out) == (2, "")
    assert result.err == (
        f"Error: {path}: an allocation from CMA area 'camera' that fails takes as much work as 7103096 pins of a "
        "single page, about 2 s (limit 7103095; raise it with --limit work=N, or lower --cma-retries)\n"
    )
    assert run("dump", path, "--at", "1us", "--cma-retries", "1000", *limit).status == 0


def test_the_kernels_tell_their_memory_management(run: Run) -> None:
    """`list --kernels` says for each kernel how CMA allocates there, and what of it is expected."""
    lines = [line.split(maxsplit=1)[1] for line in run("list", "--kernels").out.splitlines() if line[:5] == "  mm "]
    assert lines == [
        "android12-5.10, 10 retries of a CMA allocation, cma/cma-NAME; read in source; "
        "expected: the stacks of moves and of pages put back; that it goes with this page_pinner is expected",
        "android12-5.10, 10 retries of a CMA allocation, cma/cma-NAME; read in source; "
        "expected: the stacks of moves and of pages put back; that it goes with this page_pinner is expected",
        "android12-5.10, 10 retries of a CMA allocation, cma/cma-NAME; read in source; "
        "expected: the stacks of moves and of pages put back",
        "pixel-5.10, 5 retries of a CMA allocation, cma/cma-NAME; read in source; "
        "expected: the LRU batch of 15 pages, and the stacks of moves and of pages put back",
        "pixel-5.10, 5 retries of a CMA allocation, cma/cma-NAME; read in source; "
        "expected: the LRU batch of 15 pages, and the stacks of moves and of pages put back; "
        "that it goes with this page_pinner is expected",
        "android14-5.15, 5 retries of a CMA allocation, cma/cma-NAME; expected",
        "android14-6.1, 5 retries of a CMA allocation, cma/NAME",
        "android14-6.1, 5 retries of a CMA allocation, cma/NAME; that it goes with this page_pinner is expected",
    ]


def test_show_tells_where_pages_go(run: Run) -> None:
    """Pages that FOLL_LONGTERM moves out of CMA are shown with the region that they go to."""
    out = run("show", "faceunlock-fixed").out
    assert "task gpu: pins 2 contiguous pages in faceauth (moved to shared first) with FOLL_PIN|FOLL_LONGTERM, " in out
