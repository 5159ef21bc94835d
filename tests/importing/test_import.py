"""An imported scenario: its dump has the sites of the capture, in the same order."""

from __future__ import annotations

import random
import re
import tomllib
from pathlib import Path

import pytest

import pinnerfs
from pinnerfs.check import check_expectations
from pinnerfs.errors import PinnerfsError
from pinnerfs.importing import import_capture
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.report import Capture, Report, analyse, read, read_text
from pinnerfs.scenario.schema import Scenario

# When a scenario has its records, if not after a minute.
AT = {"cma-retries": "4s", "every-kernel": "10s", "vfio-guest": "61min"}
# Scenarios whose point is that no pin is recorded.
NO_PINS = ("blind-spot", "cma-retries", "faceunlock-fails", "futex-storm", "quiet-device", "vmsplice-undrained")
KERNELS = [generation.name for generation in GENERATIONS.values() if generation.has_threshold]

RECORD = """\
Page pinned ts {us} us count 1
PFN {pfn} Block {block} type {type} Flags 0x80014(uptodate|lru|swapbacked)
 __set_page_pinner+0xc/0xc4
 try_grab_page+0x1b4/0x39c
 __get_user_pages+0x38/0x38c
 {frame}
 el0_svc+0x20/0x80

"""


def dumped(scenario: Scenario, at: str, kernel: str, seed: int | None = None, file: str | None = None) -> Capture:
    """Return a record file of a scenario, by default the main one, read as a capture."""
    simulation = pinnerfs.Simulation(scenario, seed=seed, kernel=kernel)
    simulation.advance(at)
    file = file or simulation.generation.main_file
    return read_text(simulation.cat(file), file=file)


def imported(capture: Capture) -> tuple[Scenario, Report]:
    """Import a capture, check what the scenario expects, and return it with the report of its dump."""
    scenario = pinnerfs.parse(import_capture(capture))
    kernel = scenario.expect[0].kernel
    assert kernel is not None
    for result in check_expectations(scenario, kernel=kernel).results:
        assert result.met, result.came
    at, file = scenario.expect[0].at, scenario.expect[0].file
    return scenario, analyse(dumped(scenario, str(at), kernel, file=file))


def sites(report: Report, role: str = "culprit") -> list[tuple[str, int]]:
    """Return the key and the number of records of each site of a role, in the order of the report."""
    return [(site.key, site.records) for site in report.sites if site.role == role]


@pytest.mark.parametrize("name", pinnerfs.gallery())
def test_the_gallery(name: str) -> None:
    """Over the kernels and seeds, the dump has the same sites with as many records, in the same order of weight."""
    scenario = pinnerfs.load(name)
    done = 0
    for kernel in KERNELS:
        for seed in (1, 2) if kernel == "pixel-5.10" else (1,):
            capture = dumped(scenario, AT.get(name, "60s"), kernel, seed)
            if not capture.records:
                continue
            done += 1
            made, report = imported(capture)
            wanted = analyse(capture)
            assert sites(report) == sites(wanted), (kernel, seed)
            assert report.culprit == wanted.culprit
            assert made.culprit == made.task[0].name
            for mine, theirs in zip(report.sites, wanted.sites, strict=True):
                assert mine.p50_us is not None and theirs.p50_us is not None
                assert mine.max_us is not None and theirs.max_us is not None
                assert mine.max_us <= theirs.max_us
                assert len(mine.blocks) - len(theirs.blocks) in (-1, 0, 1)
    assert done or name in NO_PINS


@pytest.mark.parametrize("name", ["faceunlock-fails", "cma-retries"])
@pytest.mark.parametrize("kernel", [name for name, generation in GENERATIONS.items() if generation.failure_file])
def test_allocations_that_fail(name: str, kernel: str) -> None:
    """Where a dump shows who made allocations fail, the scenario has such allocations, and its dump the same sites."""
    file = GENERATIONS[kernel].failure_file
    capture = dumped(pinnerfs.load(name), "60s", kernel, file=file)
    scenario, report = imported(capture)
    wanted = analyse(capture)
    assert sites(wanted, "candidate")
    assert sites(report, "candidate") == sites(wanted, "candidate")
    assert report.culprit == wanted.culprit
    assert report.victims == (wanted.victims or report.victims) != ()
    assert [site.page_us for site in report.sites if site.role == "candidate"] == [
        site.page_us for site in wanted.sites if site.role == "candidate"
    ]
    assert len(scenario.alloc) == len(scenario.task) == 1


def test_what_the_tasks_do() -> None:
    """Pages, kind of memory, flags, durations and threshold are those of the capture."""
    capture = dumped(pinnerfs.load("camera-stall"), "60s", "introduced")
    scenario = pinnerfs.parse(import_capture(capture))
    [task] = scenario.task
    [region] = scenario.memory.region
    durations = {record.duration_us for record in capture.records}
    assert (task.pages, task.foll, scenario.threshold) == (16, "FOLL_PIN", "300ms")
    assert (region.migratetype, region.flags, region.size) == ("CMA", ["uptodate", "lru", "swapbacked"], "36MiB")
    hold = task.phase[0].hold_distribution
    assert hold is not None
    assert {*hold.values} <= durations
    assert hold.high == max(us for us in durations if us is not None)
    assert scenario.stack[task.stack].frames == list(capture.records[0].stack)


