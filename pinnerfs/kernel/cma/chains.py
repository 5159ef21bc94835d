"""The call chains of an allocation's records, as handles of the depot."""

from __future__ import annotations

from enum import IntEnum

from pinnerfs.kernel.cma.mm import Mm
from pinnerfs.kernel.page_pinner.generations import Generation
from pinnerfs.kernel.stacks import StackDepot, full_frame

__all__ = ["Chains", "Site"]


class Site(IntEnum):
    """A place in the kernel that leaves a record, by its name in `Frames`."""

    drain = 0
    look = 1
    unmap_file = 2
    unmap_anon = 3
    moved = 4
    freed = 5
    dropped = 6
    mark = 7
    putback = 8
    overflow = 9
    busy = 10


class Chains:
    """The call chains around the frames that a caller of cma_alloc has, on so many processors."""

    def __init__(self, mm: Mm, generation: Generation, depot: StackDepot, cpus: int) -> None:
        self._mm, self._generation, self._depot, self._alone = mm, generation, depot, cpus == 1
        self._writer = (*mm.frames.write, *(frame.format("write") for frame in generation.tail))
        self._handles: dict[tuple[Site, tuple[str, ...]], int] = {}

    def handle(self, site: Site, caller: tuple[str, ...]) -> int:
        """Return the handle of a record's chain. `caller` has the frames outside of cma_alloc; () is debugfs."""
        key = site, caller
        if key not in self._handles:
            self._handles[key] = self._save(self._frames(site, caller))
        return self._handles[key]

    def _frames(self, site: Site, caller: tuple[str, ...]) -> tuple[str, ...]:
        frames = self._mm.frames
        if site == Site.drain and not self._alone:
            return frames.drain
        inner = frames.drain_alone if site == Site.drain else getattr(frames, site.name)
        return (*self._head(site), *inner, self._mm.log_name, *(caller or self._writer))

    def exit_drain(self, exits: bool) -> int:
        """Return the handle of a drain of the LRU batch by munmap, or by the end of a process."""
        generation = self._generation
        frames, call = (generation.exit, "exit_group") if exits else (generation.unmap, "munmap")
        outer = frames[frames.index("tlb_finish_mmu") + 1 :]
        tail = (frame.format(call) for frame in generation.tail)
        return self._save((*self._mm.frames.munmap_drain, *outer, *tail))

    def _head(self, site: Site) -> tuple[str, ...]:
        if site == Site.mark:
            return self._generation.mark_head
        return self._generation.free_head if site in (Site.freed, Site.dropped) else ()

    def _save(self, frames: tuple[str, ...]) -> int:
        return self._depot.save([full_frame(frame) for frame in frames])
