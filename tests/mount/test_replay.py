"""Captures of devices, mounted."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.mounting import mounted
from pinnerfs.report import read_text
from pinnerfs.report.kernels import generations_named
from tests.mount.support import DEADLINE, Mount, Mounts, pinnerfs, run_command
from tests.oracle.cases import RECORDED
from tests.replay.captures import capture as capture_text
from tests.replay.captures import section
from tests.report.texts import pin, recorded_texts

PINS = (pin(500_000, 1), pin(500_000, 2), pin(400_000, 1))
CAPTURE = capture_text(
    section("page_pinner/longterm_pinner", "".join(PINS)),
    section("page_pinner/threshold", "123456\n"),
    section("cma/reserved/base_pfn", "524288\n"),
    section("cma/reserved/used", "12\n"),
    section("cma/reserved/bitmap", "4095 0 0\n"),
    section("dma_buf/bufinfo", "\nDma-buf Objects:\n\nTotal 0 objects, 0 bytes\n"),
    section("ion/heaps/system", "orphaned\n"),
)


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture in a file."""
    path = tmp_path / "capture"
    path.write_text(CAPTURE)
    return path


def records(mount: Mount, file: str = "longterm_pinner") -> bytes:
    """Return what `cat` prints of a record file."""
    with mount.opened(file=file) as descriptor:
        return b"".join(iter(lambda: os.read(descriptor, 4096), b""))


def test_a_capture_is_a_mount(mount: Mounts, capture: Path) -> None:
    """All files have the bytes of the device at once. Those beside page_pinner do not change."""
    device = mount(capture)
    assert device.stderr == ""
    assert records(device) == "".join(PINS).encode()
    assert device.threshold.read_text() == "123456\n"
    assert sorted(os.listdir(device.path)) == ["cma", "dma_buf", "ion", "page_pinner"]
    assert os.listdir(device.path / "cma/reserved") == ["bitmap", "used", "base_pfn"]
    for path, text in {
        "cma/reserved/base_pfn": "524288\n",
        "cma/reserved/bitmap": "4095 0 0\n",
        "dma_buf/bufinfo": "\nDma-buf Objects:\n\nTotal 0 objects, 0 bytes\n",
        "ion/heaps/system": "orphaned\n",
    }.items():
        assert (device.path / path).read_text() == text
        assert (device.path / path).stat().st_mode & 0o7777 == 0o444


def test_a_file_that_no_known_kernel_has(mount: Mounts, tmp_path: Path) -> None:
    """A vendor's file in page_pinner/ stands beside the kernel's files, with its bytes."""
    vendor = section("page_pinner/vendor_stats", "pins 7\n"), section("page_pinner/vendor/a", "8\n")
    (tmp_path / "capture").write_text(capture_text(section("page_pinner/longterm_pinner", "".join(PINS)), *vendor))
    device = mount(tmp_path / "capture", "--kernel", "introduced")
    assert device.stderr == ""
    assert sorted(os.listdir(device.path / "page_pinner")) == ["longterm_pinner", "threshold", "vendor", "vendor_stats"]
    assert (device.path / "page_pinner/vendor_stats").read_text() == "pins 7\n"
    assert (device.path / "page_pinner/vendor/a").read_text() == "8\n"
    assert records(device) == "".join(PINS).encode()
    device.threshold.write_text("300001")
    assert records(device) == b""


def test_writes_to_files_that_do_not_change(mount: Mounts, capture: Path) -> None:
    """A write fails as on a kernel: EACCES for an attribute without a set operation, EINVAL without a write operation.

    For root. The mode stops other users at the open.
    """
    device = mount(capture)
    for path, number in {"cma/reserved/used": errno.EACCES, "cma/reserved/bitmap": errno.EINVAL}.items():
        descriptor = os.open(device.path / path, os.O_WRONLY)
        try:
            with pytest.raises(OSError, match=os.strerror(number)):
                os.write(descriptor, b"1\n")
        finally:
            os.close(descriptor)


