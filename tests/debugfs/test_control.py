"""The control files, tested without a mount."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnerfs import Simulation, load
from pinnerfs.client import Client
from pinnerfs.clock import RealClock
from pinnerfs.debugfs.control import ADVANCE_TIMEOUT, MAX_WRITE, Control
from pinnerfs.debugfs.declaration import File, OpenFile
from pinnerfs.debugfs.device import Device
from pinnerfs.debugfs.page_pinner import OpenRecords
from tests.mount.support import outcome, scenario


class _Files:
    """The control files of a device. Each read and each write opens its file."""

    def __init__(self, device: Device) -> None:
        entries = Control(device).directory().entries
        self._files = {entry.name: entry for entry in entries if isinstance(entry, File)}

    def open(self, name: str) -> OpenFile:
        return self._files[name].open()

    def read(self, name: str) -> str:
        return self._files[name].open().read(1 << 20).decode()

    def write(self, name: str, data: bytes) -> None:
        self._files[name].open().write(data)


@pytest.fixture
def files(device: Device) -> _Files:
    """Return the control files of the device at ten seconds."""
    return _Files(device)


def test_the_directory_is_hidden(device: Device) -> None:
    """The directory is not listed, only its owner can open it, and its files are read-only or write-only."""
    directory = Control(device).directory()
    assert (directory.name, directory.mode, directory.listed) == (".pinnerfs", 0o700, False)
    assert {entry.name: entry.mode for entry in directory.entries} == {
        "advance": 0o200,
        "clock": 0o400,
        "do": 0o200,
        "error": 0o400,
        "inject": 0o600,
        "pid": 0o400,
        "stats": 0o400,
        "cma": 0o755,
        "dmesg": 0o400,
        "vmstat": 0o400,
    }


def test_advance_and_its_errors(files: _Files) -> None:
    """A time advances the clock. Other text is EINVAL, with the reason in `error` until the next success."""
    files.write("advance", b"5s\n")
    assert files.read("clock") == "15000000\n"
    for wrong in (b"", b"5", b"-1s", b"\xff", b"5 s s"):
        assert outcome(lambda wrong=wrong: files.write("advance", wrong)) == -errno.EINVAL  # type: ignore[misc]
        assert files.read("error").endswith("\n")
    assert files.read("clock") == "15000000\n"
    files.write("advance", b"0s")
    assert files.read("error") == ""


def test_stats_prints_every_counter(
    device: Device, files: _Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """stats has a line for each counter of the simulation, in the same order, up to the current time."""
    twin = Simulation(load(scenario(tmp_path)))
    twin.advance_to(device.clock.now())
    assert files.read("stats") == "".join(f"{name} {value}\n" for name, value in twin.stats().items())
    assert files.read("stats").startswith("pins 11\nreleases 10\n")
    monkeypatch.setattr(Simulation, "stats", lambda self: {"a_new_counter": 3, "another": 0})
    assert files.read("stats") == "a_new_counter 3\nanother 0\n"


def test_an_advance_that_times_out(
    device: Device, files: _Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a timeout of the writer, the clock stops at the last applied event. A client continues to the same state."""
    monkeypatch.setattr("pinnerfs.debugfs.control.ADVANCE_TIMEOUT", 0.0)
    asked = b"8000h within=0us"
    assert outcome(lambda: files.write("advance", asked)) == -errno.ETIMEDOUT
    advanced = device.clock.now() - 10_000_000
    left = 8000 * 3600 * 10**6 - advanced
    assert min(advanced, left) > 0
    assert files.read("error") == f"advance = '8000h' timed out after 0 s: advanced {advanced}us, {left}us left\n"
    # A client, such as `pinnerfs ctl`, continues. With a timeout of 0 each write advances by one step.
    writes: list[str] = []

    def write(self: Client, name: str, text: str) -> None:
        writes.append(text)
        files.write(name, text.encode())

    (tmp_path / ".pinnerfs").mkdir()
    monkeypatch.setattr(Client, "_read", lambda self, name: files.read(name))
    monkeypatch.setattr(Client, "_write", write)
    Client(tmp_path).advance("20h")
    assert device.clock.now() == 10_000_000 + advanced + 20 * 3600 * 10**6
    assert len(writes) > 1
    twin = Simulation(load(scenario(tmp_path)))
    twin.advance_to(device.clock.now())
    with device.up_to_now() as simulation:
        assert isinstance(simulation, Simulation)
        assert simulation.cat() == twin.cat() != ""


