"""The option `--oracle`, the cases to replay, and the stages to replay them on."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.oracle.cases import RECORDED, Case, load
from tests.oracle.stage import Stage

KERNELS = ("android12-5.10-early", "introduced")

# Of the kernel `introduced` no answers were recorded: those of the other one count, but for what is about files
# that it does not have.
OTHER_FILES = ("alloc_contig_failed", "failure_tracking")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--oracle", type=Path, action="append", default=[], help="replay further cases: a file or folder")


def _applies(kernel: str, case: Case) -> bool:
    if kernel == KERNELS[0]:
        return True
    text = case.script + case.stdout + "".join(op["call"] for op in case.ops)
    return not any(name in text for name in OTHER_FILES)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "case" not in metafunc.fixturenames:
        return
    cases = list(load(RECORDED))
    for path in metafunc.config.getoption("--oracle"):
        cases += load(path)
    pairs = [(kernel, case) for kernel in KERNELS for case in cases if _applies(kernel, case)]
    metafunc.parametrize(("kernel", "case"), pairs, ids=[f"{kernel}-{case.name}" for kernel, case in pairs])


@pytest.fixture(scope="session")
def stages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str, Case], Stage]]:
    """A stage for a kernel and a case: made when first asked for, shared by all cases that need the same."""
    made: dict[tuple[str, int, float, bool], Stage] = {}

    def stage(kernel: str, case: Case) -> Stage:
        # Busybox's cat begins with sendfile: its cases are played as README says such readers are helped.
        key = (kernel, case.long_pins or 3, case.hold_ms, case.busybox_cat)
        if key not in made:
            made[key] = Stage(tmp_path_factory.mktemp("stage"), *key)
        return made[key]

    yield stage
    for one in made.values():
        one.close()
