"""Random scenarios at random speeds: how long a reader waits, whatever the clock asks for."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import gallery, parse
from tests.mount.support import DEADLINE, Mount, Mounts, scenario
from tests.soak.scenario_inputs import make

READERS = 8


def _source(rng: random.Random, path: Path) -> Path:
    """Return a scenario of the gallery, or write one with very many events, or a random one that is valid.

    None has faults, which would end readers.
    """
    kind = rng.randrange(3)
    if kind == 0:
        return rng.choice([path for path in sorted(gallery().values()) if not parse(path.read_bytes()).fault])
    if kind == 1:
        return scenario(path.parent, every=f"{rng.choice((1, 3, 10, 30, 100))}us", hold=f"{rng.choice((2, 1000))}us")
    while True:
        path.write_bytes(make(rng))
        with suppress(PinnerfsError):
            if not parse(path.read_bytes()).fault:
                return path


class _Waits:
    """The longest waits of readers, by the kind of their call."""

    def __init__(self) -> None:
        self.longest: dict[str, float] = {}
        self.calls = 0

    def measure(self, name: str, call: Callable[[], object]) -> None:
        """Make a call and note how long it took."""
        began = time.monotonic()
        call()
        self.longest[name] = max(self.longest.get(name, 0.0), time.monotonic() - began)
        self.calls += 1


def _read(device: Mount, seconds: float, waits: _Waits, seen: list[int]) -> None:
    """Read records until the time is over; also the clock, which must not fall."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with device.opened() as file:
            for _ in range(100):
                waits.measure("read", lambda file=file: os.read(file, 4096))  # type: ignore[misc]
        waits.measure("clock", lambda: seen.append(int(device.control("clock"))))


def test_readers_of_any_clock(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """Every reader gets its answers, also one beside others; boot time never falls, and a killed reader ends."""
    rng, seconds = random.Random(1), amount(1, 3)
    worst, calls, killed, warned, slips = dict[str, tuple[float, str]](), 0, 0.0, 0, 0
    for number in range(count := amount(2, 40)):
        source = _source(rng, mount.directory / f"scenario-{number}.toml")
        speed = f"{10 ** rng.uniform(0, 3):.4g}"
        device = mount(source, "--speed", speed, "--threshold", "1", name=f"mnt{number}", manual=False)
        warned += "Warning: this machine plays" in device.stderr
        time.sleep(rng.choice((0, 1)))
        everyone = [(_Waits(), list[int]()) for _ in range(READERS)]
        threads = [threading.Thread(target=_read, args=(device, seconds, *one), daemon=True) for one in everyone]
        for thread in threads:
            thread.start()
        with subprocess.Popen(["cat", device.records], stdout=subprocess.PIPE) as reader:
            assert reader.stdout is not None
            reader.stdout.read(1)
            began = time.monotonic()
            reader.kill()
            assert reader.wait(DEADLINE) in (0, -signal.SIGKILL)
            killed = max(killed, time.monotonic() - began)
        for thread in threads:
            thread.join(DEADLINE)
            assert not thread.is_alive(), f"{source} at speed {speed}"
        for waits, seen in everyone:
            assert seen == sorted(seen), f"{source} at speed {speed}: the clock fell"
            calls += waits.calls
            for name, longest in waits.longest.items():
                worst[name] = max(worst.get(name, (0.0, "")), (longest, f"{source.name} at speed {speed}"))
        slips += device.stats()["clock_slipped"] > 0
        device.clean_up()
        lines = device.log.read_text().splitlines()
        assert all(" WARNING the clock slipped by " in line for line in lines), lines
        device.log.write_text("")
    for name, (longest, where) in sorted(worst.items()):
        assert longest < DEADLINE
        tell(f"longest wait for {name}: {longest:.3f} s ({where})")
    tell(
        f"{count} mounts ({warned} warned of, {slips} slipped), {calls} calls; a killed reader ended in {killed:.3f} s"
    )
