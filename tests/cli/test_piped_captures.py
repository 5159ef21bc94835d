"""Captures from standard input and other pipes, where commands take a scenario."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.replay import load_capture
from pinnerfs.scenario import reading
from pinnerfs.scenario.reading import Input
from tests.cli.conftest import Run
from tests.mount.support import DEADLINE, pinnerfs, run_command
from tests.replay.captures import capture as capture_text
from tests.replay.captures import section
from tests.report.texts import pin

TEXT = pin(400_000, 0x80001) + pin(300_001, 0x80400)
CAPTURE = capture_text(section("page_pinner/longterm_pinner", TEXT)).encode()


def zipped() -> bytes:
    """Return a bug report."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("version.txt", "2.0\n")
        archive.writestr("bugreport-phone.txt", b"== dumpstate: 2026\n" + bytes(2 << 20) + b"\n" + CAPTURE)
    return buffer.getvalue()


FORMS: dict[str, Callable[[], bytes]] = {
    "a cat": TEXT.encode,
    "a capture": lambda: CAPTURE,
    "CR LF": lambda: CAPTURE.replace(b"\n", b"\r\n"),
    "UTF-16": lambda: CAPTURE.decode().encode("utf-16"),
    "gzip": lambda: gzip.compress(CAPTURE),
    "xz": lambda: lzma.compress(CAPTURE),
    "a bug report": zipped,
    "a long dumpstate": lambda: b"== dumpstate: 2026\n" + b"11-26 10:00:00.123 I tag: nothing\n" * 90_000 + CAPTURE,
}


@pytest.mark.parametrize("form", FORMS)
def test_a_capture_on_stdin(tmp_path: Path, form: str) -> None:
    """dump prints the records of all that a file can have, from a pipe and from a file on standard input."""
    data = FORMS[form]()
    (tmp_path / "a").write_bytes(data)
    done = run_command(["sh", "-c", f'cat a | "{sys.executable}" -m pinnerfs dump -'], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, "")
    (tmp_path / "b").write_bytes(b"a line before\n" + data)
    with (tmp_path / "b").open("rb", buffering=0) as file:
        if form != "a bug report":  # a zip begins at the beginning of its file
            file.seek(14)
            done = pinnerfs("dump", "-", stdin=file)
            assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, "")


def test_a_process_substitution(tmp_path: Path) -> None:
    """A path that leads to a pipe is looked at in the same way. In .toml it is a scenario."""
    (tmp_path / "a").write_bytes(gzip.compress(CAPTURE))
    command = f'"{sys.executable}" -m pinnerfs dump <(cat a)'
    done = run_command(["bash", "-c", command], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, TEXT, "")
    os.mkfifo(tmp_path / "b.toml")
    with subprocess.Popen(["sh", "-c", "cat a > b.toml"], cwd=tmp_path) as writer:
        done = pinnerfs("dump", "./b.toml", cwd=tmp_path)
        assert writer.wait(DEADLINE) == 0
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("Error: ./b.toml: it is a capture of a device, not a scenario; ")