def test_time_on_a_replay(mount: Mounts, capture: Path) -> None:
    """With --over and --loop the records come again and again, as the clock advances. A threshold clears them."""
    device = mount(capture, "--over", "9s", "--loop", "--start", "9s")
    assert records(device) == "".join(PINS).encode()
    device.advance("5s")
    assert records(device) == "".join((*PINS[1:], *PINS)).encode()
    assert device.control("clock") == "14000000\n"
    device.threshold.write_text("450000")
    assert records(device) == b""
    device.advance("9s")
    assert records(device) == "".join((PINS[1], PINS[0])).encode()
    assert device.stats() == {"longterm_records": 7, "records_overwritten": 0, "records_now": 2}
    device.threshold.write_text("5")
    device.expected = ["the threshold of 5 us is below that of the capture: it has no pins of 123456 us or less"]


def test_live_actions_and_faults(mount: Mounts, capture: Path) -> None:
    """A replay has no tasks, so it refuses live actions. Rules of faults work as on every mount."""
    device = mount(capture)
    done = pinnerfs("ctl", device.path, "do", "pin task=camera")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: cannot do the actions: a replay has no tasks: it shows what was recorded, so it takes no live actions\n"
    )
    (device.path / ".pinnerfs/inject").write_text("add,op=read,file=longterm_pinner,errno=EIO,times=1\n")
    with pytest.raises(OSError, match="Input/output error"):
        records(device)
    assert records(device) == "".join(PINS).encode()


def test_a_real_clock(mount: Mounts, capture: Path) -> None:
    """Over a short time all records are there soon, and the daemon sleeps then."""
    device = mount(capture, "--over", "1ms", "--start", "1ms", manual=False)
    assert records(device) == "".join(PINS).encode()
    assert device.stats()["clock_slipped"] == 0


def test_run_and_dump(capture: Path) -> None:
    """run and dump take a capture as well; dump prints its end, or the moment that --at names."""
    dumped = pinnerfs("dump", capture)
    assert (dumped.returncode, dumped.stdout, dumped.stderr) == (0, "".join(PINS), "")
    dumped = pinnerfs("dump", capture, "--over", "9s", "--at", "4s")
    assert (dumped.returncode, dumped.stdout, dumped.stderr) == (0, PINS[2], "")
    if not Path("/sys/kernel/debug").is_dir():
        pytest.skip("this kernel has no /sys/kernel/debug")
    done = pinnerfs("run", capture, "--", "cat", "/sys/kernel/debug/cma/reserved/bitmap")
    assert (done.returncode, done.stdout, done.stderr) == (0, "4095 0 0\n", "")


def test_a_mount_from_stdin(mount: Mounts, capture: Path) -> None:
    """A capture that comes through a pipe is read before the daemon starts."""
    directory = mount.directory / "piped"
    directory.mkdir()
    done = pinnerfs("mount", "-", directory, "--clock", "manual", input=CAPTURE)
    try:
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
        assert (directory / "dma_buf/bufinfo").read_text() == "\nDma-buf Objects:\n\nTotal 0 objects, 0 bytes\n"
        # A file of a debugfs, as the shell's < opens it. Its name tells what it is.
        with Path(directory, "page_pinner/longterm_pinner").open("rb", buffering=0) as file:
            done = pinnerfs("dump", "-", stdin=file)
        assert (done.returncode, done.stdout, done.stderr) == (0, "".join(PINS), "")
    finally:
        pinnerfs("umount", directory)


def test_the_python_api(capture: Path) -> None:
    """`mounted` takes a capture by its path, with over and loop."""
    with mounted(capture) as device:
        assert device.text() == "".join(PINS)
        assert device.threshold == 123_456
    with mounted(str(capture), over="9s", loop=True) as device:
        device.advance("13s")
        assert device.text() == PINS[2] + "".join(PINS)
    with (
        pytest.raises(PinnerfsError, match="--seed is for scenarios: a capture is replayed as it was recorded") as no,
        mounted(capture, seed=7),
    ):
        pass
    assert no.value.exit_status == 2


