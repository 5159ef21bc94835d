"""The process that forks daemons: they inherit what processes of `pinnerfs mount` would, and nothing is left."""

from __future__ import annotations

import os
import re
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnerfs import forkserver
from pinnerfs.errors import PinnerfsError
from pinnerfs.forkserver import run_forked
from pinnerfs.mounting import MountedDevice, mounted
from pinnerfs.mounts.unmount import unmount_below
from tests.mount.conftest import machine_can_mount
from tests.mount.family import Family, ended
from tests.mount.support import DEADLINE, ROOT, is_mounted

__all__ = ["machine_can_mount"]

pytestmark = pytest.mark.mount


def pid_of(device: MountedDevice) -> int:
    return int(device.read("pid"))


def parent_of(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])


def forked(directory: str, arguments: list[str]) -> tuple[int, str]:
    """Run a command in a fork, and return its exit status and its stderr."""
    status, text, serving = run_forked(directory, arguments, DEADLINE)
    os.close(serving)
    return status, text


def python(code: str, family: Family) -> subprocess.CompletedProcess[str]:
    """Run a program that uses this checkout."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=family.environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )


@pytest.fixture
def family(request: pytest.FixtureRequest) -> Iterator[Family]:
    """The processes of a program, which are gone when it has ended."""
    family = Family(request.node.name)
    with family.cleared_away():
        yield family
        assert family.left() == []


# The facts about the daemon of a device, except those that differ from daemon to daemon.
FACTS = """
import ctypes, os, re, resource, signal, subprocess, sys, tempfile
from pathlib import Path
from pinnerfs import Client, mounted

def facts(device):
    device.clock()  # all is imported
    process = Path("/proc") / str(int(device.read("pid")))
    status = (process / "status").read_text()
    names = "Umask|Uid|Gid|Groups|NoNewPrivs|Seccomp|Threads|Cap[A-Z][a-z]+|Cpus_allowed"
    signals = re.findall(r"^(Sig(?:Blk|Ign|Cgt)):\\t(\\w+)", status, re.MULTILINE)
    files = sorted(os.readlink(process / "fd" / number) for number in os.listdir(process / "fd"))
    files = [re.sub(r"\\d+|/tmp/.*|.*/log", "*", file) for file in files]
    return {
        "status": re.findall(rf"^(?:{names}):.*", status, re.MULTILINE),
        "signals": [(name, int(mask, 16) & 0x7fffffff) for name, mask in signals],  # those above are of the C library
        "files": files,
        "limits": (process / "limits").read_text(),
        "links": [os.readlink(process / name) for name in ("cwd", "root", "ns/mnt", "ns/user")],
        "nice": os.getpriority(os.PRIO_PROCESS, int(process.name)),
        "session": os.getsid(int(process.name)) == int(process.name),
    }

def forked():
    with mounted() as device:
        found = facts(device)
    # Those of its next request, and of the end of this mount.
    found["files"].remove("socket:[*]")
    found["files"].remove("pipe:[*]")
    return found

def executed():
    with tempfile.TemporaryDirectory() as name:
        command = [sys.executable, "-m", "pinnerfs"]
        place = Path(name) / "mnt"
        place.mkdir()
        log = ["--log", f"{name}/log"]
        done = subprocess.run([*command, "mount", "camera-stall", place, "--clock=manual", *log], cwd=name)
        assert done.returncode == 0
        try:
            return facts(Client(place))
        finally:
            subprocess.run([*command, "umount", place], check=True)

def same():
    one, other = forked(), executed()
    assert one == other, f"{one}\\n{other}"
    return one