def test_an_advance_in_pieces(files: _Files, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An interrupted advance stands at its last applied event. Writing it again continues it, up to the same state."""
    monkeypatch.setattr("pinnerfs.debugfs.control.ADVANCE_TIMEOUT", 0.0)
    monkeypatch.setattr("pinnerfs.debugfs.control.CONTINUED_TIMEOUT", 0.0)
    file = files.open("advance")
    twin = Simulation(load(scenario(tmp_path)))
    goal, moments = 10_000_000 + 20 * 3600 * 10**6, [10_000_000]
    while moments[-1] < goal:
        came = outcome(lambda: file.write(b"20h"))
        moments.append(int(files.read("clock")))
        assert moments[-1] >= moments[-2]
        if came == -errno.EINTR:
            assert files.read("error") == (
                f"advance = '20h' was interrupted after 0 s, with {goal - moments[-1]}us left; use `pinnerfs "
                "ctl MOUNTPOINT advance`, which continues by itself\n"
            )
        twin.advance_to(moments[-1])
        assert files.read("stats") == "".join(f"{name} {value}\n" for name, value in twin.stats().items())
    assert (came, files.read("error"), len(moments) > 2, moments[-1]) == (None, "", True, goal)
    # The next one is a new one.
    file.write(b"0s")
    assert outcome(lambda: file.write(b"20h")) == -errno.EINTR
    assert goal < int(files.read("clock"))


def test_an_interrupted_advance_is_of_one_open_file(files: _Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another text, or another open file, begins an advance of its own."""
    monkeypatch.setattr("pinnerfs.debugfs.control.ADVANCE_TIMEOUT", 0.0)
    monkeypatch.setattr("pinnerfs.debugfs.control.CONTINUED_TIMEOUT", 0.0)
    first, second = files.open("advance"), files.open("advance")
    assert outcome(lambda: first.write(b"8000h")) == -errno.EINTR
    moment = int(files.read("clock"))
    second.write(b"1us")
    first.write(b"1us")
    assert int(files.read("clock")) == moment + 2
    assert outcome(lambda: first.write(b"8000h")) == -errno.EINTR
    reached = int(files.read("clock"))
    assert f"with {moment + 2 + 8000 * 3600 * 10**6 - reached}us left" in files.read("error")


@pytest.mark.parametrize(
    ("passes", "works", "steps"), [(0.2, 0.2, 3), (0.2, 0.011, 10), (0.01, 0.01, 50)], ids=["idle", "busy", "fast"]
)
def test_how_long_an_advance_works(
    device: Device, monkeypatch: pytest.MonkeyPatch, passes: float, works: float, steps: int
) -> None:
    """An advance ends after half a second, or on a busy machine once it had a tenth of a second of processor time."""
    done: list[int] = []

    def steps_to(moment: int) -> Iterator[int]:
        while moment > 10_000_000 and len(done) < 1000:
            done.append(moment)
            yield moment

    monkeypatch.setattr("pinnerfs.debugfs.device.monotonic", lambda: 100 + passes * len(done))
    monkeypatch.setattr("pinnerfs.debugfs.device.thread_time", lambda: 100 + works * len(done))
    monkeypatch.setattr(device._simulation, "steps_to", steps_to)
    device.advance(1, ADVANCE_TIMEOUT)
    assert len(done) == pytest.approx(steps, abs=1)  # floating point


def test_a_continued_advance_is_short(device: Device, files: _Files, monkeypatch: pytest.MonkeyPatch) -> None:
    """The first write of an advance may take half a second, and those that continue it a twentieth."""
    calls: list[tuple[int, float]] = []

    def advance(step: int, timeout: float) -> int:
        calls.append((step, timeout))
        return max(0, step - 400_000)

    monkeypatch.setattr(device, "advance", advance)
    file = files.open("advance")
    for _ in range(2):
        assert outcome(lambda: file.write(b"1s\n")) == -errno.EINTR
    file.write(b"1s")
    assert outcome(lambda: file.write(b"1s")) == -errno.EINTR
    assert calls == [(1_000_000, 0.5), (600_000, 0.05), (200_000, 0.05), (1_000_000, 0.5)]


def test_an_error_fits_a_terminal(files: _Files) -> None:
    """The reason for any refused write is one short, printable line."""
    for data in (b"9" * 100_000, b"\x1b[31m\n" * 1000):
        for name in ("advance", "do", "inject"):
            assert outcome(lambda name=name, data=data: files.write(name, data)) == -errno.EINVAL  # type: ignore[misc]
            reason = files.read("error")
            assert reason.endswith("\n") and reason[:-1].isprintable() and 10 < len(reason) < 5000


def test_too_many_actions(files: _Files) -> None:
    """Too many actions for one write are refused, with the size and the limit."""
    assert outcome(lambda: files.write("do", b"#" * (MAX_WRITE + 1))) == -errno.EINVAL
    assert files.read("error") == "65537 bytes of actions in one write: wanted at most 65536\n"


def test_stats_of_a_real_clock(tmp_path: Path) -> None:
    """With a real clock, stats ends with the µs that the clock has slipped; with a manual clock it has no such line."""
    clock = RealClock()
    device = Device(Simulation(load(scenario(tmp_path))), clock)
    files = _Files(device)
    assert files.read("stats").endswith("\ncma_pages_now 0\nclock_slipped 0\n")
    clock.slip(device.now(), rest=5)
    assert files.read("stats").endswith(f"\nclock_slipped {clock.slipped}\n")
    assert clock.slipped >= 5_000_000


def test_advance_of_a_real_clock(tmp_path: Path) -> None:
    """A real clock cannot be advanced: EPERM, and the reason names the option for a manual clock."""
    files = _Files(Device(Simulation(load(scenario(tmp_path))), RealClock()))
    assert outcome(lambda: files.write("advance", b"5s")) == -errno.EPERM
    assert "--clock manual" in files.read("error")


def test_live_actions(device: Device, files: _Files) -> None:
    """do pins at the clock's time. A refused write is EINVAL, with the reason in `error`."""
    files.write("do", b"pin task=driver hold=1s\n")
    device.clock.advance(1_000_000)
    assert OpenRecords(device).read(4096).startswith(b"Page pinned ts 1000000 us count 1\n")
    assert outcome(lambda: files.write("do", b"pin task=unknown")) == -errno.EINVAL
    assert files.read("error") == "line 1: task = 'unknown' must be one of 'driver'\n"
    files.write("do", b"pin task=driver")
    assert files.read("error") == ""


def test_too_many_rules(files: _Files) -> None:
    """Rules that are too long for one write are refused; so are more rules than requests can be compared with."""
    assert outcome(lambda: files.write("inject", b"#" * (MAX_WRITE + 1))) == -errno.EINVAL
    assert files.read("error") == "65537 bytes of rules in one write: wanted at most 65536\n"
    assert outcome(lambda: files.write("inject", b"add,cut\n" * 257)) == -errno.EINVAL
    assert files.read("error") == "too many rules: wanted at most 256\n"
    assert files.read("inject") == ""


RULE_WORDS = ("add", "removeall", ",", ",", "\n", "errno=EIO", "op=read", "cut", "missing", "delay=1s", "comm=\x1b[31m")


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.one_of(st.binary(), st.lists(st.sampled_from(RULE_WORDS)).map(lambda words: "".join(words).encode())))
def test_any_write_to_inject(files: _Files, data: bytes) -> None:
    """Any write adds rules, or is EINVAL with a printable line as the reason and changes nothing."""
    before = files.read("inject")
    answer = outcome(lambda: files.write("inject", data))
    error = files.read("error")
    if answer is None:
        assert error == ""
    else:
        assert answer == -errno.EINVAL
        assert len(error) > 10 and error[:-1].isprintable() and error.endswith("\n")
        assert files.read("inject") == before
    assert files.read("inject").replace("\n", "").isprintable()


