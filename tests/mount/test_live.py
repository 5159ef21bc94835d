"""Live pins through `.pinnerfs/do`."""

from __future__ import annotations

import errno
import os
import time

import pytest

from tests.mount.support import (
    DEADLINE,
    Mounts,
    outcome,
    pinnerfs,
    scenario,
)

# Uses only echo, as a script on a device does.
SCRIPT = """
set -eu
cd ..
record() { cat page_pinner/longterm_pinner; }
echo 200000 > page_pinner/threshold
echo pin task=driver pages=64 hold=500ms > .pinnerfs/do
echo 400ms > .pinnerfs/advance
test "$(record | grep -c pinned)" = 0
echo 100ms > .pinnerfs/advance
test "$(record | awk '/^Page pinned ts 500000 us count 1$/' | wc -l)" = 64
test "$(record | grep -c drv_map)" = 64
echo 200000 > page_pinner/threshold
printf 'pin task=driver pages=2\\npin task=driver pages=3\\n' > .pinnerfs/do
echo 1s > .pinnerfs/advance
echo release task=driver pages=3 > .pinnerfs/do
echo 'free task=driver' > .pinnerfs/do
test "$(record | grep -c 'ts 1000000 us')" = 3
if echo pin task=drivr > .pinnerfs/do; then exit 9; fi
cat .pinnerfs/error
"""


@pytest.mark.parametrize("shell", ["bash", "dash"])
def test_a_script(mount: Mounts, shell: str) -> None:
    """A shell script pins pages, advances the clock and finds the records. A typing error fails with a reason."""
    device = mount(scenario(mount.directory, every="1000h", hold="1us"), "--start", "1s")
    done = device.shell(SCRIPT, shell)
    assert (done.returncode, done.stdout) == (
        0,
        "line 1: task = 'drivr' must be one of 'driver'; did you mean 'driver'?\n",
    ), done.stderr
    assert ("Invalid argument" if shell == "bash" else "I/O error") in done.stderr  # dash prints this for any errno
    stats = device.stats()
    assert (stats["pins"], stats["releases"], stats["pinned_now"]) == (1 + 64 + 5, 1 + 64 + 3, 0)


def test_the_same_writes_give_the_same_bytes(mount: Mounts) -> None:
    """Two mounts with the same actions at the same times have the same records."""

    def records_after_actions(name: str) -> list[bytes]:
        device = mount(name=name)
        for step, actions in (("1s", "pin task=driver pages=4 hold=600ms"), ("2500ms", "pin task=driver hold=400ms")):
            device.advance(step)
            (device.path / ".pinnerfs" / "do").write_text(actions)
        device.advance("10s")
        return device.read_all()

    first = records_after_actions("first")
    assert first == records_after_actions("second")
    assert sum(b"ts 600000 us" in record for record in first) == 4


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        (b"\n", "no action: wanted one of pin, release, free, unmap, alloc\n"),
        (b"pin task=driver\nrelease task=driver pages=2", "line 2: pages = 2 is more than the 1 that are pinned live"),
        (b"\xff\xfe", "wanted UTF-8 text"),
        (b"pin task=driver\n" * 8192, "bytes of actions in one write: wanted at most 65536\n"),
        (b"pin task=driver\n" * 20000, "bytes of actions in one write: wanted at most 65536\n"),
        (b"\0", "line 1: no action '\\x00': wanted one of"),
    ],
)
def test_refused_actions(mount: Mounts, written: bytes, reason: str) -> None:
    """A wrong action refuses the whole write with EINVAL. .pinnerfs/error has one line until the next success."""
    device = mount()
    before = device.stats()
    with open(device.path / ".pinnerfs" / "do", "wb", buffering=0) as file:
        assert outcome(lambda: file.write(written)) == -errno.EINVAL
    assert reason in device.control("error")
    assert device.control("error").count("\n") == 1
    assert device.stats() == before
    (device.path / ".pinnerfs" / "do").write_text("pin task=driver\n\n")
    assert device.control("error") == ""
    assert device.stats()["pins"] == before["pins"] + 1


def test_do_is_write_only(mount: Mounts) -> None:
    """do is write-only, and belongs to the user who mounted."""
    path = mount().path / ".pinnerfs" / "do"
    assert (path.stat().st_mode & 0o7777, path.stat().st_uid) == (0o200, os.geteuid())
    # Root may open it, and finds that the file has no read.
    assert outcome(path.read_bytes) == -(errno.EINVAL if os.geteuid() == 0 else errno.EACCES)


def test_ctl_do(mount: Mounts) -> None:
    """`pinnerfs ctl MOUNTPOINT do` carries out all actions, or none and prints the reason."""
    device = mount(scenario(mount.directory, every="1000h", hold="1us"), "--start", "1s")
    done = pinnerfs("ctl", device.path, "do", "pin task=driver pages=64 hold=500ms", "pin task=driver")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert device.stats()["pinned_now"] == 65
    done = pinnerfs("ctl", device.path, "do", "free task=driver", "free task=driver")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: cannot do the actions: line 2: nothing is pinned live for task 'driver': "
        "wanted a `pin task=driver` before\n"
    )
    assert device.stats()["pinned_now"] == 65
    done = pinnerfs("ctl", device.path, "do", "")
    assert (done.returncode, done.stderr) == (
        1,
        "Error: cannot do the actions: the text has no action: wanted one of pin, release, free, unmap, alloc\n",
    )


def test_a_release_on_a_real_clock(mount: Mounts) -> None:
    """With a real clock a live pin is released after its hold, and its record has exactly that time."""
    device = mount(scenario(mount.directory, every="1000h", hold="1us"), manual=False)
    (device.path / ".pinnerfs" / "do").write_text("pin task=driver hold=310ms")
    began = time.monotonic()
    while not device.stats()["longterm_records"]:
        assert time.monotonic() - began < DEADLINE
        time.sleep(0.02)
    (text,) = device.read_all()
    assert text.startswith(b"Page pinned ts 310000 us count 1\n")


# The GPU driver of the scenario has its pages from the third second on.
ALLOCATIONS = """
set -eu
cd ..
count() { grep -E "^$1 " .pinnerfs/stats | cut -d' ' -f2; }
echo alloc area=faceauth_tpu pages=4096 hold=500ms > .pinnerfs/do
test "$(count cma_pages_now)" = 4096
echo 500ms > .pinnerfs/advance
test "$(count cma_pages_now)" = 0
echo alloc name=faceauth > .pinnerfs/do
echo release name=faceauth > .pinnerfs/do
test "$(count allocs_ok)" = 2
echo 3s > .pinnerfs/advance
echo alloc name=faceauth > .pinnerfs/do
test "$(count allocs_failed)" = 0
echo 1s > .pinnerfs/advance
test "$(count allocs_failed)" = 1
if echo release area=faceauth_tpu > .pinnerfs/do; then exit 9; fi
cat .pinnerfs/error
"""


def test_a_script_that_allocates(mount: Mounts) -> None:
    """A live allocation gets its pages at once, or fails after its retries if a page is pinned."""
    device = mount("faceunlock-fails", "--kernel", "android14-6.1")
    done = device.shell(ALLOCATIONS)
    assert (done.returncode, done.stdout) == (
        0,
        "line 1: no live allocation of area=faceauth_tpu has pages: wanted an `alloc area=faceauth_tpu` before\n",
    ), done.stderr
