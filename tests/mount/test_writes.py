"""Writes to `threshold`: accepted numbers, cleared records, and long writes."""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
import shutil
import signal

import pytest

from tests.mount.support import Mount, Mounts, newest_first, outcome, record


def _write(device: Mount, data: bytes, flags: int = os.O_WRONLY) -> int:
    with device.opened(flags, "threshold") as file:
        result = outcome(lambda: os.write(file, data))
    assert isinstance(result, int)
    return result


ACCEPTED = [
    (b"5", b"5\n"),
    (b"5\n", b"5\n"),
    (b"+5\n", b"5\n"),
    (b"0", b"0\n"),
    (b"0x10", b"16\n"),
    (b"0XfF\n", b"255\n"),
    (b"010", b"8\n"),
    (b"18446744073709551615", b"-1\n"),
    (b"0xffffffffffffffff", b"-1\n"),
    (b"9223372036854775808", b"-9223372036854775808\n"),
    (b"9223372036854775807\n", b"9223372036854775807\n"),
    (b"5\0rubbish", b"5\n"),
    (b"00000000000000000000017rubbish", b"15\n"),
    (b"5\n" + b"\0" * 5000, b"5\n"),
]
REFUSED = [
    (b"\n", errno.EINVAL),
    (b"\0", errno.EINVAL),
    (b" 5", errno.EINVAL),
    (b"5 \n", errno.EINVAL),
    (b"5\n\n", errno.EINVAL),
    (b"-5", errno.EINVAL),
    (b"0x", errno.EINVAL),
    (b"08", errno.EINVAL),
    (b"5us", errno.EINVAL),
    (b"1e6", errno.EINVAL),
    (b"\xff\xfe", errno.EINVAL),
    (b"18446744073709551616", errno.ERANGE),
    (b"0x10000000000000000", errno.ERANGE),
    (b"9" * 23, errno.ERANGE),
    (b"9" * 4096, errno.ERANGE),
    (b"x" * 131072, errno.EINVAL),
    (b"x" * 200_000, errno.EINVAL),
    (b"9" * (1 << 20), errno.ERANGE),
]


def test_accepted(mount: Mounts) -> None:
    """A number in any base of the kernel's is accepted, write returns its full length, and the records are cleared."""
    device = mount()
    for data, shown in ACCEPTED:
        device.threshold.write_text("0")
        device.advance("3s")
        assert len(device.read_all()) == 3
        assert (data, _write(device, data)) == (data, len(data))
        assert (data, device.threshold.read_bytes()) == (data, shown)
        assert device.read_all() == []


def test_refused(mount: Mounts) -> None:
    """A refused write keeps the threshold and the records."""
    device = mount()
    device.advance("3s")
    for data, error in REFUSED:
        assert (data[:50], _write(device, data)) == (data[:50], -error)
        assert device.threshold.read_bytes() == b"300000\n"
        assert device.read_all() == newest_first(3)


@pytest.mark.parametrize("length", [131072, 200_000, 1 << 20])
@pytest.mark.parametrize("shift", [0, 48])
def test_a_long_write_is_one_value(mount: Mounts, length: int, shift: int) -> None:
    """A write of any length is one value, with an aligned buffer or not."""
    device = mount()
    # FUSE splits the write. If a later part were parsed, it would be a number or refused.
    data = b"7\0" + b"8" * (length - 2)
    memory = ctypes.create_string_buffer(length + 2 * 4096)
    start = -ctypes.addressof(memory) % 4096 + shift
    ctypes.memmove(ctypes.addressof(memory) + start, data, length)
    with device.opened(os.O_WRONLY, "threshold") as file:
        assert os.write(file, memoryview(memory)[start : start + length]) == length
    assert device.threshold.read_bytes() == b"7\n"


