"""From mount to unmount: how a daemon comes, goes, dies and is replaced, and what is refused in words."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.mount.support import (
    DEADLINE,
    Mount,
    Mounts,
    as_user,
    environment,
    in_namespace,
    is_mounted,
    mount_table,
    newest_first,
    pinnerfs,
    scenario,
)


@contextmanager
def _foreground(mounts: Mounts, *options: str) -> Iterator[tuple[Mount, subprocess.Popen[str]]]:
    """A `pinnerfs mount -f` as a child; it is there when the mount shows, which inotify cannot tell: so look often."""
    device = mounts.add("foreground")
    source = str(scenario(mounts.folder))
    command = [sys.executable, "-m", "pinnerfs", "mount", "-f", source, str(device.path), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as child:
        try:
            assert child.stdout is not None
            deadline = time.monotonic() + DEADLINE
            while not is_mounted(device.path):
                assert child.poll() is None, child.stderr.read() if child.stderr else ""
                assert time.monotonic() < deadline, "it does not mount"
                time.sleep(0.01)
            mounts.watch(device)
            yield device, child
        finally:
            if child.poll() is None:
                child.kill()


def test_the_mount_table(mount: Mounts) -> None:
    """/proc/mounts shows `debugfs MOUNTPOINT fuse.pinnerfs …`, with nosuid and nodev."""
    device = mount()
    lines = [line for line in mount_table() if f" {device.path} " in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"debugfs {device.path} fuse.pinnerfs rw,nosuid,nodev,relatime,")
    assert "default_permissions" in lines[0]


def test_mount_says_nothing_and_answers_at_once(mount: Mounts) -> None:
    """`pinnerfs mount` returns silently when the mount answers, leaving a daemon of its own session behind."""
    device = mount()
    assert device.said == ""
    assert device.threshold.read_text() == "300000\n"
    assert os.getsid(device.pid) == device.pid != os.getsid(0)
    assert os.readlink(f"/proc/{device.pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{device.pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}


def test_mount_in_a_pipeline_ends(mount: Mounts) -> None:
    """A detached daemon holds no pipe open: `$(pinnerfs mount ...)` comes back."""
    device = mount.add("mnt")
    script = f'out=$("$0" -m pinnerfs mount {scenario(mount.folder)} {device.path} 2>&1); echo "<$out>"'
    done = subprocess.run(
        ["bash", "-c", script, sys.executable],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    mount.watch(device)
    assert done.stdout == "<>\n"


def test_umount_waits_until_the_daemon_is_gone(mount: Mounts) -> None:
    """After `pinnerfs umount` neither the mount nor its daemon is there."""
    device = mount()
    done = pinnerfs("umount", device.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert device.gone(0)
    assert not is_mounted(device.path)
    assert list(device.path.iterdir()) == []


def test_umount_by_another_name(mount: Mounts) -> None:
    """A relative path, a trailing slash and a symbolic link name the same mount, for mount and umount alike."""
    folder = mount.folder / "mnt"
    folder.mkdir()
    (mount.folder / "link").symlink_to("mnt")
    for name in ("link/", "../" + mount.folder.name + "/mnt", "mnt/."):
        device = mount.add("mnt")
        done = pinnerfs("mount", scenario(mount.folder), name, "--clock", "manual", cwd=mount.folder)
        assert (done.returncode, done.stderr) == (0, ""), name
        mount.watch(device)
        assert pinnerfs("ctl", name, "clock", cwd=mount.folder).stdout == "0\n"
        done = pinnerfs("umount", name, cwd=mount.folder)
        assert (done.returncode, done.stderr) == (0, ""), name
        assert device.gone(0)


@pytest.mark.parametrize("name", ["with blank", "back\\slash", "new\nline", "tab\there", "ünïcode", "-f", "a#b,c=d:e"])
def test_mount_points_of_any_name(mount: Mounts, name: str) -> None:
    """The name of a mount point may hold what a name may hold."""
    device = mount.add(name)
    done = pinnerfs("mount", "--clock", "manual", "--", scenario(mount.folder), name, cwd=mount.folder)
    assert (done.returncode, done.stderr) == (0, "")
    mount.watch(device)
    assert device.threshold.read_text() == "300000\n"
    again = pinnerfs("mount", "--", scenario(mount.folder), name, cwd=mount.folder)
    assert again.returncode == 1 and "already a mount point" in again.stderr
    done = pinnerfs("umount", "--", name, cwd=mount.folder)
    assert (done.returncode, done.stderr) == (0, "")
    assert device.gone(0)


def test_a_name_of_undecodable_bytes(mount: Mounts) -> None:
    """A mount point whose name is no UTF-8 works like any other."""
    device = mount.add(os.fsdecode(b"caf\xe9"))
    done = pinnerfs("mount", scenario(mount.folder), device.path, "--clock", "manual")
    assert (done.returncode, done.stderr) == (0, "")
    mount.watch(device)
    done = pinnerfs("umount", device.path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_busy_mount(mount: Mounts) -> None:
    """umount of a mount in use is an error that says so, and the mount lives on."""
    device = mount()
    with device.opened(file="threshold") as file:
        done = pinnerfs("umount", device.path)
        assert (done.returncode, done.stdout) == (1, "")
        assert "busy" in done.stderr and str(device.path) in done.stderr
        assert os.read(file, 100) == b"300000\n"
    done = pinnerfs("umount", device.path, cwd=device.path)
    assert done.returncode == 1 and "busy" in done.stderr
    assert pinnerfs("umount", device.path).returncode == 0


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_foreground_mount(mount: Mounts, number: signal.Signals) -> None:
    """SIGINT, SIGTERM and SIGHUP unmount and exit 0, with nothing said."""
    with _foreground(mount) as (device, child):
        child.send_signal(number)
        out, err = child.communicate(timeout=DEADLINE)
        assert (child.returncode, out, err) == (0, "", "")
        assert not is_mounted(device.path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_detached_daemon(mount: Mounts, number: signal.Signals) -> None:
    """The same signals unmount a detached daemon."""
    device = mount()
    os.kill(device.pid, number)
    assert device.gone()
    assert not is_mounted(device.path)


def test_a_signal_while_a_file_is_open(mount: Mounts) -> None:
    """A daemon that is told to end does so though a file is open; its reader then has no connection."""
    device = mount()
    with device.opened() as file:
        os.kill(device.pid, signal.SIGTERM)
        assert device.gone()
        with pytest.raises(OSError):
            os.read(file, 4096)
    assert not is_mounted(device.path)


def test_umount_ends_a_foreground_mount(mount: Mounts) -> None:
    """`pinnerfs umount` lets a mount with -f exit 0."""
    with _foreground(mount) as (device, child):
        assert pinnerfs("umount", device.path).returncode == 0
        assert child.communicate(timeout=DEADLINE) == ("", "")
        assert child.returncode == 0


def test_a_foreground_mount_logs_to_stderr(mount: Mounts) -> None:
    """With -f the log goes to stderr, and a trace with it."""
    with _foreground(mount, "--trace", "fuse") as (device, child):
        os.close(os.open(device.records, os.O_RDONLY))
        assert pinnerfs("umount", device.path).returncode == 0
        out, err = child.communicate(timeout=DEADLINE)
    assert out == ""
    assert "fuse: open('/page_pinner/longterm_pinner', " in err


def test_log_file_of_a_foreground_mount(mount: Mounts) -> None:
    """With -f and --log the log goes to the file, and stderr stays empty."""
    with _foreground(mount, "--log", str(mount.folder / "foreground.log")) as (device, child):
        assert pinnerfs("umount", device.path).returncode == 0
        assert child.communicate(timeout=DEADLINE) == ("", "")


def test_a_killed_daemon_is_replaced(mount: Mounts) -> None:
    """SIGKILL leaves a dead mount; the next mount takes its place and says so on stderr."""
    first = mount()
    os.kill(first.pid, signal.SIGKILL)
    assert first.gone()
    assert is_mounted(first.path)
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        os.statvfs(first.path)
    second = mount()
    assert "replaced a dead mount that an earlier daemon left" in second.said
    assert second.threshold.read_text() == "300000\n"
    assert pinnerfs("umount", second.path).returncode == 0
    assert not is_mounted(second.path)


def test_a_dead_mount_can_be_unmounted(mount: Mounts) -> None:
    """`pinnerfs umount` takes down a dead mount, and `pinnerfs ctl` says that it is one."""
    device = mount()
    os.kill(device.pid, signal.SIGKILL)
    assert device.gone()
    asked = pinnerfs("ctl", device.path, "clock")
    assert asked.returncode == 1 and "Transport endpoint is not connected" in asked.stderr
    done = pinnerfs("umount", device.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_mounted(device.path)


def test_a_killed_daemon_whose_file_is_open(mount: Mounts) -> None:
    """A dead mount is replaced though somebody still has a file of it open."""
    first = mount()
    with first.opened():
        os.kill(first.pid, signal.SIGKILL)
        assert first.gone()
        second = mount()
        assert "replaced a dead mount" in second.said
        assert second.threshold.read_text() == "300000\n"


def test_a_mount_point_that_is_one_already(mount: Mounts) -> None:
    """A second mount over the first is refused in words, and the first goes on."""
    device = mount()
    done = pinnerfs("mount", "camera-stall", device.path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: cannot mount on {device.path}: it is already a mount point (fuse.pinnerfs); "
        "wanted an empty directory\n"
    )
    assert device.threshold.read_text() == "300000\n"


def test_refused_mount_points(mount: Mounts) -> None:
    """A mount point that is missing, no folder, not empty, or somebody else's mount is refused in words."""
    folder = mount.folder
    (folder / "file").write_text("")
    (folder / "full").mkdir()
    (folder / "full" / "something").write_text("")
    (folder / "loop").symlink_to("loop")
    for name, reason in {
        "missing": "No such file or directory",
        "file": "Not a directory",
        "full": "the directory is not empty ('something' is in it)",
        "loop": "Too many levels of symbolic links",
        "x" * 300: "File name too long",
        "/proc": "it is already a mount point (proc)",
        "": "the path is empty",
    }.items():
        done = pinnerfs("mount", "camera-stall", name, cwd=folder)
        assert (done.returncode, done.stdout) == (1, ""), name
        assert done.stderr.startswith("Error: cannot mount on ") and done.stderr.count("\n") == 1
        assert reason in done.stderr


