"""Reading dumps in all the forms in which they come."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.report import read, read_text
from pinnerfs.report.gathered import Gathered
from pinnerfs.report.model import Area, Capture
from pinnerfs.report.reader import read_sources
from pinnerfs.report.sources import Source
from tests.mount.support import pinnerfs
from tests.report.texts import CAMERA, detect, freed, hex_pin, pin, put

TEXT = pin(400_000, 0x80001) + pin(300_001, 0x80400)


def raw(capture: Capture) -> str:
    """Return the records of a capture as a kernel prints them."""
    return "".join(record.raw for record in capture.records)


def reasons(capture: Capture) -> list[str]:
    """Return what was skipped, and why."""
    return [note.reason for note in capture.notes]


def test_the_fields_of_a_record() -> None:
    """Every field that a kernel prints can be read from the record."""
    (record,) = read_text(pin(400_000, 0x80001)).records
    assert (record.kind, record.duration_us, record.at_us) == ("PIN", 400_000, None)
    assert (record.pfn, record.block, record.type, record.count) == (0x80001, 0x200, "CMA", 1)
    assert (record.flags, record.flag_names) == (0x14, ("uptodate", "lru"))
    assert record.stack == CAMERA
    assert record.file == "longterm_pinner"
    (record,) = read_text(detect(7_503_050, 0x80001)).records
    assert (record.kind, record.duration_us, record.at_us) == ("DETECT", None, 7_503_050)
    assert (record.count, record.mapcount, record.mapping, record.type) == (2, 1, 0, None)
    assert record.flag_names == ("uptodate", "lru")


@pytest.mark.parametrize("size", [1, 7, 100, 1 << 20])
def test_pieces_of_any_size(tmp_path: Path, size: int) -> None:
    """It does not matter where a pipe cuts the text."""
    code = (
        "import sys\nfrom pinnerfs.report import read\n"
        "print(''.join(record.raw for record in read('-').records), end='')"
    )
    child = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=0
    )
    with child:
        assert child.stdin is not None and child.stdout is not None
        for at in range(0, len(TEXT), size):
            child.stdin.write(TEXT[at : at + size])
        child.stdin.close()
        assert child.stdout.read() == TEXT


def test_a_piece_may_end_anywhere() -> None:
    """No record, title or log line is lost where a piece of a large file ends, and nothing is told twice."""
    title = "------ PINS (/sys/kernel/debug/page_pinner/longterm_pinner) ------\n"
    area = "cma: Reserved 16 MiB at 0x0000000080000000\n"
    huge = pin(400_000, 0x80000, names="lru|head") * 2
    text = f"{area}{title}{huge}{detect(7_000_000, 0x80001)}{TEXT}\n{title}{logcat(TEXT)}log\n{hex_pin(5, 7)[:-40]}"
    data = text.encode()

    def result(pieces: list[bytes]) -> object:
        capture = read_sources(["x"], [Source("x", "", iter(pieces), [])])
        return capture.records, capture.dumps, capture.notes, capture.areas

    whole = result([data])
    assert whole == result([data[at : at + 1] for at in range(len(data))])
    for at in range(len(data)):
        assert whole == result([data[:at], data[at:]]), at


def logcat(text: str) -> str:
    """Return a text as logcat prints it."""
    lines = enumerate(text.splitlines())
    return "".join(
        f"11-26 10:00:{at % 60:02}.123  1{at % 10} {at + 98:4} I dumpstate: {line}".rstrip() + "\n"
        for at, line in lines
    )


@pytest.mark.parametrize(
    "wrapped",
    [
        TEXT.replace("\n", "\r\n"),
        TEXT.replace("\n", "\r\r\n"),
        logcat(TEXT),
        "".join(f"> {line}\n" for line in TEXT.splitlines()),
        "".join(f"{number:6}\t{line}\n" for number, line in enumerate(TEXT.splitlines(), 1)),
        f"root@device:/ # cat longterm_pinner\n{TEXT}root@device:/ # \n",
        f"\n\n{TEXT}\n\n",
        TEXT.replace("\n\n", "\n"),
        TEXT.rstrip(),
        TEXT.replace("\n ", "\n"),
        TEXT.replace("\n ", "\n    "),
        TEXT.replace("\n ", "\n\t"),
        TEXT.replace("\n ", "\n\xa0"),
        "".join(f"a.txt{':' if 'pinned' in line else '-'}{line}\n" for line in TEXT.splitlines()) + "--\n",
        "".join(f"{line}  \n" for line in TEXT.splitlines()),
        "".join(f"    {line} \t\n" for line in TEXT.splitlines()),
        f"------ Page Pinner - longterm pin (/sys/kernel/debug/page_pinner/longterm_pinner) ------\n{TEXT}\n"
        "------ 0.356s was the duration of 'Page Pinner - longterm pin' ------\n",
    ],
    ids=[
        *("crlf", "crcrlf", "logcat", "quoted", "cat -n", "prompt", "blank", "squeezed", "stripped"),
        *(
            "without indentation",
            "more indentation",
            "tabs",
            "no-break",
            "grep -A",
            "blanks at the ends",
            "indented",
            "dumpstate",
        ),
    ],
)
def test_wrappings(wrapped: str) -> None:
    """Records are found in text that other programs have wrapped, and they print as the kernel printed them."""
    assert raw(read_text(wrapped)) == TEXT


def test_equal_records() -> None:
    """Records that repeat the one before are records of their own dump, and garbage is counted each time."""
    title = "------ PINS (/sys/kernel/debug/page_pinner/longterm_pinner) ------\n"
    huge, garbage = pin(400_000, 0x80000, names="lru|head"), pin(1 << 60, 0x80001)
    text = title + huge * 3 + garbage * 2 + huge + title + huge * 2 + huge.replace("\n", "\r\n")
    capture = read_text(text)
    assert raw(capture) == huge * 7
    assert [record.dump for record in capture.records] == [0, 0, 0, 0, 1, 1, 1]
    assert [(dump.records, dump.garbage) for dump in capture.dumps] == [(4, 2), (3, 0)]
    assert [(note.line, note.how_many) for note in capture.notes] == [(2 + 3 * huge.count("\n"), 2)]
    # Only what equals the record right before it is the same record.
    other = pin(500_000, 0x80400, names="lru|head").replace("\n", "\r\n")
    capture = read_text(huge + other + huge + huge)
    assert [record.duration_us for record in capture.records] == [400_000, 500_000, 400_000, 400_000]
    # Text without titles is a dump of its own behind other text.
    assert [record.dump for record in read_text(huge * 2 + "a log line\n" + huge * 2).records] == [0, 0, 1, 1]


def test_all_compressions(tmp_path: Path) -> None:
    """A gzip, an xz and a zip, with several streams or members, are read as their content."""
    data = TEXT.encode()
    (tmp_path / "a.gz").write_bytes(gzip.compress(data[:300]) + gzip.compress(data[300:]))
    (tmp_path / "a.xz").write_bytes(lzma.compress(data))
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("bugreport-x.txt", "== dumpstate\n" + TEXT)
        archive.writestr("dumpstate_board.txt", TEXT)
        archive.writestr("main_entry.txt", "bugreport-x.txt")
    assert raw(read(tmp_path / "a.gz")) == raw(read(tmp_path / "a.xz")) == TEXT
    capture = read(tmp_path / "a.zip")
    assert raw(capture) == TEXT + TEXT
    assert [dump.source.rpartition(":")[2] for dump in capture.dumps] == ["bugreport-x.txt", "dumpstate_board.txt"]


def test_compressed_members_of_a_zip(tmp_path: Path) -> None:
    """A compressed member is read as its content. A zip in a zip is told of."""
    inner = io.BytesIO()
    with zipfile.ZipFile(inner, "w") as archive:
        archive.writestr("a.txt", TEXT)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt.gz", gzip.compress(TEXT.encode()))
        archive.writestr("b.txt.xz", lzma.compress(TEXT.encode()))
        archive.writestr("c.zip", inner.getvalue())
        archive.writestr("d.gz", gzip.compress(TEXT.encode())[:-20])
    capture = read(tmp_path / "a.zip")
    assert raw(capture).startswith(TEXT + TEXT)
    assert [(note.source.rpartition(":")[2], note.reason) for note in capture.notes if "rest" in note.reason] == [
        ("c.zip", "the rest was skipped: a zip in a zip is not read"),
        ("d.gz", "the rest was skipped: the compressed data ends early"),
    ]


def test_damaged_compression(tmp_path: Path) -> None:
    """What comes before the damage of a compressed file is read, and the damage is noted."""
    many = "".join(pin(300_001 + 7919 * number % 100_000, 0x80000 + number) for number in range(4096)).encode()
    for name, data in (("a.gz", gzip.compress(many)), ("a.xz", lzma.compress(many))):
        (tmp_path / name).write_bytes(data[: len(data) // 2])
        capture = read(tmp_path / name)
        assert 1000 < len(capture.records) < 4096
        assert "the rest was skipped: the compressed data ends early" in reasons(capture)
    (tmp_path / "a.gz").write_bytes((tmp_path / "a.gz").read_bytes() + bytes(99))
    capture = read(tmp_path / "a.gz")
    assert len(capture.records) > 1000
    assert any(reason.startswith("the rest was skipped: ") for reason in reasons(capture))


def test_a_directory_and_a_record_file(tmp_path: Path) -> None:
    """A pulled debugfs is read by its paths, any other directory by its contents."""
    files = tmp_path / "debug" / "page_pinner"
    files.mkdir(parents=True)
    (files / "longterm_pinner").write_text(TEXT)
    (files / "threshold").write_text("300000\n")
    area = tmp_path / "debug" / "cma" / "camera"
    area.mkdir(parents=True)
    (area / "base_pfn").write_text("524288\n")
    (area / "count").write_text("4096\n")
    (area / "used").write_text("12\n")
    for path in (tmp_path / "debug", files):
        capture = read(path)
        assert raw(capture) == TEXT
        assert capture.sections["page_pinner/threshold"] == "300000\n"
    assert read(tmp_path / "debug").areas == (Area("camera", 524288, 4096, 12),)
    assert raw(read(tmp_path)) == TEXT
    assert read(files / "longterm_pinner").dumps[0].file == "longterm_pinner"


BUGREPORT = f"""\
== dumpstate: 2026-11-26 10:00:00
[    0.000000] Linux version 5.10.198-android12-9 (build@host) #1 SMP
[    0.000000] cma: Reserved 16 MiB at 0x0000000080000000
[    0.000000] Reserved memory: created CMA memory pool at 0x0000000090000000, size 64 MiB
------ Page Pinner - longterm pin (/sys/kernel/debug/page_pinner/longterm_pinner) ------
{hex_pin(400_000, 0x80001)}
------ Page Pinner - alloc_contig_failed (/sys/kernel/debug/page_pinner/alloc_contig_failed) ------
Unable to read /sys/kernel/debug/page_pinner/alloc_contig_failed
------ threshold (/sys/kernel/debug/page_pinner/threshold) ------
300000

