"""The simulation on every kernel: record files, settings, call chains."""

from __future__ import annotations

import errno
import re

import numpy as np
import pytest

import pinnerfs
from pinnerfs import PinnerfsError, Simulation, load, parse
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.kernel.page_pinner.layouts import RecordKind
from pinnerfs.kernel.page_pinner.records import parse_records
from pinnerfs.kernel.pages import FAILED
from pinnerfs.kernel.stacks import symbol
from tests.workload.stories import source, task

BUFFERS = [name for name, generation in GENERATIONS.items() if "buffer" in generation.files]
LONGTERM = [name for name in GENERATIONS if name not in BUFFERS]
NEVER = 'repeat = 1, every = "1h", hold = "1h"'
STACK = 'frames = ["kbase_ioctl [mali_kbase]"]\nvia = "slow"\nsyscall = "ioctl"'
PIN_5_10 = "try_grab_page follow_page_pte follow_pmd_mask __get_user_pages"
TAIL_5_10 = "el0_svc_common do_el0_svc el0_svc el0_sync_handler el0_sync"
TAIL_6 = "invoke_syscall el0_svc_common do_el0_svc el0_svc el0t_64_sync_handler el0t_64_sync"


def device(kernel: str, *actions: str, **keys: str) -> Simulation:
    """Return a simulation on which these live actions were done, one each ms. `!` in front: all pages then fail.

    `keys` are further keys of the task.
    """
    simulation = Simulation(parse(source(task("user", NEVER, start="8000h", **keys), stack=STACK)), kernel=kernel)
    for action in actions:
        simulation.advance("1ms")
        simulation.do(action.removeprefix("!"))
        if action.startswith("!"):
            simulation._pinner.state.bits[simulation._pinner.state.references > 0] |= FAILED
    return simulation


def chains(simulation: Simulation, file: str | None = None) -> list[str]:
    """Return the symbols of a file's records."""
    return [" ".join(map(symbol, record.stack)) for record in simulation.records(file)]


@pytest.mark.parametrize("kernel", GENERATIONS)
def test_the_text_and_the_records_agree(kernel: str) -> None:
    """On every kernel the text of each record file is parsed to the records of the simulation."""
    simulation = Simulation(load("gpu-put-page"), kernel=kernel)
    simulation.advance("60s")
    for file in simulation.generation.record_files:
        assert parse_records(simulation.cat(file), file) == list(simulation.records(file))
    main = simulation.generation.main_file
    assert simulation.cat() == simulation.cat(main)
    assert bool(simulation.cat()) == (main == "longterm_pinner")


@pytest.mark.parametrize("kernel", LONGTERM)
def test_all_kernels_with_long_pins_record_the_same_pins(kernel: str) -> None:
    """Duration and page of FOLL_GET pins are the same on each kernel with longterm_pinner."""
    first, other = (Simulation(load("kgsl-import"), kernel=name) for name in ("introduced", kernel))
    for simulation in (first, other):
        simulation.advance("60s")
    ours = [(record.ts, record.pfn) for record in other.records()]
    assert ours == [(record.ts, record.pfn) for record in first.records()] != []
    assert all("kgsl_ioctl" in map(symbol, record.stack) for record in other.records())


@pytest.mark.parametrize("kernel", BUFFERS)
def test_a_kernel_without_a_threshold(kernel: str) -> None:
    """The scenario's own threshold is ignored. Any other use of the threshold is refused, with the reason."""
    simulation = Simulation(load("camera-stall"), kernel=kernel)
    reason = f"kernel {kernel} has no threshold: it records failed migrations alone"
    with pytest.raises(PinnerfsError, match=reason):
        _ = simulation.threshold
    with pytest.raises(PinnerfsError, match=reason):
        simulation.threshold = 5
    with pytest.raises(PinnerfsError, match=reason):
        Simulation(load("camera-stall"), kernel=kernel, threshold="1s")
    with pytest.raises(PinnerfsError, match=f"kernel {kernel} has no record file 'longterm_pinner': it has buffer"):
        simulation.cat("longterm_pinner")


def test_settings_of_a_kernel_with_buffer() -> None:
    """Tracking and buffer_size are properties. Too large a size raises OSError, on other kernels PinnerfsError."""
    simulation = Simulation(load("camera-stall"), kernel="android14-6.1")
    assert (simulation.tracking, simulation.buffer_size) == (True, 4096)
    simulation.tracking, simulation.buffer_size = False, 3
    assert (simulation.tracking, simulation.buffer_size) == (False, 3)
    with pytest.raises(OSError) as refused:
        simulation.buffer_size = 38347923
    assert (refused.value.errno, simulation.buffer_size) == (errno.ENOMEM, 3)
    with pytest.raises(PinnerfsError, match="kernel introduced has no record file 'buffer'"):
        _ = Simulation(load("camera-stall")).buffer_size


