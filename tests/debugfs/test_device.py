"""A simulation that follows a clock."""

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
    """The simulation has every event up to the clock's time applied, and those at that time too."""
    clock = ManualClock()
    device = Device(Simulation(load(scenario(tmp_path))), clock)
    for moment, pins, releases in ((0, 1, 0), (399_999, 1, 0), (400_000, 1, 1), (999_999, 1, 1), (1_000_000, 2, 1)):
        clock.advance(moment - clock.now())
        with device.up_to_now() as simulation:
            stats = simulation.stats()
        assert (stats["pins"], stats["releases"]) == (pins, releases)


def test_keep_up_applies_events_and_stops(tmp_path: Path) -> None:
    """keep_up applies due events of a real clock without any read, and returns after stop."""
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
    """With a manual clock keep_up applies nothing early, and stop ends its sleep at once."""
    simulation = Simulation(load(scenario(tmp_path)))
    device = Device(simulation, ManualClock())
    thread = threading.Thread(target=device.keep_up, daemon=True)
    thread.start()
    device.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert simulation.now == 0


def test_a_live_pin_wakes_keep_up(tmp_path: Path) -> None:
    """keep_up sleeps while nothing is due for hours; it applies the release of a live pin in time, without a read."""
    simulation = Simulation(load(scenario(tmp_path, every="1000h", hold="1us")))
    device = Device(simulation, RealClock(start=1_000_000))
    thread = threading.Thread(target=device.keep_up, daemon=True)
    thread.start()
    pause = threading.Event()
    for _ in range(DEADLINE * 100):
        if simulation.now:
            break
        pause.wait(0.01)
    pause.wait(0.2)  # keep_up is most likely asleep by now; if not, the test passes more easily
    device.do("pin task=driver pages=2 hold=1ms")
    for _ in range(DEADLINE * 100):
        if simulation.stats()["releases"] == 3:
            break
        pause.wait(0.01)
    device.stop()
    thread.join(DEADLINE)
    assert not thread.is_alive()
    assert (simulation.stats()["releases"], simulation.stats()["pinned_now"]) == (3, 0)


def test_a_failed_state_update(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After a step that failed half-way every access is EIO, and the log says so once: events are lost."""
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
        with pytest.raises(OSError, match="state update failed: unmount and mount again") as caught:
            ask()
        assert caught.value.errno == errno.EIO
    with pytest.raises(OSError, match="state update failed"):
        device.keep_up()
    assert caplog.messages == ["a page_pinner state update failed (MemoryError): every read returns EIO"]


def _out_of_memory(batch: object) -> None:
    raise MemoryError


def test_the_simulation_is_locked_while_a_record_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another thread waits until the text of a record is complete, whether events are due or not."""
    simulation = Simulation(load(scenario(tmp_path)))
    device = Device(simulation, ManualClock(2_000_000))
    device.text(0)
    text = simulation.text

    others: list[threading.Thread] = []

    def use() -> None:
        with device.up_to_now():
            pass

    def read_slowly(position: int, file: str | None = None) -> bytes:
        others.append(threading.Thread(target=use, daemon=True))
        others[0].start()
        others[0].join(0.05)
        assert others[0].is_alive()
        return text(position)

    monkeypatch.setattr(simulation, "text", read_slowly)
    assert device.text(0) == text(0) != b""
    others[0].join(DEADLINE)
    assert not others[0].is_alive()
