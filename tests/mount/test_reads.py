"""Reading `longterm_pinner` and `threshold` by system calls: buffers, ends and positions."""

from __future__ import annotations

import errno
import os
import threading

import pytest

from tests.mount.support import LONG_FRAMES, Mounts, newest_first, outcome, record, scenario

LENGTH = len(record(0))
NEWEST = record(9)


@pytest.mark.parametrize(
    ("size", "answer"),
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
def test_a_record_is_shorter_than_the_buffer(mount: Mounts, size: int, answer: bytes | int) -> None:
    """A read returns one whole record if it is strictly shorter than the buffer, else ENOMEM, and then the next one."""
    device = mount()
    device.advance("10s")
    with device.opened() as file:
        assert outcome(lambda: os.read(file, size)) == answer
        # A refused read leaves the position where it was.
        assert os.read(file, 4096) == (NEWEST if isinstance(answer, int) else record(8))


def test_a_long_record_needs_a_larger_buffer(mount: Mounts) -> None:
    """A reader of 1024 bytes cannot have a record of more, while one of 4096 can."""
    device = mount(scenario(mount.folder, frames=LONG_FRAMES))
    device.advance("2s")
    assert 1024 < len(record(1, frames=LONG_FRAMES)) < 4096
    with device.opened() as file:
        assert outcome(lambda: os.read(file, 1024)) == -errno.ENOMEM
    assert device.read_all() == newest_first(2, frames=LONG_FRAMES)


def test_the_end_moves_on(mount: Mounts) -> None:
    """After two reads at the end of an empty file the next one returns the third-newest of the records that came."""
    device = mount()
    with device.opened() as file:
        assert [os.read(file, 4096), os.read(file, 4096)] == [b"", b""]
        device.advance("5s")
        assert os.read(file, 4096) == record(2)
        assert os.read(file, 4096) == record(1)


def test_a_small_buffer_at_the_end_is_the_end(mount: Mounts) -> None:
    """At the end there is no record that could not fit: a read of one byte is 0, and moves on."""
    device = mount()
    with device.opened() as file:
        assert os.read(file, 1) == b""
        device.advance("2s")
        assert os.read(file, 4096) == record(0)


def test_at_most_4096_records(mount: Mounts) -> None:
    """The ring holds the newest 4096 records; read 4097 and all that follow are the end, whatever comes meanwhile."""
    device = mount(scenario(mount.folder, every="1ms"))
    device.advance("5s")
    # Pin k comes at k ms and goes 400 ms later: 4601 of them by now.
    expected = newest_first(4601)
    with device.opened() as file:
        assert [os.read(file, 4096) for _ in range(4096)] == expected
        assert os.read(file, 4096) == b""
        device.advance("1s")
        assert os.read(file, 4096) == b""
    assert device.stats()["records_overwritten"] == 4601 + 1000 - 4096


def test_records_that_come_shift_the_rest(mount: Mounts) -> None:
    """There is no snapshot: a record can be seen twice when another one comes between two reads."""
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
    """Each open file counts its own reads."""
    device = mount()
    device.advance("3s")
    with device.opened() as one, device.opened() as other:
        assert os.read(one, 4096) == record(2)
        assert os.read(one, 4096) == record(1)
        assert os.read(other, 4096) == record(2)
        assert os.read(one, 4096) == record(0)
        assert os.read(other, 4096) == record(1)


def test_dup_and_fork_share_a_position(mount: Mounts) -> None:
    """A descriptor from dup or fork goes on where the other one stands."""
    device = mount()
    device.advance("4s")
    with device.opened() as file:
        assert os.read(file, 4096) == record(3)
        twin = os.dup(file)
        assert os.read(twin, 4096) == record(2)
        os.close(twin)
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


def test_a_threshold_written_under_a_reader(mount: Mounts) -> None:
    """The reader's next read is the end, until there are more new records than it has read."""
    device = mount()
    device.advance("3s")
    with device.opened() as file:
        assert [os.read(file, 4096), os.read(file, 4096)] == [record(2), record(1)]
        device.threshold.write_text("300000\n")
        assert os.read(file, 4096) == b""  # position 2: the end, and now 3
        device.advance("3s")
        assert os.read(file, 4096) == b""  # three new ones: the end again, and now 4
        device.advance("3s")
        assert os.read(file, 4096) == record(4)  # of 8, 7, 6, 5, 4, 3
        assert os.read(file, 4096) == record(3)
        assert os.read(file, 4096) == b""


@pytest.mark.parametrize("file", ["longterm_pinner", "threshold"])
def test_no_seeking(mount: Mounts, file: str) -> None:
    """lseek is ESPIPE, wherever to, and pread as well; neither moves the position."""
    device = mount()
    device.advance("2s")
    with device.opened(file=file) as descriptor:
        for whence in (os.SEEK_SET, os.SEEK_CUR, os.SEEK_END):
            with pytest.raises(OSError, match="Illegal seek"):
                os.lseek(descriptor, 0, whence)
        assert outcome(lambda: os.pread(descriptor, 4096, 0)) == -errno.ESPIPE
        assert os.read(descriptor, 4096) == (b"300000\n" if file == "threshold" else record(1))


def test_threshold_is_formatted_at_the_first_read(mount: Mounts) -> None:
    """The text is made at position 0 and read on from there, whatever is written meanwhile."""
    device = mount()
    with device.opened(file="threshold") as file:
        assert os.read(file, 2) == b"30"
        device.threshold.write_text("123456789")
        assert os.read(file, 100) == b"0000\n"
        assert os.read(file, 100) == b""
        assert os.read(file, 100) == b""
    assert device.threshold.read_bytes() == b"123456789\n"


def test_threshold_by_single_bytes(mount: Mounts) -> None:
    """Single bytes make up the whole text, as bash's read wants them."""
    device = mount()
    with device.opened(file="threshold") as file:
        assert [os.read(file, 1) for _ in range(8)] == [b"3", b"0", b"0", b"0", b"0", b"0", b"\n", b""]
    done = device.shell('while read -r line; do echo "<$line>"; done < threshold')
    assert (done.stdout, done.stderr) == ("<300000>\n", "")


def test_threshold_on_a_handle_for_both(mount: Mounts) -> None:
    """A write moves no reading position: the value just written is what the first read formats."""
    device = mount()
    with device.opened(os.O_RDWR, "threshold") as file:
        assert os.write(file, b"77\n") == 3
        assert os.read(file, 100) == b"77\n"
        assert os.write(file, b"5") == 1
        assert os.read(file, 100) == b""
    assert device.threshold.read_bytes() == b"5\n"


def test_two_threads_share_the_records(mount: Mounts) -> None:
    """Threads that read one descriptor at once get every record between them, none twice."""
    device = mount(scenario(mount.folder, every="1ms"))
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


def test_longterm_pinner_opened_for_both_reads(mount: Mounts) -> None:
    """root may open it for writing; a write there is EINVAL, and reads go on as ever."""
    device = mount()
    device.advance("2s")
    with device.opened(os.O_RDWR) as file:
        assert outcome(lambda: os.write(file, b"x")) == -errno.EINVAL
        assert os.read(file, 4096) == record(1)
    with device.opened(os.O_WRONLY) as file:
        assert outcome(lambda: os.read(file, 4096)) == -errno.EBADF
        assert outcome(lambda: os.write(file, b"1" * 200_000)) == -errno.EINVAL


def test_readv_counts_its_buffers_together(mount: Mounts) -> None:
    """One readv is one read of all its buffers here (a caveat: a kernel reads once a buffer); nothing is lost in it."""
    device = mount()
    device.advance("2s")
    with device.opened() as file:
        parts = [bytearray(64), bytearray(4096)]
        count = os.readv(file, parts)
        assert b"".join(parts)[:count] == record(1)
