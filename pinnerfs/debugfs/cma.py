"""The directory `cma/`, with one directory for each CMA area. Imitates mm/cma_debug.c."""

from __future__ import annotations

import errno
import logging
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from pinnerfs.debugfs.attributes import number_file, text_file
from pinnerfs.debugfs.declaration import Directory, File, Later
from pinnerfs.kernel.attribute import to_signed_32
from pinnerfs.words import count_of

if TYPE_CHECKING:  # these import numpy, which a client of the control files does not need
    from pinnerfs.debugfs.device import Device
    from pinnerfs.kernel.cma.allocation import Allocation
    from pinnerfs.kernel.cma.areas import Area

__all__ = ["SYSFS_SIZE", "cma_directory", "counters_directory"]

# An allocation that finds busy pages makes further rounds. Between two looks at it, other requests are answered.
SHORTEST_WAIT = 0.001  # seconds
ADVANCE_TIMEOUT = 0.05  # seconds of work on events, while a manual clock advances to the next round

SYSFS_SIZE = 4096  # what stat shows for an attribute in sysfs
COUNTERS = ("alloc_pages_success", "alloc_pages_fail")

log = logging.getLogger(__name__)


def cma_directory(device: Device) -> Directory:
    """Declare `cma/`. It is there without areas, too.

    The areas are created from the highest address to the lowest, as a kernel allocates them. So a listing, which begins
    with the newest, has the order of the scenario.
    """
    directories = reversed(device.cma_directories.items())
    return Directory("cma", 0o755, [_area_directory(device, directory, area) for directory, area in directories])


def _area_directory(device: Device, directory: str, name: str) -> Directory:
    """Declare the files of an area, in the order in which cma_debugfs_add_one() creates them."""

    def reader(get: Callable[[Area], int]) -> Callable[[], int]:
        def number() -> int:
            with device.up_to_now() as simulation:
                return get(simulation.areas[name])

        return number

    def bitmap() -> str:
        with device.up_to_now() as simulation:
            return " ".join(map(str, simulation.areas[name].words())) + "\n"

    def free(value: int) -> None:
        with device.up_to_now() as simulation:
            simulation.free_kept(name, to_signed_32(value))
        log.info("cma/%s/free: %d pages, or all if negative", directory, to_signed_32(value))

    return Directory(
        directory,
        0o755,
        [
            number_file("alloc", put=partial(_allocate, device, name))._replace(waits=True),
            number_file("free", put=free),
            number_file("base_pfn", reader(lambda area: area.base_pfn)),
            number_file("count", reader(lambda area: area.pages)),
            number_file("order_per_bit", reader(lambda area: area.order_per_bit)),
            number_file("used", reader(lambda area: area.used)),
            number_file("maxchunk", reader(lambda area: area.maxchunk)),
            text_file("bitmap", bitmap),
        ],
    )


def _allocate(device: Device, name: str, value: int) -> None:
    """Allocate pages that `free` can give back: imitates cma_alloc_write().

    OSError ENOMEM if the allocation fails, for any reason. Later while it waits for its next round. A signal ends the
    wait, and the allocation fails then.
    """
    allocation = device.start_alloc(name, to_signed_32(value))
    _answer(device, allocation)


def _answer(device: Device, allocation: Allocation) -> None:
    def give_up() -> None:
        with device.up_to_now() as simulation:
            simulation.give_up_alloc(allocation)

    try:
        wait = _wait(device, allocation)
    except OSError:
        give_up()
        raise
    if wait is not None:
        raise Later(wait, partial(_answer, device, allocation), give_up)
    pages, name = count_of(allocation.pages, "page"), allocation.area.name
    if allocation.state == "failed":
        log.info("allocation of %s from CMA area %s failed", pages, name)
        raise OSError(errno.ENOMEM, "the allocation failed")
    log.info("allocated %s from CMA area %s, from PFN %d on", pages, name, allocation.first_pfn)


def _wait(device: Device, allocation: Allocation) -> float | None:
    """Return after how many seconds to look at an allocation again, or None if it has ended.

    A manual clock advances to the next round.
    """
    with device.up_to_now() as simulation:
        due, now = allocation.next_round, simulation.now
    if due is None:
        return None
    wait = device.clock.wait_for(due)
    if wait is not None:
        return max(wait, SHORTEST_WAIT)
    device.advance(due - now, ADVANCE_TIMEOUT)
    return 0.0


def counters_directory(device: Device) -> Directory:
    """Declare the files of /sys/kernel/mm/cma: the pages asked for, by area and outcome. Imitates mm/cma_sysfs.c."""

    def count(area: str, counter: str) -> int:
        with device.up_to_now() as simulation:
            return simulation.cma_counters(area)[counter]

    def files(area: str) -> list[File]:
        declared = [number_file(counter, partial(count, area, counter)) for counter in COUNTERS]
        return [file._replace(size=SYSFS_SIZE) for file in declared]

    return Directory("cma", 0o755, [Directory(area, 0o755, files(area)) for area in device.areas])
