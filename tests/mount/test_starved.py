"""Too few descriptors or processes, and no /proc: each command says what it lacks, in one line."""

from __future__ import annotations

import os
import re
import resource
import sys
import tempfile
from collections.abc import Callable, Iterator
from itertools import product
from pathlib import Path

import pytest

from tests.mount.support import AS_USER, Mounts, pinnerfs, run_command, scenario

USER = 54321  # without any other process
ALONE = 54322  # the same


def _limit(name: int, value: int) -> Callable[[], None]:
    return lambda: resource.setrlimit(name, (value, value))


@pytest.fixture
def users_directory() -> Iterator[Path]:
    """Create a directory that every user can enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    with tempfile.TemporaryDirectory(prefix="pinnerfs-test-", dir="/tmp") as name:
        Path(name).chmod(0o755)
        yield Path(name)


@pytest.fixture(scope="module")
def interpreter() -> int:
    """Return the address space that Python takes by itself, in bytes."""
    done = run_command([sys.executable, "-c", "print(open('/proc/self/status').read())"])
    return int(re.search(r"^VmPeak:\s+(\d+) kB$", done.stdout, re.MULTILINE)[1]) << 10  # type: ignore[index]


@pytest.mark.parametrize("files", [8, 9, 10, 12, 16, 20])
@pytest.mark.parametrize("command", ["mount", "run"])
def test_few_descriptors(mount: Mounts, command: str, files: int) -> None:
    """mount and run say that they cannot open enough files, and mount nothing."""
    device = mount.add("mnt")
    arguments: dict[str, list[str | Path]] = {
        "mount": ["mount", scenario(mount.directory), device.path],
        "run": ["run", scenario(mount.directory), "--mountpoint", device.path, "--", "true"],
    }
    done = pinnerfs(*arguments[command], preexec_fn=_limit(resource.RLIMIT_NOFILE, files))
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert done.stderr.endswith("Too many open files; wanted room for more open files (ulimit -n)\n")
    assert list(device.path.iterdir()) == []


def test_just_enough_descriptors(mount: Mounts) -> None:
    """32 descriptors are enough for mount, ctl and umount."""
    device = mount.add("mnt")
    limit = _limit(resource.RLIMIT_NOFILE, 32)
    done = pinnerfs("mount", scenario(mount.directory), device.path, "--clock", "manual", preexec_fn=limit)
    assert (done.returncode, done.stderr) == (0, "")
    mount.watch(device)
    assert pinnerfs("ctl", device.path, "clock", preexec_fn=limit).stdout == "0\n"
    assert pinnerfs("umount", device.path, preexec_fn=limit).returncode == 0
    assert device.gone()


# In MiB, beside the interpreter: too little for Python's own libraries, for numpy, for its OpenBLAS, for the scenario.
@pytest.mark.parametrize("memory", [6, 10, 30, 50, 70, 90, 110])
@pytest.mark.parametrize("command", ["mount", "mount helper", "run", "dump", "check", "umount", "ctl"])
def test_little_memory(mount: Mounts, interpreter: int, command: str, memory: int) -> None:
    """A command whose process may have too little memory says so in one line."""
    source, point = str(scenario(mount.directory)), str(mount.directory)
    arguments = {
        "mount": ["mount", source, point],
        "mount helper": [source, point, "-o", "clock=manual"],
        "run": ["run", source, "--mountpoint", point, "--", "true"],
        "dump": ["dump", source, "--at", "1s"],
        "check": ["check", "threshold-edges", "--expect"],
        "umount": ["umount", point],
        "ctl": ["ctl", point, "clock"],
    }
    done = pinnerfs(*arguments[command], preexec_fn=_limit(resource.RLIMIT_AS, interpreter + (memory << 20)))
    assert (done.returncode == 0) == (done.stderr == "")
    if done.returncode:
        assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    elif command.startswith("mount"):
        assert pinnerfs("umount", point).returncode == 0
    if memory <= 50 and command not in ("umount", "ctl"):
        assert done.stderr == "Error: out of memory; wanted a higher limit on this process (ulimit -v)\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_single_process() -> None:
    """dump works for a user who may have no second process or thread."""
    limit = _limit(resource.RLIMIT_NPROC, 1)
    # The user may have no access to the directories of Python and of the checkout: keep root's right to read them.
    read_all = ["--inh-caps", "+dac_read_search", "--ambient-caps", "+dac_read_search"]
    as_user = ["setpriv", "--reuid", str(ALONE), "--regid", str(ALONE), "--clear-groups", *read_all]
    done = run_command(
        [*as_user, sys.executable, "-m", "pinnerfs", "dump", "camera-stall", "--at", "1s"], preexec_fn=limit
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# A /dev/fuse for every user, in a mount namespace.
OPEN_FUSE = """
cd "$1"
shift
mkdir dev
mount -t tmpfs none dev
mknod -m 666 dev/fuse c 10 229
mount --bind dev/fuse /dev/fuse
"$@"
status=$?
umount -l mnt 2>/dev/null
exit $status
"""


@pytest.mark.parametrize(
    ("command", "processes"),
    [*product(["mount", "run"], range(1, 8)), *product(["umount", "ctl"], range(1, 4))],
)
def test_few_processes(users_directory: Path, command: str, processes: int) -> None:
    """A command that cannot start a process or a thread says so, without a traceback."""
    point = users_directory / "mnt"
    point.mkdir()
    os.chown(point, USER, USER)
    source = str(scenario(users_directory))
    arguments = {
        "mount": ["mount", source, str(point)],
        "run": ["run", source, "--mountpoint", str(point), "--", "true"],
        "umount": ["umount", str(point)],
        "ctl": ["ctl", str(point), "clock"],
    }
    outside = ["unshare", "-m", "--propagation", "private", "sh", "-c", OPEN_FUSE, "sh", str(users_directory)]
    # Root's own processes are not limited.
    limit = _limit(resource.RLIMIT_NPROC, processes)
    done = run_command([*outside, *AS_USER, str(USER), *arguments[command]], preexec_fn=limit)
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    if processes < 2 and command != "umount":  # it starts no process where nothing is mounted
        assert (done.returncode, done.stderr) == (
            1,
            "Error: Resource temporarily unavailable; wanted room for more processes of this user (ulimit -u)\n",
        )
    elif done.returncode:
        assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can unmount /proc")
@pytest.mark.parametrize("command", ["mount", "run", "dump", "check", "show", "list", "umount", "ctl"])
def test_without_proc(tmp_path: Path, command: str) -> None:
    """Without /proc each command says that it wants it."""
    source, point = str(scenario(tmp_path)), str(tmp_path)
    arguments = {
        "mount": ["mount", source, point],
        "run": ["run", source, "--mountpoint", point, "--", "true"],
        "dump": ["dump", source, "--at", "1s"],
        "check": ["check", source],
        "show": ["show", source],
        "list": ["list"],
        "umount": ["umount", point],
        "ctl": ["ctl", point, "clock"],
    }
    outside = ["unshare", "-m", "--propagation", "private", "sh", "-c", 'umount -l /proc && exec "$@"', "sh"]
    done = run_command([*outside, sys.executable, "-m", "pinnerfs", *arguments[command]])
    assert (done.returncode in (1, 2), done.stdout) == (True, "")
    assert done.stderr.startswith("Error: ") and done.stderr.count("\n") == 1
    assert "wanted /proc to be mounted" in done.stderr
