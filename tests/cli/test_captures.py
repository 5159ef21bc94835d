"""Captures on the command line: their options, their errors, and hostile ones."""

from __future__ import annotations

import gzip
import lzma
import random
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.replay import Replay, load_capture
from tests.cli.conftest import Run
from tests.replay.captures import capture as capture_text
from tests.replay.captures import section
from tests.report.texts import CAMERA, detect, hex_pin, pin
from tests.soak.report_fuzzer import dumps, mutated

TEXT = pin(400_000, 0x80001) + pin(300_001, 0x80400)
FAILURE = "Page pinned ts [    8.239262]\n" + hex_pin(1, 5, CAMERA[6:]).partition("\n")[2]


@pytest.fixture
def capture(tmp_path: Path) -> Path:
    """A capture of `introduced` in a file."""
    path = tmp_path / "capture"
    path.write_text(capture_text(section("page_pinner/longterm_pinner", TEXT)))
    return path


def test_dump_of_a_capture(run: Run, capture: Path) -> None:
    """dump prints its records; --at is not needed. --over, --loop, --threshold and --file work."""
    assert run("dump", capture).out == TEXT
    assert run("dump", capture, "--file", "longterm_pinner", "--kernel", "introduced").out == TEXT
    assert run("dump", capture, "--threshold", "350ms").out == pin(400_000, 0x80001)
    assert run("dump", capture, "--over", "10s", "--at", "9s").out == pin(300_001, 0x80400)
    assert run("dump", capture, "--over", "10s", "--loop", "--at", "20s").out == TEXT * 2


REFUSED = {
    "--seed": (("--seed", "3"), "--seed is for scenarios: a capture is replayed as it was recorded; '"),
    "--mm": (("--mm", "android14-6.1"), "--mm is for scenarios"),
    "--cma-retries": (("--cma-retries", "3"), "--cma-retries is for scenarios"),
    "--quiet-migration": (("--quiet-migration",), "--quiet-migration is for scenarios"),
    "--limit": (("--limit", "file=2MiB"), "--limit is for scenarios"),
    "--explain": (("--explain",), "--explain is for scenarios"),
    "--json": (("--json",), "--json is for scenarios: `pinnerfs report --json` has the data of a capture"),
    "another kernel": (("--kernel", "pixel-5.10"), "on kernel 'pixel-5.10': the capture is of introduced"),
    "--loop alone": (("--loop",), "--loop needs --over, the time of a round"),
    "--over 0": (("--over", "0s"), "--over must be more than 0us"),
    "--over in words": (("--over", "soon"), "--over = 'soon' must be a number and a unit"),
    "another file": (("--file", "buffer"), "--file 'buffer': kernel introduced has no such record file"),
}


@pytest.mark.parametrize("option", REFUSED)
def test_refused_options(run: Run, capture: Path, option: str) -> None:
    """Options that a replay cannot honour are refused in one line with status 2."""
    arguments, reason = REFUSED[option]
    result = run("dump", capture, *arguments)
    assert (result.status, result.out, result.err.count("\n")) == (2, "", 1)
    assert reason in result.err


def test_refused_options_of_a_mount(run: Run, capture: Path) -> None:
    """A replay has no events of an engine to trace. A scenario cannot be stretched or looped."""
    result = run("mount", capture, "m", "--trace", "fuse,engine", "--log", "log")
    assert (result.status, result.out) == (2, "")
    assert "--trace engine is for scenarios: a replay has only the layer fuse" in result.err
    for option in (("--over", "3s"), ("--loop",)):
        for command in (("dump", "camera-stall", "--at", "1s"), ("mount", "camera-stall", "m")):
            result = run(*command, *option)
            assert (result.status, result.out) == (2, "")
            assert f"Error: {option[0]} is for captures; 'camera-stall' is a scenario" in result.err
    assert "Error: Missing option '--at'" in run("dump", "camera-stall").err


