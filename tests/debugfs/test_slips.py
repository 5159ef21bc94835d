"""A clock that slips when the accounting cannot follow it. No test here depends on the speed of the machine."""

from __future__ import annotations

import random
import re
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from pinnerfs import Simulation, load
from pinnerfs.clock import ManualClock, RealClock
from pinnerfs.debugfs import device as device_module
from pinnerfs.debugfs.device import SLIP_LOG_INTERVAL, Device
from tests.mount.support import DEADLINE

SECOND = 1_000_000  # µs
BUDGET = 0.25  # seconds
REQUEST = 0.00003  # seconds that a request takes that applies nothing


class Machine:
    """The clocks of a machine. Time passes only by the work of a simulation, or if a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.boot = self.monotonic = 1000.0  # seconds
        monkeypatch.setattr(time, "clock_gettime_ns", lambda clock: round(self.boot * 1e9))
        monkeypatch.setattr(device_module, "monotonic", lambda: self.monotonic)

    def passes(self, seconds: float) -> None:
        """Let time pass."""
        self.boot += seconds
        self.monotonic += seconds

    def suspend(self, seconds: float) -> None:
        """Let boot time pass without time on CLOCK_MONOTONIC."""
        self.boot += seconds


class Events(Simulation):
    """A simulation with an event every `every` µs, each in a step of its own. Its text and its counter say how many."""

    def __init__(self, work: Callable[[], None], every: int = SECOND) -> None:
        super().__init__(load("quiet-device"))
        self.steps = 0
        self._reached = 0
        self._work = work
        self._every = every

    @property
    def now(self) -> int:
        return self._reached

    def next_event(self) -> int:
        return (self._reached // self._every + 1) * self._every

    def steps_to(self, moment: int) -> Iterator[int]:
        while self._reached < moment:
            if self.next_event() <= moment:
                self._work()
                self.steps += 1
            self._reached = min(moment, self.next_event())
            yield self._reached

    def text(self, *arguments: Any) -> bytes:
        return b"%d" % self._reached

    def stats(self) -> dict[str, int]:
        return {"pins": self._reached // self._every}


@pytest.fixture
def machine(monkeypatch: pytest.MonkeyPatch) -> Machine:
    """Return a machine whose clocks the test moves."""
    return Machine(monkeypatch)


def test_a_request_slips_at_the_end_of_its_budget(machine: Machine) -> None:
    """With more due than the budget allows, a request is answered as of the moment reached. The clock shows it."""
    simulation = Events(lambda: machine.passes(0.1))
    clock = RealClock(speed=300)
    device = Device(simulation, clock)
    machine.passes(10)
    began = machine.monotonic
    assert device.text(0) == b"%d" % (3 * SECOND)
    assert machine.monotonic - began == pytest.approx(0.3)  # three steps; after two the budget is not used up
    assert clock.now() == simulation.now == 3 * SECOND
    # Also what the clock would have shown during the work and the rest.
    assert clock.slipped == pytest.approx((10 + 0.3 + 0.3) * 300 * SECOND - 3 * SECOND, abs=2)


@pytest.mark.parametrize("request_of", ["text", "threshold", "stats", "clock"])
def test_each_kind_of_request_slips(machine: Machine, request_of: str) -> None:
    """Reads of records, counters and the clock have the same bound, and so have writes of the threshold."""
    simulation = Events(lambda: machine.passes(0.1))
    device = Device(simulation, RealClock())
    machine.passes(3600)
    began = machine.monotonic
    if request_of == "text":
        device.text(0)
    elif request_of == "threshold":
        device.write_threshold(5)
        assert simulation.threshold == 5
    elif request_of == "stats":
        with device.up_to_now() as played:
            assert played.stats() == {"pins": 3}
    else:
        assert device.now() == 3 * SECOND
    assert machine.monotonic - began == pytest.approx(0.3)
    assert device.clock.now() == 3 * SECOND


def test_a_rest_after_a_slip(machine: Machine) -> None:
    """After a slip the clock stands still as long as the request worked. So the next requests find nothing to do."""
    simulation = Events(lambda: machine.passes(0.1))
    device = Device(simulation, RealClock(speed=300))
    machine.passes(10)
    device.text(0)
    for _ in range(100):
        machine.passes(0.0029)
        assert device.text(0) == b"%d" % (3 * SECOND)
        assert device.now() == 3 * SECOND
    assert simulation.steps == 3
    machine.passes(0.0101)  # 0.3 s in all, and 1/10 ms: 30 ms at this speed
    assert device.clock.now() == 3 * SECOND + 30_000
    assert device.now() == 3 * SECOND + 30_000


@pytest.mark.parametrize("load", [1.05, 1.1, 1.5, 2, 10, 1000])
def test_a_queue_of_readers(machine: Machine, load: float) -> None:
    """Each of 200 requests in a row is answered in less than a second, however much too fast the clock is."""
    step = 0.01
    simulation = Events(lambda: machine.passes(step))
    device = Device(simulation, RealClock(speed=load / step))
    machine.passes(0.001)
    for _ in range(10):
        began = machine.monotonic
        for _ in range(200):
            device.text(0)
            machine.passes(REQUEST)
        assert machine.monotonic - began < 2 * (BUDGET + 200 * REQUEST) + 2 * step < 0.6


def test_a_machine_that_is_fast_enough(machine: Machine) -> None:
    """Readers poll for an hour. The clock does not slip, although the events take a quarter of the time."""
    simulation = Events(lambda: machine.passes(0.03))
    clock = RealClock(speed=10)
    device = Device(simulation, clock)
    for _ in range(36_000):
        machine.passes(0.1)
        device.text(0)
    assert clock.slipped == 0
    assert clock.now() >= 36_000 * SECOND


def test_an_answer_after_the_last_event(machine: Machine) -> None:
    """A request that has applied the last due event does not slip, even if that took long."""
    simulation = Events(lambda: machine.passes(100))
    clock = RealClock()
    device = Device(simulation, clock)
    machine.passes(1.5)
    assert device.text(0) == b"1500000"
    assert clock.slipped == 0


def test_a_suspend(machine: Machine) -> None:
    """The first reader after a suspend waits for its budget at most, and does not see the hours that did not fit."""
    simulation = Events(lambda: machine.passes(BUDGET / 4))
    clock = RealClock()
    device = Device(simulation, clock)
    machine.passes(5)
    seen = device.now()
    machine.passes(1)
    machine.suspend(8 * 3600)
    began = machine.monotonic
    assert device.now() == simulation.now == seen + 4 * SECOND
    assert machine.monotonic - began == BUDGET
    assert clock.slipped > (8 * 3600 - 5) * SECOND
    machine.passes(BUDGET + 1)  # the rest, and a second
    assert device.now() == seen + 5 * SECOND
    # A suspend in which little was due makes no difference.
    slipped = clock.slipped
    machine.passes(1)
    machine.suspend(1)
    assert device.now() >= seen + 7 * SECOND
    assert clock.slipped == slipped


def test_a_longer_lag(machine: Machine) -> None:
    """With a longer lag more is applied before a slip."""
    simulation = Events(lambda: machine.passes(0.1))
    clock = RealClock(max_lag=3600)
    device = Device(simulation, clock)
    machine.passes(3600)
    assert device.now() == 3600 * SECOND
    assert clock.slipped == 0


def test_boot_time_never_falls(machine: Machine) -> None:
    """Whatever the machine's clocks and the load do, the time that readers see never goes back, nor do the events."""
    draw = random.Random(12)
    clock = RealClock(start=0, speed=100)
    simulation = Events(lambda: machine.passes(draw.choice((0, 0.001, 0.2, 3))))
    device = Device(simulation, clock)
    seen = 0
    for _ in range(2000):
        draw.choice((machine.passes, machine.suspend))(draw.choice((0, 0.00001, 0.01, 1, 100)))
        if draw.random() < 0.05:
            machine.boot -= draw.choice((0.001, 1))
        now = device.now() if draw.random() < 0.5 else int(device.text(0))
        assert now >= seen
        seen = now
    assert clock.slipped > 0
    assert seen > SECOND


