"""The daemon's log, which never blocks or breaks a mount."""

from __future__ import annotations

import logging
import os
import select
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from pinnerfs.daemon import log as logs
from pinnerfs.daemon.log import open_log, write_in_background
from pinnerfs.daemon.logfile import open_log_file
from pinnerfs.errors import PinnerfsError
from tests.mount.support import DEADLINE, ORDINARY, as_user


@pytest.fixture
def own_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.RootLogger]:
    """A root logger for one test. pytest adds handlers to it before the test runs."""
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    yield root
    for handler in root.handlers:
        handler.close()


def test_lines_are_appended_to_the_file(own_root: logging.RootLogger, tmp_path: Path) -> None:
    """The file keeps its content, each line is written at once, and an undecodable byte is shown in hex."""
    log = tmp_path / "log"
    log.write_text("before\n")
    own_root.handlers.clear()
    open_log(str(log))
    own_root.info("caf\udce9 \ud800 %d", 5)
    first, second = log.read_text().splitlines()
    assert first == "before"
    assert second.endswith(" INFO caf\\xe9 \\ud800 5")


def test_without_a_file_the_log_is_stderr(own_root: logging.RootLogger, capfd: pytest.CaptureFixture[str]) -> None:
    """Lines go to the stderr of that moment, as a daemon replaces it."""
    own_root.handlers.clear()
    open_log(None)
    own_root.info("here")
    assert capfd.readouterr().err.endswith(" INFO here\n")