def test_inject(device: Device, files: _Files) -> None:
    """inject adds rules and lists them. A refused write is EINVAL, adds nothing, and its reason is in `error`."""
    files.write("inject", b"add,op=read,errno=EIO,times=3\nadd,file=threshold,cut\n")
    rules = "add,op=read,errno=EIO,times=3 fired=0\nadd,file=threshold,cut fired=0\n"
    assert files.read("inject") == rules
    assert outcome(lambda: files.write("inject", b"add,cut\nadd,errno=EOI")) == -errno.EINVAL
    assert files.read("error").startswith("line 2: errno = 'EOI' is unknown: it must be a name such as")
    assert files.read("inject") == rules
    files.write("inject", b"removeall\n")
    assert (files.read("error"), files.read("inject"), device.faults.active) == ("", "", False)


def test_undecodable_writes(files: _Files) -> None:
    """Bytes that are no UTF-8 are refused in plain words that show them."""
    for name, data, reason in (
        ("do", b"pin task=\xff", r"'pin task=\xff': wanted UTF-8 text"),
        ("inject", b"add,comm=\xff", r"'add,comm=\xff': wanted UTF-8 text"),
        ("advance", b"\xff", r"advance = '\xff' must be a number and a unit (us, ms, s, min, h), such as '300ms'"),
    ):
        assert outcome(lambda name=name, data=data: files.write(name, data)) == -errno.EINVAL  # type: ignore[misc]
        assert files.read("error") == f"{reason}\n"


def test_control_files_are_read_only_or_write_only(files: _Files) -> None:
    """Reads of advance and do, and writes to the other files, are EINVAL."""
    for name in ("advance", "do"):
        assert outcome(lambda name=name: files.read(name)) == -errno.EINVAL  # type: ignore[misc]
    for name in ("clock", "error", "pid", "stats"):
        assert outcome(lambda name=name: files.write(name, b"1")) == -errno.EINVAL  # type: ignore[misc]
