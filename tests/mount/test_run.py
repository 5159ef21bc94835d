"""`pinnerfs run`: only the command sees the mount, and its status, signals and files are passed through."""

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
    run_command,
    scenario,
)

THRESHOLD_SCRIPT = Path(__file__).with_name("threshold.sh")
DEBUGFS = Path("/sys/kernel/debug")
PINNERFS = [sys.executable, "-m", "pinnerfs"]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """Create a directory with a scenario and the mount point `debug`, which is not empty."""
    scenario(tmp_path)
    (tmp_path / "debug").mkdir()
    (tmp_path / "debug" / "something").write_text("that was there\n")
    return tmp_path


def _arguments(directory: Path, *command: str, options: tuple[str, ...] = ("--clock", "manual")) -> list[str]:
    source, mountpoint = str(scenario(directory)), str(directory / "debug")
    return ["run", source, "--mountpoint", mountpoint, *options, "--", *command]


def _run(directory: Path, *command: str, **more: Any) -> subprocess.CompletedProcess[str]:
    """Run a command in the directory with the mount on `debug`."""
    return pinnerfs(*_arguments(directory, *command), cwd=directory, **more)


@contextmanager
def _started(directory: Path, script: str, **more: Any) -> Iterator[subprocess.Popen[str]]:
    """Start a shell script under `pinnerfs run`, and yield once it has printed `ready`."""
    with subprocess.Popen(
        [*PINNERFS, *_arguments(directory, "sh", "-c", script)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=directory,
        env=environment(),
        **more,
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield process
        finally:
            process.kill()


@pytest.mark.skipif(not DEBUGFS.is_dir(), reason="this kernel has no /sys/kernel/debug")
@pytest.mark.parametrize("shell", ["bash", "dash", "busybox sh"])
def test_a_script_for_a_device(shell: str) -> None:
    """A script for a device runs unchanged in each shell. busybox's cat starts with sendfile."""
    done = pinnerfs("run", "camera-stall", "--start", "60s", "--speed", "100", "--", *shell.split(), THRESHOLD_SCRIPT)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.fullmatch(r"\d+ vb2_create_framevec\n", done.stdout)
    assert int(done.stdout.split()[0]) > 0


@pytest.mark.skipif(not DEBUGFS.is_dir(), reason="this kernel has no /sys/kernel/debug")
@pytest.mark.parametrize("shell", ["bash", "dash", "busybox sh"])
def test_a_script_that_fails(shell: str) -> None:
    """On an unexpected device the same script fails with its own message and status."""
    done = pinnerfs("run", "camera-stall", "--threshold", "5", "--", *shell.split(), THRESHOLD_SCRIPT)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", "FAIL: threshold is 5, not 300000\n")


@pytest.mark.parametrize("status", [0, 1, 3, 127, 255])
def test_the_exit_status(directory: Path, status: int) -> None:
    """`run` exits with the status of its command, and prints nothing."""
    done = _run(directory, "sh", "-c", f"exit {status}")
    assert (done.returncode, done.stdout, done.stderr) == (status, "", "")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&- >&- 2>&-"])
def test_closed_standard_files(directory: Path, closed: str) -> None:
    """With closed standard files the command sees the mount, and its status is passed on."""
    script = 'read t < debug/page_pinner/threshold; test "$t" = 300000 && exit 3'
    words = ["sh", "-c", f'exec "$@" {closed}', "sh", *PINNERFS, *_arguments(directory, "sh", "-c", script)]
    done = subprocess.run(
        words, cwd=directory, capture_output=True, text=True, timeout=DEADLINE, env=environment(), check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (3, "", "")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGINT, signal.SIGSEGV, signal.SIGPIPE])
def test_a_signal_that_ends_the_command(directory: Path, number: signal.Signals) -> None:
    """`run` dies of the same signal as its command, and prints nothing."""
    done = _run(directory, "sh", "-c", f"ulimit -c 0; kill -{number.value} $$")
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
def test_a_command_that_cannot_be_run(directory: Path, command: str, status: int, reason: str) -> None:
    """A command that is not found gives status 127, and one that cannot be executed 126, with one line."""
    (directory / "debug-not").write_text("no program")
    done = _run(directory, command)
    assert (done.returncode, done.stdout) == (status, "")
    assert done.stderr == f"Error: cannot run {command}: {reason}\n"


def test_a_script_without_a_first_line(directory: Path) -> None:
    """An executable script without #! is run by sh, as in a shell."""
    (directory / "script").write_text('echo "$1" $(cat debug/page_pinner/threshold)\n')
    (directory / "script").chmod(0o755)
    done = _run(directory, "./script", "a b")
    assert (done.returncode, done.stdout, done.stderr) == (0, "a b 300000\n", "")


def test_only_the_command_sees_the_mount(directory: Path) -> None:
    """Even with shared mounts, `run` itself does not see the mount. The directory is unchanged afterwards."""
    script = 'ls debug; cat debug/page_pinner/threshold; grep -c "$PWD/debug fuse.pinnerfs" /proc/$PPID/mounts'
    shared = ["unshare", "-m", "--propagation", "shared"] if os.geteuid() == 0 else []
    done = run_command([*shared, *PINNERFS, *_arguments(directory, "sh", "-c", script)], cwd=directory)
    assert (done.returncode, done.stdout, done.stderr) == (1, "cma\npage_pinner\n300000\n0\n", "")
    assert (directory / "debug" / "something").read_text() == "that was there\n"


def test_over_another_mount(mount: Mounts, directory: Path) -> None:
    """A mount that was at the mount point before is hidden from the command and not changed."""
    device = mount(None, "--threshold", "7")
    source = scenario(directory)
    done = pinnerfs("run", source, "--mountpoint", device.path, "--", "cat", device.threshold)
    assert (done.returncode, done.stdout, done.stderr) == (0, "300000\n", "")
    assert device.threshold.read_text() == "7\n"


def test_a_working_directory_in_the_mount_point(directory: Path) -> None:
    """The command has the working directory of `run`, and sees the mount from there."""
    (directory / "debug" / "deep").mkdir()
    script = "pwd; cat ../../debug/page_pinner/threshold"
    done = pinnerfs(*_arguments(directory, "sh", "-c", script), cwd=directory / "debug" / "deep")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{directory}/debug/deep\n300000\n", "")


def test_inherited_descriptors(directory: Path) -> None:
    """The command has the descriptors that `run` inherited, and no others."""
    reader, writer = os.pipe()
    os.write(writer, b"three\n")
    os.close(writer)
    script = "cat; cat <&3 >&2; ls /proc/self/fd"
    command = [*PINNERFS, *_arguments(directory, "sh", "-c", script)]
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
    # ls itself opened 4.
    assert done.stdout == "zero\n0\n1\n2\n3\n4\n"


def test_the_command_advances_a_manual_clock(directory: Path) -> None:
    """The command can advance a manual clock, by echo and by `pinnerfs ctl`."""
    script = 'echo 2s > debug/.pinnerfs/advance; "$0" -m pinnerfs ctl debug advance 1s; cat debug/page_pinner/l*'
    done = _run(directory, "sh", "-c", script, sys.executable)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"".join(newest_first(3)).decode(), "")


