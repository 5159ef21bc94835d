"""`pinnerfs run --android`: the command sees a phone's files and programs, and nothing is created on the machine."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from tests.mount.support import AS_USER, DEADLINE, environment, pinnerfs, run_command
from tests.workload.stories import source as scenario_of
from tests.workload.stories import task

pytestmark = pytest.mark.skipif(not Path("/sys/kernel/debug").is_dir(), reason="this kernel has no /sys/kernel/debug")

MEMORY = """
[memory]
size = "64MiB"
base_pfn = 0x8000
region = [
    { name = "normal", size = "32MiB", flags = ["uptodate", "lru", "swapbacked"] },
    { name = "face", size = "32MiB", migratetype = "CMA", cma = "faceauth_tpu" },
]
"""
SCENARIO = scenario_of(task("driver", 'for = "8000h", every = "1s", hold = "400ms"'), memory=MEMORY)
BUFINFO = (
    "\nDma-buf Objects:\n{titles}\n\nTotal 0 objects, 0 bytes\n",
    "size    \tflags   \tmode    \tcount   \texp_name\tino     ",
)
NOTES = re.compile(r"--android: no (?:commands of toybox|/system/bin/sh): cannot find .*\n")
MOUNTS = " /(sys/kernel/(debug|mm/cma|pixel_stat/mm/cma)|proc/vmstat) .* fuse.pinnerfs "
AREA = "/sys/kernel/pixel_stat/mm/cma/faceauth_tpu"

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can act as another user and change mounts")


def _needs(*programs: str) -> None:
    for program in programs:
        if shutil.which(program) is None:
            pytest.skip(f"{program} is missing")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """Write the scenario, and return its path."""
    path = tmp_path / "phone.toml"
    path.write_text(SCENARIO)
    return path


def _arguments(source: Path, *command: str) -> list[str]:
    return ["run", "--android", str(source), "--start", "3s", "--clock", "manual", *command]


def _run(source: Path, script: str, *options: str, **more: object) -> subprocess.CompletedProcess[str]:
    """Run a script with --android. Notes about programs that this machine lacks are not in its stderr."""
    done = pinnerfs(*_arguments(source, *options, "--", "sh", "-c", script), **{"cwd": source.parent} | more)
    return subprocess.CompletedProcess(done.args, done.returncode, done.stdout, NOTES.sub("", done.stderr))


def test_the_short_path(source: Path) -> None:
    """/d is a link to the fake debugfs, which has no ion/."""
    done = _run(source, "readlink /d; ls /d/; cat /d/page_pinner/threshold; ls /d/ion 2>/dev/null; pwd; exit 7")
    assert (done.returncode, done.stderr) == (7, "")
    assert done.stdout.split() == ["/sys/kernel/debug", "cma", "dma_buf", "page_pinner", "300000", str(source.parent)]


def test_the_short_path_to_another_mount_point(source: Path) -> None:
    """With --mountpoint, /d is a link to that directory."""
    (source.parent / "debug").mkdir()
    done = _run(source, "readlink /d; cat /d/page_pinner/threshold", "--mountpoint", "debug")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{source.parent}/debug\n300000\n", "")


@pytest.mark.parametrize("kernel", GENERATIONS)
def test_bufinfo(source: Path, kernel: str) -> None:
    """dma_buf/bufinfo has the text of a kernel without buffers. Linux 5.18 added the title of the last column."""
    done = _run(source, "cat /d/dma_buf/bufinfo", "--kernel", kernel)
    titles = BUFINFO[1] + ("\tname" if kernel in ("android14-6.1", "android15-6.6") else "")
    assert (done.returncode, done.stdout, done.stderr) == (0, BUFINFO[0].format(titles=titles), "")


def test_only_with_the_option(source: Path) -> None:
    """Without --android the command sees none of this."""
    script = "ls /sys/kernel/debug/dma_buf /sys/kernel/pixel_stat 2>/dev/null; ls /sys/kernel/debug"
    done = pinnerfs("run", source, "--", "sh", "-c", script)
    assert done.stdout == "cma\npage_pinner\n"


def test_the_machine_stays_as_it_is(source: Path) -> None:
    """The root directory of the command is read-only, and nothing is created on the machine."""
    before = {path: sorted(os.listdir(path)) for path in ("/", "/sys/kernel", "/sys/kernel/mm")}
    done = _run(source, "ls -d /d /sys/kernel/pixel_stat/mm/cma/*; echo > /x; ls /x; echo y > new; cat new")
    assert done.stdout == f"/d\n{AREA}\ny\n"
    assert "Read-only file system" in done.stderr or "read-only file system" in done.stderr
    assert {path: sorted(os.listdir(path)) for path in before} == before
    assert (source.parent / "new").read_text() == "y\n"


def test_what_the_machine_has(source: Path) -> None:
    """The command sees the same files in the root directory and in /sys/kernel as the machine has."""
    done = _run(source, "ls -A /; echo; ls -A /sys/kernel; echo; stat -c %a / /sys/kernel /usr")
    root, kernel, modes = (set(part.split()) for part in done.stdout.split("\n\n"))
    assert root - {"d", "system", "vendor"} == {*os.listdir("/")} - {"d", "system", "vendor"}
    assert kernel - {"pixel_stat"} == {*os.listdir("/sys/kernel")} - {"pixel_stat"}
    assert modes == {f"{os.stat(path).st_mode & 0o7777:o}" for path in ("/", "/sys/kernel", "/usr")}


@pytest.mark.parametrize("first", ["#!/system/bin/sh", "#!/vendor/bin/sh"])
def test_a_script_of_a_phone(source: Path, first: str) -> None:
    """A script with the first line of a phone's runs in mksh, with the commands of toybox."""
    _needs("mksh", "toybox")
    script = source.parent / "script"
    script.write_text(f'{first}\necho "$KSH_VERSION"\nwhich cat ls sh\nreadlink /vendor/bin\n')
    script.chmod(0o755)
    done = pinnerfs(*_arguments(source, "--", str(script)), cwd=source.parent)
    assert (done.returncode, done.stderr) == (0, "")
    version, *rest = done.stdout.splitlines()
    assert "MIRBSD KSH" in version
    assert rest == ["/system/bin/cat", "/system/bin/ls", "/system/bin/sh", "/system/bin"]


