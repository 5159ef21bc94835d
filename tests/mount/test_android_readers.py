"""A Pixel's three readers of the memory section, unchanged under `run --android`, on each kernel.

dump_memory.sh is the script of 2023, dump_memory.c the program that replaced it, and dump_file.c what dumpstate did
until then. Titles, paths and order are Android's.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from tests.mount.support import DEADLINE, LONG_FRAMES, pinnerfs
from tests.workload.stories import alloc, source, task

pytestmark = pytest.mark.skipif(not Path("/sys/kernel/debug").is_dir(), reason="this kernel has no /sys/kernel/debug")

READERS = Path(__file__).with_name("android")
BUFINFO, PINNER, CMA = "/d/dma_buf/bufinfo", "/sys/kernel/debug/page_pinner", "/sys/kernel/debug/cma"
STAT, TRACE = "/sys/kernel/pixel_stat/mm/cma", "/sys/kernel/tracing/instances/pixel/trace"

MEMORY = """
[memory]
size = "64MiB"
base_pfn = 0x8000
region = [
    { name = "normal", size = "32MiB", flags = ["uptodate", "lru", "swapbacked"] },
    { name = "face", size = "16MiB", migratetype = "CMA", cma = "faceauth_tpu", pages = "file" },
    { name = "preview", size = "16MiB", migratetype = "CMA", cma = "camera_preview" },
]
"""
HEAP = 'frames = ["cma_heap_allocate+0x10/0x20", "dma_heap_ioctl+0x100/0x200"]'
# Three pages of an area are pinned from 1 s to 5 s. So the allocation at 2 s fails, and the one at 8 s succeeds.
TASKS = (
    task("driver", 'repeat = 1, every = "1s", hold = "4s"', 'for = "8000h"', region="face", pages=3, start="1s"),
    alloc(
        "faceauth",
        'repeat = 2, every = "6s"',
        'for = "8000h"',
        area="faceauth_tpu",
        stack="heap",
        pages=4096,
        start="2s",
    ),
)
SHORT_FRAMES = ("pin_it+0x10/0x20", "drv_ioctl+0x100/0x200")

# Prints what is in the files that the readers look at: by path the text, None if a read fails, or the names, in order.
LOOK = """
import json, os, sys

def text(path):
    try:
        with open(path, "rb", buffering=0) as file:
            return b"".join(iter(lambda: file.read(65536), b"")).decode()
    except OSError:
        return None

seen = {}
for top in sys.argv[1:]:
    for path, _, files in os.walk(top):
        seen[path] = os.listdir(path)
        seen.update((os.path.join(path, file), text(os.path.join(path, file))) for file in files)
print(json.dumps(seen))
"""


def _needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing")


def _scenario(directory: Path, frames: tuple[str, ...]) -> Path:
    path = directory / "phone.toml"
    path.write_text(source(*TASKS, memory=MEMORY, stack=f"frames = {[*frames]}\n[stack.heap]\n{HEAP}"))
    return path


@dataclass
class Phone:
    """What a command saw on a kernel: the outputs of the readers, and the files as Python reads them."""

    scenario: Path
    kernel: str
    outputs: dict[str, str]
    files: dict[str, str | list[str] | None]

    def text(self, path: str, piece: int = 65536) -> str | None:
        """Return the text of a file, or None for a reader that loses it. `piece` is the size of its reads."""
        text = self.files.get(path)
        assert text is None or isinstance(text, str)
        # A record must be shorter than the read that gets it.
        longest = max(map(len, re.split(r"(?<=\n\n)", text))) if text and path.startswith(PINNER) else 0
        return text if longest < piece else None

    def names(self, path: str) -> list[str]:
        """Return the names in a directory, in the order of readdir; none if there is no such directory."""
        names = self.files.get(path, [])
        assert isinstance(names, list)
        return names


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Compile the readers, if there is a compiler, and return their directory."""
    directory = tmp_path_factory.mktemp("readers")
    for name in ("dump_memory", "dump_file") if shutil.which("cc") else ():
        command = ["cc", "-std=gnu11", "-Wall", "-Wextra", str(READERS / f"{name}.c"), "-o", str(directory / name)]
        subprocess.run(command, check=True, timeout=DEADLINE)
    return directory


@pytest.fixture(scope="module", params=GENERATIONS)
def phone(request: pytest.FixtureRequest, programs: Path, tmp_path_factory: pytest.TempPathFactory) -> Phone:
    """Run all readers on a kernel."""
    kernel = request.param
    words = " ".join(f"'{title}' {path}" for title, path in _hal_files(kernel))
    commands = {
        "hal": f"{programs}/dump_file {words}",
        "1024": f"{programs}/dump_memory 1024",
        "4096": f"{programs}/dump_memory 4096",
        "sh": str(READERS / "dump_memory.sh"),
    }
    return _look(_scenario(tmp_path_factory.mktemp("phone"), SHORT_FRAMES), kernel, commands)


