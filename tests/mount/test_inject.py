"""Faults on demand, met by the usual tools: what each rule makes each tool print, and its exit status."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnerfs.debugfs.inject import Faults
from tests.mount.support import ORDINARY, Mount, Mounts, as_user, newest_first, shell

TEXT = b"".join(newest_first(3))
CUT = b"".join(record[: len(record) // 2] for record in newest_first(3))

# How each tool reads longterm_pinner. bash's $(<F) does not see an error of read(2).
READERS = {
    "coreutils": "cat longterm_pinner",
    "bash": 'x=$(<longterm_pinner) || exit; printf "%s\\n\\n" "$x"',
    "python": 'PYTHON -c \'import os, sys; f = os.open("longterm_pinner", os.O_RDONLY); '
    'sys.stdout.writelines(iter(lambda: os.read(f, 4096).decode(), ""))\'',
    "toybox": "toybox cat longterm_pinner",
    "busybox": "busybox cat longterm_pinner",
}

# How each tool opens longterm_pinner, in a process of its own name.
OPENERS = {
    "coreutils": ("cat", "exec cat longterm_pinner"),
    "bash": ("bash", "read -r -N 0 x < longterm_pinner"),
    "python": ("", "exec PYTHON -c 'import os; os.open(\"longterm_pinner\", os.O_RDONLY)'"),
    "toybox": ("toybox", "exec toybox cat longterm_pinner"),
    "busybox": ("busybox", "exec busybox cat longterm_pinner"),
}

# How each tool writes threshold.
WRITERS = {
    "coreutils": "echo 5 | tee threshold > /dev/null",
    "bash": "echo 5 > threshold",
    "python": "PYTHON -c 'import os; os.write(1, b\"5\")' > threshold",
    "toybox": "echo 5 | toybox tee threshold > /dev/null",
    "busybox": "echo 5 | busybox tee threshold > /dev/null",
}

# How each tool looks for the directory page_pinner, from the root of the mount.
LOOKERS = {
    "coreutils": "ls page_pinner",
    "bash": "cd page_pinner",
    "python": "PYTHON -c 'import os; os.listdir(\"page_pinner\")'",
    "toybox": "toybox ls page_pinner",
    "busybox": "busybox ls page_pinner",
}
LISTERS = {
    "coreutils": "ls",
    "bash": "shopt -s nullglob; for name in *; do echo $name; done",
    "python": 'PYTHON -c \'import os; print("\\n".join(os.listdir(".")), end="")\'',
    "toybox": "toybox ls",
    "busybox": "busybox ls",
}
TOOLS = tuple(READERS)


@pytest.fixture(params=TOOLS)
def tool(request: pytest.FixtureRequest) -> str:
    """Return the name of a tool; skip the test where it is not installed."""
    if request.param in ("toybox", "busybox") and shutil.which(request.param) is None:
        pytest.skip(f"no {request.param} here")
    return str(request.param)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mount]:
    """Mount a device with three records for the tests that change only its rules."""
    mounts = Mounts(tmp_path_factory.mktemp("inject"))
    try:
        yield mounts(None, "--start", "3s")
    finally:
        mounts.close()


@pytest.fixture
def device(shared: Mount) -> Mount:
    """Return the shared device, without rules."""
    inject(shared, "removeall")
    return shared


def inject(device: Mount, rules: str) -> None:
    """Write rules, in one write."""
    (device.path / ".pinnerfs" / "inject").write_text(rules)


def fired(device: Mount) -> list[int]:
    """Return how often each rule fired."""
    return [int(line.rpartition("fired=")[2]) for line in device.control("inject").splitlines()]


def run(device: Mount, script: str, directory: str = "page_pinner") -> subprocess.CompletedProcess[bytes]:
    """Run a script from the tables in bash."""
    return shell(["bash", "-c", script.replace("PYTHON", sys.executable)], device.path / directory)


def test_a_failing_read(device: Mount, tool: str) -> None:
    """A read that fails is an error to all tools but bash's $(<F), which prints nothing and reports success."""
    inject(device, "add,op=read,file=longterm_pinner,errno=EIO")
    done = run(device, READERS[tool])
    if tool == "bash":
        assert (done.returncode, done.stdout, done.stderr) == (0, b"\n\n", b"")
    else:
        assert (done.returncode, done.stdout) == (1, b"")
        assert b"Input/output error" in done.stderr
    assert fired(device) == [1]
    assert run(device, "cat threshold").stdout == b"300000\n"


