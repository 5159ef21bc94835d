"""The daemon's log, which never blocks or breaks a mount."""

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


@pytest.mark.parametrize("name", ["no/log", "directory", "fifo", "file/log"])
def test_files_that_cannot_be_opened(tmp_path: Path, name: str) -> None:
    """The error names the file and the reason. A pipe without a reader is refused: opening it would block."""
    (tmp_path / "directory").mkdir()
    (tmp_path / "file").write_text("")
    os.mkfifo(tmp_path / "fifo")
    reason = {
        "no/log": "No such file or directory",
        "directory": "Is a directory",
        "fifo": "No such device or address",
        "file/log": "Not a directory",
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
