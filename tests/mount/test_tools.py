"""Usual tools read an empty, a short and a full longterm_pinner.

The kernel returns one record for each read, if the record is shorter than the buffer, and 0 bytes at the end. So a
tool whose reads have room for a record prints what it prints for a plain file with the same text. A tool with a small
buffer fails at once. A tool that fills a buffer by several reads fails when the rest of the buffer is too small.
"""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, LONG_FRAMES, Mount, Mounts, newest_first, scenario, shell

FILES = {"empty": 0, "short": 3, "full": 4096}

# Every read has room for a record. F is the file.
ROOMY = [
    "cat F",
    "cat < F",
    "cat F | cat",
    "head -n 1000000 F",
    "head -c 100000000 F",
    "tail -n 1000000 F",
    "tail -n +2 F",
    "tail -c 100 F",
    "tac F",
    "wc F | xargs",
    "wc -c < F",
    "grep '' F",
    "grep -c pinned F",
    "grep -v pinned < F",
    "sed -n '/^PFN/p' F",
    "gawk '/^Page pinned/ { print $4 }' F",
    "gawk 'END { print NR }' < F",
    "cut -d ' ' -f 2 F",
    "LC_ALL=C sort F",
    "LC_ALL=C sort F | uniq -c",
    "uniq F",
    "xargs echo < F | wc -w",
    "xargs -n 500 < F | wc -l",
    "dd if=F bs=4096 status=none",
    "dd if=F bs=1M status=none",
    "dd status=none < F",
    'cp F "$TMPDIR/copy" && cat "$TMPDIR/copy"',
    'cp --reflink=never --sparse=never F "$TMPDIR/copy" && cat "$TMPDIR/copy"',
    'tee "$TMPDIR/copy" < F && cmp <(cat F) "$TMPDIR/copy"',
    "od -An -c F",
    "less < <(cat F)",
    "nl F",
    "sha256sum < F",
    "cat F F",
    "perl -ne 'print if /^PFN/' F",
    'perl -e \'local $/; open my $f, "<", "F" or die; print <$f>\'',
    'PYTHON -c \'for line in open("F"): print(line, end="")\'',
    "PYTHON -c 'import sys; sys.stdout.writelines(sys.stdin)' < F",
    'cat F | while read -r line; do echo "<$line>"; done | tail -n 3',
    'echo "$(<F)"',
    'echo "$(cat F)" | md5sum',
    "cat <(cat F)",
    "diff <(cat F) <(cat F) && echo same",
    "mapfile lines < <(cat F); echo ${#lines[@]}",
    "x=$(cat F); echo ${#x}",
    "busybox head -n 1000000 F",
    "busybox tail -n 1000000 F",
    "busybox tail -n +2 F",
    "busybox tac F",
    "busybox wc -lc < F",
    "busybox grep -c pinned F",
    "busybox sed -n '/^PFN/p' F",
    "busybox awk '/^Page pinned/ { print $4 }' F",
    "busybox cut -d ' ' -f 2 F",
    "LC_ALL=C busybox sort F",
    "busybox uniq F",
    "busybox xargs echo < F | wc -w",
    "busybox dd if=F bs=4096 2>/dev/null",
    'busybox cp F "$TMPDIR/copy" && cat "$TMPDIR/copy"',
    "busybox tee < F",
    "busybox od -c F",
    'busybox ash -c \'cat F\' >"$TMPDIR/copy"; cat "$TMPDIR/copy"',
    "toybox cat F",
    "toybox head -n 1000000 F",
    "toybox tail -n +2 F",
    "busybox less < <(cat F)",
    "toybox tac F",
    "toybox wc -lc < F",
    "toybox grep -c pinned F",
    "toybox sed -n '/^PFN/p' F",
    "toybox cut -d ' ' -f 2 F",
    "LC_ALL=C toybox sort F",
    "toybox uniq F",
    "toybox xargs echo < F | wc -w",
    'toybox cp F "$TMPDIR/copy" && cat "$TMPDIR/copy"',
    "toybox tee < F",
    "mksh -c 'x=$(<F); echo \"$x\"'",
    "dash -c 'cat F | while read -r line; do echo \"$line\"; done'",
]