def test_a_failing_open(device: Mount, tool: str) -> None:
    """An open that fails is an error to all tools, also to root's."""
    inject(device, "add,op=open,errno=EACCES")
    done = run(device, READERS[tool])
    assert (done.returncode, done.stdout) == (1, b"")
    assert b"Permission denied" in done.stderr
    assert fired(device) == [1]


def test_a_failing_write(device: Mount, tool: str) -> None:
    """A write that fails changes nothing. toybox's tee says nothing about it; busybox may have words of its own."""
    inject(device, "add,op=write,errno=EIO")
    done = run(device, WRITERS[tool])
    assert (done.returncode, done.stdout) == (1, b"")
    words = {"toybox": b"", "busybox": b"I/O error"}.get(tool, b"Input/output error")
    assert words in done.stderr or b"Input/output error" in done.stderr
    assert device.threshold.read_text() == "300000\n"
    assert b"".join(device.read_all()) == TEXT


def test_a_delayed_read(device: Mount, tool: str) -> None:
    """A delayed read returns what an undelayed one does."""
    inject(device, "add,op=read,delay=300ms,times=1")
    began = time.monotonic()
    done = run(device, READERS[tool])
    assert time.monotonic() - began >= 0.3
    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, b"")
    assert fired(device) == [1]


def test_a_cut_read(device: Mount, tool: str) -> None:
    """A cut read returns half of a record. No tool can know, and the next read returns the next record."""
    inject(device, "add,op=read,file=longterm_pinner,cut")
    done = run(device, READERS[tool])
    assert (done.returncode, done.stdout.rstrip(), done.stderr) == (0, CUT, b"")


def test_a_missing_directory(device: Mount, tool: str) -> None:
    """page_pinner is in no listing and cannot be found, although the kernel knew it before."""
    assert sorted(run(device, LISTERS[tool], ".").stdout.split()) == [b"cma", b"page_pinner"]
    assert run(device, LOOKERS[tool], ".").returncode == 0
    inject(device, "add,missing")
    done = run(device, LOOKERS[tool], ".")
    assert done.returncode == (2 if tool == "coreutils" else 1)
    assert done.stdout == b"" and b"No such file or directory" in done.stderr
    done = run(device, LISTERS[tool], ".")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [b"cma"], b"")
    inject(device, "removeall")
    assert sorted(run(device, LISTERS[tool], ".").stdout.split()) == [b"cma", b"page_pinner"]
    assert run(device, LOOKERS[tool], ".").returncode == 0


def test_times(device: Mount, tool: str) -> None:
    """A rule with `times` hits so many calls, and then no more."""
    inject(device, "add,op=open,errno=EMFILE,times=2")
    assert [run(device, READERS[tool]).returncode for _ in range(3)] == [1, 1, 0]
    assert device.control("inject") == "add,op=open,errno=EMFILE,times=2 fired=2\n"


def test_chance(device: Mount, tool: str) -> None:
    """Which calls a chance hits depends on the seed, the rule, and how many calls it was asked about."""
    rule = "add,op=open,errno=EIO,chance=50"
    inject(device, rule)
    twin = Faults((), 0, ("longterm_pinner", "threshold"), lambda: 0)
    twin.write(rule)
    expected = [int(twin.fault("open", "longterm_pinner", _NoCaller()) is not None) for _ in range(8)]
    assert {*expected} == {0, 1}
    assert [run(device, READERS[tool]).returncode for _ in range(8)] == expected
    assert fired(device) == [sum(expected)]


class _NoCaller:
    """A caller for rules without filters."""

    uid = 0

    @property
    def comm(self) -> str:
        raise AssertionError

    @property
    def pid(self) -> int:
        raise AssertionError


def test_comm(device: Mount, tool: str) -> None:
    """A rule with `comm` hits the program of that name, and no other."""
    comm, script = OPENERS[tool]
    comm = (comm or os.path.basename(sys.executable))[:15]
    inject(device, f"add,op=open,errno=EIO,comm={comm}")
    done = run(device, script)
    assert done.returncode == 1 and b"Input/output error" in done.stderr
    inject(device, f"removeall\nadd,op=open,errno=EIO,comm=x{comm[:14]}")
    assert run(device, script).returncode == 0
    assert fired(device) == [0]


