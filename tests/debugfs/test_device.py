"""A simulation kept up with a clock."""

from __future__ import annotations

import errno
import threading
from pathlib import Path

import pytest

from pinnerfs import Simulation, load
from pinnerfs.clock import ManualClock, RealClock
from pinnerfs.debugfs.device import Device
from tests.mount.support import DEADLINE, scenario


def test_up_to_now(tmp_path: Path) -> None:
    """Whoever asks finds every event up to the clock's moment in the books, that moment's own among them."""
    clock = ManualClock()
    device = Device(Simulation(load(scenario(tmp_path))), clock)
    for moment, pins, releases in ((0, 1, 0), (399_999, 1, 0), (400_000, 1, 1), (999_999, 1, 1), (1_000_000, 2, 1)):
        clock.advance(moment - clock.now())
        with device.up_to_now() as simulation:
            stats = simulation.stats()
        assert (stats["pins"], stats["releases"]) == (pins, releases)


def test_keep_up_plays_unasked_and_stops(tmp_path: Path) -> None:
    """keep_up plays what is due on a real clock while nobody asks, and returns after stop."""
    simulation = Simulation(load(scenario(tmp_path)))
    device = Device(simulation, RealClock(start=0, speed=1e6))
    thread = threading.Thread(target=device.keep_up, daemon=True)
    thread.start()
    pause = threading.Event()
    for _ in range(DEADLINE * 100):
        if simulation.now > 10_000_000:
            break
        pause.wait(0.01)
    device.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert simulation.now > 10_000_000


def test_keep_up_sleeps_beside_a_manual_clock(tmp_path: Path) -> None:
    """With a manual clock keep_up plays nothing ahead, and stop ends its sleep at once."""
    simulation = Simulation(load(scenario(tmp_path)))
    device = Device(simulation, ManualClock())
    thread = threading.Thread(target=device.keep_up, daemon=True)
    thread.start()
    device.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert simulation.now == 0


def test_a_live_pin_wakes_it(tmp_path: Path) -> None:
    """While nothing is due for hours keep_up sleeps; the release of a live pin is played in its time, unasked."""
    simulation = Simulation(load(scenario(tmp_path, every="1000h", hold="1us")))
    device = Device(simulation, RealClock(start=1_000_000))
    thread = threading.Thread(target=device.keep_up, daemon=True)
    thread.start()
    pause = threading.Event()
    for _ in range(DEADLINE * 100):
        if simulation.now:
            break
        pause.wait(0.01)
    pause.wait(0.2)  # it has most likely gone to sleep by now; if it has not, the test is only easier to pass
    device.do("pin task=driver pages=2 hold=1ms")
    for _ in range(DEADLINE * 100):
        if simulation.stats()["releases"] == 3:
            break
        pause.wait(0.01)
    device.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert (simulation.stats()["releases"], simulation.stats()["pinned_now"]) == (3, 0)


def test_books_that_have_failed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once a step has failed half-way whoever asks gets EIO, though the next step would work: its events are lost."""
    clock = ManualClock()
    simulation = Simulation(load(scenario(tmp_path)))
    device = Device(simulation, clock)
    clock.advance(1_000_000)
    assert device.text(0) != b""
    clock.advance(1_000_000)
    with monkeypatch.context() as lacking:
        lacking.setattr(simulation._pinner, "apply", _out_of_memory)
        with pytest.raises(MemoryError):
            device.text(0)
    for ask in (lambda: device.text(0), lambda: device.write_threshold(5), lambda: device.do("pin task=driver")):
        with pytest.raises(OSError, match="the books have failed: mount anew") as caught:
            ask()
        assert caught.value.errno == errno.EIO
    with pytest.raises(OSError, match="the books have failed"):
        device.keep_up()


def _out_of_memory(batch: object) -> None:
    raise MemoryError


def test_the_books_stand_still_while_a_record_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever else wants the books, due or not, has to wait until the text of a record is there."""
    simulation = Simulation(load(scenario(tmp_path)))
    device = Device(simulation, ManualClock(2_000_000))
    device.text(0)
    text = simulation.text

    others: list[threading.Thread] = []

    def look() -> None:
        with device.up_to_now():
            pass

    def read_slowly(position: int) -> bytes:
        others.append(threading.Thread(target=look, daemon=True))
        others[0].start()
        others[0].join(0.05)
        assert others[0].is_alive()
        return text(position)

    monkeypatch.setattr(simulation, "text", read_slowly)
    assert device.text(0) == text(0) != b""
    others[0].join(DEADLINE)
    assert not others[0].is_alive()
