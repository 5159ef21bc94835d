"""The main use: read the threshold and the records in a shell, and write a new threshold."""

from __future__ import annotations

import re
import sys

import pytest

from tests.mount.support import Mounts, newest_first, pinnerfs


def test_read_advance_write_read(mount: Mounts) -> None:
    """Every record is above the threshold. A new threshold clears the records, and the next ones are above it."""
    device = mount("camera-stall")
    assert device.shell("cat threshold").stdout == "300000\n"
    assert device.shell("cat longterm_pinner | wc -c").stdout == "0\n"
    assert pinnerfs("ctl", device.path, "advance", "60s").returncode == 0
    head = device.shell("cat longterm_pinner | head").stdout.splitlines()
    assert len(head) == 10
    assert re.fullmatch(r"Page pinned ts \d+ us count 1", head[0])
    assert re.fullmatch(r"PFN \d+ Block \d+ type CMA Flags 0x80014\(uptodate\|lru\|swapbacked\)", head[1])
    first = [int(ts) for ts in device.shell("cat longterm_pinner | awk '/^Page pinned/ { print $4 }'").stdout.split()]
    assert first and min(first) > 300_000
    written = device.shell("echo 600000 > threshold && cat threshold && wc -c < longterm_pinner")
    assert (written.stdout, written.stderr) == ("600000\n0\n", "")
    assert pinnerfs("ctl", device.path, "advance", "60s").returncode == 0
    second = [int(ts) for ts in device.shell("cat longterm_pinner | awk '/^Page pinned/ { print $4 }'").stdout.split()]
    assert second and min(second) > 600_000 and len(second) < len(first)


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        ("abc", "Invalid argument"),
        ("-1", "Invalid argument"),
        ("", "Invalid argument"),
        ("'5 '", "Invalid argument"),
        ("99999999999999999999", "Numerical result out of range"),
    ],
)
def test_a_refused_value_changes_nothing(mount: Mounts, value: str, reason: str) -> None:
    """A refused write fails with the kernel's error and keeps threshold and records."""
    device = mount()
    device.advance("3s")
    before = device.read_all()
    done = device.shell(f"echo {value} > threshold")
    assert done.returncode == 1
    assert done.stderr.endswith(f"echo: write error: {reason}\n")
    assert device.threshold.read_text() == "300000\n"
    assert device.read_all() == before == newest_first(3)


def test_readers_with_small_buffers(mount: Mounts) -> None:
    """Readers with small buffers, such as dd bs=64 and bash's read, fail with ENOMEM."""
    device = mount()
    device.advance("3s")
    small = device.shell("dd bs=64 if=longterm_pinner")
    assert (small.returncode, small.stdout) == (1, "")
    assert "dd: error reading 'longterm_pinner': Cannot allocate memory" in small.stderr
    loop = device.shell("while read -r line; do echo got $line; done < longterm_pinner")
    assert loop.stdout == ""
    assert "Cannot allocate memory" in loop.stderr


@pytest.mark.parametrize(
    ("script", "output"),
    [
        ("cat longterm_pinner | head -n 1", "Page pinned ts 400000 us count 1\n"),
        ("head -n 6 longterm_pinner 2>/dev/null | tail -n 1", "\n"),
        ("grep -c '^Page pinned' longterm_pinner", "3\n"),
        ("grep PFN longterm_pinner", "".join(f"{r.decode().splitlines()[1]}\n" for r in newest_first(3))),
        ("awk '/^PFN/ { print $2 }' longterm_pinner", "".join(f"{r.decode().split()[8]}\n" for r in newest_first(3))),
        ("wc -l < longterm_pinner", "18\n"),
        ("tail -n 2 longterm_pinner", " drv_ioctl+0x100/0x200\n\n"),
        ("tail -n +17 longterm_pinner", " drv_ioctl+0x100/0x200\n\n"),
        (f'{sys.executable} -c \'print(open("longterm_pinner").read(), end="")\'', None),
        ("cat longterm_pinner", None),
        ("cat < longterm_pinner", None),
        ("cat longterm_pinner | cat", None),
    ],
)
def test_usual_tools(mount: Mounts, script: str, output: str | None) -> None:
    """head, grep, awk, wc, tail, cat and Python's open().read() read the records."""
    device = mount()
    device.advance("3s")
    done = device.shell(script)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == (b"".join(newest_first(3)).decode() if output is None else output)


def test_the_same_bytes_on_every_mount(mount: Mounts) -> None:
    """With the same scenario, seed and clock, two mounts have the same bytes. The size of the steps does not matter."""
    one, other = mount("camera-stall", "--seed", "7", name="one"), mount("camera-stall", "--seed", "7", name="other")
    one.advance("60s")
    for _ in range(60):
        other.advance("1s")
    assert one.shell("sha256sum < longterm_pinner").stdout == other.shell("sha256sum < longterm_pinner").stdout
    assert one.read_all()