"""


def test_a_daemon_is_as_that_of_a_command(family: Family) -> None:
    """A forked daemon has the files, limits, signals and privileges of one that `pinnerfs mount` started."""
    done = python(f"{FACTS}\nassert same()['session']", family)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    "change",
    [
        "os.umask(0o031)",
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)",
        "signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])",
        "resource.setrlimit(resource.RLIMIT_NOFILE, (200, 300))",
        "os.nice(1)",
        "os.set_inheritable(os.open('/', os.O_RDONLY), True)",
        "os.chdir('/usr')",
        "os.closerange(0, 1)",
        "pass",
    ],
)
def test_a_change_before_a_mount(change: str, family: Family) -> None:
    """What a program changes between two mounts has the effect on the second that it has on `pinnerfs mount`."""
    done = python(f"{FACTS}\nforked()\n{change}\nsame()", family)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_mount_namespace(family: Family) -> None:
    """A mount after unshare(2) is in the new mount namespace."""
    if os.geteuid() != 0:
        pytest.skip("only root can unshare a mount namespace alone")
    done = python(f"{FACTS}\nforked()\nctypes.CDLL(None).unshare(0x20000)\nsame()", family)
    assert (done.returncode, done.stderr) == (0, "")


def test_another_user(family: Family, tmp_path: Path) -> None:
    """A mount after a change of the user is that user's, and fails with the error of `pinnerfs mount`."""
    if os.geteuid() != 0:
        pytest.skip("only root can change its user")
    code = """
import os
from pinnerfs import PinnerfsError, mounted
with mounted():
    pass
os.environ["PATH"] = "/nowhere"
os.seteuid(65534)
try:
    with mounted():
        pass
except PinnerfsError as error:
    print(error)
os.seteuid(0)
with mounted() as device:
    device.advance("1s")
"""
    done = python(code, family)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "cannot find fusermount in PATH (Debian and Ubuntu: install fuse3)\n"


def test_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command has the environment of its request, also an undecodable variable, and its exit status is returned."""
    monkeypatch.setenv("PINNERFS_TEST", "a\nb=\udcff")
    monkeypatch.delenv("HOME", raising=False)
    script = 'printf "%s %s" "$PINNERFS_TEST" "${HOME-none}" > seen; pwd >&2; exit 3'
    (tmp_path / "debug").mkdir()
    place = ["--mountpoint", str(tmp_path / "debug")]
    arguments = ["run", "quiet-device", *place, "--", "sh", "-c", script]
    with mounted() as first:
        server = parent_of(pid_of(first))
        # In another fork: one that has served a mount has not the privileges for `run` any more.
        assert forked(str(tmp_path), arguments) == (3, f"{tmp_path}\n")
    assert (tmp_path / "seen").read_bytes() == b"a\nb=\xff none"
    with mounted() as second:
        assert parent_of(pid_of(second)) == server


def test_an_embedded_null_byte() -> None:
    """A null byte in an argument is a ValueError, as subprocess raises it, and the next request works."""
    with pytest.raises(ValueError, match="embedded null byte"):
        run_forked("/", ["check", "a\0b"], DEADLINE)
    assert forked("/", ["check", "camera-stall"]) == (0, "")


def test_a_server_that_was_killed() -> None:
    """After its process was killed, a mount goes on, and the next one starts a new process."""
    with mounted() as one:
        server = parent_of(pid_of(one))
        os.kill(server, signal.SIGKILL)
        assert ended(server, DEADLINE)
        with mounted() as other:
            other.advance("1s")
            assert parent_of(pid_of(other)) != server
        one.advance("1s")


def test_a_server_that_dies_while_it_mounts() -> None:
    """If its process dies before the answer, the error says so, and the next mount works."""
    with mounted() as device:
        server = parent_of(pid_of(device))
    os.kill(server, signal.SIGSTOP)

    # Any moment is right: the server answers nothing any more.
    killer = threading.Timer(0.1, os.kill, (server, signal.SIGKILL))
    killer.start()
    message = r"^the process that starts the daemons was killed by signal 9$"
    with pytest.raises(PinnerfsError, match=message), mounted():
        pytest.fail("it has mounted")
    killer.join(DEADLINE)
    with mounted() as device:
        device.advance("1s")


@pytest.mark.parametrize(
    ("code", "reason"),
    [
        ("raise SystemExit('no numpy here')", r"no numpy here"),
        ("raise ImportError('no numpy here')", r"cannot import numpy: no numpy here; [^\n]*"),
    ],
)
def test_a_server_that_cannot_start(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, code: str, reason: str) -> None:
    """If Python cannot import what a mount needs, the error has its reason."""
    (tmp_path / "numpy").mkdir()
    (tmp_path / "numpy" / "__init__.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{ROOT}")
    with pytest.raises(PinnerfsError, match=f"^{reason}$") as error, mounted():
        pytest.fail("it has mounted")
    assert error.value.exit_status == 1


def test_threads_that_mount_at_once() -> None:
    """Threads of one process can mount at the same time."""
    roots: list[Path] = []

    def work() -> None:
        with mounted() as device:
            device.advance("1s")
            roots.append(device.root)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(DEADLINE)
    assert len(set(roots)) == 4


def test_a_fork_of_the_process(family: Family) -> None:
    """A fork of a process that has mounted mounts by a process of its own, and leaves that of its parent alone."""
    code = """
