"""What --redact replaces in a capture, and what it leaves."""

from __future__ import annotations

import hashlib
import re
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pinnerfs.errors import PinnerfsError
from pinnerfs.record.layout import BEGIN, END, section
from pinnerfs.record.redact import redact

PINNER = "/sys/kernel/debug/page_pinner/buffer"
BUFINFO = "/sys/kernel/debug/dma_buf/bufinfo"

# The same examples in every run, and no limit on the time of one: the machine may be busy.
SETTINGS = settings(derandomize=True, deadline=None, database=None)

RECORD = """\
Failure detected at [    7.503050]
PFN 0x82001 Block 520 count 4 mapcount 1 mapping 0x{mapping} Flags 0x8000000000080014(uptodate|lru|swapbacked)
 start_isolate_page_range+0x10/0x200
 0xffffffc0{frame}

"""


def capture(**sections: str) -> str:
    """Return a capture: of a record file as `buffer`, and of files of /proc by their names."""
    paths = {"buffer": PINNER, "bufinfo": BUFINFO}
    parts = [section(paths.get(name, f"/proc/{name}"), text.encode()).decode() for name, text in sections.items()]
    return "\n".join((BEGIN, "".join(parts) + END)) + "\n"


def redacted(text: str) -> str:
    """Return a redacted capture."""
    return redact(text.encode()).decode()


def test_addresses_in_records() -> None:
    """Equal addresses get equal numbers, in the order in which they come; 0 and the flags stay."""
    mappings = ["ff110000aa00bb01", "ff110000aa00bb02", "0", "ff110000aa00bb01"]
    text = "".join(RECORD.format(mapping=mapping, frame="12345678") for mapping in mappings)
    made = redacted(capture(buffer=text))
    assert re.findall(r"mapping (\S+)", made) == [
        "0x0000000000000001",
        "0x0000000000000003",
        "0x0",
        "0x0000000000000001",
    ]
    assert re.findall(r"^ (0x\S+)", made, re.MULTILINE) == ["0x0000000000000002"] * 4
    assert made.count("0x8000000000080014(") == 4
    assert made.count("PFN 0x82001 Block 520") == 4


def test_serials_of_the_command_line() -> None:
    """Serials become numbers, everywhere; equal ones stay equal, and other parameters stay."""
    line = (
        "console=ttyS0 androidboot.serialno=0A1B2C3D4E sn=0 a.wifimacaddr=DC:E5:5B:01:02:03 "
        'usb.serial="0A1B2C3D4E" root=PARTUUID=0FC63DAF-8483-4772-8E79-3D69D8477DE4 mac=dc:e5:5b:01:02:04 '
        "x=12:34:56:78:9a:bc y=12:34:56:78:9a:bd ip=DC:E5:5B:01:02:04 page_pinner em.did=12 name=husky-0a1b2c3d4e "
        "buildvariant=userdebug bits=12\n"
    )
    made = redacted(
        capture(cmdline=line, version="Linux version 5.10.43 (me@home) 0A1B2C3D4E\n", meminfo="Mem: 12 kB\n")
    )
    assert made.splitlines()[2] == (
        "console=ttyS0 androidboot.serialno=redacted-1 sn=0 a.wifimacaddr=redacted-2 "
        'usb.serial="redacted-1" root=PARTUUID=00000000-0000-0000-0000-000000000001 mac=redacted-3 '
        "x=00:00:00:00:00:01 y=00:00:00:00:00:02 ip=redacted-3 page_pinner em.did=redacted-4 name=husky-redacted-1 "
        "buildvariant=userdebug bits=12"
    )
    assert "Linux version 5.10.43 (user@host) redacted-1\n" in made
    assert "Mem: 12 kB\n" in made


@pytest.mark.parametrize(
    "name",
    [
        *("androidboot.wifimac", "bt_mac", "androidboot.bdaddr", "serialnum", "androidboot.serial_num"),
        *("androidboot.imei2", "androidboot.device_id", "chipid", "androidboot.cpuid", "sec_debug.ap_serial"),
    ],
)
def test_names_of_serials(name: str) -> None:
    """Drivers and boot loaders have many names for them."""
    made = redacted(capture(cmdline=f"a=1 {name}=dce55b010203 root=/dev/dm-0\n"))
    assert f"\na=1 {name}=redacted-1 root=/dev/dm-0\n" in made