def test_a_long_write_and_then_another(mount: Mounts) -> None:
    """After a long write, the next write on the same descriptor is a new value."""
    device = mount()
    with device.opened(os.O_WRONLY, "threshold") as file:
        assert os.write(file, b"7\0" + b"8" * 99_998) == 100_000
        assert os.write(file, b"9") == 1
    assert device.threshold.read_bytes() == b"9\n"


@pytest.mark.parametrize("length", [126_976, 126_977, 130_000, 131_071, 131_072, 200_000])
def test_an_aligned_long_write_and_then_another(mount: Mounts, length: int) -> None:
    """A write that FUSE need not split, or whose first piece is as long, is no part of the next write."""
    device = mount()
    with device.opened(os.O_WRONLY, "threshold") as file, mmap.mmap(-1, 1 << 20) as aligned:
        aligned[:length] = b"7\0" + b"8" * (length - 2)
        for value in (b"9", b"10"):
            with memoryview(aligned) as memory, memory[:length] as data:
                assert os.write(file, data) == length
            assert device.threshold.read_bytes() == b"7\n"
            assert os.write(file, value) == len(value)
            assert device.threshold.read_bytes() == value + b"\n"


def test_every_write_is_a_value(mount: Mounts) -> None:
    """Each write on an open file is a value; the last accepted one stays."""
    device = mount()
    assert device.shell("(echo 5; echo 6) > threshold; cat threshold").stdout == "6\n"
    assert device.shell("(echo 7; echo x; echo 8) > threshold; cat threshold").stdout == "8\n"
    assert device.shell("(echo 9; echo x) > threshold; cat threshold").stdout == "9\n"


def test_a_reader_beside_a_writer_that_has_not_written(mount: Mounts) -> None:
    """A file that was truncated for writing can be read before the write, also by sendfile."""
    device = mount()
    script = "exec 3> threshold; cat threshold; busybox cat threshold | cat; echo 5 >&3; busybox cat threshold | cat"
    script = script if shutil.which("busybox") else script.replace("busybox ", "")
    assert device.shell(script).stdout == "300000\n300000\n5\n"
    assert device.threshold.stat().st_size == 0


def test_a_limit_on_file_sizes(mount: Mounts) -> None:
    """A limit on file sizes stops no write, except a limit of 0, which ends the writer with SIGXFSZ."""
    device = mount()
    refused = device.shell("ulimit -f 0; echo 5 > threshold")
    assert refused.returncode == -signal.SIGXFSZ
    assert device.threshold.read_bytes() == b"300000\n"
    assert device.shell("ulimit -f 1; echo 6 > threshold; cat threshold; echo 7 >> threshold").stdout == "6\n"
    assert device.threshold.read_bytes() == b"7\n"


def test_appending_is_writing(mount: Mounts) -> None:
    """`>>`, tee, dd and printf write a value as `>` does."""
    device = mount()
    assert device.shell("echo 5 >> threshold; echo 6 >> threshold; cat threshold").stdout == "6\n"
    assert device.shell("(echo 7; echo 8) >> threshold; cat threshold").stdout == "8\n"
    assert device.shell("echo 9 | tee threshold; cat threshold").stdout == "9\n9\n"
    assert device.shell("echo 10 | tee -a threshold >/dev/null; cat threshold").stdout == "10\n"
    assert device.shell("printf 11 | dd of=threshold status=none; cat threshold").stdout == "11\n"
    assert device.shell("printf 12 | dd of=threshold conv=notrunc status=none; cat threshold").stdout == "12\n"
    assert device.shell("printf '%d' 0x20 > threshold; cat threshold").stdout == "32\n"


@pytest.mark.parametrize("script", [": > threshold", "truncate -s 0 threshold", ": >> threshold", "true < threshold"])
def test_an_open_without_a_write_clears_nothing(mount: Mounts, script: str) -> None:
    """O_TRUNC, truncate and an open without a write keep the threshold and the records."""
    device = mount()
    device.advance("3s")
    assert device.shell(script).returncode == 0
    assert device.threshold.read_bytes() == b"300000\n"
    assert device.read_all() == newest_first(3)


