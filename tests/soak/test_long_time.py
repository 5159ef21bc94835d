"""A month and more of simulated time: the records are exact, and nothing overflows or grows."""

from __future__ import annotations

import errno
import gc
import os
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from pinnerfs.clock import LAST_MOMENT
from pinnerfs.scenario.gallery import load
from pinnerfs.simulation import Simulation
from tests.mount.support import FRAMES, HEADER, Mounts, newest_first, outcome, pinnerfs, record, scenario
from tests.soak.usage import Usage, WatchedMount

HOUR = 3600 * 10**6  # µs
DAY = 24 * HOUR
HOLD = 400_000
YEARS = 292  # of 366 days, the longest step; one more step is beyond the end
YEAR = 366 * DAY


def one_task(directory: Path, *phases: str) -> Path:
    """Write a scenario whose only task has these phases."""
    path = directory / "one.toml"
    tables = ", ".join(f"{{ {phase} }}" for phase in phases)
    task = f'[[task]]\nname = "driver"\nstack = "driver"\nregion = "all"\nphase = [{tables}]\n'
    path.write_text(HEADER.format(name="one", frames=", ".join(f'"{frame}"' for frame in FRAMES)) + task)
    return path


def test_a_month_on_the_manual_clock(
    mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """With steps of any size the clock is their sum, and one pin a second is recorded without drift."""
    hours = amount(6, 31 * 24)
    watched = WatchedMount(mount, scenario(mount.directory), "--clock", "manual")
    device = watched.mount
    draw = random.Random(31)
    curve: list[Usage] = []
    now = steps = released = 0
    while now < hours * HOUR:
        longest = draw.choice((1, 10**6, 3600 * 10**6, 7 * 3600 * 10**6))
        step = min(draw.randint(0, longest), hours * HOUR - now)
        device.advance(f"{step}us")
        now += step
        steps += 1
        released = 0 if now < HOLD else (now - HOLD) // 10**6 + 1
        with device.opened() as file:
            assert os.read(file, 4096) == (record(released - 1) if released else b"")
        if now >= hours * HOUR * (len(curve) + 1) // 5:
            curve.append(watched.usage())
    assert device.control("clock") == f"{hours * HOUR}\n"
    assert device.read_all() == newest_first(released, released - 4096)
    assert released == hours * 3600
    stats = device.stats()
    assert (stats["pins"], stats["releases"], stats["longterm_records"]) == (released + 1, released, released)
    assert stats["records_overwritten"] == released - 4096
    assert curve[-1].rss - curve[0].rss < 4 << 10, curve
    assert abs(curve[-1].objects - curve[0].objects) < 200, curve
    tell(f"{hours} hours in {steps} steps, {released} records; after a fifth: {curve[0]}; at the end: {curve[-1]}")


@pytest.mark.parametrize(
    ("phases", "begin", "period", "hours"),
    [
        (['for = "8784h", gap = "600ms", hold = "400ms"'], 0, 1_000_000, (24, 31 * 24)),
        (['repeat = 3, every = "1333333us", hold = "400ms"'], 0, 1_333_333, (6, 31 * 24)),
        (['for = "7us"', 'repeat = 1, every = "999983us", hold = "400ms"', 'for = "11us"'], 7, 1_000_001, (3, 7 * 24)),
    ],
    ids=["gap", "every, again and again", "pauses"],
)
def test_arrivals_do_not_drift(
    tmp_path: Path,
    amount: Callable[[int, int], int],
    tell: Callable[[str], None],
    phases: list[str],
    begin: int,
    period: int,
    hours: tuple[int, int],
) -> None:
    """After hours and after a month the period of the pins is exact to the µs."""
    end = amount(*hours) * HOUR
    simulation = Simulation(load(one_task(tmp_path, *phases)))
    simulation.advance_to(end)
    pins = (end - begin) // period + 1
    released = (end - begin - HOLD) // period + 1
    assert (simulation.stats()["pins"], simulation.stats()["releases"]) == (pins, released)
    assert simulation.cat().encode() == b"".join(newest_first(released, released - 4096))
    # The next pin is not there 1 µs before its time.
    simulation.advance_to(begin + pins * period - 1)
    assert simulation.stats()["pins"] == pins
    simulation.advance(1)
    assert simulation.stats()["pins"] == pins + 1
    tell(f"{end // HOUR} hours, {pins} pins, the last of them at its very µs")


def test_a_rate_does_not_drift(tmp_path: Path, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """The number of arrivals stays within five standard deviations of the rate."""
    days = amount(1, 31)
    simulation = Simulation(load(one_task(tmp_path, 'for = "8784h", rate = "1/s", hold = "400ms"')))
    simulation.advance(days * DAY)
    pins, wanted = simulation.stats()["pins"], days * 24 * 3600
    assert abs(pins - wanted) < 5 * wanted**0.5
    tell(f"{days} days, {pins} pins of a rate that says {wanted}")


@pytest.mark.parametrize(
    "name", ["core-dump-slow-disk", "huge-pages", "io-uring-buffers", "threshold-edges", "vfio-guest"]
)
def test_a_month_in_one_step_or_in_many(
    name: str, amount: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """A scenario gives the same bytes with steps of any size, and its objects do not pile up."""
    hours = amount(6, 31 * 24)
    one, many = Simulation(load(name)), Simulation(load(name))
    one.advance(hours * HOUR)
    draw = random.Random(name)
    objects = []
    for hour in range(1, hours + 1):
        for moment in sorted(draw.randint((hour - 1) * HOUR, hour * HOUR) for _ in range(2)):
            many.advance_to(moment)
        many.advance_to(hour * HOUR)
        if hour in (hours // 2, hours):
            gc.collect()
            objects.append(len(gc.get_objects()))
    assert one.now == many.now == hours * HOUR
    assert one.cat() == many.cat()
    assert one.stats() == many.stats()
    assert abs(objects[1] - objects[0]) < 200
    tell(f"{hours} hours, {one.stats()['pins']} pins; {objects[0]} objects after half of it, {objects[1]} at the end")


def test_the_end_of_boot_time(mount: Mounts, tell: Callable[[str], None]) -> None:
    """A manual clock reaches the end of a kernel's: a pin of 292 years is exact, and one more step is an error."""
    source = one_task(mount.directory, 'repeat = 1, every = "1s", hold = "400ms"')
    source.write_text(source.read_text().replace("[memory]", 'duration = "1us"\n[memory]', 1))
    device = mount(source)
    (device.path / ".pinnerfs" / "do").write_text("pin task=driver")
    for _ in range(YEARS - 1):
        device.advance("8784h")
    rest = LAST_MOMENT - (YEARS - 1) * YEAR
    assert outcome(lambda: device.advance(f"{rest + 1}us")) == -errno.EOVERFLOW
    assert device.control("error") == (
        f"boot time is {(YEARS - 1) * YEAR} us, and {rest + 1} us more is after its end "
        f"at {LAST_MOMENT} us (292 years)\n"
    )
    assert device.control("clock") == f"{(YEARS - 1) * YEAR}\n"
    device.advance(f"{rest}us")
    done = pinnerfs("ctl", device.path, "advance", "1us")
    assert (done.returncode, done.stdout) == (1, "")
    assert "cannot advance the clock: boot time is 9223372036854775 us, and 1 us more is after its end" in done.stderr
    assert "Traceback" not in done.stderr
    (device.path / ".pinnerfs" / "do").write_text("release task=driver")
    (newest, oldest) = device.read_all()
    assert newest.startswith(b"Page pinned ts 9223372036854775 us count 1\n")
    assert oldest == record(0)
    (device.path / ".pinnerfs" / "do").write_text("pin task=driver hold=8784h\npin task=driver")
    assert device.stats()["pinned_now"] == 2
    tell(f"{YEARS} steps to the last of {LAST_MOMENT} us; a step further is EOVERFLOW")
