"""Writes of any bytes to `threshold`, against a model of the simple attribute."""

from __future__ import annotations

import importlib.util
import os
import random
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pinnerfs.kernel.attribute import parse_simple_attribute, to_signed
from tests.mount.support import ROOT, Mounts, environment, outcome
from tests.soak.attribute_model import ULLONG_MAX, answer

EDGES = (0, 1, 7, 8, 9, 300_000, 1 << 31, (1 << 63) - 1, 1 << 63, ULLONG_MAX - 1, ULLONG_MAX, ULLONG_MAX + 1, 1 << 70)
FORMS = (b"%d", b"0x%x", b"0X%X", b"0%o", b"+%d", b"+0x%x", b"+0%o", b"-%d", b"%d.0", b"%de3", b"0b%d", b"0o%o")
ENDS = (b"", b"\n", b"\n\n", b"\0", b"\0\n", b"\n\0x", b" ", b" \n", b"us", b"\r\n", b"z", b"\xff", b"_0")
BEGINS = (b"", b"0", b"00000", b"000000000000000", b"+", b"++", b" ", b"\0", b"\n", b"x", b"0x", b"\xef\xbb\xbf")
CHARACTERS = b"0123456789abcdefxXABF+-_ \n\0\t\r.\xff"


def like_a_number(rng: random.Random) -> bytes:
    """Return bytes that are a number, or nearly one."""
    kind = rng.random()
    if kind < 0.25:
        return bytes(rng.choices(CHARACTERS, k=rng.randrange(30)))
    if kind < 0.3:
        return rng.randbytes(rng.randrange(40))
    value = rng.choice(EDGES) if rng.random() < 0.5 else rng.randrange(1 << rng.randrange(1, 72))
    text = bytearray(rng.choice(BEGINS if rng.random() < 0.3 else (b"",)) + rng.choice(FORMS) % value)
    text += rng.choice(ENDS)
    for _ in range(rng.choice((0, 0, 0, 1, 2))):
        if text:
            at = rng.randrange(len(text))
            text[at : at + rng.randrange(2)] = bytes(rng.choices(CHARACTERS, k=rng.randrange(2)))
    return bytes(text)


def check(data: bytes) -> int:
    """Return the answer to a write, after comparing it with the model's."""
    came = outcome(lambda: parse_simple_attribute(data))
    assert came == answer(data), data
    return int(came)


def tally(answers: Counter[str]) -> str:
    return ", ".join(f"{count} {name}" for name, count in sorted(answers.items()))


def kind_of(came: int) -> str:
    return "numbers" if came >= 0 else os.strerror(-came)


def test_against_the_model(amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """A million writes, most of them nearly numbers, get the model's answers; each kind of answer comes often."""
    rng = random.Random(6)
    count = amount(50_000, 1_000_000)
    answers = Counter(kind_of(check(like_a_number(rng))) for _ in range(count))
    tell(f"{count} writes as the model says: {tally(answers)}")
    assert len(answers) == 3 and min(answers.values()) > count // 50


def test_every_short_write() -> None:
    """All writes of up to two bytes, and of three characters of numbers, get the model's answers."""
    every = [bytes([byte]) for byte in range(256)]
    for data in (b"", *every, *(one + other for one in every for other in every)):
        check(data)
    few = [bytes([byte]) for byte in CHARACTERS]
    for data in (a + b + c for a in few for b in few for c in few):
        check(data)


def test_hypothesis_against_the_model(amount: Callable[[int, int], int]) -> None:
    """The writes that hypothesis finds get the model's answers."""

    @settings(max_examples=amount(500, 5000), deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.binary(max_size=200) | st.text(alphabet=CHARACTERS.decode("latin-1"), max_size=30).map(encoded))
    def attack(data: bytes) -> None:
        check(data)

    attack()


def encoded(text: str) -> bytes:
    return text.encode("latin-1")


ATHERIS = """
import sys, atheris
with atheris.instrument_imports(include=["pinnerfs.kernel.attribute"]):
    from tests.soak.test_fuzz_threshold import check
atheris.Setup(sys.argv, check)
atheris.Fuzz()
"""


def test_atheris_against_the_model(
    amount: Callable[[int, int], int], tell: Callable[[str], None], tmp_path: Path
) -> None:
    """The writes that atheris finds by coverage of the parser get the model's answers."""
    if importlib.util.find_spec("atheris") is None:
        pytest.skip("atheris is not installed: pip install atheris")
    runs = amount(20_000, 1_000_000)
    for name, data in enumerate((b"300000\n", b"0x1F", b"+017", b"18446744073709551616", b"5\0x", b"-1")):
        (tmp_path / f"{name}").write_bytes(data)
    done = subprocess.run(
        [sys.executable, "-c", ATHERIS, f"-runs={runs}", "-seed=6", "-max_len=64", str(tmp_path)],
        cwd=ROOT,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"Done {runs} runs" in done.stderr, done.stderr[-2000:]
    tell(f"{runs} runs, {len(list(tmp_path.iterdir()))} inputs that reached something new")


@pytest.mark.mount
def test_through_a_mount(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """A write through the mount gets the model's answer, and a refused one changes nothing."""
    device = mount()
    device.advance("100s")
    rng = random.Random(7)
    answers: Counter[str] = Counter()
    threshold, records = 300_000, 100
    with device.opened(os.O_WRONLY, "threshold") as descriptor:
        for _ in range(count := amount(300, 3000)):
            # A write of 0 bytes does not reach a FUSE daemon. The attribute cuts long writes, FUSE does not.
            data = like_a_number(rng) + (b"\0" + rng.randbytes(5000) if rng.random() < 0.1 else b"") or b"\n"
            came = outcome(lambda data=data: os.write(descriptor, data))  # type: ignore[misc]
            wanted = answer(data)
            assert came == (len(data) if wanted >= 0 else wanted), data
            answers[kind_of(wanted)] += 1
            if wanted >= 0:
                threshold, records = to_signed(wanted), 0
            assert device.threshold.read_text() == f"{threshold}\n"
            assert device.stats()["records_now"] == records
    tell(f"{count} writes through the mount: {tally(answers)}")
