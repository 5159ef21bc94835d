"""A mount as a world for the recorded scenes: its scenario has the pins, and the calls are those of a shell."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from pinnerfs import Client, mounted
from tests.oracle.cases import Case, Op
from tests.oracle.cma import mm_of
from tests.oracle.comparison import Comparison
from tests.oracle.scene import Row, area_of, parse_text, set_bits
from tests.oracle.scene_play import Scene
from tests.oracle.scene_simulation import scenario_of

__all__ = ["MountWorld", "Plan", "cut_for_mount", "play_mounted"]

ROUNDS_US = 1_000_000  # more than all rounds of an allocation take
FOLL = {"get": "FOLL_GET", "pin": "FOLL_PIN", "plain": "none"}


@dataclass
class Laid:
    """Pages with one pin each, and when it all happens, in µs."""

    offsets: list[int]
    how: str
    at: int
    release: tuple[int, str] | None = None
    unmap: int | None = None

    def runs(self) -> list[list[int]]:
        """Return the first offset and the number of pages of each contiguous run."""
        breaks = [(one, after) for one, after in pairwise(self.offsets) if after != one + 1]
        firsts = [self.offsets[0], *(after for _, after in breaks)]
        lasts = [*(one for one, _ in breaks), self.offsets[-1]]
        return [[first, last - first + 1] for first, last in zip(firsts, lasts, strict=True)]

    def tasks(self, base: int) -> str:
        """Return the tasks that pin the pages, one for each contiguous run."""
        texts = []
        for first, pages in self.runs():
            hold = "" if self.release is None else f', hold = "{self.release[0] - self.at}us"'
            release = "never" if self.release is None else self.release[1]
            unmap = "never" if self.unmap is None else f"{self.unmap - self.at}us"
            texts.append(
                f'[[task]]\nname = "{self.at}.{first}"\nstack = "ioctl"\nregion = "area"\npfn = {base + first}\n'
                f'pages = {pages}\nfoll = "{FOLL[self.how]}"\nrelease = "{release}"\nunmap = "{unmap}"\n'
                f'start = "{self.at}us"\n'
                f'phase = [{{ repeat = 1, every = "8000h"{hold} }}, {{ for = "8000h" }}]\n'
            )
        return "\n".join(texts)


@dataclass
class Plan:
    """A world that only notes what the pages' owner does and when. Its answers mean nothing."""

    limits_log = True
    now: int = 0
    rounds: bool = False  # whether allocations wait for further rounds
    laid: list[Laid] = field(default_factory=list)

    def lay(self, offsets: list[int], *, file: bool, how: str | None) -> None:
        if how is None:
            raise LookupError("pages without pins")
        if how != "pin_longterm":
            self.laid.append(Laid(offsets, how, self.now))

    def pin(self, how: str) -> None:
        raise LookupError("a second pin")

    def release(self, how: str) -> None:
        if self.laid and self.laid[-1].release is None:
            self.laid[-1].release = (self.now, how)

    def unmap(self, order: list[int]) -> None:
        if self.laid and self.laid[-1].unmap is None:
            self.laid[-1].unmap = self.now

    def truncate(self, order: list[int]) -> None:
        raise LookupError("a file cannot be closed in a scenario")

    def drain(self) -> None:
        pass

    def alloc(
        self, area: str, pages: int, *, release_after: tuple[int, str] | None = None, kept: bool, **options: Any
    ) -> int | None:
        if not kept:
            raise LookupError("a driver's allocation")
        if release_after is not None:
            self.laid[-1].release = (self.now + release_after[0], release_after[1])
        self.now += self._lasts(release_after)
        return None

    def _lasts(self, release_after: tuple[int, str] | None) -> int:
        """Return a time in which all of an allocation happens. Pins are not to last longer than recorded."""
        return ROUNDS_US if self.rounds else 1_000 + (0 if release_after is None else release_after[0])

    def release_allocs(self) -> None:
        pass

    def free(self, area: str, pages: int) -> None:
        pass

    def pause(self, us: int) -> None:
        self.now += us

    def set_tracking(self, on: bool) -> None:
        pass

    def set_buffer_size(self, size: int) -> None:
        pass

    def set_threshold(self, us: int) -> None:
        pass

    def state(self, area: str) -> dict[str, Any]:
        return dict.fromkeys(("used", "maxchunk", "bitmap_set_bits", "count"))

    def calls(self) -> tuple[int, int]:
        return 0, 0

    def new_log(self) -> list[str]:
        return []

    def tries(self) -> int | None:
        return None

    def rows(self) -> list[Row] | None:
        return []

    def texts(self) -> list[str] | None:
        return None

    def total(self) -> int:
        return 0

    def longterm(self) -> list[str]:
        return []

    def longterm_at(self, position: int) -> str:
        raise LookupError("pread")


