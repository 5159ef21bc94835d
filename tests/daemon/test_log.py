"""The daemon's log, which never keeps a mount from its work."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pinnerfs.daemon.log import open_log
from pinnerfs.errors import PinnerfsError
from tests.mount.support import as_user


@pytest.fixture
def own_root(monkeypatch: pytest.MonkeyPatch) -> Iterator[logging.RootLogger]:
    """A root logger of the test's own; pytest has put handlers of its own into it by the time of the test."""
    root = logging.RootLogger(logging.WARNING)
    monkeypatch.setattr(logging, "root", root)
    yield root
    for handler in root.handlers:
        handler.close()


def test_lines_go_to_the_end_of_the_file(own_root: logging.RootLogger, tmp_path: Path) -> None:
    """What was in the file stays, and each line is there at once."""
    log = tmp_path / "log"
    log.write_text("before\n")
    own_root.handlers.clear()
    open_log(str(log))
    own_root.info("caf\udce9 %d", 5)
    first, second = log.read_text().splitlines()
    assert first == "before"
    assert second.endswith(" INFO caf\\udce9 5")


def test_without_a_file_it_is_stderr(own_root: logging.RootLogger, capfd: pytest.CaptureFixture[str]) -> None:
    """stderr is looked for when there is something to say, as a daemon changes it on the way."""
    own_root.handlers.clear()
    open_log(None)
    own_root.info("here")
    assert capfd.readouterr().err.endswith(" INFO here\n")


def test_no_memory_for_a_line(own_root: logging.RootLogger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where memory lacks for a line, there is a shorter one."""
    own_root.handlers.clear()
    open_log(str(tmp_path / "log"))

    def lacking(record: logging.LogRecord) -> str:
        raise MemoryError

    monkeypatch.setattr(own_root.handlers[0], "format", lacking)
    own_root.error("x")
    lost = "ERROR: MemoryError: a line of the log is lost, as there is no memory for it\n"
    assert (tmp_path / "log").read_text() == lost


@pytest.mark.parametrize("name", ["no/log", "folder", "fifo", "file/log"])
def test_files_that_cannot_be(tmp_path: Path, name: str) -> None:
    """A log that cannot be opened is refused in words, a pipe without a reader too: that would be waited for."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    reason = {
        "no/log": "No such file or directory",
        "folder": "Is a directory",
        "fifo": "No such device or address",
        "file/log": "Not a directory",
    }[name]
    with pytest.raises(PinnerfsError) as caught:
        open_log(f"{tmp_path}/{name}")
    assert str(caught.value) == f"cannot open log file {tmp_path}/{name}: {reason}"


def test_without_permission() -> None:
    """A log in a folder that is not one's own is refused in words."""
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
    """It raises nothing, waits for nothing, and says nothing elsewhere."""
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
