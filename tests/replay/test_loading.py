"""From a capture to a recording: what it takes, and what it leaves out and tells."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

import pinnerfs
from pinnerfs.errors import PinnerfsError
from pinnerfs.replay import Replay, is_capture, load_capture, recording_of
from pinnerfs.report import read_text
from pinnerfs.simulation import Simulation
from tests.replay.captures import capture, section
from tests.report.texts import CAMERA, MUNMAP, detect, hex_pin, pin, put

TEXT = pin(400_000, 0x80001) + pin(300_001, 0x80400)


def dumpstate(title: str, path: str, text: str) -> str:
    """Return a section as a bugreport has it: with a newline behind the text."""
    return f"------ {title} ({path}) ------\n{text}\n------ 0.356s was the duration of '{title}' ------\n"


def test_the_first_dump_of_a_file_counts(tmp_path: Path) -> None:
    """A bugreport has the newest first. What is left out of the others is told."""
    path = "/sys/kernel/debug/page_pinner/longterm_pinner"
    newest, older = dumpstate("PINS", path, TEXT), dumpstate("OLD PINS", path, pin(9, 1) + pin(8, 2))
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive:
        archive.writestr("FS/data/old.txt", older)
        archive.writestr("bugreport.txt", newest)
    assert Replay(recording_of(read_text(newest + older))).cat() == TEXT
    recording = load_capture(tmp_path / "b.zip")
    assert Replay(recording).cat() == pin(9, 1) + pin(8, 2)
    assert recording.notes == (
        f"{tmp_path}/b.zip:bugreport.txt:2: 2 records of longterm_pinner left out: the first dump of this file is "
        "replayed",
    )


def test_an_unreadable_dump_does_not_count() -> None:
    """If a dump program could not read a file, the next dump of the file is taken."""
    path = "/sys/kernel/debug/page_pinner/longterm_pinner"
    text = dumpstate("A", path, f"Unable to read {path}") + dumpstate("B", path, TEXT)
    recording = recording_of(read_text(text))
    assert Replay(recording).cat() == TEXT
    assert recording.notes == (f"text:2: cannot read {path}: the dump program could not read it",)


def test_a_read_that_failed_in_the_middle() -> None:
    """The records before the failure are replayed, and the reason is told."""
    path = "/sys/kernel/debug/page_pinner/longterm_pinner"
    text = capture(section("page_pinner/longterm_pinner", f"{TEXT}Unable to read {path}: Input/output error\n"))
    recording = recording_of(read_text(text))
    assert Replay(recording).cat() == TEXT
    assert recording.notes == (f"text:25: cannot read {path}: Input/output error",)


def test_cut_records_and_garbage() -> None:
    """They are left out, with a line for each reason. The records behind them stay in one dump."""
    first, second = TEXT.splitlines()[:2]
    garbage = f"Page pinned ts {10**18} us count 1\n{second}\n get_user_pages+0x1/0x2\n\n"
    recording = recording_of(read_text(TEXT + f"{first}\n" + TEXT + garbage * 2 + TEXT + f"{first}\n{second}\n a_fra"))
    assert Replay(recording).cat() == TEXT * 3
    assert [note.partition(": ")[2] for note in recording.notes] == [
        "the first line of a record is not followed by the second line",
        "garbage of an uninitialised ring (2 times)",
        "a record is cut off in its stack",
    ]


def test_records_that_no_ring_has() -> None:
    """No kernel prints a record of 4096 bytes, and the ring of longterm_pinner has 4096 slots."""
    long = pin(400_000, 1, stack=[*CAMERA, *("x" * 400 + "+0x1/0x2" for _ in range(9))])
    assert len(long) < 4096
    longer = long.replace("x+", "x" * 400 + "+")
    recording = recording_of(read_text(longer + long + TEXT * 2048))
    assert Replay(recording).cat() == long + (TEXT * 2048).rpartition("Page pinned")[0]
    assert recording.notes == (
        "longterm_pinner: 1 record left out: no kernel prints one of 4096 bytes or more",
        "longterm_pinner: 1 oldest record left out: the ring has 4096 slots",
    )


def test_untitled_records_of_two_files() -> None:
    """A `cat` of both record files is told apart by the form of the records."""
    failure = "Page pinned ts [    8.239262]\n" + hex_pin(1, 5, CAMERA[6:]).partition("\n")[2]
    replay = Replay(recording_of(read_text(hex_pin(400_000, 1) + failure)))
    assert (replay.cat("longterm_pinner"), replay.cat("alloc_contig_failed")) == (hex_pin(400_000, 1), failure)


def test_the_kernel() -> None:
    """It is the capture's own. Where several fit, the first is taken, and told, or one of them can be chosen."""
    both = read_text(detect(1, 0x80001) + put(2, 0x80001, MUNMAP))
    recording = recording_of(both)
    assert recording.generation.name == "android14-6.1"
    assert recording.notes == (
        "text: several kernels fit, android14-6.1, android15-6.6: replaying android14-6.1; choose with --kernel",
    )
    chosen = recording_of(both, kernel="android15-6.6")
    assert (chosen.generation.name, chosen.notes) == ("android15-6.6", ())
    with pytest.raises(
        PinnerfsError, match=r"cannot replay text on kernel 'introduced': the capture is of android14-6"
    ):
        recording_of(both, kernel="introduced")
    with pytest.raises(PinnerfsError, match=r"cannot replay text: no known kernel prints all of its records$") as no:
        recording_of(read_text(TEXT + detect(1, 0x80001)))
    assert no.value.exit_status == 2
    buffer_and_threshold = capture(section("page_pinner/buffer", ""), section("page_pinner/threshold", "1\n"))
    reason = r"cannot replay text: no known kernel has all of its files, buffer, threshold$"
    with pytest.raises(PinnerfsError, match=reason):
        recording_of(read_text(buffer_and_threshold))
    with pytest.raises(PinnerfsError, match=r"all of its records; text:1: garbage of an uninitialised ring"):
        recording_of(read_text(pin(1 << 60, 0x80001)))


