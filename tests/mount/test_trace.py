"""The daemon's log: exceptions, unsupported operations, --verbose and --trace."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import select
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.mount.support import DEADLINE, Mounts, environment, newest_first, outcome, pinnerfs, scenario

# Runs pinnerfs with six methods that raise different exceptions.
BROKEN = """
import sys
from pinnerfs.cli import main
from pinnerfs.debugfs import attributes, page_pinner, tree

def raises(error):
    def raising(*arguments):
        raise error
    return raising

tree.Tree.listing = raises(ValueError("injected into listing"))
tree.Tree.chmod = raises(OSError("injected into chmod, and without an errno"))
tree.Tree.make = raises(SystemExit("injected into make"))
page_pinner.OpenRecords.read = raises(MemoryError("injected into read"))
attributes.OpenNumber.write = raises(KeyboardInterrupt("injected into write"))
tree.Tree.fsync = raises(AssertionError("injected into fsync"))
main()
"""


def test_an_exception_is_logged(mount: Mounts) -> None:
    """An unexpected exception in a handler is EIO, with a traceback in the log. The mount keeps working."""
    device = mount.add("mnt")
    log = mount.directory / "log"
    source, options = str(scenario(mount.directory)), ["--log", str(log), "--clock", "manual"]
    command = [sys.executable, "-c", BROKEN, "mount", source, str(device.path), *options]
    subprocess.run(command, env=environment(), timeout=DEADLINE, check=True)
    mount.watch(device)
    with device.opened(os.O_RDWR, "threshold") as threshold, device.opened() as records:
        calls: dict[str, Callable[[], Any]] = {
            "listing": lambda: os.listdir(device.path),
            "chmod": lambda: device.threshold.chmod(0o600),
            "make": lambda: os.mkfifo(device.path / "new"),
            "read": lambda: os.read(records, 4096),
            "write": lambda: os.write(threshold, b"5"),
            "fsync": lambda: os.fsync(threshold),
        }
        for _ in range(2):
            assert {name: outcome(call) for name, call in calls.items()} == dict.fromkeys(calls, -errno.EIO)
            assert device.threshold.read_text() == "300000\n"
    logged = log.read_text()
    for name in calls:
        assert logged.count(f"injected into {name}") == 2
    assert logged.count("Traceback (most recent call last)") == logged.count(" ERROR ") == 2 * len(calls)
    assert not device.gone(0)


def test_an_unsupported_operation_is_logged_once(mount: Mounts) -> None:
    """An unsupported operation has a debugfs's result, and is logged once. isatty, locks and poll are not logged."""
    device = mount()
    for _ in range(2):
        with device.opened(os.O_RDWR, "threshold") as file:
            assert not os.isatty(file)
            assert outcome(lambda: os.setxattr(device.threshold, "user.x", b"1")) == -errno.EOPNOTSUPP
            assert outcome(lambda: os.removexattr(device.threshold, "user.x")) == -errno.EOPNOTSUPP
            assert outcome(lambda: os.getxattr(device.threshold, "user.x")) == -errno.EOPNOTSUPP
            assert os.listxattr(device.threshold) == []
            assert outcome(lambda: fcntl.ioctl(file, 0x1234, bytes(8))) == -errno.ENOTTY
            assert select.select([file], [file], [], DEADLINE) == ([file], [file], [])
            fcntl.flock(file, fcntl.LOCK_EX)
            fcntl.lockf(file, fcntl.LOCK_EX)
            assert os.access(device.threshold, os.R_OK)
            os.write(file, b"5")
    device.expected += [f"unsupported operation {name}: " for name in ("setxattr", "removexattr")]
    device.expected.append("unsupported operation ioctl 0x1234: ")


def _lines(log: Path, layer: str) -> list[str]:
    return _of_layer(log.read_text(), layer)


def _of_layer(text: str, layer: str) -> list[str]:
    return [line.partition(f" DEBUG {layer}: ")[2] for line in text.splitlines() if f" {layer}: " in line]


def test_a_trace_of_fuse(mount: Mounts) -> None:
    """A trace of fuse has each operation with its arguments and result. Open files have numbers."""
    log = mount.directory / "trace.log"
    device = mount(None, "--trace", "fuse", "--log", str(log))
    device.shell("cat threshold; echo 5 > threshold; echo x > threshold; touch new")
    with device.opened() as file:
        os.read(file, 4096)
    text = log.read_text()  # once: the release of the file is logged at any moment
    lines = _of_layer(text, "fuse")
    for line in (
        r"getattr\('/page_pinner/threshold'\): ino \d+ mode 100644 owner \d+:\d+ size 0",
        r"open\('/page_pinner/threshold', \d+\): file \d",
        r"file \d.read\(131072\): b'300000\\n'",
        r"file \d.release\(\): done",
        r"file \d.write\(b'5\\n'\): done",
        r"file \d.write\(b'x\\n'\): EINVAL",
        r"create\('/page_pinner/new', 33188\): EACCES",
    ):
        assert any(re.fullmatch(line, found) for found in lines), line
    assert text.count("\n") == len(lines)


