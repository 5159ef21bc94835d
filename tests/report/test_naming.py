"""Names, owners, roles and keys of stacks."""

from __future__ import annotations

from pathlib import Path

import pytest

import pinnerfs
from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.report.model import Kind
from pinnerfs.report.naming import function_of, load_sites
from pinnerfs.workload.callchains import call_chain
from tests.report.texts import CAMERA, MUNMAP, WRITER

SITES = load_sites()


@pytest.mark.parametrize(
    "frame",
    [
        "vb2_qbuf",
        "vb2_qbuf+0x10/0x90",
        "vb2_qbuf+0x10/0x90 [videobuf2_common]",
        "vb2_qbuf.isra.0+0x10/0x90",
        "vb2_qbuf.constprop.0.isra.0+0x10/0x90",
        "vb2_qbuf.part.3+0x10/0x90",
        "vb2_qbuf.llvm.1234567890123456789+0x10/0x90",
        "vb2_qbuf.cfi_jt+0x10/0x90 [module 8f1c]",
        "vb2_qbuf.cold+0x10/0x90",
    ],
)
def test_a_function_has_one_name(frame: str) -> None:
    """Offsets, modules and the suffixes of compilers are not part of a function's name."""
    assert function_of(frame) == "vb2_qbuf"


@pytest.mark.parametrize(
    ("kind", "stack", "role", "owner", "site"),
    [
        ("PIN", CAMERA, "culprit", "v4l2", "vb2_dma_sg_get_userptr"),
        ("PIN", ("try_grab_page", "my_pin+0x1/0x2 [my_gpu]", "my_ioctl [my_gpu]"), "culprit", "my_gpu", "my_pin"),
        ("PIN", ("try_grab_page", "f2fs_x", "vfs_read"), "culprit", "f2fs", "f2fs_x"),
        ("PIN", ("try_grab_page", "some_function", "other"), "culprit", "kernel", "some_function"),
        ("PIN", ("try_grab_page",), "culprit", "kernel", "try_grab_page"),
        ("PIN", (), "culprit", "unknown", "(no stack)"),
        (
            "PIN",
            ("iov_iter_get_pages", "do_blockdev_direct_IO", "__blockdev_direct_IO", "f2fs_direct_IO"),
            "culprit",
            "f2fs",
            "do_blockdev_direct_IO | f2fs_direct_IO",
        ),
        ("DETECT", WRITER, "victim", "dma_buf_heap", "cma_heap_allocate"),
        ("PUT", ("try_to_migrate_one", "migrate_pages", *WRITER), "allocator", "dma_buf_heap", "cma_heap_allocate"),
        ("PUT", ("folio_batch_move_lru", "lru_add_drain_per_cpu"), "allocator", "lru", "folio_batch_move_lru"),
        ("PUT", ("put_page", "kbase_unpin [mali_kbase]"), "candidate", "mali", "kbase_unpin"),
        ("PUT", MUNMAP, "candidate", "munmap", "unmap_region"),
        ("FREE", ("free_pcp_prepare", *MUNMAP), "end", "munmap", "unmap_region"),
        ("EVENT", ("test_pages_isolated", *WRITER), "victim", "dma_buf_heap", "cma_heap_allocate"),
        ("EVENT", ("migrate_folio_done", "migrate_pages", *WRITER), "allocator", "dma_buf_heap", "cma_heap_allocate"),
        ("EVENT", ("__reset_page_pinner", "free_pcp_prepare", *MUNMAP), "end", "munmap", "unmap_region"),
        ("EVENT", MUNMAP, "candidate", "munmap", "unmap_region"),
    ],
)  # fmt: skip
def test_names(kind: Kind, stack: tuple[str, ...], role: str, owner: str, site: str) -> None:
    """The name is the innermost frame that says something, the role follows from the kind and the stack."""
    name = SITES.name(kind, stack)
    assert (name.role, name.owner, name.site) == (role, owner, site)


def test_references_that_every_page_loses() -> None:
    """The put of a munmap blocked no allocation; that of a driver did."""
    assert SITES.name("PUT", MUNMAP).ordinary
    assert not SITES.name("PUT", ("put_page", "kbase_unpin [mali_kbase]")).ordinary


def test_keys_are_stable() -> None:
    """A key has 8 hex digits, and stays the same over offsets, suffixes and kernels."""
    assert SITES.name("PIN", CAMERA).key == "306567b8"
    other = tuple(frame.partition("+")[0] + ".isra.0+0x999/0xfff" for frame in CAMERA)
    assert SITES.name("PIN", other).key == "306567b8"
    for path in pinnerfs.gallery():
        scenario = pinnerfs.load(path)
        for stack in scenario.stack.values():
            chains = [call_chain(stack, generation) for generation in GENERATIONS.values()]
            assert len({SITES.name("PIN", chain).key for chain in chains}) == 1


def test_sites_of_the_user_come_first(tmp_path: Path) -> None:
    """A file of the user adds names, and its owners win."""
    file = tmp_path / "sites.toml"
    file.write_text('irrelevant = ["vb2_dma_sg_get_userptr"]\n[owner]\ncamera = ["vb2_core_*"]\n')
    name = load_sites(file).name("PIN", CAMERA)
    assert (name.owner, name.site) == ("camera", "vb2_core_qbuf")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("irrelevant = [", "Invalid value|Unclosed|array"),
        ("wrong = 1", "unknown key 'wrong': wanted one of irrelevant, prefix, ordinary, allocator, put_page, owner"),
        ("prefix = 'a'", "prefix must be a list of names of functions; 'a' came"),
        ("owner = []", r"owner must be a table of lists; \[\] came"),
        ("[owner]\na = [1]", r"owner\.a must be a list of names of functions; \[1\] came"),
        (f"prefix = {'[' * 100_000}", "its values are nested too deeply"),
        ("#" * (1 << 20) + "\n", "it is longer than 1048576 bytes"),
    ],
)
def test_wrong_files_of_sites(tmp_path: Path, text: str, message: str) -> None:
    """A wrong file of sites is refused in one line with status 2."""
    file = tmp_path / "sites.toml"
    file.write_text(text)
    with pytest.raises(PinnerfsError, match=message) as error:
        load_sites(file)
    assert error.value.exit_status == 2
    assert "\n" not in str(error.value)


def test_an_endless_file_of_sites() -> None:
    """A file without an end is refused after its first megabyte, before it fills the memory."""
    with pytest.raises(PinnerfsError, match="'/dev/zero': it is longer than 1048576 bytes"):
        load_sites("/dev/zero")


def test_missing_file_of_sites(tmp_path: Path) -> None:
    """A file of sites that is not there is refused."""
    with pytest.raises(PinnerfsError, match=r"cannot use the sites of .*: No such file or directory"):
        load_sites(tmp_path / "missing.toml")