def test_pid(device: Mount, tool: str) -> None:
    """A rule with `pid` hits this process, and no other."""
    _, script = OPENERS[tool]
    add = "echo add,op=open,file=longterm_pinner,errno=EIO,pid=$$ > ../.pinnerfs/inject; "
    done = run(device, add + script)
    assert done.returncode == 1 and b"Input/output error" in done.stderr
    assert run(device, script).returncode == 0
    assert fired(device) == [1]


def test_uid(public_mount: Mounts, tool: str) -> None:
    """A rule with `uid` hits this user, and no other."""
    device = public_mount(None, "--start", "3s")
    device.path.chmod(0o755)
    inject(device, f"add,op=open,errno=EIO,uid={ORDINARY}")
    _, script = OPENERS[tool]
    assert run(device, script).returncode == 0
    if tool == "python":
        # In a copy of this process: an ordinary user may have no access to its program.
        assert as_user(lambda: os.open(device.records, os.O_RDONLY)) == -errno.EIO
        return
    user = f"setpriv --reuid={ORDINARY} --regid={ORDINARY} --clear-groups"
    done = run(device, f"exec {user} bash -c '{script}'")
    assert done.returncode == 1 and b"Input/output error" in done.stderr
    assert fired(device) == [1]


def test_removeall(device: Mount, tool: str) -> None:
    """Without rules the tools read as before."""
    inject(device, "add,errno=EIO\nadd,missing")
    inject(device, "removeall")
    done = run(device, READERS[tool])
    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, b"")
    assert device.control("inject") == ""


def test_dd_reads_on(device: Mount) -> None:
    """A failed read consumes no record: dd with conv=noerror prints all of them."""
    inject(device, "add,op=read,errno=EIO,chance=50")
    done = run(device, "dd if=longterm_pinner bs=4096 conv=noerror")
    assert done.stdout == TEXT
    assert done.stderr.count(b"Input/output error") == fired(device)[0] > 0


def test_threshold_is_cut_in_half(mount: Mounts) -> None:
    """A rule without `file` is about all files of page_pinner/, and `cut` is only about their reads."""
    device = mount()
    inject(device, "add,cut")
    assert run(device, "cat threshold; echo 5 > threshold").stdout == b"300"
    inject(device, "removeall")
    assert device.threshold.read_text() == "5\n"


def test_a_bad_rule(device: Mount) -> None:
    """A bad rule is EINVAL with the reason in `error`, and adds nothing; neither does a good one beside it."""
    inject(device, "add,cut,op=read")
    done = run(device, "printf 'add,errno=EIO\\nadd,errno=EOI\\n' | dd of=inject bs=4096", ".pinnerfs")
    assert done.returncode == 1 and b"Invalid argument" in done.stderr
    assert device.control("error").startswith("line 2: errno = 'EOI' is unknown: ")
    assert device.control("inject") == "add,op=read,cut fired=0\n"


def test_rules_never_hit_the_control_files(mount: Mounts) -> None:
    """With everything failing, .pinnerfs/ works, and so do the root and the unmount."""
    device = mount()
    inject(device, "add,missing\nadd,errno=EIO")
    assert device.control("clock") == "0\n"
    device.advance("1s")
    assert device.control("error") == ""
    assert device.path.stat().st_mode == 0o40700
    assert os.listdir(device.path / ".pinnerfs")
    assert run(device, "mkdir new", ".").returncode == 1


def test_a_large_rule_file(device: Mount, tmp_path: Path) -> None:
    """Rules in a file are added by `cat`, in one write; more than fit into one write are refused."""
    (tmp_path / "rules").write_text("add,op=read,errno=EIO\n" * 256)
    assert run(device, f"cat {tmp_path}/rules > inject", ".pinnerfs").returncode == 0
    assert len(fired(device)) == 256
    (tmp_path / "rules").write_text("removeall\n" * 30_000)
    done = run(device, f"cat {tmp_path}/rules > inject", ".pinnerfs")
    assert done.returncode == 1 and b"Invalid argument" in done.stderr
    assert len(fired(device)) == 256
