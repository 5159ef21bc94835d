"""The cost of starting: a mount for each test, and commands of a small scenario."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from functools import partial
from importlib.metadata import entry_points
from pathlib import Path

from pinnerfs.scenario.gallery import gallery
from tests.bench.measure import FEW_REPEATS, python, ratios, seconds
from tests.bench.table import Group, Target

__all__ = ["TESTS", "groups"]

TESTS = 100
TEST_FILE = f"""
import pytest

@pytest.mark.parametrize("number", range({TESTS}))
def test_it(page_pinner, number):
    page_pinner.advance("1s")
    assert page_pinner.threshold == 300_000
"""

SCENARIO = "camera-stall"

FIXTURE = Target(f"a test with a mount of its own, one of {TESTS} in a pytest run : `import numpy`", 0.33, 0.12)
MOUNT = Target("`pinnerfs mount` and `pinnerfs umount` : `import numpy, fuse, click`", 1.5, 1.2)
RUN = Target("`pinnerfs run SCENARIO -- true` : `import numpy, fuse, click`", 1.4, 1.15)
CHECK = Target("`pinnerfs check` of the whole gallery : `import click`", 2, 1.5)


def groups() -> list[Group]:
    """Return the groups of what a user waits for."""
    return [
        Group([FIXTURE], _fixture),
        Group([MOUNT], lambda: [_compared(_mount_and_umount, "numpy, fuse, click")]),
        Group([RUN], lambda: [_compared(_run, "numpy, fuse, click")]),
        Group([CHECK], lambda: [_compared(_check, "click")]),
    ]


def _compared(work: Callable[[], object], modules: str) -> list[float]:
    return ratios(partial(seconds, work), lambda: seconds(lambda: python("-c", f"import {modules}")))


def _fixture() -> list[list[float]]:
    """Measure whole runs of pytest, with its own start, but without the plugins of other packages."""
    plugins = entry_points(group="pytest11").names
    load = [] if "pinnerfs" in plugins else ["-p", "pinnerfs.pytest_plugin"]
    load += [f"-pno:{name}" for name in sorted(plugins - {"pinnerfs"})]
    with tempfile.TemporaryDirectory(prefix="pinnerfs-bench-") as name:
        path = Path(name) / "test_each.py"
        path.write_text(TEST_FILE)
        options = [*load, "-q", "-p", "no:cacheprovider", "--rootdir", name, "-c", "/dev/null"]
        return [
            ratios(
                lambda: seconds(lambda: python("-m", "pytest", *options, str(path))) / TESTS,
                lambda: seconds(lambda: python("-c", "import numpy")),
                FEW_REPEATS,
            )
        ]


def _mount_and_umount() -> None:
    with tempfile.TemporaryDirectory(prefix="pinnerfs-bench-") as directory:
        python("-m", "pinnerfs", "mount", SCENARIO, directory)
        python("-m", "pinnerfs", "umount", directory)


def _run() -> None:
    python("-m", "pinnerfs", "run", SCENARIO, "--", "true")


def _check() -> None:
    python("-m", "pinnerfs", "check", *gallery())
