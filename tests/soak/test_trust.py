"""Who may do what, under attack: a path that becomes something else while root looks at it."""

from __future__ import annotations

import os
import signal
import threading
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pinnerfs
from tests.mount.support import DEADLINE, scenario


def test_a_path_that_changes_under_the_reader(
    tmp_path: Path, amount: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """A file that becomes a device, a directory or a link to nowhere is read or refused, and its reader never waits."""
    good = scenario(tmp_path)
    path = tmp_path / "turning.toml"
    (tmp_path / "directory").mkdir()
    shapes = (good, Path("/dev/zero"), tmp_path / "directory", Path("nowhere"))
    found, missing = good.stem, "No such file or directory"
    device, directory = (f"it is {kind}, not a regular file or a pipe" for kind in ("a device", "a directory"))
    outcomes = {found, missing, device, directory}
    each, seen = amount(50, 5000), Counter[str]()

    def turn() -> None:
        while True:
            for shape in shapes:
                (tmp_path / "next").symlink_to(shape)
                (tmp_path / "next").replace(path)

    def read() -> None:
        while min(seen[outcome] for outcome in outcomes) < each:
            try:
                seen[pinnerfs.load(path).name] += 1
            except pinnerfs.PinnerfsError as error:
                seen[str(error).rpartition(": ")[2]] += 1

    path.symlink_to(good)
    # A process: a thread would turn only when the reader lets it.
    turner = os.fork()
    if turner == 0:
        try:
            turn()
        finally:
            os._exit(1)
    reader = threading.Thread(target=read, daemon=True)
    try:
        reader.start()
        reader.join(amount(DEADLINE, 20 * DEADLINE))
    finally:
        os.kill(turner, signal.SIGKILL)
        os.waitpid(turner, 0)
    assert not reader.is_alive(), f"the reader still waits after {seen}"
    tell(f"{seen.total()} reads, of which {seen[found]} found the scenario and none waited")
    assert set(seen) == outcomes
