"""Reads of `longterm_pinner` and `threshold` by system calls: buffer sizes, end of file, positions."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from tests.mount.support import LONG_FRAMES, Mounts, newest_first, outcome, record, scenario

LENGTH = len(record(0))
NEWEST = record(9)


@pytest.mark.parametrize(
    ("size", "result"),
    [
        (1, -errno.ENOMEM),
        (64, -errno.ENOMEM),
        (LENGTH - 1, -errno.ENOMEM),
        (LENGTH, -errno.ENOMEM),
        (LENGTH + 1, NEWEST),
        (1024, NEWEST),
        (4095, NEWEST),
        (4096, NEWEST),
        (4097, NEWEST),
        (131072, NEWEST),
        (131073, NEWEST),
        (1 << 20, NEWEST),
    ],
)
def test_a_record_is_shorter_than_the_buffer(mount: Mounts, size: int, result: bytes | int) -> None:
    """A read returns one record if it is strictly shorter than the buffer; otherwise it is ENOMEM."""
    device = mount()
    device.advance("10s")
    with device.opened() as file:
        assert outcome(lambda: os.read(file, size)) == result
        # A failed read does not move the position.
        assert os.read(file, 4096) == (NEWEST if isinstance(result, int) else record(8))


def test_a_long_record_needs_a_larger_buffer(mount: Mounts) -> None:
    """A record of more than 1024 bytes needs a larger buffer; 4096 bytes are enough."""
    device = mount(scenario(mount.directory, frames=LONG_FRAMES))
    device.advance("2s")
    assert 1024 < len(record(1, frames=LONG_FRAMES)) < 4096
    with device.opened() as file:
        assert outcome(lambda: os.read(file, 1024)) == -errno.ENOMEM
    assert device.read_all() == newest_first(2, frames=LONG_FRAMES)


def test_reads_at_the_end_move_the_position(mount: Mounts) -> None:
    """Reads at the end move the position: after two of them, the next read returns the third-newest record."""
    device = mount()
    with device.opened() as file:
        assert [os.read(file, 4096), os.read(file, 4096)] == [b"", b""]
        device.advance("5s")
        assert os.read(file, 4096) == record(2)
        assert os.read(file, 4096) == record(1)


def test_a_small_buffer_at_the_end(mount: Mounts) -> None:
    """At the end, a read of one byte returns 0 and moves the position."""
    device = mount()
    with device.opened() as file:
        assert os.read(file, 1) == b""
        device.advance("2s")
        assert os.read(file, 4096) == record(0)


def test_at_most_4096_records(mount: Mounts) -> None:
    """The ring has the newest 4096 records. Read 4097 and later ones return the end, even after new records."""
    device = mount(scenario(mount.directory, every="1ms"))
    device.advance("5s")
    # Pin k is taken at k ms and released 400 ms later, so 4601 records so far.
    expected = newest_first(4601)
    with device.opened() as file:
        assert [os.read(file, 4096) for _ in range(4096)] == expected
        assert os.read(file, 4096) == b""
        device.advance("1s")
        assert os.read(file, 4096) == b""
    assert device.stats()["records_overwritten"] == 4601 + 1000 - 4096


def test_new_records_shift_the_old_ones(mount: Mounts) -> None:
    """A file has no snapshot: a record that arrives between two reads makes an older one appear twice."""
    device = mount()
    device.advance("3s")
    with device.opened() as file:
        assert os.read(file, 4096) == record(2)
        device.advance("1s")
        assert os.read(file, 4096) == record(2)
        assert os.read(file, 4096) == record(1)
        device.advance("2s")
        assert os.read(file, 4096) == record(2)


def test_two_readers_have_their_own_positions(mount: Mounts) -> None:
    """Each open file has its own position."""
    device = mount()
    device.advance("3s")
    with device.opened() as one, device.opened() as other:
        assert os.read(one, 4096) == record(2)
        assert os.read(one, 4096) == record(1)
        assert os.read(other, 4096) == record(2)
        assert os.read(one, 4096) == record(0)
        assert os.read(other, 4096) == record(1)


def test_dup_and_fork_share_a_position(mount: Mounts) -> None:
    """Descriptors from dup and fork share their position."""
    device = mount()
    device.advance("4s")
    with device.opened() as file:
        assert os.read(file, 4096) == record(3)
        copy = os.dup(file)
        assert os.read(copy, 4096) == record(2)
        os.close(copy)
        reader, writer = os.pipe()
        child = os.fork()
        if child == 0:
            os.write(writer, os.read(file, 4096))
            os._exit(0)
        os.waitpid(child, 0)
        assert os.read(reader, 4096) == record(1)
        os.close(reader)
        os.close(writer)
        assert os.read(file, 4096) == record(0)


def test_a_threshold_write_during_reads(mount: Mounts) -> None:
    """After a threshold write a reader gets the end of file, until there are more new records than its position."""
    device = mount()
    device.advance("3s")
    with device.opened() as file:
        assert [os.read(file, 4096), os.read(file, 4096)] == [record(2), record(1)]
        device.threshold.write_text("300000\n")
        assert os.read(file, 4096) == b""  # position 2 of no records
        device.advance("3s")
        assert os.read(file, 4096) == b""  # position 3 of 3 records
        device.advance("3s")
        assert os.read(file, 4096) == record(4)  # position 4 of 6 records
        assert os.read(file, 4096) == record(3)
        assert os.read(file, 4096) == b""


@pytest.mark.parametrize("file", ["longterm_pinner", "threshold"])
def test_no_seeking(mount: Mounts, file: str) -> None:
    """lseek and pread are ESPIPE, and do not move the position."""
    device = mount()
    device.advance("2s")
    with device.opened(file=file) as descriptor:
        for whence in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            with pytest.raises(OSError, match="Illegal seek"):
                os.lseek(descriptor, 0, whence)
        assert outcome(lambda: os.pread(descriptor, 4096, 0)) == -errno.ESPIPE
        assert os.read(descriptor, 4096) == (b"300000\n" if file == "threshold" else record(1))


def test_threshold_is_formatted_at_the_first_read(mount: Mounts) -> None:
    """The first read formats the text for all reads of an open file. A later write does not change it."""
    device = mount()
    with device.opened(file="threshold") as file:
        assert os.read(file, 2) == b"30"
        device.threshold.write_text("123456789")
        assert os.read(file, 100) == b"0000\n"
        assert os.read(file, 100) == b""
        assert os.read(file, 100) == b""
    assert device.threshold.read_bytes() == b"123456789\n"


def test_threshold_in_single_bytes(mount: Mounts) -> None:
    """threshold can be read in single bytes, as bash's read does."""
    device = mount()
    with device.opened(file="threshold") as file:
        assert [os.read(file, 1) for _ in range(8)] == [b"3", b"0", b"0", b"0", b"0", b"0", b"\n", b""]
    done = device.shell('while read -r line; do echo "<$line>"; done < threshold')
    assert (done.stdout, done.stderr) == ("<300000>\n", "")