@pytest.mark.parametrize("word", ["x", "(", "f", "ab:", "0x", " ^ 0x", '"', "=", '="'])
def test_a_long_line(word: str) -> None:
    """A line that is 8 times as long takes about 8 times as long, and not 64 times."""
    for path in ("buffer", "cmdline", "version"):
        took = []
        for count in (2_000, 16_000):
            text = capture(**{path: word * count})
            begin = time.process_time()
            assert redacted(text).endswith(f"{END}\n")
            took.append(time.process_time() - begin)
        assert took[1] < 30 * took[0] + 0.5


@SETTINGS
@given(
    st.lists(st.text("aAbB1", min_size=6, max_size=9), min_size=1, max_size=8),
    st.text("aAbB1 é", max_size=60),
)
def test_serials_in_other_files(serials: list[str], text: str) -> None:
    """The longest serial from the left is replaced, in upper and lower case, as by a pattern of all of them."""
    parameters = " ".join(f"serial{at}={serial}" for at, serial in enumerate(serials))
    numbers: dict[str, str] = {}
    for serial in map(str.lower, serials):
        numbers.setdefault(serial, f"redacted-{len(numbers) + 1}")
    pattern = re.compile("|".join(sorted(numbers, key=len, reverse=True)), re.IGNORECASE)
    wanted = pattern.sub(lambda match: numbers[match[0].lower()], text)
    made = redacted(capture(cmdline=f"{parameters}\n", bufinfo=f"{text}\n"))
    assert f"({BUFINFO}) ------\n{wanted}\n------" in made


def test_many_serials() -> None:
    """8 times as many take about 8 times as long, and not 64 times."""
    took = []
    for count in (2_000, 16_000):
        serials = [hashlib.sha256(str(number).encode()).hexdigest()[:12] for number in range(count)]
        parameters = " ".join(f"serial={serial}" for serial in serials)
        text = capture(cmdline=f"{parameters}\n", bufinfo=" ".join(serials))
        begin = time.process_time()
        assert redacted(text).endswith(f" redacted-{count}\n{END}\n")
        took.append(time.process_time() - begin)
    assert took[1] < 30 * took[0] + 0.5


def test_numbers_are_no_serials() -> None:
    """A serial that looks like the threshold changes no number of a file."""
    path = "/sys/kernel/debug/page_pinner/threshold"
    text = capture(buffer="", cmdline="serialno=300000 x=300000\n", meminfo="MemTotal: 300000 kB\n")
    text = text.replace(END, section(path, b"300000").decode() + END)
    made = redacted(text)
    assert "serialno=redacted-1 x=redacted-1\n" in made
    assert made.count("300000") == 2


@pytest.mark.parametrize("text", ["", "Page pinned ts 1 us count 1\n", "------ PINNERFS ------\n", "\0\xff"])
def test_no_capture(text: str) -> None:
    """Other text is refused, because nothing is known of what it may have."""
    with pytest.raises(PinnerfsError, match="cannot redact x: wanted a capture") as refused:
        redact(text.encode(), "x")
    assert refused.value.exit_status == 2


@SETTINGS
@given(st.lists(st.sampled_from(["0", "1", "ff01", "ff110000aa00bb01", "ffffff8012345678", "0001"]), max_size=12))
def test_one_to_one(mappings: list[str]) -> None:
    """Equal values stay equal, different ones different, 0 stays 0, and a second time changes nothing."""
    text = capture(buffer="".join(RECORD.format(mapping=mapping, frame=f"{len(mapping):08}") for mapping in mappings))
    made = redacted(text)
    values = [int(value, 16) for value in mappings]
    came = [int(value, 16) for value in re.findall(r"mapping 0x(\w+)", made)]
    assert len(set(zip(values, came, strict=True))) == len(set(values)) == len(set(came))
    assert all((value == 0) == (number == 0) for value, number in zip(values, came, strict=True))
    assert redacted(made) == made


@SETTINGS
@given(st.one_of(st.binary(max_size=200), st.sampled_from([b"pinner", b"capture", b"------ x"])))
def test_any_bytes(noise: bytes) -> None:
    """Whatever a capture has in it, redaction ends, keeps its lines, and does nothing more a second time."""
    text = f"{BEGIN}\n------ COMMAND LINE (/proc/cmdline) ------\nserialno=".encode() + noise
    made = redact(text)
    assert made.count(b"\n") == text.count(b"\n")
    assert redact(made) == made
