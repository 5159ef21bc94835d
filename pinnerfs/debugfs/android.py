"""What a phone has beside page_pinner: dma-buf's debugfs, and files of sysfs and procfs that `run --android` shows."""

from __future__ import annotations

import errno
import logging
import os
import re
from functools import partial
from typing import Literal

from pinnerfs.debugfs.attributes import number_file, text_file
from pinnerfs.debugfs.cma import SYSFS_SIZE
from pinnerfs.debugfs.declaration import Directory, File
from pinnerfs.debugfs.device import Device
from pinnerfs.kernel.cma.mm import Mm
from pinnerfs.kernel.cma.pixel import PixelStat

__all__ = ["PIXEL_STAT", "VMSTAT", "dma_buf_directory", "phone_files"]

PIXEL_STAT = "pixel_stat"  # the directory in .pinnerfs/ that a phone has as /sys/kernel/pixel_stat/mm/cma
VMSTAT = "proc_vmstat"  # the file in .pinnerfs/ that a phone has as /proc/vmstat

log = logging.getLogger(__name__)


def dma_buf_directory(mm: Mm) -> Directory:
    """Declare `dma_buf/` of a kernel without DMA buffers: imitates dma_buf_debug_show()."""
    titles = [*(f"{title:8}" for title in ("size", "flags", "mode", "count")), "exp_name", f"{'ino':8}"]
    if mm.dma_buf_name:
        titles.append("name")
    text = "\nDma-buf Objects:\n" + "\t".join(titles) + "\n\nTotal 0 objects, 0 bytes\n"
    return Directory("dma_buf", 0o755, [text_file("bufinfo", lambda: text)])


def phone_files(device: Device) -> list[File | Directory]:
    """Declare what `run --android` shows outside of the debugfs. Before the mount, which may cover /proc/vmstat."""
    entries: list[File | Directory] = [_pixel_stat(device)]
    try:
        machine = os.open("/proc/vmstat", os.O_RDONLY)
    except OSError as error:
        log.warning("cannot open /proc/vmstat: %s: the command sees no counters of CMA there", error.strerror)
    else:
        entries.append(text_file(VMSTAT, partial(_vmstat, device, machine)))
    return entries


def _vmstat(device: Device, machine: int) -> str:
    """Return the machine's /proc/vmstat with the lines of CMA replaced, or added where a kernel has them."""
    with device.up_to_now() as simulation:
        lines = "".join(f"{name} {value}\n" for name, value in simulation.vmstat().items())
    others = re.sub(r"^cma_alloc_(?:success|fail) .*\n", "", _whole(machine), flags=re.MULTILINE)
    # The kernel prints them before the counters of unevictable pages.
    before, found, behind = others.partition("unevictable_pgs_culled ")
    return before + lines + found + behind


def _whole(descriptor: int) -> str:
    """Return the present text of a file of procfs."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    return b"".join(iter(partial(os.read, descriptor, 1 << 16), b"")).decode()


def _pixel_stat(device: Device) -> Directory:
    """Declare the counters of a Pixel, by area, in the order of its driver's list."""
    with device.up_to_now() as simulation:
        areas = list(simulation.areas.values())
    return Directory(PIXEL_STAT, 0o755, [Directory(area.name, 0o755, _counters(device, area.stat)) for area in areas])


def _counters(device: Device, stat: PixelStat) -> list[File]:
    def get(counter: str) -> int:
        with device.up_to_now():
            return stat.counters[counter]

    def bound_file(level: Literal["low", "mid"]) -> File:
        def put(data: bytes) -> None:
            try:
                with device.up_to_now():
                    stat.set_bound(level, data)
            except ValueError as error:
                raise OSError(errno.EINVAL, str(error)) from None

        return text_file(f"latency_{level}_bound", lambda: f"{stat.bounds[level]}\n", 0o644, put)

    files = [number_file(name, partial(get, name)) for name in stat.counters]
    files[3:3] = [bound_file("mid"), bound_file("low")]
    return [file._replace(size=SYSFS_SIZE) for file in files]
