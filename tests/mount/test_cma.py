"""The files of CMA areas through a mount, with the tools of a shell, with time that passes, and with signals."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import stat
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from pinnerfs import PinnerfsError
from pinnerfs.client import Client
from tests.mount.areas import AREA, BASE, PAGES, areas
from tests.mount.support import DEADLINE, Mount, Mounts, environment, outcome, pinnerfs, run_command, shell

KERNEL = ("--kernel", "android14-6.1")
SHOW = """
cd cma/reserved
for file in base_pfn count order_per_bit used maxchunk; do echo $file $(CAT $file); done
echo 33 | TEE alloc
echo $(CAT used) $(CAT bitmap | cut -d ' ' -f 1-3)
echo 2000 | TEE alloc; echo $?
CAT alloc; echo $?
echo 5 | TEE count; echo $?
echo 33 | TEE free
CAT used maxchunk
"""
SHOWN = f"""\
base_pfn {BASE}
count {PAGES}
order_per_bit 0
used 0
maxchunk {PAGES}
33
33 4294967295 1 0
2000
1
1
5
1
33
0
{PAGES}
"""


def source(mounts: Mounts, text: str) -> Path:
    """Write a scenario."""
    path = mounts.directory / "areas.toml"
    path.write_text(text)
    return path


@pytest.mark.parametrize("tool", ["coreutils", "toybox", "busybox"])
def test_tools(mount: Mounts, tool: str) -> None:
    """cat and tee read and write the files as those of a kernel."""
    if tool != "coreutils" and shutil.which(tool) is None:
        pytest.skip(f"no {tool} here")
    device = mount(source(mount, areas(start="1h")), *KERNEL)
    prefix = "" if tool == "coreutils" else f"{tool} "
    script = SHOW.replace("CAT", f"{prefix}cat").replace("TEE", f"{prefix}tee")
    done = shell(["bash", "-c", script], device.path)
    assert done.stdout.decode() == SHOWN


def test_bash(mount: Mounts) -> None:
    """An echo of bash says what cma_alloc answered, and a writer keeps nothing: the pages stay taken."""
    device = mount(source(mount, areas(start="1h")), *KERNEL)
    steps = (
        "echo 16 > alloc",
        "cat used",
        "echo 2000 > alloc",
        "printf '16\\n16\\n' > alloc",
        "cat used",
        "echo 48 > free",
    )
    done = shell(["bash", "-c", "; ".join([*steps, "cat used"])], device.path / "cma" / AREA)
    assert done.stdout == b"16\n48\n0\n"
    assert done.stderr.count(b"write error") == 1 and b"Cannot allocate memory" in done.stderr
    assert pinnerfs("ctl", device.path, "dmesg").stdout == ""


def test_a_manual_clock_advances_over_the_retries(mount: Mounts) -> None:
    """A failing write takes no time of this machine, and half a second of the device's; `ctl dmesg` says why."""
    device = mount(source(mount, areas()), *KERNEL, "--start", "10ms")
    done = shell(["bash", "-c", "echo 1024 > alloc"], device.path / "cma" / AREA)
    assert (done.returncode, b"Cannot allocate memory" in done.stderr) == (1, True)
    assert device.control("clock") == "530000\n"
    line = "[    0.530000] cma: __cma_alloc: reserved: alloc failed, req-size: 1024 pages, ret: -16\n"
    assert pinnerfs("ctl", device.path, "dmesg").stdout == line == Client(device.path).dmesg()
    assert Client(device.path).vmstat() == {"cma_alloc_success": 0, "cma_alloc_fail": 1}


@pytest.fixture
def blocked(mount: Mounts) -> Mount:
    """Mount an area with a pinned page. An allocation of the whole area waits, for a quarter of an hour."""
    patient = ("--cma-retries", "1000", "--speed", "0.1")
    device = mount(source(mount, areas(start="1h")), *KERNEL, *patient, manual=False)
    (device.path / ".pinnerfs" / "do").write_text("pin task=driver pages=1")
    return device


@contextmanager
def writer(device: Mount, command: str = "echo 1024 > alloc") -> Iterator[subprocess.Popen[bytes]]:
    """Start a shell that allocates the whole area, and wait for the record of its first round."""
    records = len(Client(device.path).records())
    area = device.path / "cma" / AREA
    with subprocess.Popen(["bash", "-c", command], cwd=area, env=environment(), stderr=subprocess.PIPE) as process:
        try:
            until = time.monotonic() + DEADLINE
            while len(Client(device.path).records()) == records:
                assert time.monotonic() < until, "the allocation left no record"
                time.sleep(0.01)
            yield process
        finally:
            process.kill()


def test_a_write_lasts_until_the_page_is_free(blocked: Mount) -> None:
    """While a writer waits, others do not. After the release of the page, it gets the area at its next round."""
    with writer(blocked) as process:
        assert (blocked.path / "cma" / AREA / "used").read_text() == "0\n"
        assert blocked.control("vmstat") == "cma_alloc_success 0\ncma_alloc_fail 0\n"
        assert process.poll() is None
        (blocked.path / ".pinnerfs" / "do").write_text("release task=driver")
        assert process.wait(DEADLINE) == 0
    assert (blocked.path / "cma" / AREA / "used").read_text() == f"{PAGES}\n"
    assert blocked.control("cma/reserved/alloc_pages_success") == f"{PAGES}\n"