def test_the_same_value_clears_too(mount: Mounts) -> None:
    """A write of the current value clears the records."""
    device = mount()
    device.advance("3s")
    assert _write(device, b"300000\n") == 7
    assert device.read_all() == []


def test_strictly_above_the_threshold(mount: Mounts) -> None:
    """A pin of 400000 µs is recorded with a threshold of 399999, but not with 400000."""
    device = mount()
    device.threshold.write_text("400000")
    device.advance("3s")
    assert device.read_all() == []
    device.threshold.write_text("399999")
    device.advance("3s")
    assert device.read_all() == newest_first(6, first=3)


def test_the_threshold_at_the_release_counts(mount: Mounts) -> None:
    """A threshold that is written between pin and release applies to that release."""
    device = mount()
    device.advance("200ms")  # pin 0 is held from 0 to 400 ms
    device.threshold.write_text("500000")
    device.advance("1s")  # at 1.2 s: pin 0 was not recorded, pin 1 is held
    assert device.read_all() == []
    device.threshold.write_text("100000")
    device.advance("200ms")
    assert device.read_all() == [record(1)]


def test_two_writers(mount: Mounts) -> None:
    """Writes on two descriptors take effect in their order."""
    device = mount()
    with device.opened(os.O_WRONLY, "threshold") as one, device.opened(os.O_RDWR, "threshold") as other:
        os.write(one, b"5")
        os.write(other, b"6")
        os.write(one, b"7")
        assert os.read(other, 100) == b"7\n"
    assert device.threshold.read_bytes() == b"7\n"


def test_an_append_after_another_writer(mount: Mounts) -> None:
    """An append that begins where a long one ended is a new write if another descriptor wrote between them."""
    device = mount()
    flags = os.O_WRONLY | os.O_APPEND
    with device.opened(flags, "threshold") as one, device.opened(flags, "threshold") as other:
        with mmap.mmap(-1, 131_072) as aligned:
            aligned[:2] = b"7\0"
            assert os.write(one, aligned) == len(aligned)
        assert device.threshold.read_bytes() == b"7\n"
        with device.opened(os.O_WRONLY, "threshold") as third:
            os.write(third, b"8")
        os.write(one, b"9")
        assert device.threshold.read_bytes() == b"9\n"
        os.write(other, b"10")
        os.write(one, b"11")
        assert device.threshold.read_bytes() == b"11\n"


def test_an_inherited_descriptor(mount: Mounts) -> None:
    """A child can write through an inherited descriptor."""
    device = mount()
    done = device.shell("exec 3> threshold; sh -c 'echo 41 >&3'; echo 42 >&3; exec 3>&-; cat threshold")
    assert (done.stdout, done.stderr) == ("42\n", "")


@pytest.mark.parametrize(
    "buffers",
    [
        [b"7\0", b"8" * 126_000],
        [b"7\0", b"8" * 126_130],
        [b"7\0", b"8" * 1_000_000],
        [b"7\0", *[b"8"] * 1000],
        [b"7\0" + b"8" * 60_000, b"8" * 100_000, b"8" * 100_000],
    ],
    ids=["126002", "126132", "1000002", "1001 buffers", "260002"],
)
def test_writev_is_one_write(mount: Mounts, buffers: list[bytes]) -> None:
    """One writev is one write (a caveat: a kernel writes once for each buffer), and the next one is a new write."""
    device = mount()
    with device.opened(os.O_WRONLY, "threshold") as file:
        assert os.writev(file, [b"1", b"2"]) == 2
        assert device.threshold.read_bytes() == b"12\n"
        for value in (b"9", b"10"):
            assert os.writev(file, buffers) == sum(map(len, buffers))
            assert device.threshold.read_bytes() == b"7\n"
            assert os.writev(file, [value]) == len(value)
            assert device.threshold.read_bytes() == value + b"\n"
