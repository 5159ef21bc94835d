"""Mount, unmount, and the end of the daemon. Refused mounts and unmounts."""

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

from pinnerfs.daemon.signals import Terminator
from pinnerfs.mounts.table import Proc
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
    run_command,
    scenario,
)


@contextmanager
def _foreground(mounts: Mounts, *options: str) -> Iterator[tuple[Mount, subprocess.Popen[str]]]:
    """Start `pinnerfs mount -f` and wait for its mount. inotify does not report mounts, so poll."""
    device = mounts.add("foreground")
    source = str(scenario(mounts.directory))
    command = [sys.executable, "-m", "pinnerfs", "mount", "-f", source, str(device.path), *options]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment()
    ) as child:
        try:
            assert child.stdout is not None
            deadline = time.monotonic() + DEADLINE
            while not is_mounted(device.path):
                assert child.poll() is None, child.stderr.read() if child.stderr else ""
                assert time.monotonic() < deadline, f"no mount after {DEADLINE} s"
                time.sleep(0.01)
            mounts.watch(device)
            yield device, child
        finally:
            if child.poll() is None:
                child.kill()


def test_the_mount_table(mount: Mounts) -> None:
    """/proc/mounts has the line `debugfs MOUNTPOINT fuse.pinnerfs …` with nosuid and nodev."""
    device = mount()
    lines = [line for line in mount_table() if f" {device.path} " in line]
    assert len(lines) == 1
    assert lines[0].startswith(f"debugfs {device.path} fuse.pinnerfs rw,nosuid,nodev,relatime,")
    assert "default_permissions" in lines[0]


def test_mount_is_silent_and_returns_when_ready(mount: Mounts) -> None:
    """`pinnerfs mount` prints nothing and returns when the mount answers. The daemon has its own session."""
    device = mount()
    assert device.stderr == ""
    assert device.threshold.read_text() == "300000\n"
    assert os.getsid(device.pid) == device.pid != os.getsid(0)
    assert os.readlink(f"/proc/{device.pid}/cwd") == "/"
    assert {os.readlink(f"/proc/{device.pid}/fd/{number}") for number in (0, 1, 2)} == {"/dev/null"}


def test_mount_in_a_command_substitution(mount: Mounts) -> None:
    """The daemon closes inherited pipes, so `$(pinnerfs mount ...)` returns."""
    device = mount.add("mnt")
    script = f'out=$("$0" -m pinnerfs mount {scenario(mount.directory)} {device.path} 2>&1); echo "<$out>"'
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