def test_a_small_ring_keeps_the_newest() -> None:
    """A ring of 3 has the newest 3 of 5 records, the newest first."""
    simulation = device("android14-6.1", "!pin task=user pages=5")
    simulation.buffer_size = 3
    simulation.do("release task=user pages=5 by=put_page")
    pfns = [record.pfn for record in simulation.records()]
    assert len(pfns) == 3 and pfns == [pfns[0], pfns[0] - 1, pfns[0] - 2]
    assert simulation.stats()["records_overwritten"] == 2


def test_pixels_freed_at() -> None:
    """A page that was pinned, released by put_page and freed at the task's end is `Freed at`, with the exit's stack."""
    simulation = device("pixel-5.10", "pin task=user", "free task=user")
    text = simulation.cat("alloc_contig_failed")
    assert re.fullmatch(
        r"Freed at \[    0\.002000\]\n"
        r"PFN 0x[0-9a-f]+ Block \d+ count 0 mapcount 0 mapping 0x0 Flags 0x0\(\)\n( .*\n)+\n",
        text,
    )
    assert chains(simulation, "alloc_contig_failed") == [
        "free_pcp_prepare free_unref_page_list release_pages tlb_batch_pages_flush tlb_finish_mmu exit_mmap mmput "
        f"do_exit do_group_exit __arm64_sys_exit_group {TAIL_5_10}"
    ]
    assert next(simulation.records("alloc_contig_failed")).kind == RecordKind.FREE
    assert simulation.cat("longterm_pinner") == ""


@pytest.mark.parametrize(
    ("kernel", "free", "tail"),
    [
        ("android12-5.10-early", None, TAIL_5_10),
        ("android12-5.10", "__reset_page_pinner free_pcp_prepare free_unref_page __put_page", TAIL_5_10),
        ("pixel-5.10", "free_pcp_prepare free_unref_page __put_page", TAIL_5_10),
        ("android13-5.10-buffer", "free_pcp_prepare free_unref_page __put_page", TAIL_5_10),
        ("android14-5.15", "free_pcp_prepare free_unref_page __put_page", TAIL_6),
        ("android14-6.1", "free_pcp_prepare free_unref_page __folio_put", TAIL_6),
        ("android15-6.6", "free_pcp_prepare free_unref_page __folio_put", TAIL_6),
    ],
)
def test_the_chains_of_dropped_references(kernel: str, free: str | None, tail: str) -> None:
    """A PUT record has the stack of the call that dropped the reference, a FREE record that of the last one."""
    unmapped = device(kernel, "!pin task=user", "unmap task=user", "release task=user by=put_user_page")
    file = unmapped.generation.failure_file
    found = chains(unmapped, file)
    own = f"put_user_page kbase_ioctl __arm64_sys_ioctl {tail}"
    munmap = "release_pages tlb_batch_pages_flush tlb_finish_mmu unmap_region"
    if free is not None:
        assert found.pop(0) == " ".join(f"{free} {own}".split()[:16])
    assert found.pop(0) == own
    assert found.pop(0).startswith(munmap)
    assert found == []
    plain = device(kernel, "!pin task=user", "release task=user by=put_page")
    assert chains(plain, file) == [f"kbase_ioctl __arm64_sys_ioctl {tail}"]


@pytest.mark.parametrize(
    ("kernel", "free", "munmap", "tail"),
    [
        ("android12-5.10-early", None, "__do_munmap", TAIL_5_10),
        ("android12-5.10", "__reset_page_pinner free_pcp_prepare free_unref_page_list", "__do_munmap", TAIL_5_10),
        ("pixel-5.10", "free_pcp_prepare free_unref_page_list", "__do_munmap", TAIL_5_10),
        ("android13-5.10-buffer", "free_pcp_prepare free_unref_page_list", "__do_munmap", TAIL_5_10),
        ("android14-5.15", "free_pcp_prepare free_unref_page_list", "__do_munmap", TAIL_6),
        ("android14-6.1", "free_pcp_prepare free_unref_page_list", "do_mas_align_munmap do_mas_munmap", TAIL_6),
        ("android15-6.6", "free_pcp_prepare free_unref_page_list", "do_vmi_align_munmap do_vmi_munmap", TAIL_6),
    ],
)
def test_the_chains_of_munmap(kernel: str, free: str | None, munmap: str, tail: str) -> None:
    """A munmap that drops the last reference leaves a PUT record, and a FREE record with the frames of the free."""
    simulation = device(kernel, "!pin task=user hold=1ms", unmap="2ms")
    simulation.advance("2ms")
    file = simulation.generation.failure_file
    own = (
        f"release_pages tlb_batch_pages_flush tlb_finish_mmu unmap_region {munmap} __vm_munmap "
        f"__arm64_sys_munmap {tail}"
    )
    wanted = [own] if free is None else [f"{free} {own}", own]
    assert chains(simulation, file)[: len(wanted)] == [" ".join(chain.split()[:16]) for chain in wanted]
    assert len(chains(simulation, file)) == len(wanted) + 1  # and the release, which came first