def test_umount_of_what_is_no_mount(mount: Mounts) -> None:
    """umount of a plain folder, of nothing, and of another kind of mount is refused in words."""
    (mount.folder / "plain").mkdir()
    for name, there in {
        "plain": "nothing is",
        "missing": "nothing is",
        "/proc": "proc is",
        "/": "is mounted there",
    }.items():
        done = pinnerfs("umount", name, cwd=mount.folder)
        assert (done.returncode, done.stdout) == (1, "")
        assert f"cannot unmount {name}: wanted a fuse.pinnerfs mount, but " in done.stderr and there in done.stderr


def test_a_log_file_that_cannot_be(mount: Mounts) -> None:
    """A log file in a folder that is not there stops the mount, in words."""
    device = mount.add("mnt")
    done = pinnerfs("mount", "camera-stall", device.path, "--log", mount.folder / "no" / "log")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: cannot open log file {mount.folder}/no/log: No such file or directory\n"
    assert not is_mounted(device.path)


@pytest.mark.parametrize(("value", "shown"), [("0x10", "16"), ("18446744073709551615", "-1"), ("0", "0"), ("9\n", "9")])
def test_threshold_takes_what_the_file_takes(mount: Mounts, value: str, shown: str) -> None:
    """--threshold is written as for the file, in every base."""
    device = mount(None, "--threshold", value)
    assert device.threshold.read_text() == f"{shown}\n"


