"""The root directory of the fake debugfs."""

from __future__ import annotations

from collections.abc import Mapping

from pinnerfs.debugfs.android import dma_buf_directory, phone_files
from pinnerfs.debugfs.cma import cma_directory
from pinnerfs.debugfs.control import Control
from pinnerfs.debugfs.declaration import Directory
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.page_pinner import page_pinner_directory
from pinnerfs.debugfs.static import static_entries
from pinnerfs.kernel.page_pinner.generations import Generation

__all__ = ["root_directory"]


def root_directory(
    device: Device, generation: Generation, *, android: bool = False, files: Mapping[str, bytes] | None = None
) -> Directory:
    """Declare all that a device's debugfs contains; with `android` also what `run --android` shows.

    files: the other files of a replay, by path. They replace the directories of the same names; those of page_pinner/
    stand beside its own. The order is that in which a kernel's initcalls create it.
    """
    page_pinner = page_pinner_directory(device, generation)
    static = []
    for entry in static_entries(files or {}):
        if isinstance(entry, Directory) and entry.name == page_pinner.name:
            page_pinner = page_pinner._replace(entries=[*page_pinner.entries, *entry.entries])
        else:
            static.append(entry)
    control = Control(device).directory(phone_files(device) if android else ())
    own = [
        *([dma_buf_directory(device.mm)] if android else []),
        page_pinner,
        cma_directory(device),
        control,
    ]
    names = {entry.name for entry in static}
    return Directory("", 0o700, [*static, *(directory for directory in own if directory.name not in names)])