def test_threshold_opened_for_both(mount: Mounts) -> None:
    """A write does not move the read position: the first read after it returns the new value."""
    device = mount()
    with device.opened(os.O_RDWR, "threshold") as file:
        assert os.write(file, b"77\n") == 3
        assert os.read(file, 100) == b"77\n"
        assert os.write(file, b"5") == 1
        assert os.read(file, 100) == b""
    assert device.threshold.read_bytes() == b"5\n"


def test_two_threads_share_the_records(mount: Mounts) -> None:
    """Two threads that read one descriptor get each record once."""
    device = mount(scenario(mount.directory, every="1ms"))
    device.advance("2s")
    seen: list[bytes] = []
    with device.opened() as file:

        def read() -> None:
            seen.extend(iter(lambda: os.read(file, 4096), b""))

        threads = [threading.Thread(target=read) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
    assert sorted(seen) == sorted(newest_first(1601))


def test_longterm_pinner_opened_for_both(mount: Mounts) -> None:
    """root can open longterm_pinner for writing. A write is EINVAL and does not affect reads."""
    device = mount()
    device.advance("2s")
    with device.opened(os.O_RDWR) as file:
        assert outcome(lambda: os.write(file, b"x")) == -errno.EINVAL
        assert os.read(file, 4096) == record(1)
    with device.opened(os.O_WRONLY) as file:
        assert outcome(lambda: os.read(file, 4096)) == -errno.EBADF
        assert outcome(lambda: os.write(file, b"1" * 200_000)) == -errno.EINVAL


def test_readv_is_one_read(mount: Mounts) -> None:
    """One readv is one read, without loss (a caveat: a real kernel reads once for each buffer)."""
    device = mount()
    device.advance("2s")
    with device.opened() as file:
        parts = [bytearray(64), bytearray(4096)]
        count = os.readv(file, parts)
        assert b"".join(parts)[:count] == record(1)
