"""`pinnerfs run`: a command that alone sees the fake, as if nothing stood between it and who started it."""

from __future__ import annotations

import os
import pty
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pinnerfs.errors import NO_FUSE
from tests.mount.support import (
    AS_USER,
    DEADLINE,
    Mounts,
    environment,
    is_mounted,
    newest_first,
    pinnerfs,
    scenario,
    to_its_end,
)

THRESHOLD_SCRIPT = Path(__file__).with_name("threshold.sh")
USUAL = Path("/sys/kernel/debug")
PINNERFS = [sys.executable, "-m", "pinnerfs"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with a scenario, and `debug`, in which something lies."""
    scenario(tmp_path)
    (tmp_path / "debug").mkdir()
    (tmp_path / "debug" / "something").write_text("that was there\n")
    return tmp_path


def _arguments(folder: Path, *command: str, options: tuple[str, ...] = ("--clock", "manual")) -> list[str]:
    source, mountpoint = str(scenario(folder)), str(folder / "debug")
    return ["run", source, "--mountpoint", mountpoint, *options, "--", *command]


def _run(folder: Path, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in the folder, `debug` in it being the device."""
    return pinnerfs(*_arguments(folder, *command), cwd=folder, **more)


@contextmanager
def _started(folder: Path, script: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """A shell script under `pinnerfs run` that has printed its first line, `ready`."""
    with subprocess.Popen(
        [*PINNERFS, *_arguments(folder, "sh", "-c", script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=folder,
        env=environment(),
        **more,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(not USUAL.is_dir(), reason="this kernel has no /sys/kernel/debug")
@pytest.mark.parametrize("shell", ["bash", "dash", "busybox sh"])
def test_a_script_with_the_usual_paths(shell: str) -> None:
    """A script for a device runs unchanged in each shell; busybox's own cat begins with sendfile."""
    done = pinnerfs("run", "camera-stall", "--start", "60s", "--speed", "100", "--", *shell.split(), THRESHOLD_SCRIPT)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+ vb2_create_framevec\n", done.stdout)
    assert int(done.stdout.split()[0]) > 0


@pytest.mark.skipif(not USUAL.is_dir(), reason="this kernel has no /sys/kernel/debug")
@pytest.mark.parametrize("shell", ["bash", "dash", "busybox sh"])
def test_a_script_that_fails(shell: str) -> None:
    """The same script on a device that is not as it should be fails, with its own words and status."""
    done = pinnerfs("run", "camera-stall", "--threshold", "5", "--", *shell.split(), THRESHOLD_SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "FAIL: threshold is 5, not 300000\n")


@pytest.mark.parametrize("status", [0, 1, 3, 127, 255])
def test_the_exit_status_is_handed_on(folder: Path, status: int) -> None:
    """`run` leaves as its command left, and says nothing."""
    done = _run(folder, "sh", "-c", f"exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files(folder: Path, closed: str) -> None:
    """With standard files closed from the start the command has its device, and its status is handed on."""
    script = 'read t < debug/page_pinner/threshold; test "$t" = 300000 && exit 3'
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", *PINNERFS, *_arguments(folder, "sh", "-c", script)]
    done = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=DEADLINE, env=environment(), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV, signal.SIGPIPE])
def test_the_signal_is_handed_on(folder: Path, number: signal.Signals) -> None:
    """`run` dies of the signal of which its command died, and says nothing."""
    done = _run(folder, "sh", "-c", f"ulimit -c 0; kill -{number.value} $$")
    assert (done.returncode, done.stdout, done.stderr) == (-number, "", "")


@pytest.mark.parametrize(
    ("command", "status", "reason"),
    [
        ("no-such-command", 127, "No such file or directory"),
        ("./no/such/command", 127, "No such file or directory"),
        ("./debug-not", 126, "Permission denied"),
        ("./", 126, "Permission denied"),
    ],
)
def test_a_command_that_cannot_be_run(folder: Path, command: str, status: int, reason: str) -> None:
    """A command that is not found is 127, and one that cannot be executed 126, in one line."""
    (folder / "debug-not").write_text("no program")
    done = _run(folder, command)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == f"Error: cannot run {command}: {reason}\n"


def test_a_script_without_a_first_line(folder: Path) -> None:
    """An executable script without #! is run by sh, as a shell would."""
    (folder / "script").write_text('echo "$1" $(cat debug/page_pinner/threshold)\n')
    (folder / "script").chmod(0o755)
    done = _run(folder, "./script", "a b")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a b 300000\n", "")


def test_the_command_alone_sees_it(folder: Path) -> None:
    """Not even `run` itself sees the mount, though mounts are shared; what lay there is back afterwards."""
    script = 'ls debug; cat debug/page_pinner/threshold; grep -c "$PWD/debug fuse.pinnerfs" /proc/$PPID/mounts'
    shared = ["unshare", "-m", "--propagation", "shared"] if os.geteuid() == 0 else []
    done = to_its_end([*shared, *PINNERFS, *_arguments(folder, "sh", "-c", script)], cwd=folder)
    assert (done.returncode, done.stdout, done.stderr) == (1, "page_pinner\n300000\n0\n", "")
    assert (folder / "debug" / "something").read_text() == "that was there\n"


def test_over_another_mount(mount: Mounts, folder: Path) -> None:
    """What is mounted at the mount point is hidden meanwhile, and untouched."""
    device = mount(None, "--threshold", "7")
    source = scenario(folder)
    done = pinnerfs("run", source, "--mountpoint", device.path, "--", "cat", device.threshold)
    assert (done.returncode, done.stdout, done.stderr) == (0, "300000\n", "")
    assert device.threshold.read_text() == "7\n"


def test_a_working_folder_in_the_mount_point(folder: Path) -> None:
    """The command keeps the working folder of `run`, and finds the fake from there."""
    (folder / "debug" / "deep").mkdir()
    script = "pwd; cat ../../debug/page_pinner/threshold"
    done = pinnerfs(*_arguments(folder, "sh", "-c", script), cwd=folder / "debug" / "deep")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{folder}/debug/deep\n300000\n", "")


def test_descriptors_are_the_commands_own(folder: Path) -> None:
    """stdin, stdout, stderr and what else was open are there, and nothing more."""
    reader, writer = os.pipe()
    os.write(writer, b"three\n")
    os.close(writer)
    script = "cat; cat <&3 >&2; ls /proc/self/fd"
    command = [*PINNERFS, *_arguments(folder, "sh", "-c", script)]
    done = subprocess.run(
        ["bash", "-c", f'exec 3<&{reader} {reader}<&-; exec "$@"', "bash", *command],
        input="zero\n",
        pass_fds=[reader],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    os.close(reader)
    assert (done.returncode, done.stderr) == (0, "three\n")
    # 4 is the folder that ls itself reads.
    assert done.stdout == "zero\n0\n1\n2\n3\n4\n"


def test_the_command_moves_a_manual_clock(folder: Path) -> None:
    """By echo, and by `pinnerfs ctl`."""
    script = 'echo 2s > debug/.pinnerfs/advance; "$0" -m pinnerfs ctl debug advance 1s; cat debug/page_pinner/l*'
    done = _run(folder, "sh", "-c", script, sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"".join(newest_first(3)).decode(), "")


@pytest.mark.parametrize("options", [("--speed", "2", "--start", "3s"), ("--start", "3s", "--seed", "4")])
def test_options_of_mount(folder: Path, options: tuple[str, ...]) -> None:
    """Those of `mount` that make the device are there: with a start the records are, too."""
    done = pinnerfs(*_arguments(folder, "cat", str(folder / "debug/page_pinner/longterm_pinner"), options=options))
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(b"".join(newest_first(3)).decode())


def test_the_daemon_dies_under_the_command(folder: Path) -> None:
    """The command gets an error and goes on to its own end; `run` says what happened."""
    script = 'kill -9 "$(cat debug/.pinnerfs/pid)"; while cat debug/page_pinner/*; do :; done >&2; exit 5'
    done = _run(folder, "sh", "-c", script)
    assert (done.returncode, done.stdout) == (5, "")
    assert "Transport endpoint is not connected" in done.stderr
    last = "the daemon was killed by signal 9 while the command ran: its files stopped answering"
    assert done.stderr.splitlines()[-1] == last


def test_a_process_is_left_behind(folder: Path) -> None:
    """`run` ends with its command; what that left in the background lives on, without daemon and mount."""
    for name in ("began", "go", "said"):
        os.mkfifo(folder / name)
    behind = (
        "exec 3< debug/page_pinner/threshold; echo > began; read go < go; "
        '{ cat <&3; ls debug; grep -c "$PWD/debug fuse.pinnerfs" /proc/mounts; } > said 2>&1'
    )
    done = _run(folder, "sh", "-c", f"cat debug/.pinnerfs/pid; ({behind}) > log 2>&1 & read began < began")
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
    (folder / "go").write_text("go\n")
    said = subprocess.run(["cat", folder / "said"], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert said.stdout.splitlines()[1:] == ["something", "0"]
    assert said.stdout.startswith("cat: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_forwarded(folder: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGHUP go to the command, which decides."""
    name = number.name.removeprefix("SIG")
    with _started(folder, f'trap "exit 4" {name}; echo ready; while :; do sleep 0.01; done') as process:
        process.send_signal(number)
        assert process.communicate(timeout=DEADLINE) == ("", "")
        assert process.returncode == 4


def test_the_terminals_signals_are_for_the_command(folder: Path) -> None:
    """SIGINT and SIGQUIT do nothing to `run`, and come to a command as deadly as ever."""
    with _started(folder, "echo ready; read line; kill -INT $$") as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGQUIT)
        assert process.communicate("on\n", timeout=DEADLINE) == ("", "")
        assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("ignored", [(), (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD)])
def test_signals_are_inherited(folder: Path, ignored: tuple[signal.Signals, ...]) -> None:
    """The command finds ignored and blocked signals as `run` found them."""

    def before() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1, *ignored[:1]])

    command = ["grep", "-E", "^Sig(Blk|Ign|Pnd)", "/proc/self/status"]
    # Python gives SIGPIPE and SIGXFSZ back to the children of subprocess, as `run` does to its command.
    plain = subprocess.run(command, preexec_fn=before, capture_output=True, text=True, timeout=DEADLINE, check=True)
    done = _run(folder, *command, preexec_fn=before)
    assert (done.returncode, done.stdout, done.stderr) == (0, plain.stdout, "")


def test_job_control(folder: Path) -> None:
    """At a terminal Ctrl-Z stops the job, fg resumes it, and Ctrl-C reaches the command, whose end the shell sees."""
    command = " ".join([*PINNERFS, *_arguments(folder, "sh", "job.sh")])
    # It starts no program: one that is stopped before its exec would keep the shell from stopping (vfork).
    os.mkfifo(folder / "pause")
    (folder / "job.sh").write_text(
        'trap "exit 9" INT; trap "echo resumed" CONT; exec 3<> pause; echo $$ > pid; echo be"gun"; '
        "while :; do read -r x <&3; done\n"
    )
    shell, terminal = pty.fork()
    if shell == 0:
        os.chdir(folder)
        # Printed by the shell's own arithmetic, so that an echo of what was typed is no prompt.
        os.execvpe(
            "bash", ["bash", "--norc", "--noprofile", "-i"], environment() | {"PS1": "prompt$((1))>", "TERM": "dumb"}
        )
    try:
        _until(terminal, "prompt1>")
        os.write(terminal, f"{command}\n".encode())
        _until(terminal, "begun")
        os.write(terminal, b"\x1a")
        assert "Stopped" in _until(terminal, "prompt1>")
        # The command stands still, too; it may do so a moment after `run`, of which the shell has heard.
        _until_stopped(folder)
        os.write(terminal, b"fg; echo left with $?\n")
        _until(terminal, "resumed")
        os.write(terminal, b"\x03")
        assert "left with 9" in _until(terminal, "prompt1>")
    finally:
        os.kill(shell, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(shell, 0)


def _until(terminal: int, text: str) -> str:
    """Return what comes out of a terminal until a text has come."""
    said = b""
    deadline = time.monotonic() + DEADLINE
    while text.encode() not in said:
        left = max(0, deadline - time.monotonic())
        assert select.select([terminal], [], [], left)[0], f"no {text!r} in {said!r}"
        said += os.read(terminal, 4096)
    return said.decode()


def _until_stopped(folder: Path) -> None:
    """Wait until the command that wrote its number to a file there stands still, too."""
    stat = Path("/proc", (folder / "pid").read_text().strip(), "stat")
    deadline = time.monotonic() + DEADLINE
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, "the command was not stopped"
        time.sleep(0.01)


@pytest.fixture
def users_folder() -> Iterator[Path]:
    """A folder that every user can reach, with a scenario and a mount point."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    with tempfile.TemporaryDirectory(prefix="pinnerfs-test-", dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        scenario(folder)
        (folder / "debug").mkdir()
        (folder / "dev").mkdir()
        yield folder


def _as_user(folder: Path, mode: str, command: list[str], setup: str = ":") -> subprocess.CompletedProcess[str]:
    """`run` as user 1000, where /dev/fuse is a device node of the test's own, with this mode."""
    node = folder / "dev" / "fuse"
    outside = (
        f"mount -t tmpfs none {folder}/dev && mknod {node} c 10 229 && chmod {mode} {node} && "
        f'mount --bind {node} /dev/fuse && {setup} && exec "$@"'
    )
    return to_its_end(
        [
            *("unshare", "-m", "--propagation", "private", "sh", "-c", outside, "sh"),
            *(*AS_USER, "1000", *_arguments(folder, *command, options=("--start", "2s"))),
        ],
        cwd=folder,
    )


def test_an_ordinary_user(users_folder: Path) -> None:
    """With an open /dev/fuse an ordinary user runs a command by a user namespace; it sees itself as uid 0."""
    script = (
        "id -u; stat -c '%u %a' debug; echo 5 > debug/page_pinner/threshold; cat debug/page_pinner/threshold; "
        "touch mine; mount -t debugfs none debug 2>/dev/null; exit 6"
    )
    done = _as_user(users_folder, "666", ["sh", "-c", f"cd {users_folder}; {script}"])
    assert (done.returncode, done.stdout) == (6, "0\n0 700\n5\n")
    assert done.stderr == "touch: cannot touch 'mine': Permission denied\n"


def test_a_mount_over_dev() -> None:
    """The daemon needs nothing of what its own mount covers."""
    done = pinnerfs("run", "camera-stall", "--mountpoint", "/dev", "--", "ls", "/dev")
    assert (done.returncode, done.stdout, done.stderr) == (0, "page_pinner\n", "")


def test_a_mount_over_everything() -> None:
    """Over / it would be seen by nobody, so it is refused."""
    done = pinnerfs("run", "camera-stall", "--mountpoint", "/", "--", "ls")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: cannot mount over /: the mount would be hidden; wanted a directory below /\n"


def test_a_user_without_the_device(users_folder: Path) -> None:
    """With a closed /dev/fuse an ordinary user is told what is missing, in one line."""
    done = _as_user(users_folder, "600", ["true"])
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == (
        "Error: cannot open /dev/fuse: Permission denied; wanted a device to read and write (as root: "
        "chmod 666 /dev/fuse; for a container: --device /dev/fuse)\n"
    )


def test_a_user_without_namespaces(folder: Path) -> None:
    """Where neither root's powers nor user namespaces are to be had, the error names what opens them."""
    if os.geteuid() != 0:
        pytest.skip("only root can take its own powers away")
    # Inside of a user namespace the limit is its own.
    closed = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all "$@"'
    done = subprocess.run(
        ["unshare", "-r", "sh", "-c", closed, "sh", *PINNERFS, *_arguments(folder, "true")],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(
        "Error: cannot create a private mount namespace: No space left on device; wanted root"
    )
    assert "user.max_user_namespaces above 0" in done.stderr and done.stderr.count("\n") == 1


def test_a_log(folder: Path) -> None:
    """--log takes what the daemon has to say."""
    log = folder / "log"
    done = pinnerfs(
        *_arguments(folder, "cat", "debug/page_pinner/threshold", options=("--verbose", "--log", str(log))), cwd=folder
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "mounting on " in log.read_text()
    assert not is_mounted(folder / "debug")
