"""Concurrent readers and writers. Each reader has its own position, and writes are atomic."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

from tests.mount.support import DEADLINE, Mounts, environment, newest_first, record, scenario


def test_a_reader_while_records_arrive(mount: Mounts) -> None:
    """The k-th read returns the k-th newest record at that moment, also while new records arrive."""
    device = mount()
    device.advance("10s")
    with device.opened() as file:
        seen = []
        for _ in range(5):
            seen.append(os.read(file, 4096))
            device.advance("2s")
        # Before read k, 10 + 2k pins have been recorded.
        assert seen == [record(10 + 2 * k - 1 - k) for k in range(5)]


def test_two_readers_in_turn(mount: Mounts) -> None:
    """Two readers do not change each other's position."""
    device = mount()
    device.advance("4s")
    with device.opened() as one, device.opened() as other:
        assert os.read(one, 4096) == record(3)
        device.advance("1s")
        assert os.read(other, 4096) == record(4)
        assert os.read(one, 4096) == record(3)
        assert os.read(other, 4096) == record(3)
        device.threshold.write_text("300000")
        assert (os.read(one, 4096), os.read(other, 4096)) == (b"", b"")
        device.advance("5s")
        assert os.read(one, 4096) == record(6)
        assert os.read(other, 4096) == record(6)


def test_a_child_reads_on(mount: Mounts) -> None:
    """A child that inherits a descriptor shares its position with the parent."""
    device = mount()
    device.advance("6s")
    with device.opened() as file:
        assert os.read(file, 4096) == record(5)
        done = subprocess.run(
            ["dd", "bs=4096", "count=2", "status=none"], stdin=file, capture_output=True, timeout=DEADLINE, check=True
        )
        assert done.stdout == record(4) + record(3)
        assert os.read(file, 4096) == record(2)
    shell = device.shell("exec 3< longterm_pinner; dd bs=4096 count=1 <&3 status=none; cat <&3; cat <&3")
    assert shell.stdout == b"".join(newest_first(6)).decode()


def test_two_writers_and_a_reader(mount: Mounts) -> None:
    """With two concurrent writers, a reader always gets one of the two values."""
    device = mount()
    values = ("1" * 17, "2" * 5)
    device.threshold.write_text(values[0])
    write = "import sys\nfor _ in range(200):\n with open(sys.argv[1], 'w') as file: file.write(sys.argv[2])"
    writers = [
        subprocess.Popen([sys.executable, "-c", write, device.threshold, value], env=environment()) for value in values
    ]
    seen = set()
    try:
        while any(writer.poll() is None for writer in writers):
            seen.add(device.threshold.read_text())
    finally:
        codes = [writer.wait(DEADLINE) for writer in writers]
    assert codes == [0, 0]
    assert seen
    assert seen <= {f"{value}\n" for value in values}


def test_readers_during_advances(mount: Mounts) -> None:
    """During advances and threshold writes, each read returns one whole record."""
    device = mount(scenario(mount.directory, every="1ms"))
    known = set(newest_first(4096))
    problems: list[object] = []
    stop = threading.Event()

    def read() -> None:
        try:
            while not stop.is_set():
                problems.extend(text for text in device.read_all() if text not in known)
        except OSError as error:
            problems.append(error)

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    try:
        for step in range(30):
            device.advance("100ms")
            if step % 10 == 9:
                device.threshold.write_text("300000")
    finally:
        stop.set()
        for reader in readers:
            reader.join(DEADLINE)
    assert problems == []
    assert device.stats()["pins"] == 3001


def test_two_concurrent_advances(mount: Mounts) -> None:
    """Concurrent advances of two processes add up."""
    device = mount()
    code = "import sys\nfor _ in range(50):\n with open(sys.argv[1], 'w') as file: file.write('10ms')"
    path = device.path / ".pinnerfs" / "advance"
    processes = [subprocess.Popen([sys.executable, "-c", code, path], env=environment()) for _ in range(2)]
    assert [process.wait(DEADLINE) for process in processes] == [0, 0]
    assert device.control("clock") == "1000000\n"
    assert device.stats()["pins"] == 2