# The first read is shorter than a record, so it is ENOMEM.
SMALL = [
    "dd if=F bs=64 status=none",
    "dd if=F bs=1 status=none",
    "dd if=F bs=RECORD status=none",
    "busybox dd if=F bs=64",
    'while read -r line; do echo "$line"; done < F',
    "mksh -c 'while read -r line; do echo \"$line\"; done < F'",
    "toybox od -An -c F",
]

# The same, but the shell prints no error and continues.
SILENT = [
    "dash -c 'while read -r line; do echo \"$line\"; done < F; echo over'",
    "busybox ash -c 'while read -r line; do echo \"$line\"; done < F; echo over'",
    'mapfile lines < F; printf %s "${lines[@]}"; echo over',
]

# Several reads fill a buffer, until its rest is too small for a record.
FILLING = [
    "dd if=F bs=4096 iflag=fullblock status=none",
    "PYTHON -c 'import sys; sys.stdout.write(open(\"F\").read())'",
    'cmp F "$TMPDIR/plain"',
    'diff F "$TMPDIR/plain"',
    "mawk '/^Page pinned/ { print $4 }' F",
]


@pytest.fixture(scope="module")
def devices(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, tuple[Mount, bytes]]]:
    """Make a mount for each of FILES, and a plain file with the text that it must have."""
    mounts = Mounts(tmp_path_factory.mktemp("tools"))
    try:
        source = scenario(mounts.directory, every="1ms")
        devices = {}
        for name, count in FILES.items():
            # Pin k is released at k ms + 400 ms. The full ring has overwritten 604 records.
            time, seen = {"empty": ("0s", 0), "short": ("402ms", 3), "full": ("5099ms", 4700)}[name]
            text = b"".join(newest_first(seen))
            assert text.count(b"PFN") == count
            devices[name] = mounts(source, "--start", time, name=name), text
            (mounts.directory / f"{name}.txt").write_bytes(text)
        yield devices
    finally:
        mounts.close()


def _run(script: str, file: Path, plain: Path, directory: Path) -> subprocess.CompletedProcess[bytes]:
    """Run a script from the lists in bash, with F as a link to the file."""
    directory.mkdir(exist_ok=True)
    shutil.copy(plain, directory / "plain")
    script = script.replace("PYTHON", sys.executable).replace("RECORD", str(len(newest_first(1)[0])))
    # The same name for both files, because tools print it.
    (directory / "F").unlink(missing_ok=True)
    (directory / "F").symlink_to(file)
    return shell(["bash", "-c", script], directory, {"TMPDIR": str(directory)})


def _needs(script: str) -> None:
    for tool in (
        "busybox",
        "toybox",
        "mksh",
        "dash",
        "perl",
        "less",
        "nl",
        "gawk",
        "mawk",
        "curl",
        "node",
        "zip",
        "git",
        "file",
    ):
        if tool in script.split() and shutil.which(tool) is None:
            pytest.skip(f"no {tool} here")


@pytest.mark.parametrize("script", ROOMY)
def test_a_tool_with_room(devices: dict[str, tuple[Mount, bytes]], tmp_path: Path, script: str) -> None:
    """A tool whose reads have room for a record gives the same output as for a plain file."""
    _needs(script)
    for name, (device, _) in devices.items():
        plain = device.path.parent / f"{name}.txt"
        # Directories of their own: a copy is as read-only as its source, so that a second cp cannot replace it.
        got = _run(script, device.records, plain, tmp_path / f"{name}-got")
        want = _run(script, plain, plain, tmp_path / f"{name}-want")
        assert (got.returncode, got.stdout, got.stderr) == (want.returncode, want.stdout, want.stderr), name
        assert got.stderr == b""


@pytest.mark.parametrize("script", SMALL)
def test_a_tool_without_room(devices: dict[str, tuple[Mount, bytes]], tmp_path: Path, script: str) -> None:
    """A tool with a small buffer fails with ENOMEM and prints nothing, except for an empty file."""
    _needs(script)
    for name, (device, _) in devices.items():
        plain = device.path.parent / f"{name}.txt"
        done = _run(script, device.records, plain, tmp_path / "work")
        assert done.stdout == b"", name
        assert (b"Cannot allocate memory" in done.stderr) == (name != "empty"), done.stderr
        if "dd" in script.split():
            assert (done.returncode == 0) == (name == "empty")


