"""The cases of CMA's debugfs: the machine and the state that each needs, and the calls that it makes."""

from __future__ import annotations

import ast
import fcntl
import os
import re
import select
from collections.abc import Callable
from dataclasses import dataclass, replace

from tests.oracle.cases import DEBUGFS, VMSTAT, Case, Op
from tests.oracle.phrases import PhraseCalls
from tests.oracle.sandbox import CMA_COUNTERS, Sandbox

__all__ = [
    "CmaCalls",
    "is_cma",
    "mm_of",
    "options",
    "scenario",
    "set_up",
    "why_not",
    "without_history",
    "without_machine",
]

FAMILIES = ("cma", "cma2", "cmaalloc", "cmafree", "cmafs", "cmanone", "cmaperm", "cmaraw", "cmaseq", "cmastat")
CMA = f"{DEBUGFS}/cma"
PAGE = 4096
FIONREAD = 0x541B
FIRST = "reserved"  # the area of the recorded machines

WHOLE, EVERYTHING = "16384", "4294967295"  # all pages of the area; as a number for `free`, which takes it for -1

# What a mount has no files for.
UNSUPPORTED = {
    "dyndbg": "a mount has no dynamic debug",
    "trace": "a mount has no tracing",
    "/proc/vmstat": "the case reads the machine's /proc",
}

HEAD = 'format = 1\nname = "cma"\ndescription = "the areas of a recorded machine"\n'
# A scenario must have a task.
REST = """[[memory.region]]
name = "normal"
size = "4MiB"
flags = ["uptodate"]
[stack.none]
frames = ["none+0x1/0x2"]
[[task]]
name = "none"
stack = "none"
region = "normal"
[[task.phase]]
repeat = 1
every = "8000h"
hold = "1us"
"""


@dataclass(frozen=True)
class Area:
    """An area of a recorded machine. The areas of one follow each other in its memory."""

    name: str
    base_pfn: int
    pages: int
    order_per_bit: int = 0

    @property
    def region(self) -> str:
        """Return the area as a table of a scenario."""
        return (
            f'[[memory.region]]\nname = "{self.name}"\nsize = "{self.pages * PAGE >> 20}MiB"\nmigratetype = "CMA"\n'
            f'cma = "{self.name}"\norder_per_bit = {self.order_per_bit}\nflags = ["uptodate", "lru", "swapbacked"]\n'
        )


def is_cma(case: Case) -> bool:
    """Return whether a case is about the files of CMA, and not a scene with pinned pages."""
    return case.family in FAMILIES


def why_not(case: Case) -> str | None:
    """Return why a case about the files of CMA cannot be replayed, or None if it can."""
    if case.pins:
        return "a scene with pinned pages, which tests of scenes play"
    asked = case.script + case.name + " ".join(op["call"] for op in case.ops)
    return next((reason for word, reason in UNSUPPORTED.items() if word in asked), None)


def mm_of(case: Case) -> str:
    """Return the name of the memory management that was recorded, see `pinnerfs.kernel.cma.mm.MMS`."""
    return "android14-6.1" if "mm/cma.c of android14-6.1" in case.kernel else "6.1.192"


def options(case: Case) -> tuple[str, ...]:
    """Return the options of `pinnerfs mount` for the recorded machine."""
    return ("--mm", mm_of(case))


def _areas(case: Case) -> tuple[Area, ...]:
    if case.family == "cma":
        base, pages = (int(re.search(rf"/{name}: (\d+)", case.stdout)[1]) for name in ("base_pfn", "count"))  # type: ignore[index]
        return (Area(FIRST, base, pages),)
    if "cma2=" in case.boot:
        return Area(FIRST, 57344, 16384), Area("camera", 73728, 4096, 2)
    return (Area(FIRST, 61440, 16384),) if "cma=" in case.boot else ()


def scenario(case: Case) -> str:
    """Return the text of a scenario that has the areas of a case. Nothing happens in it."""
    areas = _areas(case)
    size = (sum(area.pages for area in areas) * PAGE >> 20) + 4
    base = min((area.base_pfn for area in areas), default=61440)
    regions = "".join(area.region for area in areas)
    return f'{HEAD}[memory]\nsize = "{size}MiB"\nbase_pfn = {base}\n{regions}{REST}'