------ count (/sys/kernel/debug/cma/faceauth/count) ------
4096

------ CMA info  ------
"""


def test_the_sections_of_a_bugreport() -> None:
    """The titles tell which file records are from; other sections give the threshold, CMA's areas and the kernel."""
    capture = read_text(BUGREPORT)
    assert [record.file for record in capture.records] == ["longterm_pinner"]
    assert [(dump.file, dump.records, dump.unreadable) for dump in capture.dumps] == [
        ("longterm_pinner", 1, False),
        ("alloc_contig_failed", 0, True),
    ]
    assert capture.sections["page_pinner/threshold"].strip() == "300000"
    assert [(area.base_pfn, area.pages, area.origin) for area in capture.areas] == [
        (0x80000, 4096, "dmesg"),
        (0x90000, 16384, "dmesg"),
    ]
    assert capture.generation == "android12-5.10"
    assert reasons(capture) == [
        "cannot read /sys/kernel/debug/page_pinner/alloc_contig_failed: the dump program could not read it"
    ]


def test_an_area_of_the_user_replaces_those_of_the_input(tmp_path: Path) -> None:
    """`--cma` wins over what the input tells."""
    (tmp_path / "b.txt").write_text(BUGREPORT)
    area = Area("cma", 1, 2, origin="--cma")
    assert read(tmp_path / "b.txt", areas=(area,)).areas == (area,)