@pytest.mark.parametrize("script", SILENT)
def test_a_shell_without_an_error(devices: dict[str, tuple[Mount, bytes]], tmp_path: Path, script: str) -> None:
    """A loop in these shells ends at once without an error, as on a device."""
    _needs(script)
    for name, (device, _) in devices.items():
        plain = device.path.parent / f"{name}.txt"
        done = _run(script, device.records, plain, tmp_path / "work")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"over\n", b""), name


@pytest.mark.parametrize("script", FILLING)
def test_a_tool_that_fills_a_buffer(devices: dict[str, tuple[Mount, bytes]], tmp_path: Path, script: str) -> None:
    """A tool that fills a buffer works on a short file, and fails with ENOMEM on a full one."""
    _needs(script)
    for name, (device, _) in devices.items():
        plain = device.path.parent / f"{name}.txt"
        got = _run(script, device.records, plain, tmp_path / "work")
        if name == "full":
            # The buffer is never full, so the tool prints nothing.
            assert got.stdout == b"" and got.returncode > 0
            assert b"Cannot allocate memory" in got.stderr
        else:
            want = _run(script, plain, plain, tmp_path / "work")
            assert (got.returncode, got.stdout, got.stderr) == (want.returncode, want.stdout, want.stderr)


def test_toybox_tail(devices: dict[str, tuple[Mount, bytes]], tmp_path: Path) -> None:
    """toybox's tail, which Android has, fills a buffer of 4096 bytes, and prints nothing if it cannot."""
    _needs("toybox tail")
    for name, (device, text) in devices.items():
        plain = device.path.parent / f"{name}.txt"
        done = _run("toybox tail -n 1000000 F", device.records, plain, tmp_path / "work")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"" if name == "full" else text, b""), name