def _hal_files(kernel: str) -> list[tuple[str, str]]:
    """Return the titles and paths that the dumpstate of a kernel's time dumped. The title of buffer is the old one."""
    files = GENERATIONS[kernel].files
    longterm = "longterm_pinner" if "longterm_pinner" in files else "buffer"
    shown = [("dmabuf info", BUFINFO), ("Page Pinner - longterm pin", f"{PINNER}/{longterm}")]
    if longterm == "longterm_pinner":
        shown.append(("Page Pinner - alloc_contig_failed", f"{PINNER}/alloc_contig_failed"))
    return shown


def _look(scenario: Path, kernel: str, commands: dict[str, str], first: str = ":") -> Phone:
    """Run each command with --android on a kernel, and return their outputs and the files."""
    redirected = [f"{command} > {name}.out 2> {name}.err" for name, command in commands.items()]
    tops = f"/d/dma_buf /d/ion {PINNER} {CMA} {STAT} /sys/kernel/mm/cma"
    script = "; ".join([first, *redirected, f'exec "$0" -c "$1" {tops}'])
    options = ("--kernel", kernel, "--clock", "manual", "--start", "20s")
    done = pinnerfs(
        "run", "--android", scenario, *options, "--", "sh", "-c", script, sys.executable, LOOK, cwd=scenario.parent
    )
    assert done.returncode == 0, done.stderr
    outputs = {
        f"{name}.{kind}": (scenario.parent / f"{name}.{kind}").read_text()
        for name in commands
        for kind in ("out", "err")
    }
    return Phone(scenario, kernel, outputs, json.loads(done.stdout))


def _dumped(phone: Phone, title: str, path: str, piece: int) -> str:
    """Return what the program of today prints of a file."""
    text = phone.text(path, piece)
    return f"------ {title} ({path}) ------\n" + (f"Unable to read {path}\n" if text is None else f"{text}\n")


def _memory(phone: Phone, piece: int) -> str:
    """Return what the program of today prints, if it reads in pieces of this size."""
    parts = ["------ ION HEAPS  ------\n"]
    parts += [_dumped(phone, "dmabuf info", BUFINFO, piece)]
    parts += [_dumped(phone, "Page Pinner - longterm pin", f"{PINNER}/buffer", piece)]
    parts += ["------ CMA info  ------\n"]
    for area in phone.names(CMA):
        parts += [_dumped(phone, name, f"{CMA}/{area}/{name}", piece) for name in ("count", "used", "bitmap")]
    parts += ["------ Pixel CMA stat  ------\n"]
    for area in phone.names(STAT):
        parts += [_dumped(phone, name, f"{STAT}/{area}/{name}", piece) for name in phone.names(f"{STAT}/{area}")]
    parts += [_dumped(phone, "Pixel Trace", TRACE, piece)]
    return "".join(parts)


def _script(phone: Phone) -> str:
    """Return what the script prints on stdout. `ls` and the patterns of the shell sort the names."""
    parts = ["------ ION HEAPS ------\n", "------ dmabuf info ------\n", phone.text(BUFINFO)]
    parts += ["------ Page Pinner - longterm pin ------\n", phone.text(f"{PINNER}/buffer"), "------ CMA info ------\n"]
    for area in sorted(phone.names(CMA)):
        parts += [f"--- {CMA}/{area}\n"]
        parts += [f"--- {name}\n{phone.text(f'{CMA}/{area}/{name}')}" for name in ("count", "used", "bitmap")]
    parts += ["------ Pixel CMA stat ------\n"]
    for area in sorted(phone.names(STAT)):
        files = sorted(phone.names(f"{STAT}/{area}"))
        parts += [f"--- {STAT}/{area}/{name}\n{phone.text(f'{STAT}/{area}/{name}')}" for name in files]
    return "".join(part or "" for part in [*parts, "------ Pixel Trace ------\n"])


def _hal(phone: Phone) -> str:
    """Return what the dumpstate of a kernel's time prints."""
    parts = []
    for title, path in _hal_files(phone.kernel):
        text = phone.text(path)
        if text is None:
            parts += [f"*** Error dumping {path} ({title}): No such file or directory\n"]
        else:
            parts += [f"------ {title} ({path}) ------\n", text or "\n", "\n"]
    return "".join(parts)


def test_the_programs(phone: Phone) -> None:
    """The compiled readers print all files, each whole. A file that the kernel does not have is named."""
    _needs("cc")
    assert phone.outputs["hal.out"] == _hal(phone)
    for piece in 1024, 4096:
        assert phone.outputs[f"{piece}.out"] == _memory(phone, piece)
        unread = set(re.findall("Unable to read (.*)", phone.outputs[f"{piece}.out"])) - {TRACE}
        assert unread == (set() if "buffer" in GENERATIONS[phone.kernel].files else {f"{PINNER}/buffer"})