def test_a_long_pins_chain() -> None:
    """A record of longterm_pinner has the pin's stack. Only the announced feature shows its own function in it."""
    for kernel in LONGTERM:
        simulation = device(kernel, "pin task=user")
        simulation.advance("1s")
        simulation.do("release task=user")
        own = "__set_page_pinner " if kernel == "introduced" else ""
        assert chains(simulation) == [f"{own}{PIN_5_10} kbase_ioctl __arm64_sys_ioctl {TAIL_5_10}"]


def test_a_record_without_a_stack_hides_the_older_ones() -> None:
    """On android12-5.10 such a record reads as the end of the file. At the next position the older one is there."""
    simulation = device("android12-5.10", "pin task=user")
    simulation.threshold = 0
    simulation.advance("1ms")
    simulation.do("release task=user")
    assert len(list(simulation.records())) == 1
    older = simulation.text(0)
    state = simulation._pinner.state
    simulation.do("pin task=user pages=1")
    at = int((state.references > 0).nonzero()[0][0])
    state.bits[at] |= FAILED
    state.attribution[at], state.ts[at] = 0, 0  # as after a plain get_page
    simulation.do("release task=user")
    assert simulation.text(0) == b""
    assert simulation.record(0) is None and list(simulation.records()) == [] and simulation.cat() == ""
    assert simulation.text(1) == older


def test_pages_of_a_file() -> None:
    """A region of files prints one mapping for all its pages, the same in every run, and counts the page cache."""
    memory = (
        '[memory]\nsize = "64MiB"\nregion = [{ name = "normal", size = "64MiB", pages = "file", flags = ["lru"] }]\n'
    )
    text = source(task("user", NEVER, start="8000h"), stack=STACK, memory=memory)
    for _ in range(2):
        simulation = Simulation(parse(text), kernel="android12-5.10", threshold=-1)
        simulation.do("pin task=user pages=2\nrelease task=user")
        records = list(simulation.records())
        assert [(record.count, record.mapcount) for record in records] == [(3, 1)] * 2
        assert {f"{record.mapping:#x}" for record in records} == {"0xffffff8143692b98"}


def test_pages_that_are_not_mapped() -> None:
    """The pages of a task with mapped = false have no mapping, and end with the last release."""
    text = source(task("user", NEVER, start="8000h") + "mapped = false\n", stack=STACK)
    simulation = Simulation(parse(text), kernel="pixel-5.10", threshold=-1)
    simulation.do("pin task=user\nrelease task=user by=put_page")
    assert [record.kind for record in simulation.records("alloc_contig_failed")] == [RecordKind.FREE]
    simulation.do("pin task=user\nrelease task=user")
    assert [(record.count, record.mapcount) for record in simulation.records()] == [(1, 0)]


WEIGHTS = {"FOLL_GET": 1, "FOLL_PIN": 1024, "FOLL_PIN|FOLL_LONGTERM": 1024, "none": 1}
RELEASES = {
    "FOLL_GET": {"put_user_page", "put_page"},
    "FOLL_PIN": {"unpin_user_page"},
    "FOLL_PIN|FOLL_LONGTERM": {"unpin_user_page"},
    "none": {"put_page"},
}


@pytest.mark.parametrize("name", pinnerfs.gallery())
def test_references_are_those_of_the_pages_still_held(name: str) -> None:
    """After 20 s of a scenario, the references of all pages are those of the pins that are still held."""
    scenario = load(name)
    tasks = {task.name: task for task in scenario.task}
    simulation = Simulation(scenario, kernel="android14-6.1")
    simulation.advance("20s")
    expected = 0
    for task_name, counters in simulation.explain().items():
        task = tasks[task_name]
        if not set(task.releases) - {"never"} <= RELEASES[task.foll]:
            pytest.skip(f"task {task_name} lets go of more or less than it takes")
        order = tasks[task.share or task.name].order or 0
        expected += counters["held_now"] * (1 if order else WEIGHTS[task.foll]) << order
    assert int(simulation._pinner.state.references.sum(dtype=np.int64)) == expected