def test_less(devices: dict[str, tuple[Mount, bytes]], tmp_path: Path) -> None:
    """less fills a buffer of 8192 bytes, so it shows only the records that leave room for another one."""
    _needs("less F")
    for name, (device, text) in devices.items():
        plain = device.path.parent / f"{name}.txt"
        done = _run("less F", device.records, plain, tmp_path / "work")
        length = len(newest_first(1)[0])
        fitting = text[: 8192 // length * length]
        assert 8192 % length <= length
        assert done.stdout.startswith(fitting) and len(done.stdout) < len(fitting) + 100


def test_readers_of_1024_bytes(mount: Mounts) -> None:
    """With a buffer of 1024 bytes a program can read shorter records, and gets ENOMEM at a longer one."""
    loop = "import os; f = os.open('longterm_pinner', 0)\nwhile b := os.read(f, 1024): os.write(1, b)"
    short = mount(scenario(mount.directory, every="1ms"), "--start", "1399ms", name="short")
    done = short.shell(f'{sys.executable} -c "{loop}"')
    assert (done.returncode, done.stdout) == (0, b"".join(newest_first(1000)).decode())
    long = mount(scenario(mount.directory, frames=LONG_FRAMES), "--start", "3s", name="long")
    done = long.shell(f'{sys.executable} -c "{loop}"')
    assert (done.returncode, done.stdout) == (1, "")
    assert "Cannot allocate memory" in done.stderr
    # 4096 bytes, the buffer size of Android's cat, are enough.
    done = long.shell("dd if=longterm_pinner bs=4096 status=none")
    assert done.stdout == b"".join(newest_first(3, frames=LONG_FRAMES)).decode()


@pytest.mark.parametrize(
    "script",
    [
        "busybox cat F | cat",
        'echo "$(busybox cat F)"',
        "busybox ash -c 'cat F | cat'",
        "busybox ash -c 'exec 3<F; cat <&3 | cat'",
        "busybox ash -c 'exec 3<F; dd bs=4096 count=1 <&3 2>/dev/null; cat <&3 | cat'",
        "cat F | cat; stat -Lc %s F >&2; busybox cat F | cat",
    ],
)
def test_a_reader_that_begins_with_sendfile(
    devices: dict[str, tuple[Mount, bytes]], tmp_path: Path, script: str
) -> None:
    """A reader that begins with sendfile gets EINVAL and falls back to read, before and after a stat."""
    _needs(script)
    for name, (device, _) in devices.items():
        plain = device.path.parent / f"{name}.txt"
        faked = _run(script, device.records, plain, tmp_path / "work")
        # Not the plain file: dd reads 4096 bytes of it, and one record here.
        real = _run(script.replace("bs=4096", f"bs={len(newest_first(1)[0])}"), plain, plain, tmp_path / "work")
        assert (faked.returncode, faked.stdout) == (real.returncode, real.stdout), name
        assert faked.stderr in (b"", b"0\n")


# Each trusts the size that stat shows, or looks at it first. A debugfs shows 0.
SIZED = {
    "wc -c < F": None,
    "toybox wc -c < F": None,
    "gawk 1 F": None,
    "curl -sS file://$PWD/F": None,
    'node -e \'process.stdout.write(require("fs").readFileSync("F"))\'': None,
    'PYTHON -c \'import shutil; shutil.copyfile("F", "copy")\' && cat copy': None,
    "zip -q copy.zip F && PYTHON -m zipfile -e copy.zip out && cat out/F": None,
    # These believe it, on a device too.
    "stat -Lc %s F": b"0\n",
    "tar -chf copy.tar F && tar -xOf copy.tar F": b"",
    "git hash-object --stdin < F": b"e69de29bb2d1d6434b8b29ae775ad8c2e48c5391\n",
    "file -bL F": b"empty\n",
}


@pytest.mark.parametrize("script", SIZED)
def test_a_tool_that_looks_at_the_size(mount: Mounts, tmp_path: Path, script: str) -> None:
    """A tool reads the threshold as from a debugfs, where the size shows as 0, before and after others have read it."""
    _needs(script)
    device = mount()
    plain = tmp_path / "plain.txt"
    plain.write_bytes(b"300000\n")
    expected = SIZED[script] if SIZED[script] is not None else _run(script, plain, plain, tmp_path / "work").stdout
    for _ in range(2):
        shutil.rmtree(tmp_path / "work", ignore_errors=True)
        done = _run(script, device.threshold, plain, tmp_path / "work")
        assert (done.returncode, done.stdout, done.stderr) == (0, expected, b"")
        assert device.shell("busybox cat threshold | cat").stdout == "300000\n"


def test_sizes_and_sendfile_at_once(mount: Mounts) -> None:
    """Each stat shows 0 and each sendfile is EINVAL, while others stat, read, and use sendfile."""
    device = mount()
    _use_at_once(*[lambda: _look(device, stat=True)] * 4)


def test_writers_and_sendfile_at_once(mount: Mounts) -> None:
    """Each sendfile is EINVAL, while others open, stat, write, append, truncate and touch the file."""
    device = mount()

    def write() -> None:
        for mode in ("wb", "ab") * 100:
            with open(device.threshold, mode, 0) as file:
                file.write(b"5\n")
            device.threshold.stat()
            os.utime(device.threshold)

    _use_at_once(*[lambda: _look(device, stat=False)] * 3, write)


def _look(device: Mount, *, stat: bool) -> None:
    reading, writing = os.pipe()
    for _ in range(300):
        file = os.open(device.threshold, os.O_RDONLY)
        if stat:
            assert os.fstat(file).st_size == 0
        with pytest.raises(OSError) as refused:
            os.sendfile(writing, file, None, 4096)
        assert refused.value.errno == errno.EINVAL
        if stat:
            assert os.fstat(file).st_size == device.threshold.stat().st_size == 0
        os.close(file)
    os.close(reading)
    os.close(writing)


def _use_at_once(*uses: Callable[[], None]) -> None:
    with ThreadPoolExecutor(len(uses)) as threads:
        for future in [threads.submit(use) for use in uses]:
            future.result(DEADLINE)


def test_threshold_with_every_tool(mount: Mounts) -> None:
    """cat, read, $(<), python, busybox, toybox and dd read the threshold as a line of text."""
    device = mount()
    for script in (
        "cat threshold",
        "echo $(<threshold)",
        "read -r x < threshold; echo $x",
        "mapfile -t x < threshold; echo ${x[0]}",
        "dd if=threshold bs=1 status=none",
        "cat threshold | head -n 1",
        "tail -n 1 threshold",
        "awk '{ print $1 }' threshold",
        f"{sys.executable} -c 'print(int(open(\"threshold\").read()))'",
        "dash -c 'read -r x < threshold; echo $x'",
        "busybox ash -c 'read -r x < threshold; echo $x'",
        "toybox cat threshold",
        "sort threshold",
        "cat threshold threshold | uniq",
    ):
        if script.split()[0] in ("busybox", "toybox", "dash") and shutil.which(script.split()[0]) is None:
            continue
        done = device.shell(script)
        assert (done.stdout, done.stderr) == ("300000\n", ""), script
