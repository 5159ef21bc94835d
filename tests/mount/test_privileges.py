"""The daemon keeps only the capabilities that it needs to unmount, and no inherited files."""

from __future__ import annotations

import fcntl
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from pinnerfs.daemon import privileges
from pinnerfs.errors import PinnerfsError
from tests.mount.support import DEADLINE, ORDINARY, Mounts, environment, is_mounted, pinnerfs, scenario

TO_UNMOUNT = 1 << privileges.CAP_SYS_ADMIN | 1 << privileges.CAP_DAC_READ_SEARCH
TO_KILL = 1 << privileges.CAP_KILL


def _states(pid: int) -> list[dict[str, str]]:
    """Return /proc/PID/status of each thread as a dictionary."""
    files = [directory / "status" for directory in Path(f"/proc/{pid}/task").iterdir()]
    return [
        {name: value.strip() for name, _, value in (line.partition(":") for line in file.read_text().splitlines())}
        for file in files
    ]


def test_capabilities_of_the_daemon(mount: Mounts) -> None:
    """Each thread has only two capabilities and no groups, and cannot gain privileges."""
    if os.geteuid() != 0:
        pytest.skip("only root has capabilities")
    device = mount.add("mnt")
    command = [sys.executable, "-m", "pinnerfs", "mount", str(scenario(mount.directory)), str(device.path)]
    subprocess.run(
        ["setpriv", "--groups", "4,20", *command], env=environment(), timeout=DEADLINE, check=True, cwd=mount.directory
    )
    mount.watch(device)
    states = _states(device.pid)
    assert len(states) >= 2
    for state in states:
        assert int(state["CapEff"], 16) == int(state["CapPrm"], 16) == TO_UNMOUNT
        assert int(state["CapInh"], 16) == int(state["CapAmb"], 16) == 0
        assert (state["NoNewPrivs"], state["Groups"]) == ("1", "")
    assert os.readlink(f"/proc/{device.pid}/cwd") == "/"


def test_it_unmounts_in_another_users_directory(mount: Mounts) -> None:
    """On SIGTERM, root's daemon unmounts even in a directory that only another user can enter."""
    if os.geteuid() != 0:
        pytest.skip("only root can change owners")
    home = mount.directory / "home"
    home.mkdir()
    device = mount(name="home/mnt")
    os.chown(home, ORDINARY, ORDINARY)
    home.chmod(0o700)
    os.kill(device.pid, signal.SIGTERM)
    assert device.gone()
    assert not is_mounted(device.path)


def test_the_daemon_of_run(tmp_path: Path) -> None:
    """The daemon of `run` also keeps CAP_KILL, as its command may change its user. The command is not restricted."""
    if os.geteuid() != 0:
        pytest.skip("only root has capabilities")
    (tmp_path / "mnt").mkdir()
    script = (
        "cat /proc/$(cat mnt/.pinnerfs/pid)/task/*/status | grep -E 'Cap(Eff|Prm)|NoNew'; grep NoNew /proc/$$/status"
    )
    done = pinnerfs("run", scenario(tmp_path), "--mountpoint", tmp_path / "mnt", "--", "sh", "-c", script, cwd=tmp_path)
    *lines, of_command = done.stdout.splitlines()
    found = sorted({line.replace("\t", " ") for line in lines})
    two, three = f"{TO_UNMOUNT:016x}", f"{TO_UNMOUNT | TO_KILL:016x}"
    assert found == [*sorted(f"Cap{kind}: {mask}" for kind in ("Eff", "Prm") for mask in (two, three)), "NoNewPrivs: 1"]
    assert len(lines) >= 3 * 3  # at least three threads: FUSE requests, events, and the end of the command
    assert of_command == "NoNewPrivs:\t0"


def test_inherited_descriptors_are_closed(mount: Mounts) -> None:
    """The daemon closes inherited descriptors, such as a lock file and a pipe of the caller."""
    device = mount.add("mnt")
    lock = os.open(mount.directory / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    reader, writer = os.pipe()
    done = pinnerfs("mount", scenario(mount.directory), device.path, pass_fds=(lock, writer))
    assert (done.returncode, done.stderr) == (0, "")
    mount.watch(device)
    os.close(writer)
    os.close(lock)
    assert os.read(reader, 1) == b""
    os.close(reader)
    with open(mount.directory / "lock") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_privileges_that_cannot_be_dropped(monkeypatch: pytest.MonkeyPatch) -> None:
    """If privileges cannot be dropped, that is an error."""
    if os.geteuid() != 0:
        pytest.skip("only root has capabilities")

    class Refusing:
        @staticmethod
        def prctl(*_: int) -> int:
            return -1

    monkeypatch.setattr(privileges, "_libc", Refusing)
    monkeypatch.setattr(os, "setgroups", lambda groups: None)
    with pytest.raises(PinnerfsError, match="cannot drop privileges: "):
        privileges.keep_capabilities()