def test_the_commands_of_toybox(source: Path) -> None:
    """/system/bin has a link for each command of toybox, and the rest of PATH is as before."""
    _needs("mksh", "toybox")
    done = pinnerfs(*_arguments(source, "--", "sh", "-c", "ls /system/bin; echo $PATH"))
    *names, path = done.stdout.split()
    listed = subprocess.run(["toybox"], capture_output=True, text=True, timeout=DEADLINE, check=True)
    assert {*names} == {*listed.stdout.split(), "toybox", "mksh", "sh"}
    assert path == "/system/bin:" + environment()["PATH"]


def test_without_mksh_and_toybox(source: Path, tmp_path: Path) -> None:
    """Programs that are not installed are named, and the rest is there."""
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ("sh", "cat"):
        (programs / name).symlink_to(shutil.which(name) or name)
    command = shlex.join(
        [sys.executable, "-m", "pinnerfs", *_arguments(source, "--", "cat", "/d/page_pinner/threshold")]
    )
    done = run_command(["sh", "-c", f"PATH={programs}; exec {command}"])
    assert (done.returncode, done.stdout) == (0, "300000\n")
    assert done.stderr.splitlines() == [
        "--android: no commands of toybox: cannot find toybox in PATH (Debian and Ubuntu: install toybox)",
        "--android: no /system/bin/sh: cannot find mksh in PATH (Debian and Ubuntu: install mksh)",
    ]


@pytest.mark.parametrize(
    ("broken", "line"), [("exit 3", "returned non-zero exit status 3"), ("kill -9 $$", "died with <Signals.SIGKILL")]
)
def test_a_toybox_that_fails(source: Path, tmp_path: Path, broken: str, line: str) -> None:
    """If toybox cannot list its commands, that is named, and the rest is there."""
    (tmp_path / "toybox").write_text(f"#!/bin/sh\n{broken}\n")
    (tmp_path / "toybox").chmod(0o755)
    command = shlex.join(
        [sys.executable, "-m", "pinnerfs", *_arguments(source, "--", "cat", "/d/page_pinner/threshold")]
    )
    done = run_command(["sh", "-c", f"PATH={tmp_path}:$PATH; exec {command}"])
    assert (done.returncode, done.stdout) == (0, "300000\n")
    errors = NOTES.sub("", done.stderr)
    assert errors.startswith("--android: no commands of toybox: cannot list them: ") and line in errors
    assert errors.count("\n") == 1