def test_several_writers(blocked: Mount) -> None:
    """Of several writers that wait for the whole area, one gets it, and the others find it full."""
    with writer(blocked) as one, writer(blocked) as two, writer(blocked) as three:
        (blocked.path / ".pinnerfs" / "do").write_text("release task=driver")
        assert sorted(process.wait(DEADLINE) for process in (one, two, three)) == [0, 1, 1]
    assert blocked.control("vmstat") == "cma_alloc_success 1\ncma_alloc_fail 2\n"
    assert blocked.control("dmesg").count("ret: -12") == 2


def test_a_writer_does_not_wait_for_another_one(blocked: Mount) -> None:
    """While a write waits, other writes and truncations of the file are answered at once."""
    area = blocked.path / "cma" / AREA
    with writer(blocked) as first:
        inode = (area / "alloc").stat().st_ino
        for _ in range(3):
            assert outcome(lambda: (area / "alloc").write_text(f"{PAGES + 1}")) == -errno.ENOMEM
        (area / "alloc").chmod(0o600)
        os.truncate(area / "alloc", 0)
        assert stat.filemode((area / "alloc").stat().st_mode) == "-rw-------"
        assert (area / "alloc").stat().st_ino == inode
        assert first.poll() is None
        # The page is not free any more when the first one begins its next round.
        done = run_command(["sh", "-c", "echo 1 > alloc"], cwd=area)
        assert (done.returncode, done.stderr) == (0, "")
        assert first.wait(DEADLINE) == 1
    assert (area / "used").read_text() == "1\n"
    assert blocked.control("dmesg").count("ret: -12") == 1
    assert stat.filemode((area / "alloc").stat().st_mode) == "-rw-------"
    assert (area / "alloc").stat().st_ino == inode


def test_writers_that_open_the_file_first(blocked: Mount) -> None:
    """Descriptors that were opened before any write do not wait for each other either."""
    alloc = blocked.path / "cma" / AREA / "alloc"
    with (
        ThreadPoolExecutor(1) as pool,
        open(alloc, "wb", buffering=0) as one,
        writer(blocked, "exec 3> alloc; echo 1024 >&3") as first,
        open(alloc, "wb", buffering=0) as two,
    ):
        assert [pool.submit(file.write, b"1").result(DEADLINE) for file in (one, two)] == [1, 1]
        # A descriptor's own inode has no other.
        assert run_command(["sh", "-c", "echo 1 > /proc/self/fd/0"], stdin=two.fileno()).returncode == 0
        assert first.poll() is None
    assert (alloc.parent / "used").read_text() == "3\n"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_a_signal_ends_the_write(blocked: Mount, number: signal.Signals) -> None:
    """The writer ends at once, and its allocation has failed then."""
    with writer(blocked, "exec sh -c 'echo 1024 > alloc'") as process:
        process.send_signal(number)
        assert process.wait(DEADLINE) == -number
    assert blocked.control("vmstat") == "cma_alloc_success 0\ncma_alloc_fail 1\n"
    assert blocked.control("dmesg").count("ret: -16") == 1
    (blocked.path / ".pinnerfs" / "do").write_text("release task=driver")
    (blocked.path / "cma" / AREA / "alloc").write_text("1024")


def test_rules_of_faults(mount: Mounts) -> None:
    """A rule can name a file of an area. One without a file concerns page_pinner/ alone."""
    device = mount(source(mount, areas(start="1h")), *KERNEL)
    client, area = Client(device.path), device.path / "cma" / AREA
    client.inject("add,errno=EIO\nadd,missing,uid=77")
    assert ((area / "used").read_text(), os.listdir(device.path)) == ("0\n", ["cma", "page_pinner"])
    client.inject(
        f"add,op=write,file=cma/{AREA}/alloc,errno=ENOSPC,times=1\nadd,file=cma/{AREA}/used,delay=1ms,errno=EIO"
    )
    with open(area / "alloc", "wb", buffering=0) as alloc:
        assert [outcome(lambda: alloc.write(b"5")) for _ in range(2)] == [-errno.ENOSPC, 1]
    assert outcome((area / "used").read_text) == -errno.EIO
    assert (area / "maxchunk").read_text() == f"{PAGES - 5}\n"
    with pytest.raises(PinnerfsError, match="this kernel has only"):
        client.inject("add,file=cma/other/used,errno=EIO")
    with pytest.raises(PinnerfsError, match="must be cma/DIRECTORY/FILE"):
        client.inject(f"add,file=cma/{AREA}/size,errno=EIO")


def test_no_area(mount: Mounts) -> None:
    """Without areas, cma/ is an empty directory."""
    device = mount()
    assert os.listdir(device.path / "cma") == os.listdir(device.path / ".pinnerfs" / "cma") == []
    assert device.control("vmstat") == "cma_alloc_success 0\ncma_alloc_fail 0\n"
    assert outcome(lambda: (device.path / "cma" / AREA / "alloc").write_text("1")) == -errno.ENOENT