def test_record_and_dump_joined(tmp_path: Path) -> None:
    """What a command prints is what the next one reads."""
    (tmp_path / "a").write_bytes(CAPTURE)
    program = f'"{sys.executable}" -m pinnerfs'
    done = run_command(
        ["sh", "-c", f"{program} record --redact - < a | {program} dump - --over 2s --at 2s | {program} import -"],
        cwd=tmp_path,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# Imported from stdin (kernel introduced):\n")


REFUSED: dict[str, tuple[list[str], bytes, str]] = {
    "--seed": (["dump", "-", "--seed", "3"], CAPTURE, "as it was recorded; stdin is a capture (see "),
    "--over": (["dump", "-", "--over", "3s"], b"format = 1\n", "--over is for captures; stdin is a scenario (see "),
    "another kernel": (["dump", "-", "--kernel", "pixel-5.10"], CAPTURE, "cannot replay stdin on kernel 'pixel-5.10'"),
    "no records": (["dump", "-"], b"------ A (/proc/version) ------\n", "nothing to report in stdin: wanted records"),
    "a cut zip": (["dump", "-"], zipped()[:400], "it is a damaged zip"),
    "a cut gzip": (["dump", "-"], gzip.compress(CAPTURE)[:20], "the compressed data ends early"),
    "a later version": (["dump", "-"], CAPTURE.replace(b"CAPTURE 1", b"CAPTURE 2"), "it is a capture of version '2'"),
    "a mount": (["mount", "-", "m", "--trace", "engine", "--log", "l"], CAPTURE, "a replay has only the layer fuse"),
    "show": (["show", "-"], CAPTURE, "stdin: it is a capture of a device, not a scenario; "),
    "check": (["check", "-"], gzip.compress(CAPTURE), "stdin: it is a capture of a device, not a scenario; "),
    "nothing": (["dump", "-"], b"", "cannot read scenario from stdin: standard input is empty"),
    "neither": (["dump", "-"], b"hello\n", "stdin:1: not TOML: "),
    "long and neither": (["dump", "-"], b"hello\n" * (1 << 18), "from stdin: it is larger than 1048576 bytes; raise"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_refusals(tmp_path: Path, kind: str) -> None:
    """What cannot be played is refused in one line with status 2, and the line says that it came from stdin."""
    arguments, data, reason = REFUSED[kind]
    (tmp_path / "input").write_bytes(data)
    done = run_command(["sh", "-c", 'cat input | "$0" -m pinnerfs "$@"', sys.executable, *arguments], cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
    assert done.stderr.startswith("Error: ") and reason in done.stderr


@pytest.fixture
def pipe() -> Iterator[tuple[Input, int]]:
    """A pipe: its end to read from, and the descriptor to write to."""
    reader, writer = os.pipe()
    opened = Input(reader)
    yield opened, writer
    os.close(writer)
    opened.close()


def test_a_pipe_without_an_end(pipe: tuple[Input, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The records before a writer stops are replayed, and a note tells the reason."""
    opened, writer = pipe
    monkeypatch.setattr(reading, "PIPE_TIMEOUT", 0.2)
    os.write(writer, CAPTURE)
    recording = load_capture("-", opened=opened)
    assert [entry.text.decode() for entry in reversed(recording.records["longterm_pinner"])] == [
        pin(400_000, 0x80001),
        pin(300_001, 0x80400),
    ]
    assert recording.notes == ("stdin: the rest was skipped: no data came for 0.2 s",)


def test_a_pipe_with_too_much(pipe: tuple[Input, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """The records before the limit are replayed, and a note tells the reason."""
    opened, writer = pipe
    monkeypatch.setattr(reading, "MOST", len(CAPTURE) * 2 - 1)
    os.write(writer, CAPTURE * 3)
    assert "stdin: the rest was skipped: it has more than 0 GiB" in load_capture("-", opened=opened).notes


def test_a_pipe_without_a_beginning(pipe: tuple[Input, int], monkeypatch: pytest.MonkeyPatch) -> None:
    """If no data comes, the first look at it ends after the timeout."""
    monkeypatch.setattr(reading, "PIPE_TIMEOUT", 0.2)
    with pytest.raises(ValueError, match=r"no data came for 0\.2 s"):
        pipe[0].peek(1)
    with pytest.raises(PinnerfsError, match=r"cannot read stdin: no data came for 0\.2 s"):
        load_capture("-", opened=pipe[0])


@pytest.mark.parametrize("form", ["a cat", "a bug report"])
def test_a_writer_that_stops(pipe: tuple[Input, int], monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    """A first look takes what came, and does not wait for more again. Then that is replayed, with a note."""
    opened, writer = pipe
    monkeypatch.setattr(reading, "PIPE_TIMEOUT", 0.2)
    data = FORMS[form]()
    os.write(writer, data)
    assert opened.peek(1 << 16) == data
    monkeypatch.setattr(reading, "PIPE_TIMEOUT", DEADLINE)
    recording = load_capture("-", opened=opened)
    assert len(recording.records["longterm_pinner"]) == 2
    assert recording.notes == ("stdin: the rest was skipped: no data came for 0.2 s",)


@pytest.mark.parametrize(
    "begin, reason",
    [
        (b"Pag", "nothing to report in stdin: .*; stdin: the rest was skipped: no data came"),
        (zipped()[:400], "cannot read stdin: no data came"),
    ],
)
def test_a_writer_that_stops_at_once(
    pipe: tuple[Input, int], monkeypatch: pytest.MonkeyPatch, begin: bytes, reason: str
) -> None:
    """What is too short to have a record is refused with the reason."""
    monkeypatch.setattr(reading, "PIPE_TIMEOUT", 0.2)
    os.write(pipe[1], begin)
    with pytest.raises(PinnerfsError, match=reason):
        load_capture("-", opened=pipe[0])


def test_import_of_a_silent_pipe(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A named pipe whose writer says nothing has the timeout of a pipe, also if its name has no slash."""
    monkeypatch.setattr(reading, "PIPE_TIMEOUT", 0.2)
    monkeypatch.chdir(tmp_path)
    os.mkfifo("pipe")
    writer = os.open("pipe", os.O_RDWR)
    done = run("import", "pipe")
    os.close(writer)
    assert (done.status, done.out, done.err) == (2, "", "Error: cannot read pipe: no data came for 0.2 s\n")


def test_what_was_looked_at_is_read(pipe: tuple[Input, int]) -> None:
    """The bytes of a first look are the first of the reading."""
    opened, writer = pipe
    os.write(writer, b"abc")
    assert opened.peek(2) == opened.peek(3) == b"abc"
    assert opened.read(1) == b"abc"
    os.write(writer, b"def")
    assert opened.read(2) == b"de"


def test_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """One Ctrl-D ends it, also if the end was met in the first look."""
    monkeypatch.setattr(reading, "PIPE_TIMEOUT", 5)
    master, slave = os.openpty()
    try:
        os.write(master, b"abc\n\x04")
        opened = Input(slave)
        assert opened.peek(100) == opened.read_all(100) == b"abc\n"
    finally:
        os.close(slave)
        os.close(master)


def test_the_memory_of_a_large_capture(tmp_path: Path) -> None:
    """It does not grow with what stands around the records."""
    code = (
        "import resource, sys\n"
        "from pinnerfs.replay import loading\n"
        "from pinnerfs.scenario.reading import Input\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "opened = Input(0)\n"
        "opened.peek(1 << 16)\n"
        "records = loading.load_capture('-', opened=opened).records['longterm_pinner']\n"
        "print(len(records), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)"
    )
    log = b"11-26 10:00:00.123  1000  1234 I tag: nothing to see here\n" * 18_000
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None and process.stdout is not None
        for _ in range(48):
            process.stdin.write(log)
        process.stdin.write(CAPTURE)
        process.stdin.close()
        records, grown = map(int, process.stdout.read().split())
    assert records == 2
    assert grown < 24 << 10, f"{grown} KiB for 48 MiB of text"