# Runs pinnerfs where no file system can be created but that of FUSE.
WITHOUT_TMPFS = """
import errno, os
import pinnerfs.cli, pinnerfs.mounts.mirror

def new_mount(*_):
    raise OSError(errno.EPERM, os.strerror(errno.EPERM))

pinnerfs.mounts.mirror.new_mount = new_mount
pinnerfs.cli.main()
"""


def test_without_a_private_root(source: Path) -> None:
    """If the command cannot have a root directory of its own, that is named, and the rest is there."""
    script = "cat /sys/kernel/debug/dma_buf/bufinfo; grep -c cma_alloc /proc/vmstat; exit 5"
    done = run_command([sys.executable, "-c", WITHOUT_TMPFS, *_arguments(source, "--", "sh", "-c", script)])
    assert done.returncode == 5
    assert done.stdout.endswith("Total 0 objects, 0 bytes\n2\n")
    errors = NOTES.sub("", done.stderr).splitlines()
    assert errors[0] == (
        "--android: no /d, no /system/bin, no /sys/kernel/pixel_stat: cannot make a private root directory: "
        "Operation not permitted"
    )
    assert "--android: no /sys/kernel/pixel_stat/mm/cma of the fake device: No such file or directory" in errors


def test_a_mirror_that_fails(source: Path) -> None:
    """If the private root directory fails half-way, the command has the machine's own."""
    failing = WITHOUT_TMPFS.replace("mirror.new_mount = new_mount", "mirror.set_read_only = new_mount")
    script = 'ls -d "$PWD"; echo > new; cat new; ls -d /system /usr; grep -c " / / .* pinnerfs " /proc/self/mountinfo'
    done = run_command(
        [sys.executable, "-c", failing, *_arguments(source, "--", "sh", "-c", script)], cwd=source.parent
    )
    assert done.stdout == f"{source.parent}\n\n/usr\n0\n"
    assert "cannot make a private root directory: Operation not permitted" in done.stderr


def test_vmstat(source: Path) -> None:
    """/proc/vmstat has the machine's counters, and those of the device where a kernel has them."""
    names = [line.split()[0] for line in Path("/proc/vmstat").read_text().splitlines()]
    others = [name for name in names if not name.startswith("cma_alloc_")]
    at = others.index("unevictable_pgs_culled") if "unevictable_pgs_culled" in others else len(others)
    done = _run(source, "cat /proc/vmstat")
    shown = dict(line.split() for line in done.stdout.splitlines())
    assert list(shown) == [*others[:at], "cma_alloc_success", "cma_alloc_fail", *others[at:]]
    assert (shown["cma_alloc_success"], shown["cma_alloc_fail"]) == ("0", "0")
    assert int(shown["pgfault"]) > 0


def test_the_sizes_of_counters(source: Path) -> None:
    """stat shows a page for each file of sysfs."""
    done = _run(source, f"stat -c %s {AREA}/* /sys/kernel/mm/cma/*/*")
    assert (done.returncode, done.stdout) == (0, "4096\n" * 11)


def test_the_bounds_of_a_pixel(source: Path) -> None:
    """The bounds of Pixel's latencies can be written, in ms, as long as low is below mid."""
    script = f"""
    cd {AREA}
    for write in 'low 600' 'mid 700' 'low 700' 'mid 600' 'low x' 'mid -1' 'low 0x10' 'low +1' \
        'mid 18446744073709551615' 'mid 18446744073709551616'; do
        echo ${{write#* }} 2>/dev/null >latency_${{write% *}}_bound && echo "$write"
    done 2>/dev/null
    cat latency_*_bound; echo 1 2>/dev/null > fail_pages || echo refused; ls
    """
    done = _run(source, script)
    accepted = "low 600\nmid 700\nlow +1\nmid 18446744073709551615\n"
    files = "alloc_pages_attempts alloc_pages_failfast_attempts fail_failfast_pages fail_pages latency_high latency_low"
    assert done.stdout == f"{accepted}1\n18446744073709551615\nrefused\n" + "\n".join(
        [*files.split(), "latency_low_bound", "latency_mid", "latency_mid_bound", ""]
    )