def test_the_kernel_of_a_cat() -> None:
    """pixel-5.10 prints these records in a file beside its main one, so an untitled text is of the next kernel."""
    simulation = Simulation(pinnerfs.load("faceunlock-fails"), kernel="android13-5.10-buffer")
    simulation.advance("10s")
    text = simulation.cat()
    names = "android13-5.10-buffer, pixel-5.10"
    recording = recording_of(read_text(text))
    assert (recording.generation.name, Replay(recording).cat()) == ("android13-5.10-buffer", text)
    assert recording.notes == (
        f"text: several kernels fit, {names}: replaying android13-5.10-buffer; choose with --kernel",
    )
    titled = capture(section("page_pinner/alloc_contig_failed", text))
    assert recording_of(read_text(titled)).generation.name == "pixel-5.10"


def test_other_files() -> None:
    """Files below the debugfs root are kept to the byte: one newline behind each is the dump program's."""
    version_1 = capture(
        section("page_pinner/longterm_pinner", TEXT),
        section("cma/reserved/bitmap", "1 0 0\n"),
        section("dma_buf/bufinfo", "\nDma-buf Objects:\n\n"),
        section("cma/reserved/used", f"Unable to read {'/sys/kernel/debug/cma/reserved/used'}: Permission denied\n"),
        "------ KERNEL (/proc/version) ------\nLinux version 5.10.66\n",
    )
    recording = recording_of(read_text(version_1))
    assert recording.files == {"cma/reserved/bitmap": b"1 0 0\n", "dma_buf/bufinfo": b"\nDma-buf Objects:\n\n"}
    assert [note.partition(": ")[2] for note in recording.notes] == [
        "cannot read /sys/kernel/debug/cma/reserved/used: Permission denied"
    ]
    older = "".join(
        [
            dumpstate("PINS", "/d/page_pinner/longterm_pinner", TEXT),
            dumpstate("bufinfo", "/d/dma_buf/bufinfo", "\nDma-buf Objects:\n\n"),
            "------ count (/sys/kernel/debug/cma/reserved/count) ------\n1024\n\n",
            dumpstate("again", "/d/dma_buf/bufinfo", "another\n"),
        ]
    )
    for text in (older, older.replace("\n", "\r\n")):
        recording = recording_of(read_text(text))
        assert recording.files == {"dma_buf/bufinfo": b"\nDma-buf Objects:\n\n", "cma/reserved/count": b"1024\n"}
        assert [note.partition(": ")[2] for note in recording.notes] == [
            "a section was skipped: the same file came before, or all sections are too long"
        ]


def test_a_file_of_page_pinner_that_no_known_kernel_has() -> None:
    """It tells nothing of the kernel, and is replayed as one of the other files."""
    vendor = section("page_pinner/vendor_stats", "pins 7\n")
    text = capture(section("page_pinner/buffer_size", "4096\n"), vendor, section("page_pinner/buffer", ""))
    recording = recording_of(read_text(text), kernel="android15-6.6")
    assert (recording.files, recording.notes) == ({"page_pinner/vendor_stats": b"pins 7\n"}, ())


def test_a_ring_of_a_vendor() -> None:
    """Records in a vendor's file take no place of those in a file of the kernel."""
    text, vendor = detect(1, 0x80001) + put(2, 0x80001, MUNMAP), put(3, 0x80002, MUNMAP)
    both = capture(section("page_pinner/a_vendor", vendor), section("page_pinner/buffer", text))
    recording = recording_of(read_text(both), kernel="android15-6.6")
    assert Replay(recording).cat("buffer") == text
    assert recording.files == {"page_pinner/a_vendor": vendor.encode()}
    assert recording.notes == ("text:3: 1 record of buffer left out: the first dump of this file is replayed",)


