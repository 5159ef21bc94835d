"""The files of CMA areas, without a mount."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator

import pytest

from pinnerfs import Simulation, parse
from pinnerfs.clock import LAST_MOMENT, Clock, ManualClock, RealClock
from pinnerfs.debugfs.cma import cma_directory
from pinnerfs.debugfs.control import Control
from pinnerfs.debugfs.declaration import Directory, File, Later, OpenFile
from pinnerfs.debugfs.device import Device
from tests.mount.areas import AREA, BASE, PAGES, areas
from tests.mount.support import outcome

FILES = ("alloc", "free", "base_pfn", "count", "order_per_bit", "used", "maxchunk", "bitmap")
ROUND = 104_000  # µs from one round of an allocation to the next


class Area:
    """The files of the area `reserved`, by default of a device without pins."""

    def __init__(self, text: str = "", clock: Clock | None = None, **options: object) -> None:
        simulation = Simulation(parse(text or areas(start="1h")), kernel="android14-6.1", **options)  # type: ignore[arg-type]
        self.device = Device(simulation, clock or ManualClock())
        (directory,) = [entry for entry in directories(self.device) if entry.name.endswith(AREA)]
        self.files = {entry.name: entry for entry in directory.entries if isinstance(entry, File)}

    def open(self, name: str) -> OpenFile:
        """Open a file."""
        return self.files[name].open()

    def write(self, name: str, text: bytes) -> object:
        """Write a file; return None or a negative errno."""
        return outcome(lambda: self.open(name).write(text))

    def read(self, name: str) -> str:
        """Read a file."""
        return self.open(name).read(1 << 16).decode()

    def numbers(self) -> tuple[int, int]:
        """Return the pages in use, and those of the longest run that is free."""
        return int(self.read("used")), int(self.read("maxchunk"))

    def control(self, *path: str) -> str:
        """Read a control file."""
        entry: Directory | File = Control(self.device).directory()
        for name in path:
            assert isinstance(entry, Directory)
            entry = next(one for one in entry.entries if one.name == name)
        assert isinstance(entry, File)
        return entry.open().read(1 << 20).decode()

    def vmstat(self) -> tuple[int, int]:
        """Return how many calls of cma_alloc succeeded and failed."""
        pairs = dict(line.split() for line in self.control("vmstat").splitlines())
        return int(pairs["cma_alloc_success"]), int(pairs["cma_alloc_fail"])


def directories(device: Device) -> list[Directory]:
    """Return the directories of the areas."""
    return [entry for entry in cma_directory(device).entries if isinstance(entry, Directory)]


def test_modes_and_order() -> None:
    """The directories are 0755, and the files have a kernel's modes and its order of creation."""
    area = Area()
    assert (cma_directory(area.device).mode, directories(area.device)[0].mode) == (0o755, 0o755)
    assert tuple(area.files) == FILES
    assert {area.files[name].mode for name in FILES[:2]} == {0o200}
    assert {area.files[name].mode for name in FILES[2:]} == {0o444}


def test_numbers_and_the_bitmap() -> None:
    """The numbers count pages. A word of the bitmap is 32 pages, and the last one ends with a newline."""
    area = Area()
    assert [area.read(name) for name in FILES[2:7]] == [f"{BASE}\n", f"{PAGES}\n", "0\n", "0\n", f"{PAGES}\n"]
    assert area.write("alloc", b"33\n") is None
    assert area.numbers() == (33, PAGES - 33)
    assert area.read("bitmap") == "4294967295 1" + " 0" * 30 + "\n"


def test_when_a_text_is_made() -> None:
    """A number is made at its first read, and the bitmap at its open."""
    area = Area()
    used, bitmap = area.open("used"), area.open("bitmap")
    area.write("alloc", b"3")
    assert (used.read(1), bitmap.read(2)) == (b"3", b"0 ")
    area.write("alloc", b"4")
    assert (used.read(10), used.read(10), bitmap.read(3)) == (b"\n", b"", b"0 0")
    assert area.read("bitmap").startswith("127 ")