def test_captures_where_only_scenarios_go(run: Run, capture: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """show and check tell that it is a capture, also a packed one. A bare name needs its directory."""
    wanted = "it is a capture of a device, not a scenario; `pinnerfs mount`, `run` and `dump` replay one"
    packed = capture.with_suffix(".gz")
    packed.write_bytes(gzip.compress(capture.read_bytes()))
    for command, path in (("show", capture), ("check", capture), ("check", packed)):
        result = run(command, path)
        assert (result.status, result.out, result.err) == (2, "", f"Error: {path}: {wanted}\n")
    monkeypatch.chdir(capture.parent)
    assert "did you mean the file './capture'?" in run("dump", "capture").err
    assert run("dump", "./capture").out == TEXT


def test_several_kernels_and_what_is_left_out(run: Run, tmp_path: Path) -> None:
    """stderr has a line for each kind of record that was left out, and one where the kernel is not certain."""
    (tmp_path / "a").write_text(detect(5, 1) + "Failure detected at [    1.000000]\n" + detect(4, 1))
    result = run("dump", tmp_path / "a")
    assert (result.status, result.out) == (0, detect(5, 1) + detect(4, 1))
    kernels = ("android14-6.1", "android15-6.6")
    assert [line.partition(": ")[2] for line in result.err.splitlines()] == [
        "the first line of a record is not followed by the second line",
        f"several kernels fit, {', '.join(kernels)}: replaying {kernels[0]}; choose with --kernel",
    ]
    assert run("dump", tmp_path / "a", "--kernel", "android15-6.6").out == result.out


def test_another_file_than_the_main_one(run: Run, tmp_path: Path) -> None:
    """If the main file has no records, stderr names the option that prints those of the other file."""
    (tmp_path / "a").write_text(capture_text(section("page_pinner/alloc_contig_failed", FAILURE)))
    result = run("dump", tmp_path / "a")
    assert (result.status, result.out) == (0, "")
    assert result.err == (
        "longterm_pinner has no records in this capture; --file alloc_contig_failed prints 1 record\n"
    )
    result = run("dump", tmp_path / "a", "--file", "alloc_contig_failed")
    assert (result.out, result.err) == (FAILURE, "")


def bomb(path: Path) -> None:
    """Write a zip of 64 KB that unpacks to 64 MiB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("bugreport.txt", "w") as member:
        for _ in range(64):
            member.write(bytes(1 << 20))


HOSTILE: dict[str, Callable[[Path], object]] = {
    "a zip bomb": bomb,
    "an endless line": lambda path: path.write_bytes(b"Page pinned ts " + b"a" * (8 << 20)),
    "an endless line of titles": lambda path: path.write_bytes(b"------ " * (1 << 20)),
    "a damaged zip": lambda path: path.write_bytes(b"PK\x03\x04" + bytes(1000)),
    "a damaged gzip": lambda path: path.write_bytes(gzip.compress(bytes(1000))[:20]),
    "a damaged xz": lambda path: path.write_bytes(lzma.compress(bytes(1000))[:40]),
    "a cut head": lambda path: path.write_text(TEXT[:30]),
    "two kernels": lambda path: path.write_text(TEXT + detect(1, 0x80001)),
    "a later version": lambda path: path.write_text(capture_text(TEXT).replace("CAPTURE 1", "CAPTURE 22")),
    "unreadable": lambda path: path.write_text(section("page_pinner/x", "Unable to read /d/page_pinner/buffer\n")),
    "an empty directory": lambda path: path.mkdir(),
}


@pytest.mark.parametrize("kind", HOSTILE)
def test_hostile_captures(run: Run, tmp_path: Path, kind: str) -> None:
    """What cannot be replayed is refused in one line with status 2."""
    HOSTILE[kind](tmp_path / "a")
    result = run("dump", tmp_path / "a")
    assert (result.status, result.out) == (2, ""), result
    assert result.err.count("\n") == 1
    assert result.err.startswith("Error: ")
    assert len(result.err) < 1200


def test_damaged_captures_that_have_records(run: Run, tmp_path: Path) -> None:
    """The records that are whole are replayed, and the damage is told in one line."""
    records = section("page_pinner/longterm_pinner", TEXT)
    whole = capture_text(records)
    noise = random.Random(1).randbytes(5000)
    for data, reason in {
        whole.encode() + b"Page pinned ts 1 us": "the first line of a record is cut off",
        whole.replace("\n", "\r\n").encode(): "",
        gzip.compress(whole.encode() + noise)[:-3000]: "the rest was skipped: the compressed data ends early",
        capture_text(records, section("../../etc/passwd", "evil\n")).encode(): "left out 1 of the other files",
        capture_text(
            records, section("ion/x", "y" * (2 << 20) + "\n")
        ).encode(): "a section was skipped: it is longer than",
    }.items():
        (tmp_path / "a").write_bytes(data)
        result = run("dump", tmp_path / "a")
        assert (result.status, result.out) == (0, TEXT)
        assert result.err.count("\n") == bool(reason)
        assert reason in result.err


def test_mutated_captures(tmp_path: Path) -> None:
    """Each damaged dump is replayed or refused in a line; no other exception comes out."""
    rng, known = random.Random(7), dumps()
    outcomes = set()
    for _ in range(200):
        (tmp_path / "a").write_bytes(mutated(rng, known))
        try:
            recording = load_capture(tmp_path / "a")
            Replay(recording, over="1s", loop=True).advance("10s")
            outcomes.add("replayed")
            assert all(note.isprintable() for note in recording.notes)
        except PinnerfsError as error:
            outcomes.add("refused")
            assert (error.exit_status, str(error).isprintable()) == (2, True)
    assert outcomes == {"replayed", "refused"}


def test_the_cost_of_a_large_bugreport(tmp_path: Path) -> None:
    """It does not grow with what stands around the records. The replay takes less time than the reading."""
    log = "".join(f"11-26 10:00:00.123  1000  {number} I tag: nothing to see here\n" for number in range(20_000))
    with (
        zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive,
        archive.open("bugreport.txt", "w") as member,
    ):
        for number in range(48):
            member.write(log.encode())
            if number == 24:
                member.write(section("page_pinner/longterm_pinner", pin(400_000, 1) * 4096).encode())
    code = (
        "import resource, sys, pinnerfs\n"
        "from time import process_time as time\n"
        "from pinnerfs.replay import loading, replay\n"
        "most = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10\n"
        "before = most()\n"
        "begin = time()\n"
        "capture = loading.read(sys.argv[1])\n"
        "read = time()\n"
        "shown = pinnerfs.Replay(loading.recording_of(capture))\n"
        "print(most() - before, shown.stats()['records_now'], read - begin, time() - read)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "a.zip"], capture_output=True, text=True, timeout=120, check=True
    )
    grown, records, reading, replaying = map(float, done.stdout.split())
    assert records == 4096
    assert replaying < reading
    assert grown < 24, f"{grown} MiB for {48 * len(log) >> 20} MiB of text"