@pytest.mark.parametrize(
    ("text", "generation"),
    [
        (TEXT, "introduced"),
        (TEXT.replace("count 1", "count 0"), "android12-5.10-early"),
        (hex_pin(400_000, 0x80001).replace("0x14(0x14(uptodate|lru|zone=0))", "0x14(uptodate|lru)"), "android12-5.10"),
        (hex_pin(400_000, 0x80001), "android12-5.10"),  # a port to another kernel
        (put(400_000, 0x80001, CAMERA).replace("0x14(0x14(uptodate|lru|zone=0))", "0x14(uptodate|lru)"), "pixel-5.10"),
        (detect(1, 0x80001) + freed(2, 0x80001), "android14-6.1|android15-6.6"),
        ("Linux version 6.6.30-android15\n" + detect(1, 0x80001), "android15-6.6"),
    ],
)
def test_generations(text: str, generation: str) -> None:
    """The form of the records tells which kernels can have printed them."""
    assert read_text(text).generation == generation


def test_files_tell_the_kernel_of_an_empty_dump() -> None:
    """Where no record tells the kernel, the files of page_pinner/ do."""
    empty = "------ a (/sys/kernel/debug/page_pinner/{}) ------\n\n"
    assert "introduced" in read_text(empty.format("longterm_pinner")).generation.split("|")
    both = empty.format("longterm_pinner") + empty.format("alloc_contig_failed")
    assert "introduced" not in read_text(both).generation.split("|")
    assert read_text(empty.format("buffer")).generation.startswith("android13-5.10-buffer")


