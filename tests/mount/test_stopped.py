"""Daemons that are stopped (SIGSTOP): each command gives up, and names the pid and the remedy."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pinnerfs.client import Client
from pinnerfs.errors import NO_ANSWER, PinnerfsError
from pinnerfs.mounts.answers import no_answer
from tests.mount.support import (
    DEADLINE,
    ORDINARY,
    Mount,
    Mounts,
    environment,
    is_mounted,
    newest_first,
    pinnerfs,
    run_command,
    scenario,
)

WAIT = "200ms"
PR_SET_NAME = 15


def _state(pid: int) -> str:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


@contextmanager
def _stopped(device: Mount) -> Iterator[Mount]:
    """Stop the daemon for the length of the block. It is continued even if this process is killed."""
    guard = subprocess.Popen(["sh", "-c", f"read x; kill -CONT {device.pid}"], stdin=subprocess.PIPE)
    assert guard.stdin is not None
    try:
        signal.pidfd_send_signal(device.pidfd, signal.SIGSTOP)
        while _state(device.pid) != "T":
            os.sched_yield()
        yield device
    finally:
        if not device.gone(0):
            signal.pidfd_send_signal(device.pidfd, signal.SIGCONT)
        guard.stdin.close()
        guard.wait(DEADLINE)


def _message(action: str, device: Mount) -> str:
    return (
        f"cannot {action} {device.path}: its daemon (pid {device.pid}) is stopped, and did not answer within 0.2 s; "
        f"to continue it: kill -CONT {device.pid}; to end it: kill -KILL {device.pid}"
    )


COMMANDS: dict[str, tuple[str, Callable[[Mount], list[str]]]] = {
    "umount": ("unmount", lambda device: ["umount", "--max-wait", WAIT, str(device.path)]),
    "mount": ("mount on", lambda device: ["mount", "--max-wait", WAIT, "quiet-device", str(device.path)]),
    "mount helper": ("mount on", lambda device: ["quiet-device", str(device.path), "-o", f"max_wait={WAIT}"]),
    "advance": ("control", lambda device: ["ctl", "--max-wait", WAIT, str(device.path), "advance", "1s"]),
    "do": ("control", lambda device: ["ctl", "--max-wait", WAIT, str(device.path), "do", "pin task=driver"]),
    "clock": ("control", lambda device: ["ctl", "--max-wait", WAIT, str(device.path), "clock"]),
    "stats": ("control", lambda device: ["ctl", "--max-wait", WAIT, str(device.path), "stats"]),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_commands(mount: Mounts, name: str) -> None:
    """A command exits with status 75 and one line. It changes nothing: when the daemon continues, all works."""
    action, command = COMMANDS[name]
    with _stopped(mount()) as device:
        done = pinnerfs(*command(device))
        assert (done.returncode, done.stdout) == (75, "")
        assert done.stderr == f"Error: {_message(action, device)}\n"
    assert device.control("clock") == "0\n"
    assert pinnerfs("umount", device.path).returncode == 0
    assert device.gone()


def test_a_remount(mount: Mounts) -> None:
    """`mount -o remount` gives up, too."""
    with _stopped(mount()) as device:
        done = pinnerfs("quiet-device", str(device.path), "-o", f"remount,mode=755,max_wait={WAIT}")
        assert (done.returncode, done.stderr) == (75, f"Error: {_message('remount', device)}\n")


def test_a_remount_with_a_wrong_time(mount: Mounts) -> None:
    """A wrong max_wait is refused in one line."""
    path = mount().path
    done = pinnerfs("quiet-device", str(path), "-o", "remount,max_wait=5")
    assert done.returncode == 2
    assert done.stderr.startswith(f"Error: cannot remount {path}: max_wait = '5' must be ")
    assert done.stderr.count("\n") == 1


def test_the_remedy(mount: Mounts) -> None:
    """After SIGKILL, umount removes what is left of the mount."""
    with _stopped(mount()) as device:
        signal.pidfd_send_signal(device.pidfd, signal.SIGKILL)
        assert device.gone()
        done = pinnerfs("umount", device.path)
        assert (done.returncode, done.stderr) == (0, "")
        assert not is_mounted(device.path)


def test_a_daemon_that_is_stopped_during_a_request(mount: Mounts) -> None:
    """ctl gives up, and closes its stdout and stderr, although its request cannot be interrupted."""
    device = mount("camera-stall")
    command = [sys.executable, "-m", "pinnerfs", "ctl", "--max-wait", "5s", str(device.path), "advance", "8000h"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=environment()) as advance:
        try:
            while device.control("clock") == "0\n":
                assert advance.poll() is None
            with _stopped(device):
                out, err = advance.communicate(timeout=DEADLINE)
        finally:
            advance.kill()
            device.log.unlink()  # it may name the file that ctl opened and did not read
    message = _message("control", device).replace("0.2 s", "5 s")
    assert (advance.returncode, out, err.decode()) == (75, b"", f"Error: {message}\n")


def test_a_path_through_the_mount(mount: Mounts) -> None:
    """A path that leads through the mount of a stopped daemon, also by a link or by .., is an error with its pid."""
    with _stopped(mount()) as device:
        link = mount.directory / "link"
        link.symlink_to(f"../{mount.directory.name}/{device.path.name}/page_pinner")
        below = f"{device.path}/../{device.path.name}/x"
        for path in (device.path / "page_pinner" / "new" / "mnt", link / "new", below):
            done = pinnerfs("umount", "--max-wait", WAIT, path)
            message = _message("unmount", device).replace(f"{device.path}:", f"{path}:")
            assert (done.returncode, done.stdout, done.stderr) == (75, "", f"Error: {message}\n")


FILES: dict[str, tuple[str, Callable[[str, str], list[str]]]] = {
    "check": ("read scenario", lambda inside, outside: ["check", "--max-wait", WAIT, "quiet-device", inside]),
    "check --expect": ("read scenario", lambda inside, outside: ["check", "--max-wait", WAIT, "--expect", inside]),
    "dump": ("read scenario", lambda inside, outside: ["dump", "--max-wait", WAIT, inside, "--at", "1s"]),
    "show": ("read scenario", lambda inside, outside: ["show", "--max-wait", WAIT, inside]),
    "mount": ("read scenario", lambda inside, outside: ["mount", "--max-wait", WAIT, inside, outside]),
    "mount --log": (
        "log to",
        lambda inside, outside: ["mount", "--max-wait", WAIT, "quiet-device", outside, "--log", inside],
    ),
    "mount helper": ("read scenario", lambda inside, outside: [inside, outside, "-o", f"max_wait={WAIT}"]),
    "mount helper, log": (
        "log to",
        lambda inside, outside: ["quiet-device", outside, "-o", f"max_wait={WAIT},log={inside}"],
    ),
    "run": ("read scenario", lambda inside, outside: ["run", "--max-wait", WAIT, inside, "--", "true"]),
    "run --log": (
        "log to",
        lambda inside, outside: ["run", "--max-wait", WAIT, "quiet-device", "--log", inside, "--", "true"],
    ),
    "run COMMAND": ("run", lambda inside, outside: ["run", "--max-wait", WAIT, "quiet-device", "--", inside]),
}


@pytest.mark.parametrize("name", FILES)
def test_a_file_inside_the_mount(mount: Mounts, name: str) -> None:
    """A command whose scenario, log or program is inside the mount exits with status 75 and one line."""
    action, command = FILES[name]
    outside = mount.directory / "outside"
    outside.mkdir()
    with _stopped(mount()) as device:
        for file in "page_pinner/threshold", "new.toml":
            inside = str(device.path / file)
            done = pinnerfs(*command(inside, str(outside)))
            message = _message(action, device).replace(f"{device.path}:", f"{inside}:")
            assert (done.returncode, done.stdout, done.stderr) == (75, "", f"Error: {message}\n")
        assert not is_mounted(outside)


def test_other_scenarios_are_read(mount: Mounts) -> None:
    """Beside a stopped daemon, the gallery, standard input and files elsewhere are read as ever."""
    with _stopped(mount()):
        text = Path(scenario(mount.directory)).read_text()
        done = pinnerfs("check", "camera-stall", scenario(mount.directory), "-", input=text)
        assert (done.returncode, done.stderr, done.stdout.count(": ok\n")) == (0, "", 3)


# Takes a name, asks to be traced by its parent, and stops.
TRACED = """
import ctypes, os, signal, sys
libc = ctypes.CDLL(None)
libc.prctl({PR_SET_NAME}, os.fsencode(sys.argv[1]))
libc.ptrace(0, 0, None, None)
os.kill(os.getpid(), signal.SIGSTOP)
"""


def test_a_daemon_in_a_debugger(mount: Mounts) -> None:
    """A daemon that a debugger stopped needs the debugger: SIGCONT would not continue it."""
    device = mount()
    name = Path(f"/proc/{device.pid}/comm").read_text().strip()
    # Stands in for the daemon: it is the newest process of this name, and may be traced.
    code = TRACED.replace("{PR_SET_NAME}", str(PR_SET_NAME))
    with subprocess.Popen([sys.executable, "-c", code, name]) as traced:
        try:
            while (now := _state(traced.pid)) != "t":
                assert now != "Z"
                os.sched_yield()
            message = str(no_answer("read", device.path, 0.2))
        finally:
            # Not traced.kill(): it takes the stop for the end of the process, and sends no signal then.
            os.kill(traced.pid, signal.SIGKILL)
            while not os.WIFSIGNALED(os.waitpid(traced.pid, 0)[1]):
                pass
    assert message == (
        f"cannot read {device.path}: its daemon (pid {traced.pid}) is stopped by a debugger, and did not answer within "
        f"0.2 s; wanted the debugger to continue it; to end it: kill -KILL {traced.pid}"
    )


def test_run_covers_the_mount(mount: Mounts) -> None:
    """`run` mounts over the mount of a stopped daemon, and COMMAND sees the new one."""
    device = mount()
    os.stat(device.path)  # so that the kernel knows its attributes
    with _stopped(device):
        options = ["--mountpoint", str(device.path), "--threshold", "5"]
        done = pinnerfs("run", scenario(mount.directory), *options, "--", "cat", device.threshold)
        assert (done.returncode, done.stdout, done.stderr) == (0, "5\n", "")


def _set_threshold(client: Client) -> None:
    client.threshold = 5


@pytest.mark.parametrize(
    "call",
    [
        lambda client: client.clock(),
        lambda client: client.stats(),
        lambda client: client.threshold,
        _set_threshold,
        lambda client: client.text(),
        lambda client: client.advance("1s"),
        lambda client: client.do("pin task=driver"),
    ],
)
def test_the_python_client(mount: Mounts, call: Callable[[Client], object]) -> None:
    """Each call of a Client raises an error with the same words."""
    device = mount()
    client = Client(device.path, max_wait=0.2)
    with _stopped(device), pytest.raises(PinnerfsError) as caught:
        call(client)
    assert (str(caught.value), caught.value.exit_status) == (_message("control", device), NO_ANSWER)


def test_a_long_text_is_no_long_wait(mount: Mounts) -> None:
    """The longest wait is one without progress: reading a long text may take longer."""
    device = mount()
    device.advance("3000s")
    assert Client(device.path, max_wait=0.05).text().encode() == b"".join(newest_first(3000))


def test_a_daemon_that_runs(mount: Mounts) -> None:
    """A daemon that is not stopped, but busy, is no reason to continue it."""
    device = mount()
    assert str(no_answer("control", device.path, 5.0)) == (
        f"cannot control {device.path}: its daemon (pid {device.pid}) did not answer within 5 s; "
        f"wanted a longer --max-wait; to end it: kill -KILL {device.pid}"
    )


def test_the_name_of_the_process(mount: Mounts) -> None:
    """The daemon's process is named after the minor number of its mount's device."""
    device = mount()
    assert Path(f"/proc/{device.pid}/comm").read_text() == f"pinnerfs-{os.minor(os.stat(device.path).st_dev)}\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user")
def test_a_process_of_another_user_with_the_same_name(mount: Mounts) -> None:
    """A process that another user named like the daemon is not shown as the daemon."""
    reader, writer = os.pipe()
    ready, renamed = os.pipe()
    child = os.fork()  # before the mount: its pid is usually the lower one, and would be found first
    if child == 0:
        try:
            os.setresuid(ORDINARY, ORDINARY, ORDINARY)
            ctypes.CDLL(None).prctl(PR_SET_NAME, os.read(reader, 15))
            os.write(renamed, b"x")
            signal.pause()
        finally:
            os._exit(0)
    try:
        os.close(reader)
        device = mount()
        os.write(writer, Path(f"/proc/{device.pid}/comm").read_bytes().strip())
        assert os.read(ready, 1) == b"x"
        assert f"(pid {device.pid})" in str(no_answer("control", device.path, 5.0))
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
        for descriptor in (writer, ready, renamed):
            os.close(descriptor)


def _report(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return run_command([sys.executable, "-m", "pinnerfs", "report", "--max-wait", "200ms", *map(str, arguments)])


def test_a_report(mount: Mounts, tmp_path: Path) -> None:
    """A report of a file in the mount gives up, also if the file has the names of sites."""
    device = mount()
    dump = device.path / "page_pinner" / "longterm_pinner"
    (tmp_path / "dump.txt").write_text("")
    with _stopped(device):
        for arguments in (device.path,), (dump,), (tmp_path / "dump.txt", "--sites", dump):
            done = _report(*arguments)
            assert (done.returncode, done.stdout) == (75, "")
            assert done.stderr.startswith("Error: cannot read ") and done.stderr.count("\n") == 1
            assert f"its daemon (pid {device.pid}) is stopped, and did not answer within 0.2 s" in done.stderr


def test_a_report_of_a_directory_around_a_mount(mount: Mounts) -> None:
    """A mount that does not answer is skipped with a note; the files beside it are read."""
    device = mount()
    (device.path.parent / "dump.txt").write_text("")
    with _stopped(device):
        done = _report(device.path.parent)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no record\n")
    assert f"{device.path}: it was skipped: no answer for 0.2 s\n" in done.stderr