def test_the_log_of_slips(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """The log has one line a minute, with the numbers and the remedy."""
    device = Device(Events(lambda: machine.passes(BUDGET / 2)), RealClock(speed=10))
    machine.passes(1)
    device.text(0)
    first = (
        "the clock slipped by 13.000000 s (in all by 13.000000 s in 1 slip): applying the events of 2.000000 s took "
        "0.250 s, and the clock runs at speed 10; lower --speed, or let readers wait longer with a higher --max-lag"
    )
    assert caplog.messages == [first]
    while machine.monotonic < 1001.3 + SLIP_LOG_INTERVAL - 2:
        machine.passes(1)
        device.text(0)
    assert caplog.messages == [first]
    machine.passes(10)
    device.text(0)
    assert len(caplog.messages) == 2
    assert re.match(
        r"the clock slipped by 100\.500000 s \(in all by \d+\.\d{6} s in \d\d slips\): ", caplog.messages[1]
    )


def test_a_manual_clock_does_not_slip(machine: Machine) -> None:
    """A manual clock goes where it was told, however long that takes."""
    simulation = Events(lambda: machine.passes(100))
    device = Device(simulation, ManualClock(50 * SECOND))
    assert device.now() == 50 * SECOND


def test_a_waiting_request_comes_next() -> None:
    """While keep_up has work without end, a request that waits gets the simulation after the step in progress."""
    steps: list[int] = []
    request = threading.Thread(target=lambda: device.text(0), daemon=True)

    def work() -> None:
        steps.append(threading.get_ident())
        if len(steps) == 5:
            request.start()
            deadline = time.monotonic() + DEADLINE
            while not device._turn.locked():
                assert time.monotonic() < deadline
        if threading.get_ident() == request.ident:
            device.stop()

    device = Device(Events(work, every=1), RealClock(speed=1e6, max_lag=1e-6))
    keep_up = threading.Thread(target=device.keep_up, daemon=True)
    keep_up.start()
    for thread in (keep_up, request):
        thread.join(DEADLINE)
        assert not thread.is_alive()
    assert steps[:6] == [keep_up.ident] * 5 + [request.ident]