GARBAGE = (
    "Failure detected at [18379471554324.114328]\nPFN 0xff11000002e2ab98 Block 17948702689769642 count 48792576 "
    "mapcount -15663104 mapping 0x0 Flags 0x6075c0120(0x6075c0120(error|active|zone=0))\n\n"
)


def test_what_is_skipped_is_noted() -> None:
    """Cut records and garbage are counted, each kind with a reason and the first line where it was."""
    first, second = TEXT.splitlines()[:2]
    text = f"{first}\n--\n{first}\n--\n{pin(1, 0x80001)}{GARBAGE * 2}{first}\n{second[:20]}"
    capture = read_text(text)
    assert len(capture.records) == 1
    assert capture.dumps[0].garbage == 2
    assert [(note.reason, note.line, note.how_many) for note in capture.notes] == [
        ("the first line of a record is not followed by the second line", 1, 2),
        ("garbage of an uninitialised ring", 16, 2),
        ("the first line of a record is cut off", 22, 1),
    ]
    assert str(capture.notes[0]) == "text:1: the first line of a record is not followed by the second line (2 times)"


TOO_LONG = "9" * 5000


@pytest.mark.parametrize("record", [pin(400_000, 0x80001), hex_pin(400_000, 0x80001), detect(1_000_000, 0x80001)])
def test_numbers_that_no_kernel_prints(record: str) -> None:
    """A number of thousands of digits makes a line no record, wherever it stands."""
    head = record.partition("\n ")[0]
    for number in re.finditer(r"(?<![0-9a-fx])(?:0x)?[0-9]+", head.partition(" Flags ")[0]):
        text = record[: number.end()] + TOO_LONG + record[number.end() :]
        capture = read_text(text + TEXT)
        assert raw(capture) == TEXT
        assert [note.line for note in capture.notes] == [1], text
    for line in (f"cma: Reserved {TOO_LONG} MiB at 0x80000000", f"cma: Reserved 16 MiB at 0x{TOO_LONG}"):
        assert read_text(f"{line}\n{TEXT}").areas == ()


def test_a_record_that_is_cut_in_its_stack() -> None:
    """A record whose last frame is cut is left out; one that only lacks the empty line is read, with a note."""
    assert raw(read_text(TEXT[:-15])) == pin(400_000, 0x80001)
    capture = read_text(TEXT[:-1])
    assert raw(capture) == TEXT
    assert reasons(capture) == ["no empty line ends a record: its stack may be incomplete"]


@pytest.mark.parametrize("text", [TEXT, logcat(TEXT)], ids=["plain", "logcat"])
def test_a_dump_that_is_cut_anywhere(text: str) -> None:
    """A record that may have lost frames is left out or noted, wherever the dump ends."""
    whole = read_text(text).records
    second = text.index("Page pinned", 1 + text.index("Page pinned"))
    for end in range(second, len(text)):
        capture = read_text(text[:end])
        assert capture.records[0] == whole[0]
        complete = capture.records[1:] == whole[1:] and text[:end].endswith("\n")
        assert complete or capture.notes or end - second < len("Page pinned ts "), end
        for record in capture.records[1:]:
            assert [*map(str.startswith, whole[1].stack, record.stack)].count(False) == 0