def made_dump(seed: int, count: int, of: int) -> str:
    """Return a dump of `count` records of `of` sites, whose weights are all different."""
    draw = random.Random(seed)
    records = []
    for number in range(count):
        site = min(draw.randrange(of), draw.randrange(of))
        pfn = 0x80000 + draw.randrange(64) * 1024 + number % 1024
        us, kind = draw.randrange(300_001, 2_000_000), ("Movable", "CMA")[site % 2]
        records.append(RECORD.format(us=us, pfn=pfn, block=pfn >> 10, type=kind, frame=f"driver{site}_ioctl+0x10/0x20"))
    return "".join(records)


@pytest.mark.parametrize("seed", range(4))
def test_many_sites(seed: int) -> None:
    """Several drivers, in CMA and elsewhere, with pages that are nowhere side by side, keep their order."""
    capture = read_text(made_dump(seed, 400, 6))
    _, report = imported(capture)
    assert sites(report) == sites(analyse(capture))


def test_several_dumps() -> None:
    """More records than a ring has are scaled down to a full ring."""
    text = made_dump(1, 2100, 3)
    capture = read_text(text + "------ another ------\n" + text)
    assert len(capture.records) == 4200
    assert re.search(
        "^# Left out: [0-9]+ of 4[0-9]{3} holds, the same share of each", import_capture(capture), re.MULTILINE
    )
    _, report = imported(capture)
    assert [key for key, _ in sites(report)] == [key for key, _ in sites(analyse(capture))]
    assert report.records <= 4096


def test_more_sites_than_anyone_edits() -> None:
    """The sites that did the least damage are left out, and the scenario says so."""
    made = import_capture(read_text(made_dump(1, 300, 60)))
    assert "# Left out: 24 of 56 call sites, those that did the least damage: 32 are imported\n" in made
    assert len({task.stack for task in pinnerfs.parse(made).task}) < 60
    assert "Page frame numbers are\n# not those of the dump" in made


HOSTILE = [
    'x"y',
    "back\\slash+0x1/0x2",
    '"""',
    "\x1b[31mred+0x1/0x2",
    "0xffffffc012345678",
    "a" * 5000,
    "offset+0x9/0x1",
    "mod+0x1/0x2 [we ird]",
    "\udcff\udcfe+0x10/0x20",
    "#]]'='''",
    "tab\tnul\0+0x1/0x2",
    "\u202eright+0x1/0x2",
    "name |",
    "-",
    ".",
]


@pytest.mark.parametrize("frame", HOSTILE, ids=range(len(HOSTILE)))
def test_hostile_frames(frame: str) -> None:
    """No frame can break the scenario, or put a line of its own into it."""
    text = RECORD.format(us=400_000, pfn=0x80001, block=0x80001 >> 10, type="CMA", frame=frame)
    try:
        made = import_capture(read_text(text))
    except PinnerfsError as error:  # the reader found no record in it
        assert "\n" not in str(error)
        return
    assert {*tomllib.loads(made)} <= {*Scenario.__struct_fields__}
    assert all(line.isprintable() for line in made.splitlines())
    imported(read_text(text))


@pytest.mark.parametrize(
    ("text", "file", "message"),
    [
        ("", "buffer", "it has no record"),
        (
            "Failure detected at [    7.503050]\n"
            "PFN 0x82001 Block 520 count 4 mapcount 1 mapping 0x0 Flags 0x0()\n f+0x1/0x2\n\n",
            "buffer",
            "1 record, and none is of a pin or of a reference that made an allocation fail",
        ),
        ("Page pinned ts 5 us count 1\nPFN 1 Block 0 type CMA Flags 0x0()\n\n", "longterm_pinner", "have no stack"),
    ],
)
def test_nothing_to_import(text: str, file: str, message: str) -> None:
    """A capture without a pin is refused in one line, with status 2."""
    with pytest.raises(PinnerfsError, match=message) as refused:
        import_capture(read_text(text, file=file))
    assert refused.value.exit_status == 2


def test_areas_of_the_capture(tmp_path: Path) -> None:
    """Where files of cma/ tell where CMA is, the regions in it are CMA areas of the scenario."""
    cma = tmp_path / "cma" / "camera"
    cma.mkdir(parents=True)
    (cma / "base_pfn").write_text(f"{0x80000}\n")
    (cma / "count").write_text(f"{64 * 1024}\n")
    (tmp_path / "page_pinner").mkdir()
    record = "Page pinned for {} us\nPFN {:#x} Block {} count 2 mapcount 1 mapping 0x0 Flags 0x0()\n pin_it+0x1/0x2\n\n"
    pfns = (0x80005, 0x90005)  # the second one is behind the area
    (tmp_path / "page_pinner" / "longterm_pinner").write_text(
        "".join(record.format(400_000, pfn, pfn >> 10) for pfn in pfns)
    )
    scenario = pinnerfs.parse(import_capture(read(tmp_path)))
    assert [(region.migratetype, region.cma) for region in scenario.memory.region] == [
        ("CMA", "camera"),
        ("Movable", None),
    ]
