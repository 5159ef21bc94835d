"""Memory runs out for a while: the daemon never shows wrong records."""

from __future__ import annotations

import errno
import os
import resource
from collections import Counter
from collections.abc import Callable
from functools import partial
from pathlib import Path

from tests.mount.support import Mount, Mounts, outcome, pinnerfs, scenario

GONE = {errno.ENOTCONN, errno.ECONNABORTED}


def test_out_of_memory(mount: Mounts, amount: Callable[[int, int], int], tell: Callable[[str], None]) -> None:
    """Without memory calls fail; afterwards the records are right, or reads fail with EIO, or the daemon is gone."""
    source = scenario(mount.directory, every="1ms", hold="400ms")
    rounds, outcomes, failures = amount(3, 42), Counter[str](), Counter[str]()
    for number in range(rounds):
        device = mount(source, "--threshold", "100")
        device.advance("1s")
        size = int((Path("/proc") / str(device.pid) / "statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.prlimit(device.pid, resource.RLIMIT_CORE, (0, 0))
        room = (number % 7) * 8_000_000
        resource.prlimit(device.pid, resource.RLIMIT_AS, (size + room, resource.RLIM_INFINITY))
        for _ in range(5):
            for answer in (outcome(partial(device.advance, "100s")), outcome(device.read_all)):
                if isinstance(answer, int):
                    assert -answer in {errno.EIO, errno.ENOMEM} | GONE, answer
                    failures[errno.errorcode[-answer]] += 1
        if not device.gone(0):
            resource.prlimit(device.pid, resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        kind = _judged(device)
        outcomes[kind] += 1
        device.log.write_text("")  # remove the expected traceback
        if kind != "died":
            assert pinnerfs("umount", device.path).returncode == 0
    tell(f"{rounds} times out of memory: {dict(outcomes)}; errors meanwhile: {dict(failures)}; wrong records: 0")


def _judged(device: Mount) -> str:
    """Return how a daemon survived."""
    stats = outcome(device.stats)
    if isinstance(stats, int):
        if stats == -errno.EIO:
            assert outcome(device.read_all) == -errno.EIO
            assert "MemoryError" in device.log.read_text()
            return "answers EIO"
        assert -stats in GONE and device.gone(), stats
        return "died"
    assert stats["pins"] == int(device.control("clock")) // 1000 + 1
    assert len(device.read_all()) == stats["records_now"] == min(4096, stats["longterm_records"])
    assert stats["longterm_records"] == stats["pins"] - 400
    return "has the right records"