import os
from pinnerfs import mounted
def parent_of(device):
    with open(f"/proc/{int(device.read('pid'))}/stat") as file:
        return file.read().rpartition(")")[2].split()[1]
with mounted() as device:
    server = parent_of(device)
    child = os.fork()
    if child == 0:
        with mounted() as other:
            assert parent_of(other) != server
            other.advance("1s")
        os._exit(7)  # the block around it is the parent's
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    device.advance("1s")
with mounted() as device:
    assert parent_of(device) == server
"""
    done = python(code, family)
    assert (done.returncode, done.stderr) == (0, "")


def test_nothing_is_left_after_the_end(family: Family) -> None:
    """When a program has ended, the process that forked its daemons has ended, too."""
    done = python("from pinnerfs import mounted\nwith mounted(): pass", family)
    assert (done.returncode, done.stderr) == (0, "")
    assert family.members() == []


# Prints the pids of the server and the daemon and the mount, and waits for its end.
LEFT = """
import signal
from pinnerfs import mounted
with mounted() as device:
    daemon = int(device.read("pid"))
    server = open(f"/proc/{daemon}/stat").read().rpartition(")")[2].split()[1]
    print(server, daemon, device.root, flush=True)
    signal.pause()
"""


@pytest.mark.parametrize("stopped", [False, True], ids=["running", "a stopped daemon"])
def test_a_program_that_is_killed(family: Family, stopped: bool) -> None:
    """When a program is killed, its mounts and their daemons end, even a daemon that is stopped, and their directories.

    Their end needs no other run.
    """
    command = [sys.executable, "-c", LEFT]
    with subprocess.Popen(command, env=family.environment(), stdout=subprocess.PIPE, text=True) as program:
        try:
            assert program.stdout is not None
            server, daemon, root = program.stdout.readline().split()
            if stopped:
                os.kill(int(daemon), signal.SIGSTOP)
            process = os.pidfd_open(int(server))
        finally:
            program.kill()
    assert select.select([process], [], [], DEADLINE)[0]
    os.close(process)
    assert ended(int(daemon), DEADLINE)
    assert not is_mounted(Path(root)) and not Path(root).parent.exists()


# Does what a fork does, in this process, and prints the modules that it imports until the mount answers.
LOADED = """
import os, sys
from pinnerfs.cli import forkserver, main
forkserver._load()
before, out = {*sys.modules}, os.dup(1)

def ready():
    os.write(out, " ".join(sorted({*sys.modules} - before)).encode())
    os._exit(0)