def test_threshold_and_start_together(mount: Mounts) -> None:
    """The threshold of --threshold is in force from time 0 on, --start included."""
    device = mount(None, "--threshold", "400000", "--start", "10s")
    assert device.read_all() == []
    other = mount(None, "--threshold", "399999", "--start", "10s", name="other")
    assert other.read_all() == newest_first(10)


def test_seeds_differ(mount: Mounts) -> None:
    """--seed takes the place of the scenario's own seed."""
    one, two = mount("camera-stall", "--start", "30s", name="one"), mount("camera-stall", "--start", "30s", name="two")
    three = mount("camera-stall", "--start", "30s", "--seed", "99", name="three")
    assert one.read_all() == two.read_all() != three.read_all()


def test_another_kernel(mount: Mounts) -> None:
    """--kernel android12-5.10-early has two more files, prints count 0, and tracks FOLL_GET."""
    device = mount(None, "--kernel", "android12-5.10-early", "--start", "2s")
    assert device.shell("ls").stdout.split() == [
        "alloc_contig_failed",
        "failure_tracking",
        "longterm_pinner",
        "threshold",
    ]
    assert device.read_all() == [text.replace(b"count 1", b"count 0") for text in newest_first(2)]
    tracking = device.shell(
        "cat failure_tracking alloc_contig_failed; echo 7 > failure_tracking; cat failure_tracking;"
        " echo 0 > failure_tracking; cat failure_tracking; cat alloc_contig_failed"
    )
    assert tracking.stdout == "1\n1\n0\n"
    assert tracking.stderr == "cat: alloc_contig_failed: Invalid argument\n"


