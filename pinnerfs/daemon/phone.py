"""What `run --android` changes in the mounts and the PATH of its command, so that a phone's scripts run unchanged.

Whatever this machine cannot have is reported, and the command runs without it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

from pinnerfs.debugfs import CONTROL_DIRECTORY
from pinnerfs.debugfs.android import PIXEL_STAT, VMSTAT
from pinnerfs.mounts.mirror import Additions, add_to_root
from pinnerfs.mounts.namespace import bind

__all__ = ["Phone"]

PROGRAMS = "/system/bin"
TOYBOX_TIMEOUT = 10  # seconds

# By the name in .pinnerfs/: where a phone has it.
PLACES = {
    "cma": "/sys/kernel/mm/cma",
    PIXEL_STAT: "/sys/kernel/pixel_stat/mm/cma",
    VMSTAT: "/proc/vmstat",
}


class Phone:
    """The phone that a command sees. Create it before the command's process, which calls the two methods.

    `report` gets a line for each thing that this machine cannot have.
    """

    def __init__(self, report: Callable[[str], None]) -> None:
        self._report = report
        self._programs = self._find_programs()

    def _find_programs(self) -> dict[str, str]:
        """Return the links of /system/bin: toybox under each of its names, and mksh as sh."""
        programs = {}
        if (toybox := self._find("toybox", "no commands of toybox")) is not None:
            programs = {"toybox": toybox, **dict.fromkeys(self._commands(toybox), toybox)}
        if (mksh := self._find("mksh", f"no {PROGRAMS}/sh")) is not None:
            programs |= {"mksh": mksh, "sh": mksh}
        return programs

    def _find(self, program: str, without: str) -> str | None:
        path = shutil.which(program)
        if path is None:
            self._report(f"--android: {without}: cannot find {program} in PATH (Debian and Ubuntu: install {program})")
            return None
        return os.path.abspath(path)

    def _commands(self, toybox: str) -> list[str]:
        """Return the commands that a toybox lists."""
        try:
            done = subprocess.run(
                [toybox], stdin=subprocess.DEVNULL, capture_output=True, timeout=TOYBOX_TIMEOUT, check=True
            )
        except (OSError, subprocess.SubprocessError) as error:
            self._report(f"--android: no commands of toybox: cannot list them: {error}")
            return []
        return [name for name in os.fsdecode(done.stdout).split() if "/" not in name]

    def prepare(self, mountpoint: str) -> None:
        """Give this process the root directory of a phone, with /d for the mount point. Before the mount."""
        additions: Additions = {
            "d": os.path.abspath(mountpoint),
            "sys": {"kernel": {"mm": {"cma": {}}, "pixel_stat": {"mm": {"cma": {}}}}},
            **({"system": {"bin": self._programs}, "vendor": {"bin": PROGRAMS}} if self._programs else {}),
        }
        try:
            add_to_root(additions)
        except OSError as error:
            missing = f"no /d, no {PROGRAMS}, no /sys/kernel/pixel_stat"
            self._report(f"--android: {missing}: cannot make a private root directory: {error.strerror}")
        else:
            if self._programs:
                os.environ["PATH"] = f"{PROGRAMS}:{os.environ.get('PATH', os.defpath)}"

    def show(self, mountpoint: str) -> None:
        """Show the files of sysfs and procfs where a phone has them. After the mount."""
        for name, place in PLACES.items():
            try:
                bind(os.path.join(mountpoint, CONTROL_DIRECTORY, name), place)
            except OSError as error:
                self._report(f"--android: no {place} of the fake device: {error.strerror}")