@pytest.mark.parametrize("name", FILES)
def test_what_a_file_refuses(name: str) -> None:
    """An attribute without a getter or a setter is EACCES, even for 0 bytes; the bitmap has no write at all."""
    area = Area()
    if name in ("alloc", "free"):
        assert {outcome(lambda size=size: area.open(name).read(size)) for size in (0, 9)} == {-errno.EACCES}  # type: ignore[misc]
    else:
        assert area.read(name)
        wanted = -errno.EINVAL if name == "bitmap" else -errno.EACCES
        assert {area.write(name, text) for text in (b"", b"1")} == {wanted}


@pytest.mark.parametrize(
    ("text", "answer", "used"),
    [
        (b"16", None, 16),
        (b"0x10\n", None, 16),
        (b"4294967297\n", None, 1),
        (b"0x8000000000000010", None, 16),
        (b"0", -errno.ENOMEM, 0),
        (b"1025", -errno.ENOMEM, 0),
        (b"2147483648", -errno.ENOMEM, 0),
        (b"18446744073709551615", -errno.ENOMEM, 0),
        (b"18446744073709551616", -errno.ERANGE, 0),
        (b"-1", -errno.EINVAL, 0),
        (b"5\n6\n", -errno.EINVAL, 0),
        (b"", -errno.EINVAL, 0),
    ],
)
def test_the_number_of_alloc(text: bytes, answer: int | None, used: int) -> None:
    """A number is parsed as 64 bits, and cut to 32. A call of cma_alloc counts, and a text that is refused does not."""
    area = Area()
    assert (area.write("alloc", text), area.numbers()[0]) == (answer, used)
    counted = (1, 0) if answer is None else (0, 1) if answer == -errno.ENOMEM else (0, 0)
    assert area.vmstat() == counted
    assert area.control("dmesg") == ""


@pytest.mark.parametrize(
    ("text", "left"),
    [(b"20", 30), (b"0", 50), (b"1000", 0), (b"4294967295", 0), (b"4294967296", 50), (b"4294967298", 48)],
)
def test_free(text: bytes, left: int) -> None:
    """The newest allocation is freed first, of a larger one the first pages; a negative number frees everything."""
    area = Area()
    assert [area.write("alloc", b"25"), area.write("alloc", b"25"), area.write("free", text)] == [None] * 3
    assert area.numbers()[0] == left


def test_several_pages_for_a_bit() -> None:
    """All numbers are pages, and an allocation takes whole bits."""
    area = Area(areas(start="1h", order_per_bit=2))
    assert area.write("alloc", b"5") is None
    assert (area.numbers(), area.read("order_per_bit")) == ((8, PAGES - 8), "2\n")
    assert area.read("bitmap") == "3" + " 0" * 7 + "\n"
    area.write("free", b"4")
    assert area.numbers()[0] == 8
    area.write("free", b"5")
    assert area.numbers()[0] == 0


def test_the_log_and_the_counters() -> None:
    """A full area is ENOMEM, with a line in the log. Counters of sysfs count pages, those of vmstat count calls."""
    area = Area(mm="6.1.192", clock=ManualClock(7_000_001))
    assert [area.write("alloc", b"1000"), area.write("alloc", b"100")] == [None, -errno.ENOMEM]
    line = "[    7.000001] cma: cma_alloc: reserved: alloc failed, req-size: 100 pages, ret: -12\n"
    assert area.control("dmesg") == line
    assert area.control("vmstat") == "cma_alloc_success 1\ncma_alloc_fail 1\n"
    assert area.control("cma", AREA, "alloc_pages_success") == "1000\n"
    assert area.control("cma", AREA, "alloc_pages_fail") == "100\n"


def test_requests_that_are_too_large() -> None:
    """They fail without a line in the log, and their pages are counted. A negative number is a very large one."""
    area = Area(mm="6.1.192")
    for text, failed in ((b"0", 0), (b"1025", 1025), (b"4294967295", 1024)):
        assert area.write("alloc", text) == -errno.ENOMEM
        assert area.control("cma", AREA, "alloc_pages_fail") == f"{failed}\n"
    assert (area.vmstat(), area.control("dmesg")) == ((0, 3), "")