def test_umount_waits_for_the_daemon(mount: Mounts) -> None:
    """When `pinnerfs umount` returns, the mount and its daemon are gone."""
    device = mount()
    done = pinnerfs("umount", device.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert device.gone(0)
    assert not is_mounted(device.path)
    assert list(device.path.iterdir()) == []


def test_umount_by_another_name(mount: Mounts) -> None:
    """mount, ctl and umount accept a relative path, a trailing slash and a symbolic link."""
    directory = mount.directory / "mnt"
    directory.mkdir()
    (mount.directory / "link").symlink_to("mnt")
    for name in ("link/", "../" + mount.directory.name + "/mnt", "mnt/."):
        device = mount.add("mnt")
        done = pinnerfs("mount", scenario(mount.directory), name, "--clock", "manual", cwd=mount.directory)
        assert (done.returncode, done.stderr) == (0, ""), name
        mount.watch(device)
        assert pinnerfs("ctl", name, "clock", cwd=mount.directory).stdout == "0\n"
        done = pinnerfs("umount", name, cwd=mount.directory)
        assert (done.returncode, done.stderr) == (0, ""), name
        assert device.gone(0)


@pytest.mark.parametrize("name", ["with blank", "back\\slash", "new\nline", "tab\there", "ünïcode", "-f", "a#b,c=d:e"])
def test_mount_points_of_any_name(mount: Mounts, name: str) -> None:
    """Any name of a mount point works."""
    device = mount.add(name)
    done = pinnerfs("mount", "--clock", "manual", "--", scenario(mount.directory), name, cwd=mount.directory)
    assert (done.returncode, done.stderr) == (0, "")
    mount.watch(device)
    assert device.threshold.read_text() == "300000\n"
    again = pinnerfs("mount", "--", scenario(mount.directory), name, cwd=mount.directory)
    assert again.returncode == 1 and "already a mount point" in again.stderr
    done = pinnerfs("umount", "--", name, cwd=mount.directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert device.gone(0)


def test_an_undecodable_name(mount: Mounts) -> None:
    """A mount point whose name is not UTF-8 works."""
    device = mount.add(os.fsdecode(b"caf\xe9"))
    done = pinnerfs("mount", scenario(mount.directory), device.path, "--clock", "manual")
    assert (done.returncode, done.stderr) == (0, "")
    mount.watch(device)
    done = pinnerfs("umount", device.path)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_busy_mount(mount: Mounts) -> None:
    """umount of a mount in use fails with `busy`, and the mount keeps working."""
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
    """On SIGINT, SIGTERM and SIGHUP a foreground mount unmounts and exits with status 0, without output."""
    with _foreground(mount) as (device, child):
        child.send_signal(number)
        out, err = child.communicate(timeout=DEADLINE)
        assert (child.returncode, out, err) == (0, "", "")
        assert not is_mounted(device.path)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signals_end_a_detached_daemon(mount: Mounts, number: signal.Signals) -> None:
    """On the same signals a detached daemon unmounts and ends."""
    device = mount()
    os.kill(device.pid, number)
    assert device.gone()
    assert not is_mounted(device.path)


def test_a_signal_while_a_file_is_open(mount: Mounts) -> None:
    """SIGTERM ends the daemon while a file is open. The next read of that file fails."""
    device = mount()
    with device.opened() as file:
        os.kill(device.pid, signal.SIGTERM)
        assert device.gone()
        with pytest.raises(OSError):
            os.read(file, 4096)
    assert not is_mounted(device.path)


def test_umount_ends_a_foreground_mount(mount: Mounts) -> None:
    """After `pinnerfs umount`, `mount -f` exits with status 0."""
    with _foreground(mount) as (device, child):
        assert pinnerfs("umount", device.path).returncode == 0
        assert child.communicate(timeout=DEADLINE) == ("", "")
        assert child.returncode == 0


def test_a_foreground_mount_logs_to_stderr(mount: Mounts) -> None:
    """With -f, log and trace go to stderr."""
    with _foreground(mount, "--trace", "fuse") as (device, child):
        os.close(os.open(device.records, os.O_RDONLY))
        assert pinnerfs("umount", device.path).returncode == 0
        out, err = child.communicate(timeout=DEADLINE)
    assert out == ""
    assert "fuse: open('/page_pinner/longterm_pinner', " in err


def test_log_file_of_a_foreground_mount(mount: Mounts) -> None:
    """With -f and --log, the log goes to the file and stderr stays empty."""
    with _foreground(mount, "--log", str(mount.directory / "foreground.log")) as (device, child):
        assert pinnerfs("umount", device.path).returncode == 0
        assert child.communicate(timeout=DEADLINE) == ("", "")


def test_a_killed_daemon_is_replaced(mount: Mounts) -> None:
    """After SIGKILL of the daemon, the next mount replaces the dead mount and says so on stderr."""
    first = mount()
    os.kill(first.pid, signal.SIGKILL)
    assert first.gone()
    assert is_mounted(first.path)
    with pytest.raises(OSError, match="Transport endpoint is not connected"):
        os.statvfs(first.path)
    second = mount()
    assert "replaced a dead mount that an earlier daemon left" in second.stderr
    assert second.threshold.read_text() == "300000\n"
    assert pinnerfs("umount", second.path).returncode == 0
    assert not is_mounted(second.path)


def test_a_dead_mount_can_be_unmounted(mount: Mounts) -> None:
    """`pinnerfs umount` unmounts a dead mount. `pinnerfs ctl` fails with the kernel's message."""
    device = mount()
    os.kill(device.pid, signal.SIGKILL)
    assert device.gone()
    asked = pinnerfs("ctl", device.path, "clock")
    assert asked.returncode == 1 and "Transport endpoint is not connected" in asked.stderr
    done = pinnerfs("umount", device.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert not is_mounted(device.path)


def test_a_dead_mount_with_an_open_file(mount: Mounts) -> None:
    """A dead mount is replaced even if one of its files is open."""
    first = mount()
    with first.opened():
        os.kill(first.pid, signal.SIGKILL)
        assert first.gone()
        second = mount()
        assert "replaced a dead mount" in second.stderr
        assert second.threshold.read_text() == "300000\n"


def test_a_daemon_at_its_end_spares_a_mount_with_its_number(mount: Mounts, monkeypatch: pytest.MonkeyPatch) -> None:
    """A daemon whose mount is gone does not unmount another one that has the device number now, only a dead one."""
    device = mount()
    with Proc() as proc:
        number = next(found.device for found in proc.mounts() if found.path == str(device.path))
    monkeypatch.setattr("pinnerfs.daemon.signals.name_process", lambda name: None)

    def end() -> None:
        terminator = Terminator(str(device.path), wait=True)
        terminator.note_mount(number)
        terminator.clear()

    end()
    assert is_mounted(device.path)
    os.kill(device.pid, signal.SIGKILL)
    assert device.gone()
    end()
    assert not is_mounted(device.path)


def test_a_second_mount_on_a_mount_point(mount: Mounts) -> None:
    """A second mount on the same mount point is refused, and the first keeps working."""
    device = mount()
    done = pinnerfs("mount", "camera-stall", device.path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        f"Error: cannot mount on {device.path}: it is already a mount point (fuse.pinnerfs); "
        "wanted an empty directory\n"
    )
    assert device.threshold.read_text() == "300000\n"


def test_refused_mount_points(mount: Mounts) -> None:
    """A mount point must be an existing, empty directory without a mount; the error gives the reason."""
    directory = mount.directory
    (directory / "file").write_text("")
    (directory / "full").mkdir()
    (directory / "full" / "something").write_text("")
    (directory / "loop").symlink_to("loop")
    for name, reason in {
        "missing": "No such file or directory",
        "file": "Not a directory",
        "full": "the directory is not empty ('something' is in it)",
        "loop": "Too many levels of symbolic links",
        "x" * 300: "File name too long",
        "/proc": "it is already a mount point (proc)",
        "": "the path is empty",
    }.items():
        done = pinnerfs("mount", "camera-stall", name, cwd=directory)
        assert (done.returncode, done.stdout) == (1, ""), name
        assert done.stderr.startswith("Error: cannot mount on ") and done.stderr.count("\n") == 1
        assert reason in done.stderr


def test_umount_without_a_mount(mount: Mounts) -> None:
    """umount refuses a plain directory, a missing path, a file and another file system's mount."""
    (mount.directory / "plain").mkdir()
    (mount.directory / "file").write_text("")
    for name, reason in {
        "plain": "wanted a fuse.pinnerfs mount, but nothing is mounted there",
        "missing": "No such file or directory; wanted a fuse.pinnerfs mount",
        "file": "Not a directory; wanted a fuse.pinnerfs mount",
        "/proc": "wanted a fuse.pinnerfs mount, but proc is mounted there",
    }.items():
        done = pinnerfs("umount", name, cwd=mount.directory)
        assert (done.returncode, done.stdout) == (1, "")
        assert done.stderr == f"Error: cannot unmount {name}: {reason}\n"
    done = pinnerfs("umount", "/")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot unmount /: wanted a fuse.pinnerfs mount, but " in done.stderr and "is mounted there" in done.stderr


def test_a_log_file_that_cannot_be_created(mount: Mounts) -> None:
    """If the log file cannot be created, mount fails and nothing is mounted."""
    device = mount.add("mnt")
    done = pinnerfs("mount", "camera-stall", device.path, "--log", mount.directory / "no" / "log")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == f"Error: cannot open log file {mount.directory}/no/log: No such file or directory\n"
    assert not is_mounted(device.path)


def test_no_log_on_standard_output(mount: Mounts) -> None:
    """`--log -` is refused, as a daemon has no standard output. No file named `-` is written."""
    device = mount.add("mnt")
    for command in (
        ["mount", "camera-stall", str(device.path), "--log", "-"],
        ["run", "--log=-", "camera-stall", "true"],
    ):
        done = run_command([sys.executable, "-m", "pinnerfs", *command], cwd=mount.directory)
        wanted = "Error: --log: a daemon has no standard output (-); name a file\n"
        assert (done.returncode, done.stdout, done.stderr) == (2, "", wanted)
    assert not (mount.directory / "-").exists() and not is_mounted(device.path)


@pytest.mark.parametrize(("value", "shown"), [("0x10", "16"), ("18446744073709551615", "-1"), ("0", "0"), ("9\n", "9")])
def test_threshold_in_every_base(mount: Mounts, value: str, shown: str) -> None:
    """--threshold accepts the same numbers as the file, in every base."""
    device = mount(None, "--threshold", value)
    assert device.threshold.read_text() == f"{shown}\n"


def test_threshold_and_start_together(mount: Mounts) -> None:
    """--threshold applies from time 0 on, also with --start."""
    device = mount(None, "--threshold", "400000", "--start", "10s")
    assert device.read_all() == []
    other = mount(None, "--threshold", "399999", "--start", "10s", name="other")
    assert other.read_all() == newest_first(10)


def test_seeds_differ(mount: Mounts) -> None:
    """--seed replaces the scenario's seed."""
    one, two = mount("camera-stall", "--start", "30s", name="one"), mount("camera-stall", "--start", "30s", name="two")
    three = mount("camera-stall", "--start", "30s", "--seed", "99", name="three")
    assert one.read_all() == two.read_all() != three.read_all()


def test_another_kernel(mount: Mounts) -> None:
    """--kernel android12-5.10-early has two more files and prints count 0."""
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
    """An ordinary user without access to /dev/fuse gets an error with the remedy."""
    from pinnerfs.mounts.claim import claim

    directory = public_mount.directory / "users"
    directory.mkdir()
    directory.chmod(0o777)

    def work() -> str:
        try:
            claim(str(directory))
        except Exception as error:
            return f"{type(error).__name__}: {error}"
        return "accepted"

    def closed() -> str:
        own = public_mount.directory / "own"
        own.mkdir()
        subprocess.run(["mount", "-t", "tmpfs", "none", own], check=True, timeout=DEADLINE)
        os.mknod(own / "fuse", 0o600 | stat.S_IFCHR, os.makedev(10, 229))
        subprocess.run(["mount", "--bind", own / "fuse", "/dev/fuse"], check=True, timeout=DEADLINE)
        return str(as_user(work))

    assert in_namespace(closed) == (
        "PinnerfsError: cannot open /dev/fuse: Permission denied; wanted a device to read and write (as root: "
        "chmod 666 /dev/fuse; for a container: --device /dev/fuse)"
    )


def test_several_mounts(mount: Mounts) -> None:
    """Several mounts work at the same time, each with its own clock and threshold."""
    devices = [mount(name=f"mnt{number}") for number in range(3)]
    for number, device in enumerate(devices):
        device.advance(f"{number + 1}s")
        device.threshold.write_text(str(number))
        device.advance("1s")
    assert [device.control("clock") for device in devices] == ["2000000\n", "3000000\n", "4000000\n"]
    assert [device.threshold.read_text() for device in devices] == ["0\n", "1\n", "2\n"]


def test_a_mount_at_the_real_path(mount: Mounts) -> None:
    """In a private mount namespace, /sys/kernel/debug can be the mount point. Other namespaces do not see it."""
    if os.geteuid() != 0 or not Path("/sys/kernel/debug").is_dir():
        pytest.skip("needs root and a /sys/kernel/debug")
    before = sum(" /sys/kernel/debug " in line for line in mount_table())
    script = (
        "umount -l /sys/kernel/debug 2>/dev/null; set -e; "
        f'"$0" -m pinnerfs mount {scenario(mount.directory)} /sys/kernel/debug --clock manual --start 2s; '
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
def test_closed_standard_files(mount: Mounts, closed: str) -> None:
    """`pinnerfs mount` works with stdin, stdout or stderr closed."""
    device = mount.add("mnt")
    command = f'exec "$0" -m pinnerfs mount {scenario(mount.directory)} {device.path} {closed}'
    done = subprocess.run(["sh", "-c", command, sys.executable], timeout=DEADLINE, env=environment(), check=False)
    assert done.returncode == 0
    mount.watch(device)
    assert device.threshold.read_text() == "300000\n"
    assert pinnerfs("umount", device.path).returncode == 0