def test_the_script(phone: Phone) -> None:
    """The script prints all files in mksh with the commands of toybox. What is missing is an error on stderr."""
    _needs("mksh", "toybox")
    assert phone.outputs["sh.out"] == _script(phone)
    missing = re.findall(r"^(?:ls|cat): (.*): No such file or directory$", phone.outputs["sh.err"], re.MULTILINE)
    buffer = [] if "buffer" in GENERATIONS[phone.kernel].files else [f"{PINNER}/buffer"]
    assert [path for path in missing if path != TRACE] == ["/d/ion/*", *buffer]


def test_the_contents(phone: Phone) -> None:
    """The files have what the simulation has: a failed allocation with its records, and one that succeeded."""
    scenario, kernel = phone.scenario, phone.kernel
    generation = GENERATIONS[kernel]
    for file in generation.record_files:
        dumped = pinnerfs("dump", scenario, "--kernel", kernel, "--at", "20s", "--file", file)
        assert phone.text(f"{PINNER}/{file}") == dumped.stdout != ""
    prefix = "" if kernel in ("android14-6.1", "android15-6.6") else "cma-"
    # 15 characters fit.
    preview, face = (f"{prefix}{name}"[: 15 if prefix else None] for name in ("camera_preview", "faceauth_tpu"))
    assert {*phone.names(CMA)} == {preview, face}
    assert phone.text(f"{CMA}/{face}/used") == phone.text(f"{CMA}/{face}/count") == "4096\n"
    assert phone.text(f"{CMA}/{face}/bitmap") == " ".join(["4294967295"] * 128) + "\n"
    assert phone.text(f"{CMA}/{preview}/used") == "0\n"
    for name in "alloc_pages_success", "alloc_pages_fail":
        assert phone.text(f"/sys/kernel/mm/cma/faceauth_tpu/{name}") == "4096\n"
        assert phone.text(f"/sys/kernel/mm/cma/camera_preview/{name}") == "0\n"
    # The failure took the retries of the kernel: at least five, 104 ms apart.
    counted = {"alloc_pages_attempts": 4096, "fail_pages": 4096, "latency_low": 1, "latency_mid": 1}
    counted |= {"latency_low_bound": 500, "latency_mid_bound": 1500}
    assert {name: phone.text(f"{STAT}/faceauth_tpu/{name}") for name in phone.names(f"{STAT}/faceauth_tpu")} == {
        name: f"{counted.get(name, 0)}\n"
        for name in (
            *("latency_low", "latency_mid", "latency_high", "latency_mid_bound", "latency_low_bound"),
            *("alloc_pages_attempts", "alloc_pages_failfast_attempts", "fail_pages", "fail_failfast_pages"),
        )
    }


def test_records_that_are_too_long(tmp_path: Path, programs: Path) -> None:
    """The program of today loses a file with a record of 1024 bytes, unless it reads in pieces of 4096."""
    _needs("cc")
    commands = {
        "hal": f"{programs}/dump_file 'Page Pinner - longterm pin' {PINNER}/buffer",
        "1024": f"{programs}/dump_memory 1024",
        "4096": f"{programs}/dump_memory 4096",
    }
    phone = _look(_scenario(tmp_path, LONG_FRAMES), "android14-6.1", commands)
    assert phone.outputs["1024.out"] == _memory(phone, 1024) != _memory(phone, 4096) == phone.outputs["4096.out"]
    assert f"({PINNER}/buffer) ------\nUnable to read {PINNER}/buffer\n" in phone.outputs["1024.out"]
    title = f"------ Page Pinner - longterm pin ({PINNER}/buffer) ------"
    assert phone.outputs["hal.out"] == f"{title}\n{phone.text(f'{PINNER}/buffer')}\n"


@pytest.mark.parametrize("kernel", [name for name, kernel in GENERATIONS.items() if kernel.failure_file])
def test_without_tracking(tmp_path: Path, programs: Path, kernel: str) -> None:
    """While failure_tracking is 0, each reader reports the failure file in its own way."""
    _needs("cc", "mksh", "toybox")
    file = f"{PINNER}/{GENERATIONS[kernel].failure_file}"
    commands = {
        "hal": f"{programs}/dump_file Failed {file}",
        "new": f"{programs}/dump_memory 4096",
        "sh": f"cat {file}",
    }
    phone = _look(_scenario(tmp_path, SHORT_FRAMES), kernel, commands, f"echo 0 > {PINNER}/failure_tracking")
    reason = "Invalid argument"
    assert (
        phone.outputs["hal.out"] == f"------ Failed ({file}) ------\n*** {file}: Failed to read from fd: {reason}\n\n"
    )
    assert phone.outputs["new.out"] == _memory(phone, 4096)
    assert phone.text(file) is None
    assert (phone.outputs["sh.out"], phone.outputs["sh.err"]) == ("", f"cat: {file}: {reason}\n")
