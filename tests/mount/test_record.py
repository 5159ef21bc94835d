"""`pinnerfs record` and its shell script, on mounts of each kernel."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from msgspec.structs import replace

import pinnerfs
from pinnerfs.cli.record import SCRIPT
from pinnerfs.errors import NO_ANSWER
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.record.redact import redact
from pinnerfs.report import Report, analyse, read, read_text
from tests.mount import support
from tests.mount.support import DEADLINE, Mount, Mounts, environment

# Allocations of a CMA area, which fail because of pinned pages of a file. MORE adds pins for longterm_pinner.
SCENARIO = "faceunlock-fails"
MORE = """
[stack.reader]
via = "slow"
syscall = "read"
frames = ["get_user_pages_remote", "__access_remote_vm", "access_remote_vm", "mem_rw", "mem_read", "vfs_read"]

[[task]]
name = "reader"
stack = "reader"
region = "shared"
pages = 3
phase = [{ for = "10s", every = "700ms", hold = { dist = "uniform", min = "400ms", max = "3s" } }]
"""

# The shell, and the program that has its cat.
SHELLS = {
    "mksh, toybox": ("mksh", "toybox"),
    "dash, busybox": ("dash", "busybox"),
    "busybox": ("busybox", "busybox"),
    "dash, coreutils": ("dash", "cat"),
    "bash, coreutils": ("bash", "cat"),
}


class Recorded(NamedTuple):
    """A mount, the file that `record` made of it, and the bytes of the file."""

    path: Path
    file: Path
    capture: bytes


@pytest.fixture(scope="module", params=GENERATIONS)
def device(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorded]:
    """Mount the scenario on a kernel, at 10 s, and record it."""
    mounts = Mounts(tmp_path_factory.mktemp("record"))
    source = mounts.directory / "both.toml"
    source.write_text(pinnerfs.gallery()[SCENARIO].read_text() + MORE)
    try:
        made = mounts(source, "--kernel", request.param)
        made.advance("10s")
        capture = mounts.directory / "capture.txt"
        yield Recorded(made.path, capture, record(made, capture))
    finally:
        mounts.close()


def run_script(shell: str, cat: str, directory: Path, *arguments: str | Path) -> subprocess.CompletedProcess[bytes]:
    """Feed the script to a shell, as `adb shell` does, that finds no program but cat."""
    for program in (shell, cat):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing")
    programs = directory / f"{shell}-{cat}"
    programs.mkdir()
    (programs / "cat").symlink_to(shutil.which(cat) or "")
    command = [shutil.which(shell) or "", *(["sh"] if shell == "busybox" else []), "-s", *map(str, arguments)]
    return subprocess.run(
        command,
        input=SCRIPT.read_bytes(),
        capture_output=True,
        env={"PATH": str(programs)},
        timeout=DEADLINE,
        check=False,
    )


def record(device: Mount, output: Path, *options: str) -> bytes:
    """Record a mount with the command, and return the capture."""
    done = support.pinnerfs("record", device.path, "-o", output, *options)
    assert (done.returncode, done.stdout) == (0, "")
    capture = output.read_bytes()
    # What could not be read is also said on stderr.
    unreadable = re.findall("^Unable to read .*", capture.decode(), re.MULTILINE)
    assert done.stderr.splitlines() == [f"{device.path}: {line}" for line in unreadable]
    return capture


def nameless(report: Report) -> Report:
    """Return a report without the names of its inputs."""
    return replace(report, sources=(), notes=())


def test_the_report_of_a_capture(device: Recorded) -> None:
    """A report of the capture is that of the mount, to the last number."""
    assert device.capture.startswith(b"------ PINNERFS CAPTURE 1 ------\n")
    assert device.capture.endswith(b"------ END ------\n")
    made = read(device.file)
    assert made.records
    assert not made.notes
    assert made.areas
    assert nameless(analyse(made)) == nameless(analyse(read(device.path)))


def test_every_byte_of_each_file(device: Recorded) -> None:
    """Each file of page_pinner/ and cma/ is there, to the byte, but for those that cannot be read."""
    files = [path for top in ("page_pinner", "cma") for path in (device.path / top).rglob("*") if path.is_file()]
    files = [path for path in files if path.name not in ("alloc", "free")]
    assert len(files) >= 8
    for path in files:
        title = f"(/sys/kernel/debug/{path.relative_to(device.path)}) ------\n".encode()
        assert title + text_of(path) + b"------ " in device.capture


def text_of(path: Path) -> bytes:
    """Return the bytes of a file, read record by record."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return b"".join(iter(lambda: os.read(descriptor, 65536), b""))
    finally:
        os.close(descriptor)