def set_up(sandbox: Sandbox, case: Case) -> None:
    """Free all areas, end the rate limit of the log, and bring about the state that the case begins with."""
    for area in _areas(case):
        sandbox.write(f"cma/{area.name}/free", EVERYTHING)
    sandbox.write(".pinnerfs/advance", "6s")
    sandbox.path.chmod(0o700)
    for name, mode in case.modes:
        (sandbox.path if name == "debugfs" else sandbox.path / "cma" / FIRST / name).chmod(mode)
    if "all others find it full" in case.note or (case.family == "cma" and "/maxchunk: 0\n" in case.stdout):
        sandbox.write(f"cma/{FIRST}/alloc", str(_areas(case)[0].pages))


def without_machine(case: Case) -> Case:
    """Return the case without the command that reads the machine's /proc/meminfo, and without its output."""
    script = re.sub(r"; grep -i cma /proc/meminfo(?=;|$)", "", case.script)
    return replace(case, script=script, stdout=re.sub(r"^Cma(Total|Free): .*\n", "", case.stdout, flags=re.MULTILINE))


def without_history(text: str, case: Case) -> str:
    """Return the output of a script without the counters, which count earlier allocations, and without their parent."""
    if CMA_COUNTERS in case.script:
        text = re.sub(rf"(?<=^{CMA_COUNTERS}:\n)((?:.*\n)*?)d.* \.\.\n", r"\1", text, flags=re.MULTILINE)
        text = re.sub(r"^\d+(?=\nrc=0\n\Z)", "PAGES", text, flags=re.MULTILINE)
    return text


def _read(path: str) -> str:
    with open(path) as file:
        return file.read()


class CmaCalls(PhraseCalls):
    """A process that makes the calls of a case about CMA, and looks at the state of the areas."""

    def __init__(self, sandbox: Sandbox, case: Case) -> None:
        super().__init__(sandbox, case)
        self._area = "camera" if case.name.startswith("cma2.seq") else FIRST
        self._allocs = 0
        self._log = self._new_log(0)[0]
        self._vmstat = self._counters()
        self._sysfs = self._pages()

    def perform(self, call: str) -> Op:
        for pattern, function in PHRASES:
            if match := re.fullmatch(pattern, call, re.DOTALL):
                return self.answer(lambda function=function, match=match: function(self, *match.groups()))  # type: ignore[misc]
        return super().perform(call)

    def _open(self, path: str, flags: str) -> Op:
        if self.case.name == "cmaraw.when-sampled":
            self.write("free", EVERYTHING.encode())  # as the recorder did before each of the files
        return super()._open(path, flags)

    def write(self, file: str, data: bytes) -> Op:
        """Write to `alloc` or `free` of an area, opened for this one write."""
        area = self._area
        if self.case.name.startswith("cma2.independent") and file == "alloc":
            area = "camera" if self._allocs else FIRST
            self._allocs += 1
        descriptor = os.open(f"{CMA}/{area}/{file}", os.O_WRONLY)
        try:
            return {"ret": os.write(descriptor, data)}
        finally:
            os.close(descriptor)

    def fails(self, times: int, wait: str = "") -> Op:
        """Let allocations of the whole area fail. `wait` first."""
        if wait:
            self.sandbox_write("advance", wait)
        for _ in range(times):
            answer = self.answer(lambda: self.write("alloc", WHOLE.encode()))
        return {"errno": answer["errno"]}

    @staticmethod
    def sandbox_write(name: str, text: str) -> None:
        """Write to a control file, from inside of the sandbox."""
        with open(f"{DEBUGFS}/.pinnerfs/{name}", "wb", buffering=0) as file:
            file.write(text.encode())

    def loop(self, times: str, pages: str) -> Op:
        """Allocate and free these pages so many times, and return the state."""
        for _ in range(int(times)):
            self.write("alloc", pages.encode())
            self.write("free", pages.encode())
        return self.state()

    def state(self, area: str | None = None) -> Op:
        """Return the state of an area, and what was counted and logged since the last time."""
        area = area or self._area
        numbers = {name: int(_read(f"{CMA}/{area}/{name}")) for name in ("used", "maxchunk", "count")}
        words = [int(word) for word in _read(f"{CMA}/{area}/bitmap").split()]
        bits = "".join(f"{word:032b}"[::-1] for word in words)
        runs = [[match.start(), match.end() - 1] for match in re.finditer("1+", bits)]
        before, self._vmstat = self._vmstat, self._counters()
        delta = {name: self._vmstat[name] - before[name] for name in VMSTAT}
        log = self.dmesg()["ret"]
        return {"ret": {**numbers, "bitmap_set_bits": runs, "vmstat_delta": delta, **({"dmesg": log} if log else {})}}

    def dmesg(self) -> Op:
        """Return the new lines of the log, without their times."""
        self._log, lines = self._new_log(self._log)
        return {"ret": lines}

    @staticmethod
    def _new_log(since: int) -> tuple[int, list[str]]:
        lines = _read(f"{DEBUGFS}/.pinnerfs/dmesg").splitlines()
        return len(lines), [line.partition("] ")[2] for line in lines[since:]]

    @staticmethod
    def _counters() -> dict[str, int]:
        pairs = map(str.split, _read(f"{DEBUGFS}/.pinnerfs/vmstat").splitlines())
        return {name: int(value) for name, value in pairs}

    @staticmethod
    def _pages() -> dict[str, int]:
        files = [(area, name) for area in os.listdir(CMA_COUNTERS) for name in os.listdir(f"{CMA_COUNTERS}/{area}")]
        return {f"{area}/{name}": int(_read(f"{CMA_COUNTERS}/{area}/{name}")) for area, name in files}

    def sysfs(self) -> Op:
        """Return by how much the counters in sysfs have risen since the last time."""
        before, self._sysfs = self._sysfs, self._pages()
        return {"ret": {name: count - before[name] for name, count in self._sysfs.items()}}


