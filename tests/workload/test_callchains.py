"""Call chains: a stack's own frames between the kernel's head and tail."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pinnerfs.kernel.page_pinner.generations import GENERATIONS, INTRODUCED
from pinnerfs.kernel.stacks import full_frame
from pinnerfs.scenario.gallery import gallery, parse
from pinnerfs.scenario.schema import Stack
from pinnerfs.simulation import Simulation
from pinnerfs.workload.callchains import call_chain


def symbols(chain: tuple[str, ...]) -> list[str]:
    return [frame.partition("+")[0] for frame in chain]


FACEUNLOCK = gallery()["faceunlock-fails"].read_text()


def puts(text: str, kernel: str, actions: str = "") -> list[tuple[str, ...]]:
    """Return the stacks in which the GPU driver occurs, after actions while it has the pages and after its release."""
    simulation = Simulation(parse(text), kernel=kernel)
    simulation.advance("8s")
    if actions:
        simulation.do(actions)
    simulation.advance("2s")
    records = simulation.records(simulation.generation.failure_file)
    return [record.stack for record in records if any("mali" in frame for frame in record.stack)]


def test_own_frames_alone() -> None:
    """A stack without `via` and `syscall` has only its own frames."""
    assert call_chain(Stack(frames=["b+0x4/0x8", "a+0x4/0x8"]), INTRODUCED) == ("b+0x4/0x8", "a+0x4/0x8")


def test_the_slow_path_in_a_system_call() -> None:
    """The kernel's frames of the pin path come first, those of the system call last."""
    chain = call_chain(Stack(frames=["pin_user_pages", "driver"], via="slow", syscall="ioctl"), INTRODUCED)
    assert symbols(chain) == [
        "__set_page_pinner",
        "try_grab_page",
        "follow_page_pte",
        "follow_pmd_mask",
        "__get_user_pages",
        "pin_user_pages",
        "driver",
        "__arm64_sys_ioctl",
        "el0_svc_common",
        "do_el0_svc",
        "el0_svc",
        "el0_sync_handler",
        "el0_sync",
    ]


def test_the_fast_path() -> None:
    """The fast path has a different head."""
    chain = call_chain(Stack(frames=["get_user_pages_fast"], via="fast"), INTRODUCED)
    assert symbols(chain) == [
        "__set_page_pinner",
        "try_grab_compound_head",
        "gup_pgd_range",
        "internal_get_user_pages_fast",
        "get_user_pages_fast",
    ]


def test_the_head_depends_on_the_generation() -> None:
    """A later kernel's trace starts after the function that takes it."""
    chain = call_chain(Stack(frames=["a"], via="slow"), GENERATIONS["android12-5.10-early"])
    assert symbols(chain)[0] == "try_grab_page"


@pytest.mark.parametrize("frame", ["a+0x1/0x2", "a+0x1/0x2 [module]", "CCC+0x0/0x0"])
def test_a_full_frame_stays_as_it_is(frame: str) -> None:
    """A frame with offset and size is kept."""
    assert full_frame(frame) == frame


@pytest.mark.parametrize("symbol", ["vb2_qbuf", "__get_user_pages", "x"])
def test_a_bare_symbol_gets_an_offset(symbol: str) -> None:
    """A bare symbol gets an offset and a size, the same each time."""
    frame = full_frame(symbol)
    assert re.fullmatch(rf"{symbol}\+0x[0-9a-f]+/0x[0-9a-f]+", frame)
    assert full_frame(symbol) == frame


def test_the_offset_is_the_same_on_every_machine() -> None:
    """The offset comes from a hash, which is the same on every platform and Python release."""
    assert full_frame("vb2_qbuf") == "vb2_qbuf+0x74/0x1ec"


def test_a_module_follows_the_offset() -> None:
    """A module follows the offset and does not change it."""
    assert full_frame("kbase_ioctl [mali_kbase]") == full_frame("kbase_ioctl") + " [mali_kbase]"


@given(st.from_regex(r"[a-z_][a-z0-9_]{0,60}", fullmatch=True))
def test_offsets_are_those_of_code(symbol: str) -> None:
    """An offset is a multiple of 4, inside the function and not at its first instruction."""
    offset, size = (int(part, 16) for part in full_frame(symbol).partition("+")[2].split("/"))
    assert 0 < offset < size
    assert offset % 4 == size % 4 == 0


def test_a_release_is_not_called_by_get_user_pages() -> None:
    """The record of a put_page has the driver's frames, without the function that took the reference."""
    put = puts(FACEUNLOCK.replace('release_stack = "gpu-release"\n', ""), "android14-6.1")
    assert [symbols(stack)[:3] for stack in put] == [
        ["kbase_jd_user_buf_pin_pages", "kbase_map_external_resource", "kbase_ioctl"]
    ] * 2


@pytest.mark.parametrize("kernel", ["android12-5.10-early", "android12-5.10", "pixel-5.10", "android14-6.1"])
@pytest.mark.parametrize("release", ["put_page", "put_user_page", "unpin_user_page"])
def test_a_release_has_its_own_stack(kernel: str, release: str) -> None:
    """`release_stack` is the stack of a task's releases, behind the kernel's own frames."""
    text = FACEUNLOCK.replace('release = "put_page"', f'release = "{release}"')
    if release == "unpin_user_page":
        text = text.replace('release_stack = "gpu-release"', 'release_stack = "gpu-release"\nfoll = "FOLL_PIN"')
    put = puts(text, kernel)
    own = [] if release == "put_page" else [release]
    unmap = ["kbase_jd_user_buf_unmap", "kbase_unmap_external_resource", "kbase_sticky_resource_release", "kbase_ioctl"]
    wanted = [*own, *unmap, "__arm64_sys_ioctl"]
    # Linux 6.1 drops the pins of unpin_user_page without put_page.
    seen = 0 if (release, kernel) == ("unpin_user_page", "android14-6.1") else 2
    assert [symbols(stack)[: len(wanted)] for stack in put] == [wanted] * seen


def test_the_free_of_a_page_has_the_stack_of_its_release() -> None:
    """The last reference frees the page, in the function that drops it."""
    text = FACEUNLOCK.replace('release_stack = "gpu-release"', 'release_stack = "gpu-release"\nunmap = "4s"')
    free, put = puts(text.replace('pages = "file"', 'pages = "anon"'), "android14-6.1")
    generation = GENERATIONS["android14-6.1"]
    assert symbols(free)[:4] == [*generation.free_page, "kbase_jd_user_buf_unmap"]
    assert symbols(put)[0] == "kbase_jd_user_buf_unmap"


def test_a_live_release_has_the_stack_of_the_task() -> None:
    """A live pin is released by the same function as the task's own."""
    actions = "pin task=gpu pages=1\nalloc area=faceauth_tpu pages=4096\nrelease task=gpu by=put_page"
    put = puts(FACEUNLOCK, "android14-6.1", actions)
    assert len(put) == 3
    assert {symbols(stack)[0] for stack in put} == {"kbase_jd_user_buf_unmap"}
