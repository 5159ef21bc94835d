"""Random rules of faults, beside readers and writers that meet them."""

from __future__ import annotations

import os
import random
import signal
import subprocess
from collections.abc import Callable

import pytest

from pinnerfs.debugfs.inject import Faults
from pinnerfs.scenario.faults import ERRNOS
from tests.mount.support import DEADLINE, Mounts, environment

pytestmark = pytest.mark.mount

SCRIPTS = (
    "cat page_pinner/longterm_pinner",
    "ls -l . page_pinner",
    "echo 300000 > page_pinner/threshold",
    "stat page_pinner page_pinner/threshold",
    "timeout 0.05 cat page_pinner/threshold",
    "dd if=page_pinner/longterm_pinner bs=4096 conv=noerror count=50",
    "cd page_pinner && cat threshold && ls; cd ..",
    "head -c 200000 /dev/zero > page_pinner/threshold",
    "find .",
)


def random_rule(rng: random.Random) -> str:
    """Return a rule with short delays."""
    comm = rng.choice(("", "", ",comm=cat", ",comm=bash", ",uid=0", ",pid=1"))
    if rng.random() < 0.2:
        return f"add,missing{comm}"
    op = rng.choice(("", ",op=open", ",op=read", ",op=write"))
    file = rng.choice(("", ",file=threshold", ",file=longterm_pinner"))
    delay = rng.choice(("", ",delay=1ms", ",delay=30ms"))
    cut = op in ("", ",op=read") and rng.random() < 0.3
    result = ",cut" if cut else f",errno={rng.choice(sorted(ERRNOS))}" if rng.random() < 0.7 or not delay else ""
    limit = rng.choice(("", ",chance=1", ",chance=50", ",times=1", ",times=20,chance=99"))
    return f"add{op}{file}{delay}{result}{limit}{comm}"


def test_random_rules_beside_readers(
    mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]
) -> None:
    """Whatever rules come and go: each is taken and listed, and afterwards the device works as before."""
    device = mount("camera-stall", "--start", "60s")
    records, descriptors = device.read_all(), len(os.listdir(f"/proc/{device.pid}/fd"))
    assert records
    rng = random.Random(5)
    processes = []
    try:
        for _ in range(6):
            loop = "while :; do " + "; ".join(rng.sample(SCRIPTS, 5)) + "; done"
            processes.append(
                subprocess.Popen(
                    ["bash", "-c", loop],
                    cwd=device.path,
                    env=environment(),
                    stdout=subprocess.DEVNULL,
                    stderr=subprocess.DEVNULL,
                    start_new_session=True,
                )
            )
        written = amount(100, 3000)
        for _ in range(written):
            rules = [random_rule(rng) for _ in range(rng.randrange(1, 5))]
            twin = Faults((), 1, ("longterm_pinner", "threshold"), lambda: 0)
            twin.write("\n".join(rules))
            (device.path / ".pinnerfs" / "inject").write_text("\n".join(["removeall", *rules]))
            listed = [line.rpartition(" ")[0] for line in device.control("inject").splitlines()]
            assert listed == [line.rpartition(" ")[0] for line in twin.text().splitlines()]
    finally:
        for process in processes:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(DEADLINE)
    (device.path / ".pinnerfs" / "inject").write_text("removeall")
    assert device.read_all() in (records, [])  # the threshold may have been written
    assert device.shell("ls").stdout == "longterm_pinner\nthreshold\n"
    assert len(os.listdir(f"/proc/{device.pid}/fd")) == descriptors
    tell(f"{written} writes of rules beside 6 readers")