HOSTILE = (
    "../../etc/passwd",
    "a/../../b",
    "a//b",
    "./a",
    "x" * 256,
    ".pinnerfs/pid",
    ".pinnerfs",
    "page_pinner",
    "page_pinner/threshold/a",
    "page_pinner/..",
    "cma",
    "cma/a/b/../c",
    "a/b",
    "a",
)


def test_hostile_paths() -> None:
    """A path leads nowhere but below the root, and no file is a directory as well."""
    evil = (section(path, "evil\n") for path in HOSTILE)
    text = capture(section("page_pinner/longterm_pinner", TEXT), section("cma/ok/count", "1\n"), *evil)
    recording = recording_of(read_text(text))
    assert recording.files == {"cma/ok/count": b"1\n", "a/b": b"evil\n"}
    assert recording.notes == ("left out 13 of the other files: no debugfs has a file with such a path",)


def test_utf_16(tmp_path: Path) -> None:
    """A dump that PowerShell has redirected into a file comes out as the device printed it."""
    (tmp_path / "a").write_bytes(TEXT.replace("\n", "\r\n").encode("utf-16"))
    assert Replay(load_capture(tmp_path / "a")).raw() == TEXT.encode()


def test_too_much() -> None:
    """A section of more than 1 MiB is left out, and told. So are more files than a debugfs has."""
    many = (section(f"many/{number}", "\n") for number in range(10_001))
    large = section("ion/heap", "x" * 2_000_000 + "\n")
    recording = recording_of(read_text(capture(section("page_pinner/longterm_pinner", TEXT), large, *many)))
    assert (len(recording.files), "ion/heap" in recording.files) == (10_000, False)
    assert [*recording.notes] == [
        "text: a section was skipped: it is longer than 1048576 bytes",
        "left out 1 of the other files: a replay has at most 10000",
    ]


def test_a_capture_that_is_cut_off() -> None:
    """It has no last line. Its whole records and files are replayed, without the file in which it ends."""
    whole = capture(section("page_pinner/longterm_pinner", TEXT), section("cma/a/count", "10\n"), section("b", "123\n"))
    recording = recording_of(read_text(whole.partition("23\n")[0]))
    assert (Replay(recording).cat(), recording.files) == (TEXT, {"cma/a/count": b"10\n"})
    assert recording.notes == ("text: the capture is cut off: it has no line `------ END ------`",)


def test_an_unknown_version() -> None:
    """A capture of a later format is refused in one line with status 2."""
    with pytest.raises(PinnerfsError, match=r"text: .* a capture of version '2'; wanted version 1") as error:
        read_text(capture(section("page_pinner/longterm_pinner", TEXT)).replace("CAPTURE 1", "CAPTURE 2"))
    assert error.value.exit_status == 2


def test_an_empty_record_file(tmp_path: Path) -> None:
    """`cat` of an empty record file is a capture as well. Its kernel can be chosen."""
    (tmp_path / "a").write_bytes(b"")
    assert is_capture(tmp_path / "a")
    recording = load_capture(tmp_path / "a", kernel="pixel-5.10")
    assert (recording.generation.name, Replay(recording).cat()) == ("pixel-5.10", "")


SCENARIO = b'# a scenario: Page pinned \n\nformat = 1\nname = "a"\ndescription = "------ Freed at [ ------"\n'
CONTENTS = {
    "scenario": (SCENARIO, False),
    "table first": (b"[[task]]\nname = 'Page pinned '\n", False),
    "no scenario": (b"hello\n", False),
    "binary": (bytes(range(256)), False),
    "records": (TEXT.encode(), True),
    "dumpstate": (b"=====\n== dumpstate: 2026\n=====\n", True),
    "kernel log": (b"[    0.000000] Linux version 5.10\n" + TEXT.encode(), True),
    "blank lines": (b"\n" * 60_000 + TEXT.encode(), True),
    "zip": (b"PK\x03\x04", True),
    "gzip": (b"\x1f\x8b\x08", True),
    "xz": (b"\xfd7zXZ\0", True),
    "UTF-16": (TEXT.encode("utf-16"), True),
    "large": (b"a line\n" * 1_000_000, True),
}


@pytest.mark.parametrize("kind", CONTENTS)
def test_told_by_content(tmp_path: Path, kind: str) -> None:
    """A capture is told from a scenario by its content. A file that ends in .toml is a scenario."""
    data, capture = CONTENTS[kind]
    for name, wanted in (("a", capture), ("a.toml", False)):
        (tmp_path / name).write_bytes(data)
        assert is_capture(tmp_path / name) == wanted
    assert is_capture(tmp_path)
    assert not is_capture(tmp_path / "missing")
    assert not is_capture("/dev/null")