def test_a_capture_of_a_capture(device: Recorded, mount: Mounts, tmp_path: Path) -> None:
    """A mount of the capture has its records, and a capture of that mount is the same to the byte."""
    again = mount(device.file)
    assert record(again, tmp_path / "again.txt") == device.capture


@pytest.mark.parametrize("tools", SHELLS)
def test_the_script(device: Recorded, tools: str, tmp_path: Path) -> None:
    """The script prints the bytes that the command writes, under each shell and each cat."""
    done = run_script(*SHELLS[tools], tmp_path, device.path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout == device.capture


def test_through_a_terminal(device: Recorded, tmp_path: Path) -> None:
    """A capture whose lines end with CR LF, as adb may make them, has the same report."""
    (tmp_path / "crlf.txt").write_bytes(device.capture.replace(b"\n", b"\r\n"))
    made = analyse(read(tmp_path / "crlf.txt"))
    assert nameless(made) == nameless(analyse(read(device.file)))


def test_a_redacted_capture(device: Recorded, tmp_path: Path) -> None:
    """--redact leaves the report as it is, and no address of the kernel in the records."""
    (tmp_path / "redacted.txt").write_bytes(redact(device.capture))
    assert (b"mapping 0xff" in device.capture) == (b"mapping 0x0000000000000001" in redact(device.capture))
    assert b"mapping 0xff" not in redact(device.capture)
    assert nameless(analyse(read(tmp_path / "redacted.txt"))) == nameless(analyse(read(device.file)))


def test_files_that_cannot_be_read(mount: Mounts, tmp_path: Path) -> None:
    """A file whose open or read fails has `Unable to read` and the reason, from the command and the script."""
    device = mount(SCENARIO, "--kernel", "android12-5.10")
    device.advance("10s")
    rules = (
        "add,op=open,file=threshold,errno=EACCES",
        "add,op=read,file=alloc_contig_failed,errno=EIO",
        "add,op=open,file=cma/cma-faceauth_tp/count,errno=EPERM",
    )
    (device.path / ".pinnerfs" / "inject").write_text("\n".join(rules) + "\n")
    capture = record(device, tmp_path / "capture.txt")
    assert [line for line in capture.decode().splitlines() if line.startswith("Unable")] == [
        "Unable to read /sys/kernel/debug/page_pinner/alloc_contig_failed: Input/output error",
        "Unable to read /sys/kernel/debug/page_pinner/threshold: Permission denied",
        "Unable to read /sys/kernel/debug/cma/cma-faceauth_tp/count: Operation not permitted",
    ]
    for shell, cat in SHELLS.values():
        assert run_script(shell, cat, tmp_path, device.path).stdout == capture, (shell, cat)


def test_a_file_that_is_switched_off(mount: Mounts, tmp_path: Path) -> None:
    """With failure_tracking off, the record file answers EINVAL, and the rest of the capture is there."""
    device = mount(SCENARIO, "--kernel", "android14-6.1")
    (device.path / "page_pinner" / "failure_tracking").write_text("0\n")
    capture = record(device, tmp_path / "capture.txt").decode()
    assert "\nUnable to read /sys/kernel/debug/page_pinner/buffer: Invalid argument\n------" in capture
    assert "(/sys/kernel/debug/page_pinner/failure_tracking) ------\n0\n" in capture


def test_a_read_that_fails_in_between(mount: Mounts, tmp_path: Path) -> None:
    """The command repeats a read that fails: it loses no record."""
    device = mount("flaky-reads")
    device.advance("60s")
    record(device, tmp_path / "capture.txt")
    assert len(read(tmp_path / "capture.txt").records) == 240


def test_long_records_and_a_full_ring(mount: Mounts, tmp_path: Path) -> None:
    """All 4096 records of a full ring are there, in order, from the command and from the script."""
    device = mount(None, "--threshold", "1ms")
    device.advance("5000s")
    records = b"".join(device.read_all())
    capture = record(device, tmp_path / "capture.txt")
    assert records.count(b"Page pinned") == 4096
    assert b") ------\n" + records + b"------ " in capture
    assert run_script("mksh", "toybox", tmp_path, device.path).stdout == capture


@pytest.mark.parametrize("tools", SHELLS)
def test_names_that_break_a_title(tools: str, tmp_path: Path) -> None:
    """Areas with such names are left out, and a section tells it. The script gives the same bytes."""
    debugfs = tmp_path / "debugfs"
    (debugfs / ".pinnerfs").mkdir(parents=True)  # so that nothing of /proc is recorded
    (debugfs / "page_pinner").mkdir()
    (debugfs / "page_pinner/longterm_pinner").touch()
    (debugfs / "page_pinner/threshold").write_text("300000\n")
    fine = ["B z", "a", "linux,cma@8", "~!"]
    for name in (*fine, "a\nb", "\tx", "x(y)", "x:y", "x\\nb", "caf\xe9", "x\x7f", "x\n------ END ------"):
        (debugfs / "cma" / name).mkdir(parents=True)
        (debugfs / "cma" / name / "count").write_text("1024\n")
    done = support.pinnerfs("record", debugfs)
    title = "------ CMA (/sys/kernel/debug/cma/{}/count) ------\n1024\n"
    why = "an area has a name with a parenthesis, a colon, a backslash, or a character that is no printable ASCII"
    assert done.returncode == 0
    assert done.stderr == f"{debugfs}: Unable to read /sys/kernel/debug/cma: {why}\n"
    assert done.stdout.partition("300000\n")[2] == (
        "".join(map(title.format, fine))
        + f"------ CMA (/sys/kernel/debug/cma) ------\nUnable to read /sys/kernel/debug/cma: {why}\n"
        + "------ END ------\n"
    )
    made = run_script(*SHELLS[tools], tmp_path, debugfs)
    assert (made.returncode, made.stdout.decode(), made.stderr) == (0, done.stdout, b"")
    capture = read_text(done.stdout)
    assert [path.removeprefix("cma/").removesuffix("/count") for path in capture.sections][1:] == fine
    assert [note.reason for note in capture.notes] == [f"cannot read /sys/kernel/debug/cma: {why}"]


def test_no_page_pinner(tmp_path: Path) -> None:
    """A directory that is no debugfs, and none at all, are one line each and status 2; the script prints no capture."""
    for path in (tmp_path, tmp_path / "none"):
        done = support.pinnerfs("record", path, "-o", tmp_path / "capture.txt")
        assert (done.returncode, done.stdout) == (2, "")
        assert done.stderr.startswith("Error: cannot record ")
        assert done.stderr.count("\n") == 1
    assert not (tmp_path / "capture.txt").exists()
    script = run_script("dash", "cat", tmp_path, tmp_path / "none")
    assert (script.returncode, script.stdout) == (2, b"")
    assert script.stderr.startswith(b"record.sh: there is no ")
    assert script.stderr.count(b"\n") == 1


def test_a_hint_for_the_directory_below(mount: Mounts) -> None:
    """The directory page_pinner/ itself is refused, and the message names the one to give."""
    done = support.pinnerfs("record", mount().path / "page_pinner")
    assert done.returncode == 2
    assert done.stderr.endswith("; name the directory above it\n")


def test_a_stopped_daemon(mount: Mounts, tmp_path: Path) -> None:
    """A daemon that is stopped is given up with status 75, and there is no file."""
    device = mount()
    os.kill(device.pid, signal.SIGSTOP)
    try:
        done = support.pinnerfs("record", device.path, "-o", tmp_path / "capture.txt", "--max-wait", "300ms")
        inside = support.pinnerfs("record", tmp_path, "-o", device.path / "capture.txt", "--max-wait", "300ms")
    finally:
        os.kill(device.pid, signal.SIGCONT)
    assert (done.returncode, inside.returncode) == (NO_ANSWER, NO_ANSWER)
    assert "is stopped" in done.stderr
    assert sorted(path.name for path in tmp_path.iterdir() if "capture" in path.name) == []


def test_a_mount_that_goes_away(mount: Mounts, tmp_path: Path) -> None:
    """A daemon that ends in the middle of a recording is an error, and there is no file."""
    device = mount()
    device.advance("10s")
    (device.path / ".pinnerfs" / "inject").write_text("add,op=open,file=threshold,delay=1h\n")
    command = [sys.executable, "-m", "pinnerfs", "record", str(device.path), "-o", str(tmp_path / "capture.txt")]
    with subprocess.Popen(
        [*command, "--max-wait", f"{DEADLINE}s"], stderr=subprocess.PIPE, text=True, env=environment()
    ) as process:
        _wait_until_hit(device)
        os.kill(device.pid, signal.SIGKILL)
        _, error = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert error.endswith(": it was unmounted meanwhile, or its daemon has ended\n")
    assert not (tmp_path / "capture.txt").exists()


def _wait_until_hit(device: Mount) -> None:
    """Wait until the fault has hit a call."""
    end = time.monotonic() + DEADLINE
    while "fired=1" not in device.control("inject"):
        assert time.monotonic() < end
        time.sleep(0.01)
