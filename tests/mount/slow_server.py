"""Serve files whose answers come late: `python -m tests.mount.slow_server MOUNTPOINT`.

Writes to stdout, one word a line: `ready`, then each operation of a slow file when it begins to wait, and `answered`
with its end. A slow file answers when the file `go` has been written, and looks every ms.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from typing import Any

from pinnerfs.debugfs.attributes import command_file, number_file, text_file
from pinnerfs.debugfs.declaration import Directory, File, Later, OpenFile
from pinnerfs.debugfs.inject import Faults
from pinnerfs.debugfs.tree import Tree
from pinnerfs.fuse.libfuse import mount_by_path
from pinnerfs.fuse.operations import serve
from pinnerfs.mounts.attach import attach
from pinnerfs.mounts.claim import claim

BUSY = 0.5  # seconds


def main() -> None:
    """Serve until the unmount."""
    going = threading.Event()

    def wait(what: str, answer: Callable[[], Any]) -> Any:
        print(what, flush=True)

        def look() -> Any:
            if not going.is_set():
                raise Later(0.001, look)
            print("answered", what, flush=True)
            return answer()

        raise Later(0.001, look)

    class Slow:
        def __init__(self) -> None:
            self._left = b"slow\n"

        def _take(self) -> bytes:
            part, self._left = self._left, b""
            return part

        def read(self, size: int) -> bytes:
            part: bytes = wait("read", self._take)
            return part

        def write(self, data: bytes) -> None:
            wait("write", lambda: None)

    def open_slowly() -> OpenFile:
        file: OpenFile = wait("open", Slow)
        return file

    def late_error() -> OpenFile:
        def fail() -> Any:
            raise OSError(5, "late")

        raise Later(0.001, fail)

    def busy() -> int:
        print("busy", flush=True)
        time.sleep(BUSY)
        return 1

    files = [
        File("slow", 0o666, Slow),
        File("slow_open", 0o444, open_slowly),
        File("late_error", 0o444, late_error),
        text_file("fast", lambda: "fast\n"),
        number_file("busy", busy),
        command_file("go", lambda data: going.set()),
    ]
    tree = Tree(Directory("", 0o755, files), os.geteuid(), os.getegid())
    place = claim(sys.argv[1])
    connection, _ = attach(place.descriptor, place.name, allow_other=False, mount_by_path=mount_by_path)
    no_faults = Faults((), 0, (), lambda: 0)
    serve(tree, no_faults, connection, os.open("/proc", os.O_PATH), lambda: print("ready", flush=True))


if __name__ == "__main__":
    main()