def test_a_user_without_the_device(public_mount: Mounts) -> None:
    """Where /dev/fuse is root's alone an ordinary user is refused in words."""
    from pinnerfs.mounts.claim import claim

    folder = public_mount.folder / "users"
    folder.mkdir()
    folder.chmod(0o777)

    def work() -> str:
        try:
            claim(str(folder))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "accepted"

    def closed() -> str:
        own = public_mount.folder / "own"
        own.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", own], check=True, timeout=DEADLINE)
        os.mknod(own / "fuse", 0o600 | stat.S_IFCHR, os.makedev(10, 229))
        subprocess.run(["mount", "--bind", own / "fuse", "/dev/fuse"], check=True, timeout=DEADLINE)
        return str(as_user(work))

    assert in_namespace(closed) == (
        "PinnerfsError: cannot open /dev/fuse: Permission denied; wanted a device to read and write (as root: "
        "chmod 666 /dev/fuse; for a container: --device /dev/fuse)"
    )


def test_many_mounts_at_once(mount: Mounts) -> None:
    """Several devices live beside each other, each with its own clock and threshold."""
    devices = [mount(name=f"mnt{number}") for number in range(3)]
    for number, device in enumerate(devices):
        device.advance(f"{number + 1}s")
        device.threshold.write_text(str(number))
        device.advance("1s")
    assert [device.control("clock") for device in devices] == ["2000000\n", "3000000\n", "4000000\n"]
    assert [device.threshold.read_text() for device in devices] == ["0\n", "1\n", "2\n"]


def test_a_mount_namespace_gives_the_real_path(mount: Mounts) -> None:
    """In a private mount namespace the device lies at /sys/kernel/debug, seen by that namespace alone."""
    if os.geteuid() != 0 or not Path("/sys/kernel/debug").is_dir():
        pytest.skip("needs root and a /sys/kernel/debug")
    before = sum(" /sys/kernel/debug " in line for line in mount_table())
    script = (
        "umount -l /sys/kernel/debug 2>/dev/null; set -e; "
        f'"$0" -m pinnerfs mount {scenario(mount.folder)} /sys/kernel/debug --clock manual --start 2s; '
        "cat /sys/kernel/debug/page_pinner/longterm_pinner; "
        '"$0" -m pinnerfs umount /sys/kernel/debug'
    )
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script, sys.executable],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr, done.stdout) == (0, "", b"".join(newest_first(2)).decode())
    assert sum(" /sys/kernel/debug " in line for line in mount_table()) == before


@pytest.mark.parametrize("closed", [">&- 2>&-", "<&- >&- 2>&-"])
def test_standard_files_that_are_closed(mount: Mounts, closed: str) -> None:
    """A mount started with stdin, stdout or stderr closed, as some daemons start theirs, returns and answers."""
    device = mount.add("mnt")
    command = f'exec "$0" -m pinnerfs mount {scenario(mount.folder)} {device.path} {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], timeout=DEADLINE, env=environment(), check=False)
    assert done.returncode == 0
    mount.watch(device)
    assert device.threshold.read_text() == "300000\n"
    assert pinnerfs("umount", device.path).returncode == 0