@pytest.mark.parametrize("kernel", ["introduced", "android12-5.10", "pixel-5.10", "android14-6.1"])
def test_a_recorded_mount(mount: Mounts, kernel: str) -> None:
    """What `record` writes of a mount can be mounted. A record of that is the same, and so is its report."""
    phone = mount("faceunlock-fails", "--kernel", kernel, "--start", "10s", name="phone")
    captures = [mount.directory / "first", mount.directory / "second"]
    recorded = pinnerfs("record", phone.path, "-o", captures[0])
    assert (recorded.returncode, recorded.stderr) == (0, "")
    replay = mount(captures[0], "--kernel", kernel, name="replay")
    assert replay.stderr == ""
    assert pinnerfs("record", replay.path, "-o", captures[1]).returncode == 0
    assert captures[1].read_bytes() == captures[0].read_bytes()
    for file in GENERATIONS[kernel].record_files:
        assert records(replay, file) == records(phone, file)
    reports = [pinnerfs("report", "phone/", cwd=mount.directory), pinnerfs("report", "replay/", cwd=mount.directory)]
    assert reports[0].stdout.replace("phone/", "replay/") == reports[1].stdout != ""


TEST = """
import pytest

@pytest.mark.page_pinner("./capture", over="9s", threshold="450ms")
def test_it(page_pinner):
    assert page_pinner.text() == ""
    page_pinner.advance("9s")
    assert [record.ts for record in page_pinner.records()] == [500_000, 500_000]
"""


def test_the_fixture(capture: Path) -> None:
    """The marker takes the path of a capture, relative to the test's file, with over and loop."""
    (capture.parent / "test_it.py").write_text(TEST)
    done = run_command(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_it.py"], cwd=capture.parent
    )
    assert done.returncode == 0, done.stdout
    assert "1 passed" in done.stdout


@pytest.mark.parametrize("kernel", sorted(path.stem for path in RECORDED.glob("*.jsonl") if path.stem in GENERATIONS))
def test_what_real_kernels_printed(mount: Mounts, kernel: str) -> None:
    """Each whole record that a kernel printed while it was recorded comes out of a mount to the byte."""
    files: dict[str, list[str]] = {}
    for text in recorded_texts(kernel):
        try:
            read = read_text(text)
        except PinnerfsError:
            continue
        failures = next((found.failure_file for found in generations_named(read.generation)), None)
        for record in read.records:
            files.setdefault(record.file or failures or "", []).append(record.raw)
    cut = files[GENERATIONS[kernel].main_file][0][:-15]
    sections = [section(f"page_pinner/{file}", "".join(printed)) for file, printed in files.items()]
    path = mount.directory / "capture"
    whole = capture_text(*sections).removesuffix("------ END ------\n")
    path.write_text(whole + section(f"page_pinner/{GENERATIONS[kernel].main_file}", cut))
    device = mount(path, *(("--kernel", kernel) if kernel == "android14-6.1" else ()))
    assert [line.rpartition(": ")[2] for line in device.stderr.splitlines()] == [
        "a record is cut off in its stack",
        "it has no line `------ END ------`",
    ]
    for file, printed in files.items():
        assert records(device, file) == "".join(printed).encode()


def test_the_readers_of_a_phone(tmp_path: Path) -> None:
    """A Pixel's dump program prints the same on the replay of its own output as on the device."""
    if shutil.which("cc") is None:
        pytest.skip("cc is missing")
    if not Path("/sys/kernel/debug").is_dir():
        pytest.skip("this kernel has no /sys/kernel/debug")
    source = Path(__file__).with_name("android") / "dump_memory.c"
    subprocess.run(["cc", "-std=gnu11", source, "-o", tmp_path / "dump_memory"], check=True, timeout=DEADLINE)
    reader = ("--", tmp_path / "dump_memory", "4096")
    options = ("--kernel", "android14-6.1", "--clock", "manual", "--start", "10s")
    phone = pinnerfs("run", "--android", "faceunlock-fails", *options, *reader)
    assert (phone.returncode, phone.stderr) == (0, "")
    (tmp_path / "bugreport.txt").write_text(phone.stdout)
    again = pinnerfs("run", "--android", tmp_path / "bugreport.txt", "--kernel", "android14-6.1", *reader)
    assert again.returncode == 0, again.stderr
    # The counters behind this title are in sysfs, not in debugfs.
    wanted = phone.stdout.partition("------ Pixel CMA stat")[0]
    assert again.stdout.partition("------ Pixel CMA stat")[0] == wanted
    assert wanted.count("\nPFN 0x") > 100