def test_the_requests_of_a_shell_that_writes(mount: Mounts) -> None:
    """`echo 5 > threshold` needs four requests once the kernel knows the file: no lookup, no look at attributes."""
    log = mount.directory / "trace.log"
    device = mount(None, "--trace", "fuse", "--log", str(log))
    for _ in range(2):
        before = len(_lines(log, "fuse"))
        file = os.open(device.threshold, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.write(file, b"5\n")
        os.close(file)
        device.path.stat()
    # The release is logged at any moment.
    lines = [line for line in _lines(log, "fuse")[before:] if "release()" not in line]
    operations = [re.sub(r"file \d+\.", "", line).partition("(")[0] for line in lines]
    assert operations == ["open", "truncate", "write"], lines


def test_a_trace_of_engine_and_scenario(mount: Mounts) -> None:
    """A trace has the scenario's events and the engine's results. --verbose logs commands and refusals."""
    log = mount.directory / "trace.log"
    device = mount(None, "--trace", "engine,scenario", "--verbose", "--log", str(log), "--start", "1s")
    device.advance("2s")
    device.threshold.write_text("7\n")
    descriptor = os.open(device.path / ".pinnerfs" / "advance", os.O_WRONLY)
    with pytest.raises(OSError, match="Invalid argument"):
        os.write(descriptor, b"soon")
    os.close(descriptor)
    (device.path / ".pinnerfs" / "do").write_text("pin task=driver")
    assert device.read_all() == []
    assert pinnerfs("umount", device.path).returncode == 0
    scenarios, engine = _lines(log, "scenario"), _lines(log, "engine")
    # Pins at 0, 1, 2 and 3 s, each held for 400 ms, and a live pin.
    assert sum(int(count) for count in re.findall(r"(\d+) get_user_pages", "\n".join(scenarios))) == 5
    assert sum(int(count) for count in re.findall(r"(\d+) put_user_page", "\n".join(scenarios))) == 3
    assert sum(int(count) for count in re.findall(r"(\d+) longterm_records", "\n".join(engine))) == 3
    assert engine[-1].startswith("up to 3000000 us: 1 pins, 0 releases, 0 longterm_records, in ")
    logged = [line.partition(" INFO ")[2] for line in log.read_text().splitlines() if " INFO " in line]
    assert logged == [
        f"mounting on {device.path} (pid {device.pid})",
        "clock advanced by 2s",
        "threshold set to 7 us: all records of longterm_pinner cleared",
        "refused: advance = 'soon' must be a number and a unit (us, ms, s, min, h), such as '300ms'",
        "actions done: 'pin task=driver'",
        f"unmounted from {device.path}",
    ]


def test_a_trace_changes_no_result(mount: Mounts) -> None:
    """A trace does not change any result."""
    device = mount(None, "--trace", "fuse:engine,scenario", "--verbose", "--log", str(mount.directory / "trace.log"))
    device.advance("3s")
    assert device.read_all() == newest_first(3)
    with device.opened() as file:
        assert outcome(lambda: os.read(file, 100)) == -errno.ENOMEM
        assert os.read(file, 4096) == newest_first(3)[0]
        assert os.fstat(file).st_mode & 0o777 == 0o444
        assert outcome(lambda: os.fsync(file)) == -errno.EINVAL
    assert sorted(os.listdir(device.path / "page_pinner")) == ["longterm_pinner", "threshold"]


def test_a_trace_of_run(tmp_path: Path) -> None:
    """`run` accepts --trace."""
    (tmp_path / "mnt").mkdir()
    options = ("--mountpoint", tmp_path / "mnt", "--trace", "fuse", "--log", tmp_path / "log")
    done = pinnerfs("run", scenario(tmp_path), *options, "--", "cat", tmp_path / "mnt" / "page_pinner" / "threshold")
    assert (done.returncode, done.stdout, done.stderr) == (0, "300000\n", "")
    assert "file 1.read(131072): b'300000\\n'" in _lines(tmp_path / "log", "fuse")