def test_an_empty_input_is_an_empty_record_file(tmp_path: Path) -> None:
    """`cat` of a record file without records gives nothing, and that is an answer."""
    (tmp_path / "dump.txt").write_bytes(b"")
    capture = read(tmp_path / "dump.txt")
    assert not capture.records
    assert len(capture.dumps) == 1


def test_nothing_to_report(tmp_path: Path) -> None:
    """An input without a record or a section is refused in one line with status 2."""
    (tmp_path / "dump.txt").write_text("hello\n")
    with pytest.raises(
        PinnerfsError, match=r"nothing to report in '.*dump.txt': wanted records of page_pinner"
    ) as error:
        read(tmp_path / "dump.txt")
    assert error.value.exit_status == 2
    with pytest.raises(PinnerfsError, match=r"dump.txt'?: No such file|missing"):
        read(tmp_path / "missing")
    with pytest.raises(PinnerfsError, match="nothing to read"):
        read()
    with pytest.raises(PinnerfsError, match="neither a file nor a directory"):
        read("/dev/null")


def test_zip_that_is_no_zip(tmp_path: Path) -> None:
    """A damaged zip is refused in one line."""
    (tmp_path / "b.zip").write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(PinnerfsError, match="it is a damaged zip"):
        read(tmp_path / "b.zip")


def test_no_numpy() -> None:
    """A report needs neither numpy nor click."""
    code = (
        "import sys, pinnerfs.report as report\n"
        "report.analyse(report.read_text(sys.stdin.read()))\n"
        "print(*sorted({'numpy', 'click', 'fuse', 'rich', 'hashlib'} & set(sys.modules)))"
    )
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, input=TEXT, capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout == "\n"


def test_text_in_memory_is_read_like_a_file(tmp_path: Path) -> None:
    """Bytes that are not text do not disturb the records around them."""
    (tmp_path / "a").write_bytes(b"\xff\xfe\0" * 100 + b"\n" + TEXT.encode() + bytes(range(256)))
    assert raw(read(tmp_path / "a")) == TEXT


def test_lines_that_a_pattern_would_need_minutes_for(tmp_path: Path) -> None:
    """A long line that begins like a title or an error takes no longer than another one."""
    lines = [
        f"------ {' ' * 4000}x\n",
        f"------ {' (/' * 1300}x\n",
        f"*** Error dumping /a {'(' * 4000}x\n",
        f"{'*** /' * 800}: Failed to read from fd\n",
    ]
    (tmp_path / "a.txt").write_text("".join(lines) * 20 + TEXT)
    done = pinnerfs("report", tmp_path / "a.txt", "--json")  # has a deadline
    assert json.loads(done.stdout)["records"] == len(read_text(TEXT).records)


def test_many_first_lines() -> None:
    """First lines without a second one, with any prefix, are counted as broken, and do not hide the record."""
    lines = [f"{' ' * indent}{name} Page pinned ts 5 us count 1\n" for indent in range(60) for name in ("", "a:", "7>")]
    capture = read_text("".join(lines) + "task pinned to cpu 3\n" * 100 + TEXT)
    assert raw(capture) == TEXT
    assert sum(note.how_many for note in capture.notes) == len(lines)


def test_the_most_records(monkeypatch: pytest.MonkeyPatch) -> None:
    """Records behind the limit are skipped, and counted."""
    monkeypatch.setattr(Gathered, "MOST_RECORDS", 3)
    capture = read_text("".join(pin(300_001 + at, 0x80000 + at) for at in range(5)))
    assert (len(capture.records), [dump.records for dump in capture.dumps]) == (3, [3])
    (note,) = capture.notes
    assert (note.how_many, note.reason) == (2, "a record was skipped: there are more than 3; read fewer files at once")


def test_a_later_capture_in_a_directory(tmp_path: Path) -> None:
    """A capture of an unknown version is skipped with a note, and the other files are read."""
    later = f"------ PINNERFS CAPTURE 2 ------\n{TEXT}"
    (tmp_path / "a").write_text(later)
    (tmp_path / "b").write_text(TEXT)
    capture = read(tmp_path)
    assert raw(capture) == TEXT
    reason = "the rest was skipped: it is a capture of version '2'; wanted version 1"
    assert [str(note) for note in capture.notes] == [f"{tmp_path}/a: {reason}"]
    # What comes before it in one file is kept, and nothing behind it.
    assert raw(read_text(TEXT + later)) == TEXT