os.setsid = lambda: None
sys.argv = ["pinnerfs", "mount", "--clock=manual", "camera-stall", sys.argv[1]]
main(ready)
"""


def test_all_is_imported_before_the_fork(tmp_path: Path, family: Family) -> None:
    """A fork imports nothing until its mount answers: that would take time in each of them."""
    (tmp_path / "mnt").mkdir()
    done = subprocess.run(
        [sys.executable, "-c", LOADED, tmp_path / "mnt"],
        env=family.environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    unmount_below(str(tmp_path / "mnt"))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_nothing_heavy_is_imported() -> None:
    """The client imports neither subprocess nor numpy: importing `mounted` has to stay fast."""
    code = "import sys, pinnerfs.forkserver; print(*sorted({'numpy', 'subprocess', 'click'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert done.stdout == "\n"
    assert re.fullmatch(r"pinnerfs\.cli\.\w+", forkserver._MODULE)


def test_one_mount_after_the_other() -> None:
    """A daemon that was unmounted serves the next mount, which has nothing of the one before."""
    facts = []
    for number in range(3):
        with mounted("camera-stall", seed=number % 2) as device:
            pid = pid_of(device)
            before = device.clock(), device.threshold, device.stats(), device.read("inject"), device.read("error")
            names = Path(f"/proc/{pid}/comm").read_text(), len(os.listdir(f"/proc/{pid}/fd"))
            device.advance("20s")
            device.inject("removeall")
            facts.append((pid, before, names[1], device.stats(), device.text()))
            assert names[0].startswith("pinnerfs-") and names[0] != "pinnerfs-idle\n"
            device.do("pin task=camera pages=4 hold=1h")
            device.inject("add,op=read,file=longterm_pinner,errno=EIO")
            device.threshold = "1ms"
            with pytest.raises(PinnerfsError):
                device.do("nonsense")
    assert facts[0] == facts[2] != facts[1]
    assert facts[0][0] == facts[1][0]


def test_mounts_at_the_same_time() -> None:
    """A daemon serves one mount at a time."""
    with mounted() as one, mounted() as other:
        pids = {pid_of(one), pid_of(other)}
    assert len(pids) == 2
    with mounted() as one, mounted() as other:
        assert {pid_of(one), pid_of(other)} == pids


def test_a_daemon_that_was_killed() -> None:
    """After its daemon was killed, a mount reports that at its end, and the next one has another daemon."""
    with pytest.raises(PinnerfsError, match=r"^the daemon died before the unmount"), mounted() as device:
        killed = pid_of(device)
        os.kill(killed, signal.SIGKILL)
        assert ended(killed, DEADLINE)
    with mounted() as device:
        device.advance("1s")
        assert pid_of(device) != killed


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_daemon_that_ends_by_a_signal(number: signal.Signals) -> None:
    """A daemon that a signal ends does not serve the next mount."""
    for _ in range(10):
        try:
            with mounted() as device:
                device.advance("1s")
                os.kill(pid_of(device), number)
        except PinnerfsError as error:
            assert str(error).startswith("the daemon died before the unmount; ")


def test_many_open_files(family: Family) -> None:
    """A program that has opened more files than select(2) takes can mount."""
    code = """
import os, resource
from pinnerfs import mounted
most = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
resource.setrlimit(resource.RLIMIT_NOFILE, (min(most, 2000), most))
files = [os.open("/", os.O_RDONLY) for _ in range(min(most, 2000) - 100)]
with mounted() as device:
    device.advance("1s")
"""
    done = python(code, family)
    assert (done.returncode, done.stderr) == (0, "")


def test_an_idle_daemon_that_was_killed() -> None:
    """After a daemon was killed between two mounts, the next mount has another one."""
    with mounted() as device:
        killed = pid_of(device)
    os.kill(killed, signal.SIGKILL)
    assert ended(killed, DEADLINE)
    with mounted() as device:
        device.advance("1s")
        assert pid_of(device) != killed


def test_a_file_that_stays_open() -> None:
    """If a program keeps a file of a mount open, its daemon is ended with the mount, and the next one has another."""
    with mounted() as device:
        busy = pid_of(device)
        descriptor = os.open(device.root / "page_pinner" / "threshold", os.O_RDONLY)
    assert ended(busy, DEADLINE)
    os.close(descriptor)
    with mounted() as device:
        assert pid_of(device) != busy