def test_a_line_that_does_not_fit_into_memory(
    own_root: logging.RootLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When memory runs out, a constant line takes the place of the lost one."""
    own_root.handlers.clear()
    open_log(str(tmp_path / "log"))

    def out_of_memory(record: logging.LogRecord) -> str:
        raise MemoryError

    monkeypatch.setattr(own_root.handlers[0], "format", out_of_memory)
    own_root.error("x")
    assert (tmp_path / "log").read_text() == "ERROR: MemoryError: log line lost: out of memory\n"


@pytest.mark.parametrize("name", ["no/log", "directory", "fifo", "file/log", "loop"])
def test_files_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    """The error names the file and the reason. A pipe without a reader is refused: opening it would block."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "loop").symlink_to("loop")
    reason = {
        "no/log": "No such file or directory",
        "directory": "Is a directory",
        "fifo": "No such device or address",
        "file/log": "Not a directory",
        "loop": "Too many levels of symbolic links",
    }[name]
    with pytest.raises(PinnerfsError) as caught:
        open_log(f"{tmp_path}/{name}")
    assert str(caught.value) == f"cannot open log file {tmp_path}/{name}: {reason}"


def test_without_permission() -> None:
    """The error for a directory of another user names the file and the reason."""
    if os.geteuid() != 0:
        pytest.skip("only root can act as another user")

    def work() -> str:
        try:
            open_log("/root-alone.log")
        except PinnerfsError as error:
            return str(error)
        return "opened"

    assert as_user(work) == "cannot open log file /root-alone.log: Permission denied"


@pytest.mark.parametrize("kind", ["full disk", "full pipe", "pipe without a reader"])
def test_a_line_that_cannot_be_written_is_lost(
    own_root: logging.RootLogger, tmp_path: Path, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """It raises nothing, blocks nothing, and prints nothing elsewhere."""
    log = tmp_path / "log"
    reader = -1
    if kind == "full disk":
        log = Path("/dev/full")
    else:
        os.mkfifo(log)
        reader = os.open(log, os.O_RDONLY | os.O_NONBLOCK)
    own_root.handlers.clear()
    open_log(str(log))
    if kind == "pipe without a reader":
        os.close(reader)
    for _ in range(1000):
        own_root.info("x" * 100)
    assert capfd.readouterr() == ("", "")
    if kind == "full pipe":
        assert os.read(reader, 1000).count(b"INFO") > 5
        os.close(reader)


def full_pipe() -> tuple[int, int]:
    """Return both ends of a pipe without room. A write to it blocks."""
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    with suppress(BlockingIOError):
        while True:
            os.write(writer, b"\n" * 4096)
    os.set_blocking(writer, True)
    return reader, writer


def emit_lines(first: int, count: int) -> None:
    """Log numbered lines. Fail if that blocks."""

    def work() -> None:
        for number in range(first, first + count):
            logging.root.warning("line %d %s", number, "x" * 500)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    thread.join(DEADLINE)
    assert not thread.is_alive()


def read_until(reader: int, last: bytes) -> list[str]:
    """Read a pipe until a line with these bytes, and return its lines."""
    data = b""
    while not (last in data and data.endswith(b"\n")):
        assert select.select([reader], [], [], DEADLINE)[0]
        data += os.read(reader, 1 << 16)
    return data.decode().strip("\n").split("\n")


@pytest.fixture
def blocked_log(own_root: logging.RootLogger, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[int, int]]:
    """A log to a pipe without room, written by a thread. Yields both ends of the pipe."""
    reader, writer = full_pipe()
    monkeypatch.setattr(logs, "open_log_file", lambda path: writer)
    own_root.handlers.clear()
    open_log("pipe")
    write_in_background()
    yield reader, writer
    # Ends the thread's write; the thread itself ends with the process.
    os.close(reader)


def test_a_log_that_blocks(blocked_log: tuple[int, int]) -> None:
    """It blocks no caller. Later the log has the first lines, the number of those that were lost, and later lines."""
    reader, _ = blocked_log
    emit_lines(0, 4000)
    lines = read_until(reader, b"are lost")
    *kept, lost = lines
    assert [line.split()[4] for line in kept] == [str(number) for number in range(len(kept))]
    assert len(kept) > 1000
    assert lost.endswith(f" WARNING {4000 - len(kept)} log lines could not be written here, and are lost")
    emit_lines(4000, 2)
    assert [line.split()[4] for line in read_until(reader, b"line 4001 ")] == ["4000", "4001"]


def test_the_queue_is_bounded(blocked_log: tuple[int, int]) -> None:
    """The lines that wait take about a megabyte, however many there are."""
    emit_lines(0, 4000)
    handler = logging.root.handlers[0]
    assert isinstance(handler, logs._DescriptorHandler)
    assert sum(map(len, handler._queue)) <= logs.MAX_QUEUED


def test_the_end_with_a_log_that_blocks(blocked_log: tuple[int, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """At the end the daemon waits for the lines that are left, with a limit."""
    monkeypatch.setattr(logs, "FLUSH_TIMEOUT", 0.05)
    emit_lines(0, 1)
    flush = threading.Thread(target=logging.root.handlers[0].flush, daemon=True)
    flush.start()
    flush.join(DEADLINE)
    assert not flush.is_alive()


def test_lines_in_the_background_are_written_at_once(own_root: logging.RootLogger, tmp_path: Path) -> None:
    """After `flush` every line is in the file, in order."""
    own_root.handlers.clear()
    open_log(str(tmp_path / "log"))
    write_in_background()
    emit_lines(0, 1000)
    own_root.handlers[0].flush()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [line.split()[4] for line in lines] == [str(number) for number in range(1000)]


def test_lines_that_a_full_disk_lost_are_counted(
    own_root: logging.RootLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first line that can be written again comes after the number of those that could not."""
    descriptor = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr(logs, "open_log_file", lambda path: descriptor)
    own_root.handlers.clear()
    open_log("log")
    emit_lines(0, 3)
    os.dup2(os.open(tmp_path / "log", os.O_WRONLY | os.O_CREAT), descriptor)
    emit_lines(3, 1)
    lost, line = (tmp_path / "log").read_text().splitlines()
    assert lost.endswith(" WARNING 3 log lines could not be written here, and are lost")
    assert " WARNING line 3 " in line


def test_text_forges_no_line(own_root: logging.RootLogger, tmp_path: Path) -> None:
    """Control characters in a message are escaped, and a traceback is indented."""
    own_root.handlers.clear()
    open_log(str(tmp_path / "log"))
    own_root.error("\x1b[31m\n2026-01-01 00:00:00,000 ERROR forged")
    try:
        raise ValueError("\x1b[31m\n2026-01-01 00:00:00,000 ERROR forged")
    except ValueError:
        own_root.exception("failed")
    first, second, *traceback = (tmp_path / "log").read_text().removesuffix("\n").split("\n")
    assert first.endswith(r" ERROR \x1b[31m\n2026-01-01 00:00:00,000 ERROR forged")
    assert second.endswith(" ERROR failed")
    assert all(line.startswith("  ") and line.isprintable() for line in traceback)
    assert traceback[-1] == "  2026-01-01 00:00:00,000 ERROR forged"


LINKS = {
    "of another user": (ORDINARY, False),
    "of another user, through a link of root": (ORDINARY, True),
    "of root": (0, False),
}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make links of other users")
@pytest.mark.parametrize("kind", LINKS)
@pytest.mark.parametrize("sticky", [True, False])
def test_symbolic_links(tmp_path: Path, kind: str, sticky: bool) -> None:
    """A link of another user in a sticky directory is refused, and its target not made. Other links are followed."""
    owner, through = LINKS[kind]
    shared, private = tmp_path / "shared", tmp_path / "private"
    shared.mkdir()
    shared.chmod(0o1777 if sticky else 0o777)
    private.mkdir()
    link, target = shared / "log", private / "target"
    link.symlink_to(target)
    os.lchown(link, owner, owner)
    name = link
    if through:
        name = private / "link"
        name.symlink_to("../shared/log")
    if sticky and owner:
        with pytest.raises(PinnerfsError, match=f"/shared/log is a symbolic link of another user \\(uid {owner}\\)"):
            open_log_file(str(name))
        assert not target.exists()
    else:
        os.close(open_log_file(str(name)))
        assert target.read_text() == ""


def test_links_that_only_the_kernel_can_follow(tmp_path: Path) -> None:
    """/dev/stdout and /proc/self/fd/N name an open file, even one without a name."""
    with (tmp_path / "file").open("w") as file:
        (tmp_path / "file").unlink()
        descriptor = open_log_file(f"/proc/self/fd/{file.fileno()}")
        assert os.path.sameopenfile(descriptor, file.fileno())
        os.close(descriptor)