class MountWorld(Plan):
    """A mount. The pages' owner is the scenario, so time alone makes its calls."""

    def __init__(self, case: Case, device: Client) -> None:
        super().__init__(rounds=mm_of(case) == "android14-6.1")
        self._device = device
        self._base = area_of(case)[0]
        self._seen_log = 0
        names = [file for file in ("buffer", "alloc_contig_failed") if (device.root / "page_pinner" / file).exists()]
        self._file = names[0]

    def _path(self, area: str, name: str) -> Path:
        return self._device.root / "cma" / area / name

    def _write(self, path: Path, value: int) -> None:
        descriptor = os.open(path, os.O_WRONLY)
        try:
            os.write(descriptor, b"%d\n" % value)
        finally:
            os.close(descriptor)

    def pause(self, us: int) -> None:
        self.now += us
        left = self.now - self._device.clock()
        if left > 0:
            self._device.advance(f"{left}us")

    def lay(self, offsets: list[int], *, file: bool, how: str | None) -> None:
        pass

    def release(self, how: str) -> None:
        pass

    def unmap(self, order: list[int]) -> None:
        pass

    def alloc(
        self, area: str, pages: int, *, release_after: tuple[int, str] | None = None, kept: bool, **options: Any
    ) -> int | None:
        got = True
        try:
            self._write(self._path(area, "alloc"), pages)
        except OSError as error:
            assert error.errno == errno.ENOMEM
            got = False
        self.pause(self._lasts(release_after))
        return 0 if got else None

    def free(self, area: str, pages: int) -> None:
        self._write(self._path(area, "free"), pages)

    def set_tracking(self, on: bool) -> None:
        self._write(self._device.root / "page_pinner" / "failure_tracking", int(on))

    def set_buffer_size(self, size: int) -> None:
        if self._file == "buffer":
            self._write(self._device.root / "page_pinner" / "buffer_size", size)

    def set_threshold(self, us: int) -> None:
        self._device.threshold = us

    def state(self, area: str) -> dict[str, Any]:
        used, maxchunk, count = (int(self._path(area, name).read_text()) for name in ("used", "maxchunk", "count"))
        words = [int(word) for word in self._path(area, "bitmap").read_text().split()]
        return {"used": used, "maxchunk": maxchunk, "bitmap_set_bits": set_bits(words), "count": count}

    def calls(self) -> tuple[int, int]:
        counted = self._device.vmstat()
        return counted["cma_alloc_success"], counted["cma_alloc_fail"]

    def new_log(self) -> list[str]:
        lines = [line.split("] ", 1)[1] for line in self._device.dmesg().splitlines()]
        new, self._seen_log = lines[self._seen_log :], len(lines)
        return [line for line in new if "alloc failed" in line]

    def _texts(self) -> list[str] | None:
        try:
            text = self._device.text(self._file)
        except OSError as error:
            assert error.errno == errno.EINVAL
            return None
        return [f"{one}\n\n" for one in text.split("\n\n")[:-1]]

    def rows(self) -> list[Row] | None:
        texts = self._texts()
        return None if texts is None else [parse_text(text, self._base) for text in texts]

    def texts(self) -> list[str] | None:
        return self._texts()

    def total(self) -> int:
        return len(self._texts() or [])

    def longterm(self) -> list[str]:
        return [text.split("\n")[0] for text in self._device.text("longterm_pinner").split("\n\n") if text]


def cut_for_mount(case: Case) -> tuple[Op, ...]:
    """Return the calls of a case up to the last close of a file, for which a scenario has no word."""
    calls = [op["call"] for op in case.ops]
    end = next((at for at, call in enumerate(calls) if call.startswith("(last close")), len(calls))
    return case.ops[:end]


@contextmanager
def _world(case: Case, directory: Path) -> Iterator[MountWorld]:
    plan = Plan(rounds=mm_of(case) == "android14-6.1")
    Scene(case, plan).play()
    base, pages = area_of(case)
    file = "'pages': 'shmem'" in str(case.ops[0])
    tail = "\n".join(laid.tasks(base) for laid in plan.laid)
    text = scenario_of(file=file, second=case.family == "cma2", base=base, pages=pages, cpus=1, tail=tail)
    path = directory / "scene.toml"
    path.write_text(text)
    with mounted(path, kernel=case.generation, mm=mm_of(case)) as device:
        yield MountWorld(case, device)


def play_mounted(case: Case, directory: Path) -> list[Comparison]:
    """Play a scene through a mount."""
    with _world(case, directory) as world:
        return Scene(case, world).play()