def _writev(self: CmaCalls, first: str, second: str) -> Op:
    return {"ret": os.writev(self.fd, [first.encode(), second.encode()])}


def _done(function: Callable[..., None], *arguments: int) -> Op:
    function(*arguments)
    return {"ret": None}


def _poll(fd: int) -> list[str]:
    poll = select.poll()
    poll.register(fd, select.POLLIN | select.POLLOUT)
    return [hex(seen) for _, seen in poll.poll(0)]


def _other_area(self: CmaCalls) -> Op:
    return {"ret": int(_read(f"{CMA}/{FIRST}/used"))}


def _total(self: CmaCalls) -> Op:
    """Return the counters; those of the second area count what earlier cases did."""
    return {"ret": {name: str(count) if name.startswith(FIRST) else "PAGES" for name, count in self._pages().items()}}


def _failing(self: CmaCalls, times: str) -> Op:
    self.fails(int(times) - 1)  # the recorder counted the write before, too
    return self.dmesg()


PHRASES: list[tuple[str, Callable[..., Op]]] = [
    (r"(alloc|free): write\((b['\"].*['\"])\)", lambda self, file, data: self.write(file, ast.literal_eval(data))),
    (r"state(?: after free of everything)?|after free of everything|full", CmaCalls.state),
    (r"larger than the area: no dmesg line\?", CmaCalls.state),
    (r"(reserved|camera)", CmaCalls.state),
    (r"used of the other area", _other_area),
    (r"sysfs delta(?: after free)?", CmaCalls.sysfs),
    (r"sysfs", _total),
    (r"(\d+) times alloc (\d+), free \d+", CmaCalls.loop),
    (r"(\d+) failing allocations in a row; dmesg", _failing),
    (r"one more, (\d+) s later", lambda self, seconds: self.fails(1, f"{seconds}s")),
    (r"dmesg", CmaCalls.dmesg),
    (r"\(.* was opened before that alloc, not read yet\)", lambda self: {}),
    (r"writev \[b\"(\d+)\",b\"(\d+)\"\]", _writev),
    (r"poll", lambda self: {"ret": _poll(self.fd)}),
    (r"fsync", lambda self: _done(os.fsync, self.fd)),
    (r"ftruncate (\d+)", lambda self, size: _done(os.ftruncate, self.fd, int(size))),
    (r"ioctl FIONREAD", lambda self: {"ret": fcntl.ioctl(self.fd, FIONREAD, bytearray(4))}),
]