@pytest.mark.parametrize("where", ["/", "/sys/kernel", "/proc", "/tmp"])
def test_the_working_directory(source: Path, where: str) -> None:
    """The command has the working directory of `run`, also one that becomes a mirror."""
    done = _run(source, "pwd; /bin/pwd; echo */ >/dev/null", cwd=where)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{where}\n{where}\n", "")


def test_a_deleted_working_directory(source: Path) -> None:
    """The command runs in a working directory that was deleted."""
    command = shlex.join(
        [sys.executable, "-m", "pinnerfs", *_arguments(source, "--", "cat", "/d/page_pinner/threshold")]
    )
    done = run_command(["sh", "-c", f"mkdir gone; cd gone; rmdir ../gone; exec {command}"], cwd=source.parent)
    assert (done.returncode, done.stdout, NOTES.sub("", done.stderr)) == (0, "300000\n", "")


def test_a_mask_of_the_user(source: Path) -> None:
    """The directories of the private root are open to all users, whatever the umask is, which the command keeps."""
    done = _run(source, "umask; stat -c %a / /sys/kernel /sys/kernel/pixel_stat/mm", preexec_fn=lambda: os.umask(0o77))
    mask, *modes = done.stdout.split()
    assert (int(mask, 8), modes) == (0o77, ["755", "755", "755"])


def test_a_command_that_is_not_found(source: Path) -> None:
    """A command that is not found is the error that it is without --android."""
    done = pinnerfs(*_arguments(source, "--", "no-such-command"))
    error = "Error: cannot run no-such-command: No such file or directory\n"
    assert (done.returncode, done.stdout, NOTES.sub("", done.stderr)) == (127, "", error)


def test_a_background_process(source: Path) -> None:
    """When the command has ended, a process of it sees no mount of the device any more."""
    for name in ("began", "go", "output"):
        os.mkfifo(source.parent / name)
    (source.parent / "background").write_text(
        "echo > began; read go < go; { cat /proc/self/mountinfo; ls /d/; head -n 1 /proc/vmstat; } > output"
    )
    # Not a subshell: mksh keeps the standard files open there.
    done = _run(source, f"sh background > log 2>&1 & read began < began; grep -Ec '{MOUNTS}' /proc/self/mountinfo")
    assert (done.returncode, done.stderr) == (0, "")
    assert int(done.stdout) == 4
    (source.parent / "go").write_text("go\n")
    output = subprocess.run(
        ["cat", source.parent / "output"], capture_output=True, text=True, timeout=DEADLINE, check=True
    ).stdout
    assert " / / " in output and not re.search(MOUNTS, output)
    assert re.search(r"^nr_free_pages \d+$", output, re.MULTILINE)


def test_a_run_inside(source: Path) -> None:
    """A command can use `pinnerfs run` itself, and user namespaces."""
    inner = shlex.join([sys.executable, "-m", "pinnerfs", *_arguments(source, "--threshold", "7", "--")])
    script = f"{inner} sh -c 'cat /d/page_pinner/threshold; readlink /d' 2>/dev/null; cat /d/page_pinner/threshold"
    done = _run(source, script)
    assert (done.returncode, done.stdout, done.stderr) == (0, "7\n/sys/kernel/debug\n300000\n", "")


# Runs as root in a mount namespace with a /dev/fuse for every user.
OUTSIDE = """
set -e
mount -t tmpfs none "$1"
mknod "$1/fuse" c 10 229
chmod 666 "$1/fuse"
mount --bind "$1/fuse" /dev/fuse
shift
exec "$@"
"""


@needs_root
def test_an_ordinary_user(source: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """An ordinary user has all of it too, in a user namespace."""
    script = (
        f"id -u; readlink /d; cat /d/page_pinner/threshold {AREA}/latency_low_bound; grep -c ^cma_alloc /proc/vmstat"
    )
    command = [*AS_USER, "1000", *_arguments(Path("-"), "--", "sh", "-c", script)]
    outside = ["unshare", "-m", "--propagation", "private", "sh", "-c", OUTSIDE, "sh", tmp_path_factory.mktemp("dev")]
    done = run_command([*map(str, outside), *command], cwd="/", input=SCENARIO)
    assert (done.returncode, NOTES.sub("", done.stderr)) == (0, "")
    assert done.stdout == "0\n/sys/kernel/debug\n300000\n500\n2\n"
