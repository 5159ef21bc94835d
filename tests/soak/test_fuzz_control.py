"""Random writes into `.pinnerfs/`, and into a simulation that must end in the same state."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable

import pytest

from pinnerfs import PinnerfsError, Simulation, load
from pinnerfs.debugfs.control import MAX_WRITE
from pinnerfs.scenario.quantities import parse_time
from tests.mount.support import DEADLINE, ROOT, Mount, Mounts, environment, outcome
from tests.workload.stories import source, task

pytestmark = pytest.mark.mount

NEVER_COMES = 'repeat = 1, every = "8000h", hold = "1s"'
SCENARIO = source(
    task("busy", 'for = "8000h", every = "1ms", hold = "1ms"', pages=8, pick="scattered"),
    task("quiet", NEVER_COMES, start="8000h", pages=3),
    task("buffer", NEVER_COMES, start="8000h", pages=1 << 13),
    task("huge", NEVER_COMES, start="8000h", region="cma", order=9, foll="FOLL_PIN"),
    task("guest", NEVER_COMES, start="8000h", share="quiet", release="put_page"),
    task("leak", 'repeat = 1, every = "8000h"', start="8000h", release="never"),
    task("two words", NEVER_COMES, start="8000h", release="free"),
    task("forgetful", NEVER_COMES, start="8000h", release="{ put_user_page = 2, put_page = 1 }", pfn=5000),
)
VERBS = ("pin", "pin", "pin", "release", "free", "unpin", "PIN", "", "pin\0")
WORDS = (
    *(
        "task=quiet",
        "task=quiet",
        "task=buffer",
        "task=huge",
        "task=guest",
        "task=leak",
        "'task=two words'",
        "task=forgetful",
        "task=nobody",
    ),
    *("pages=1", "pages=2", "pages=0", "pages=-1", "pages=262144", "pages=262145", "pages=999999999999", "pages=1e3"),
    *("hold=0us", "hold=5ms", "hold=1s", "hold=8784h", "hold=8785h", "hold=-1s", "hold=nan", "hold=5", "by=put_page"),
    *(
        "by=free",
        "by=never",
        "by=put_user_page",
        "task",
        "=",
        "'",
        '"a',
        "\\",
        "x" * 300,
        "\x1b[31m",
        "é",
        "\ud800",
        "#",
    ),
)
TIMES = (
    "5ms",
    "20ms",
    "1us",
    "0s",
    "1.5ms",
    "5",
    "",
    "-1s",
    "1e3s",
    "9" * 30 + "s",
    "nan",
    "inf",
    "5 s",
    "5ms\n",
    "8785h",
)


def random_write(rng: random.Random) -> tuple[str, bytes]:
    """Return a file and the data to write."""
    kind = rng.random()
    if kind < 0.1:
        return rng.choice(("advance", "do")), rng.randbytes(rng.choice((1, 5, 100, 5000, MAX_WRITE, MAX_WRITE + 1)))
    if kind < 0.3:
        return "advance", rng.choice(TIMES).encode() or b"\n"
    if kind < 0.33:
        line = rng.choice(("pin task=quiet\n", "pin task=leak hold=1s\n", "pin task=buffer hold=0us\n", "\n", "'"))
        return "do", (line * (MAX_WRITE // len(line) + rng.randrange(2))).encode()
    if kind < 0.7:
        task_word = rng.choice(WORDS[:8])
        rest: tuple[list[str], ...] = (["hold=5ms"], ["hold=0us"], [f"pages={rng.randrange(1, 70)}"], [])
        lines = [" ".join(["pin", task_word, *rng.choice(rest)]) for _ in range(rng.choice((1, 2, 40)))]
        lines += [" ".join([rng.choice(("release", "free")), task_word, *rng.choice(rest[2:])])] * rng.choice((0, 0, 1))
        return "do", "\n".join(lines).encode()
    lines = [
        " ".join([rng.choice(VERBS[: rng.choice((5, 9))]), *rng.choices(WORDS[: rng.choice((8, 21, 99))], k=number)])
        for number in rng.choices((1, 1, 1, 2, 3), k=rng.choice((1, 1, 2, 30)))
    ]
    return "do", "\n".join(lines).encode(errors="surrogatepass")


def result_of(twin: Simulation, name: str, data: bytes) -> int:
    """Apply a write to a simulation without a mount, and return its answer."""
    twin.advance_to(twin.now)  # a mount does this before it answers: something may happen at time 0
    try:
        if name == "advance":
            twin.advance(parse_time("advance", data.decode().strip()))
        elif len(data) > MAX_WRITE:
            raise ValueError
        else:
            twin.do(data.decode())
    except (PinnerfsError, ValueError):
        return -errno.EINVAL
    return len(data)


def write(device: Mount, name: str, data: bytes) -> int:
    descriptor = os.open(device.path / ".pinnerfs" / name, os.O_WRONLY)
    try:
        came = outcome(lambda: os.write(descriptor, data))
    finally:
        os.close(descriptor)
    assert isinstance(came, int)
    return came


def test_random_writes(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """Each write is done as a whole, or refused as a whole with EINVAL and one line, and soon."""
    path = mount.directory / "live.toml"
    path.write_text(SCENARIO)
    device, twin = mount(path), Simulation(load(path))
    rng = random.Random(8)
    answers: Counter[str] = Counter()
    longest = 0.0
    for _ in range(count := amount(150, 2500)):
        name, data = random_write(rng)
        before = device.control("stats")
        began = time.monotonic()
        came = write(device, name, data)
        longest = max(longest, time.monotonic() - began)
        assert came == result_of(twin, name, data), (name, data[:1000])
        answers[f"{name} {'accepted' if came >= 0 else 'refused'}"] += 1
        error = device.control("error")
        if came >= 0:
            assert error == ""
        else:
            assert error.endswith("\n") and error[:-1].isprintable() and 5 < len(error) < 5000
            assert device.control("stats") == before
        assert device.stats() == twin.stats()
        assert device.control("clock") == f"{twin.now}\n"
    assert b"".join(device.read_all()).decode() == twin.cat()
    parts = ", ".join(f"{number} {name}" for name, number in sorted(answers.items()))
    tell(f"{count} writes: {parts}; the longest took {longest:.2f}s")
    assert len(answers) == 4
    assert longest < DEADLINE


def test_reads_and_writes_in_the_wrong_direction(
    mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """Files for reading refuse writes, and files for writing refuse reads. Texts are complete in pieces of any size."""
    device = mount()
    rng = random.Random(9)
    device.advance("5s")
    assert write(device, "do", b"pin task=nobody") == -errno.EINVAL
    wanted = {name: device.control(name).encode() for name in ("clock", "error", "pid", "stats")}
    for _ in range(count := amount(50, 2000)):
        for name, text in wanted.items():
            with open(device.path / ".pinnerfs" / name, "rb", buffering=0) as file:
                parts = []
                while part := file.read(rng.choice((1, 2, 7, 4096, 1 << 20))):
                    parts.append(part)
                assert b"".join(parts) == text
        name = rng.choice((*wanted, "advance", "do"))
        wrong = os.O_WRONLY if name in wanted else os.O_RDONLY

        def call(descriptor: int, wrong: int = wrong) -> object:
            if wrong == os.O_WRONLY:
                return os.write(descriptor, rng.randbytes(rng.choice((1, 100, 200_000))))
            return os.read(descriptor, 4096)

        file_path = device.path / ".pinnerfs" / name
        descriptor = outcome(lambda path=file_path, way=wrong: os.open(path, way))  # type: ignore[misc]
        if descriptor >= 0:
            try:
                assert outcome(lambda descriptor=descriptor: call(descriptor)) == -errno.EINVAL  # type: ignore[misc]
            finally:
                os.close(descriptor)
        else:
            assert descriptor == -errno.EACCES
    assert {name: device.control(name).encode() for name in wanted} == wanted
    tell(f"{4 * count} texts in pieces, {count} calls the wrong way")


def test_an_interrupted_advance(mount: Mounts, tell: Callable[[str], None]) -> None:
    """While ctl advances through a year of a storm, others get answers. SIGINT ends it, and the mount still answers."""
    path = mount.directory / "storm.toml"
    path.write_text(source(task("storm", 'for = "8000h", rate = "1/us", hold = "2us"')))
    device = mount(path)
    with subprocess.Popen(
        [sys.executable, "-m", "pinnerfs", "ctl", str(device.path), "advance", "8000h"],
        cwd=ROOT,
        env=environment(),
        stderr=subprocess.PIPE,
        text=True,
    ) as ctl:
        try:
            began = time.monotonic()
            moments: list[int] = []
            while len(moments) < 3 or moments[-1] == moments[0]:
                moments.append(int(device.control("clock")))
                assert time.monotonic() - began < DEADLINE
            waited = time.monotonic() - began
            ctl.send_signal(signal.SIGINT)
            assert ctl.wait(DEADLINE) == 130
        finally:
            ctl.kill()
    clock = int(device.control("clock"))
    assert clock < 8000 * 3600 * 10**6
    device.advance("1us")
    assert int(device.control("clock")) == clock + 1
    tell(f"others waited {waited:.0f}s; the clock came {clock / 10**6:.1f}s far")