def names(*more: str, mm: str) -> list[str]:
    """Return the names of directories, newest first, as a listing has them."""
    device = Device(Simulation(parse(areas(*more, start="1h")), mm=mm), ManualClock())
    return [directory.name for directory in reversed(directories(device))]


def test_names_of_directories() -> None:
    """5.10 and 5.15 put cma- before a name and cut it to 15 characters. A second name that is then the same is lost."""
    more = ("faceauth_tpu_a", "faceauth_tpu_b", "x")
    assert names(*more, mm="6.1.192") == [AREA, *more]
    assert names(*more, mm="android14-6.1") == [AREA, *more]
    for mm in ("android12-5.10", "pixel-5.10", "android14-5.15"):
        assert names(*more, mm=mm) == ["cma-reserved", "cma-faceauth_tp", "cma-x"]


def test_no_area() -> None:
    """Without areas, cma/ is there and empty."""
    device = Device(
        Simulation(parse(areas(start="1h").replace('cma = "reserved"\norder_per_bit = 0\n', ""))), ManualClock()
    )
    assert cma_directory(device).entries == []


def test_counters_have_the_whole_name() -> None:
    """The counters of each area have its name in full, even if its directory in cma/ is cut or missing."""
    text = areas("faceauth_tpu_a", "faceauth_tpu_b", start="1h")
    area = Area(text, mm="android12-5.10")
    for name in (AREA, "faceauth_tpu_a", "faceauth_tpu_b"):
        assert area.control("cma", name, "alloc_pages_fail") == "0\n"


# A pinned page.


def answers(area: Area, text: bytes) -> Iterator[object]:
    """Write alloc; yield the delay of each late answer, and at last None or a negative errno."""
    call: Callable[[], object] = lambda: area.open("alloc").write(text)  # noqa: E731
    while True:
        try:
            yield outcome(call)
            return
        except Later as later:
            yield later.seconds
            call = later.then


@pytest.mark.parametrize(("hold", "answer", "rounds"), [("250ms", None, 3), ("1h", -errno.ENOMEM, 5)])
def test_retries_under_a_manual_clock(hold: str, answer: int | None, rounds: int) -> None:
    """The clock advances to each further round at once, until the page is free or the retries are used up."""
    area = Area(areas(hold=hold), ManualClock(10_000))
    found = list(answers(area, b"1024"))
    assert found[-1] == answer and set(found[:-1]) <= {0.0}
    assert area.device.now() == 10_000 + rounds * ROUND
    assert area.vmstat() == ((1, 0) if answer is None else (0, 1))
    assert area.control("dmesg").count("ret: -16") == (0 if answer is None else 1)


def test_a_real_clock_answers_later() -> None:
    """The write waits for its next round. While it waits, nothing has failed."""
    area = Area(areas(), RealClock(1_000_000))
    with pytest.raises(Later) as later:
        area.open("alloc").write(b"1024")
    assert 0 < later.value.seconds <= ROUND / 1e6
    assert (area.vmstat(), area.numbers()) == ((0, 0), (0, PAGES))


def test_a_signal_ends_the_allocation() -> None:
    """The allocation of an interrupted write fails at that moment, and not again later."""
    area = Area(areas(), RealClock(1_000_000), cma_retries=1000)
    with pytest.raises(Later) as later:
        area.open("alloc").write(b"1024")
    later.value.cancel()
    for _ in range(2):
        assert (area.vmstat(), area.numbers()) == ((0, 1), (0, PAGES))
        assert area.control("dmesg").count("ret: -16") == 1
        later.value.cancel()


def test_no_retries() -> None:
    """Without retries a write fails at once."""
    area = Area(areas(), ManualClock(10_000), cma_retries=0)
    assert list(answers(area, b"1024")) == [-errno.ENOMEM]
    assert area.device.now() == 10_000
    assert list(answers(area, b"16")) == [None]


def test_a_clock_at_its_end() -> None:
    """If boot time ends before the next round, the write fails with EOVERFLOW, and so does the allocation."""
    area = Area(clock=ManualClock(LAST_MOMENT - 10))
    area.device.do("pin task=driver pages=1")
    assert list(answers(area, b"1024"))[-1] == -errno.EOVERFLOW
    assert area.vmstat() == (0, 1)