@pytest.mark.parametrize("options", [("--speed", "2", "--start", "3s"), ("--start", "3s", "--seed", "4")])
def test_options_of_mount(directory: Path, options: tuple[str, ...]) -> None:
    """`run` accepts the options of `mount`, such as --start."""
    done = pinnerfs(
        *_arguments(directory, "cat", str(directory / "debug/page_pinner/longterm_pinner"), options=options)
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.endswith(b"".join(newest_first(3)).decode())


def test_the_daemon_dies(directory: Path) -> None:
    """If the daemon dies, the command gets errors and runs to its end. `run` reports the daemon's end."""
    script = 'kill -9 "$(cat debug/.pinnerfs/pid)"; while cat debug/page_pinner/*; do :; done >&2; exit 5'
    done = _run(directory, "sh", "-c", script)
    assert (done.returncode, done.stdout) == (5, "")
    assert "Transport endpoint is not connected" in done.stderr
    last = "the daemon was killed by signal 9 while the command ran: its files stopped answering"
    assert done.stderr.splitlines()[-1] == last


def test_a_background_process(directory: Path) -> None:
    """`run` ends with its command. A background process of the command stays, without daemon and mount."""
    for name in ("began", "go", "output"):
        os.mkfifo(directory / name)
    background = (
        "exec 3< debug/page_pinner/threshold; echo > began; read go < go; "
        '{ cat <&3; ls debug; grep -c "$PWD/debug fuse.pinnerfs" /proc/mounts; } > output 2>&1'
    )
    done = _run(directory, "sh", "-c", f"cat debug/.pinnerfs/pid; ({background}) > log 2>&1 & read began < began")
    assert (done.returncode, done.stderr) == (0, "")
    with pytest.raises(ProcessLookupError):
        os.kill(int(done.stdout), 0)
    (directory / "go").write_text("go\n")
    output = subprocess.run(["cat", directory / "output"], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert output.stdout.splitlines()[1:] == ["something", "0"]
    assert output.stdout.startswith("cat: ")


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_signals_are_forwarded(directory: Path, number: signal.Signals) -> None:
    """SIGTERM and SIGHUP are forwarded to the command."""
    name = number.name.removeprefix("SIG")
    with _started(directory, f'trap "exit 4" {name}; echo ready; while :; do sleep 0.01; done') as process:
        process.send_signal(number)
        assert process.communicate(timeout=DEADLINE) == ("", "")
        assert process.returncode == 4


def test_sigint_and_sigquit_are_ignored(directory: Path) -> None:
    """`run` ignores SIGINT and SIGQUIT, and its command does not."""
    with _started(directory, "echo ready; read line; kill -INT $$") as process:
        process.send_signal(signal.SIGINT)
        process.send_signal(signal.SIGQUIT)
        assert process.communicate("on\n", timeout=DEADLINE) == ("", "")
        assert process.returncode == -signal.SIGINT


@pytest.mark.parametrize("ignored", [(), (signal.SIGINT, signal.SIGHUP, signal.SIGTERM, signal.SIGCHLD)])
def test_signals_are_inherited(directory: Path, ignored: tuple[signal.Signals, ...]) -> None:
    """The command inherits the ignored and blocked signals of `run`."""

    def before() -> None:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)
        signal.pthread_sigmask(signal.SIG_SETMASK, [signal.SIGUSR1, *ignored[:1]])

    command = ["grep", "-E", "^Sig(Blk|Ign|Pnd)", "/proc/self/status"]
    # subprocess restores SIGPIPE and SIGXFSZ in its children, as `run` does for its command.
    plain = subprocess.run(command, preexec_fn=before, capture_output=True, text=True, timeout=DEADLINE, check=True)
    done = _run(directory, *command, preexec_fn=before)
    assert (done.returncode, done.stdout, done.stderr) == (0, plain.stdout, "")


def test_job_control(directory: Path) -> None:
    """In a terminal, Ctrl-Z stops the job, fg resumes it, and Ctrl-C reaches the command."""
    command = " ".join([*PINNERFS, *_arguments(directory, "sh", "job.sh")])
    # The script starts no programs: a program that is stopped before its exec blocks the shell (vfork).
    os.mkfifo(directory / "pause")
    (directory / "job.sh").write_text(
        'trap "exit 9" INT; trap "echo resumed" CONT; exec 3<> pause; echo $$ > pid; echo be"gun"; '
        "while :; do read -r x <&3; done\n"
    )
    shell, terminal = pty.fork()
    if shell == 0:
        os.chdir(directory)
        # The prompt has arithmetic, so an echo of the input cannot be taken for a prompt.
        os.execvpe(
            "bash", ["bash", "--norc", "--noprofile", "-i"], environment() | {"PS1": "prompt$((1))>", "TERM": "dumb"}
        )
    try:
        _read_until(terminal, "prompt1>")
        os.write(terminal, f"{command}\n".encode())
        _read_until(terminal, "begun")
        os.write(terminal, b"\x1a")
        assert "Stopped" in _read_until(terminal, "prompt1>")
        # The shell waits only for `run`. The command may stop a moment later.
        _wait_until_stopped(directory)
        os.write(terminal, b"fg; echo status $?\n")
        _read_until(terminal, "resumed")
        os.write(terminal, b"\x03")
        assert "status 9" in _read_until(terminal, "prompt1>")
    finally:
        os.kill(shell, signal.SIGKILL)
        os.close(terminal)
        os.waitpid(shell, 0)


def _read_until(terminal: int, text: str) -> str:
    """Read from a terminal up to this text, and return what was read."""
    output = b""
    deadline = time.monotonic() + DEADLINE
    while text.encode() not in output:
        left = max(0, deadline - time.monotonic())
        assert select.select([terminal], [], [], left)[0], f"no {text!r} in {output!r}"
        output += os.read(terminal, 4096)
    return output.decode()


def _wait_until_stopped(directory: Path) -> None:
    """Wait until the process whose PID is in the file `pid` is stopped."""
    stat = Path("/proc", (directory / "pid").read_text().strip(), "stat")
    deadline = time.monotonic() + DEADLINE
    while stat.read_text().rpartition(")")[2].split()[0] != "T":
        assert time.monotonic() < deadline, "the command was not stopped"
        time.sleep(0.01)


@pytest.fixture
def users_directory() -> Iterator[Path]:
    """Create a directory that every user can enter, with a scenario and a mount point."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")
    with tempfile.TemporaryDirectory(prefix="pinnerfs-test-", dir="/tmp") as name:
        directory = Path(name)
        directory.chmod(0o755)
        scenario(directory)
        (directory / "debug").mkdir()
        (directory / "dev").mkdir()
        yield directory


def _as_user(directory: Path, mode: str, command: list[str], setup: str = ":") -> subprocess.CompletedProcess[str]:
    """Run `pinnerfs run` as user 1000, with a /dev/fuse of this mode."""
    node = directory / "dev" / "fuse"
    outside = (
        f"mount -t tmpfs none {directory}/dev && mknod {node} c 10 229 && chmod {mode} {node} && "
        f'mount --bind {node} /dev/fuse && {setup} && exec "$@"'
    )
    return run_command(
        [
            *("unshare", "-m", "--propagation", "private", "sh", "-c", outside, "sh"),
            *(*AS_USER, "1000", *_arguments(directory, *command, options=("--start", "2s"))),
        ],
        cwd=directory,
    )


def test_an_ordinary_user(users_directory: Path) -> None:
    """An ordinary user with access to /dev/fuse gets a user namespace, in which the command has uid 0."""
    script = (
        "id -u; stat -c '%u %a' debug; echo 5 > debug/page_pinner/threshold; cat debug/page_pinner/threshold; "
        "touch mine; mount -t debugfs none debug 2>/dev/null; exit 6"
    )
    done = _as_user(users_directory, "666", ["sh", "-c", f"cd {users_directory}; {script}"])
    assert (done.returncode, done.stdout) == (6, "0\n0 700\n5\n")
    assert done.stderr == "touch: cannot touch 'mine': Permission denied\n"


def test_a_mount_over_dev() -> None:
    """The mount can cover /dev, because the daemon does not need it any more."""
    done = pinnerfs("run", "camera-stall", "--mountpoint", "/dev", "--", "ls", "/dev")
    assert (done.returncode, done.stdout, done.stderr) == (0, "cma\npage_pinner\n", "")


def test_a_mount_over_the_root() -> None:
    """A mount over / is refused, because no process would see it."""
    done = pinnerfs("run", "camera-stall", "--mountpoint", "/", "--", "ls")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == "Error: cannot mount over /: the mount would be hidden; wanted a directory below /\n"


def test_a_user_without_the_device(users_directory: Path) -> None:
    """An ordinary user without access to /dev/fuse gets an error with the remedy."""
    done = _as_user(users_directory, "600", ["true"])
    assert (done.returncode, done.stdout) == (NO_FUSE, "")
    assert done.stderr == (
        "Error: cannot open /dev/fuse: Permission denied; wanted a device to read and write (as root: "
        "chmod 666 /dev/fuse; for a container: --device /dev/fuse)\n"
    )


def test_a_user_without_namespaces(directory: Path) -> None:
    """Without root and without user namespaces, the error names the setting that allows them."""
    if os.geteuid() != 0:
        pytest.skip("only root can drop its capabilities")
    # A user namespace has its own limit.
    closed = 'echo 0 > /proc/sys/user/max_user_namespaces && exec setpriv --bounding-set=-all "$@"'
    done = subprocess.run(
        ["unshare", "-r", "sh", "-c", closed, "sh", *PINNERFS, *_arguments(directory, "true")],
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


def test_a_log(directory: Path) -> None:
    """With --log the daemon logs to the file."""
    log = directory / "log"
    # The daemon handles the close before the next read.
    script = "exec 3< debug/page_pinner/longterm_pinner; exec 3<&-; cat debug/page_pinner/threshold"
    done = pinnerfs(*_arguments(directory, "sh", "-c", script, options=("--verbose", "--log", str(log))), cwd=directory)
    assert (done.returncode, done.stderr) == (0, "")
    assert "mounting on " in log.read_text()
    assert not is_mounted(directory / "debug")
