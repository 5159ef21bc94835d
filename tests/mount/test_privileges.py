"""What a daemon keeps of root's powers, and of what was open where it was started: what it takes to unmount."""

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
    """What /proc tells of each thread of a process."""
    files = [folder / "status" for folder in Path(f"/proc/{pid}/task").iterdir()]
    return [
        {name: value.strip() for name, _, value in (line.partition(":") for line in file.read_text().splitlines())}
        for file in files
    ]


def test_root_keeps_what_it_takes_to_unmount(mount: Mounts) -> None:
    """Of root's capabilities two are left in every thread, for good; the groups are gone."""
    if os.geteuid() != 0:
        pytest.skip("only root has any")
    device = mount.add("mnt")
    command = [sys.executable, "-m", "pinnerfs", "mount", str(scenario(mount.folder)), str(device.path)]
    subprocess.run(
        ["setpriv", "--groups", "4,20", *command], env=environment(), timeout=DEADLINE, check=True, cwd=mount.folder
    )
    mount.watch(device)
    states = _states(device.pid)
    assert len(states) >= 2
    for state in states:
        assert int(state["CapEff"], 16) == int(state["CapPrm"], 16) == TO_UNMOUNT
        assert int(state["CapInh"], 16) == int(state["CapAmb"], 16) == 0
        assert (state["NoNewPrivs"], state["Groups"]) == ("1", "")
    assert os.readlink(f"/proc/{device.pid}/cwd") == "/"


def test_it_unmounts_in_another_users_folder(mount: Mounts) -> None:
    """Asked to end by a signal, root's daemon takes down its mount where only another user may look."""
    if os.geteuid() != 0:
        pytest.skip("only root can")
    home = mount.folder / "home"
    home.mkdir()
    device = mount(name="home/mnt")
    os.chown(home, ORDINARY, ORDINARY)
    home.chmod(0o700)
    os.kill(device.pid, signal.SIGTERM)
    assert device.gone()
    assert not is_mounted(device.path)


def test_the_daemon_of_run(tmp_path: Path) -> None:
    """It may also kill the command, which may be another user's by then; and nothing else."""
    if os.geteuid() != 0:
        pytest.skip("only root has capabilities")
    (tmp_path / "mnt").mkdir()
    script = (
        "cat /proc/$(cat mnt/.pinnerfs/pid)/task/*/status | grep -E 'Cap(Eff|Prm)|NoNew'; grep NoNew /proc/$$/status"
    )
    done = pinnerfs("run", scenario(tmp_path), "--mountpoint", tmp_path / "mnt", "--", "sh", "-c", script, cwd=tmp_path)
    *lines, commands_own = done.stdout.splitlines()
    found = sorted({line.replace("\t", " ") for line in lines})
    few, more = f"{TO_UNMOUNT:016x}", f"{TO_UNMOUNT | TO_KILL:016x}"
    assert found == [*sorted(f"Cap{kind}: {mask}" for kind in ("Eff", "Prm") for mask in (few, more)), "NoNewPrivs: 1"]
    assert len(lines) >= 3 * 3  # the loop, who keeps the books up, and who watches
    assert commands_own == "NoNewPrivs:\t0"


def test_nothing_inherited_stays_open(mount: Mounts) -> None:
    """A lock that the caller holds, and a pipe that it writes to, are not held on to by the daemon."""
    device = mount.add("mnt")
    lock = os.open(mount.folder / "lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(lock, fcntl.LOCK_EX)
    reader, writer = os.pipe()
    done = pinnerfs("mount", scenario(mount.folder), device.path, pass_fds=(lock, writer))
    assert (done.returncode, done.stderr) == (0, "")
    mount.watch(device)
    os.close(writer)
    os.close(lock)
    assert os.read(reader, 1) == b""
    os.close(reader)
    with open(mount.folder / "lock") as again:
        fcntl.flock(again, fcntl.LOCK_EX | fcntl.LOCK_NB)


def test_privileges_that_cannot_be_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where the system refuses, it is said, and nothing is mounted."""
    if os.geteuid() != 0:
        pytest.skip("only root has any")

    class Refusing:
        @staticmethod
        def prctl(*_: int) -> int:
            return -1

    monkeypatch.setattr(privileges, "_libc", Refusing)
    monkeypatch.setattr(os, "setgroups", lambda groups: None)
    with pytest.raises(PinnerfsError, match="cannot drop privileges: "):
        privileges.keep_capabilities()
