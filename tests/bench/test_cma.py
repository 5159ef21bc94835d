"""The CMA rows of `make bench`: the engine, the plain model and the C program give the same results."""

from __future__ import annotations

import shutil

import pytest

from tests.bench.cma import full_area, pinned, sizes
from tests.bench.reference_cma import BASE, InC, InEngine, InPython, in_c


@pytest.mark.skipif(shutil.which("gcc") is None, reason="gcc is missing")
@pytest.mark.parametrize(
    ("file", "pins", "wanted"),
    [
        (False, range(0, 1024, 5), [3, 4, 5, 6, 100, 1024]),
        (False, range(100, 140), [500, 512, 3, 900]),
        (True, range(0, 1024, 3), [1, 2, 3, 1024]),
        (True, range(50, 90), [1, 80, 3, 1000]),
    ],
    ids=["scattered", "buffer", "scattered pages of a file", "buffer in a file"],
)
def test_all_three_give_the_same_results(file: bool, pins: range, wanted: list[int]) -> None:
    """The places of all allocations, and the newest records, are the same."""
    pfns = [BASE + page for page in pins]
    with in_c() as code:
        program = InC(code, 1024, pfns, file=file)
        makers: list[InEngine | InPython | InC] = [InEngine(1024, pfns, file=file)]
        makers += [InPython(1024, pfns, file=file), program]
        results = [(one.allocate(wanted), one.records()) for one in makers]
        program.close()
    assert results[1] == results[2]
    assert results[0] == results[1]


def test_the_bench_has_pins_and_sizes() -> None:
    """The pinned area has 10,000 different pages, and the allocations have different sizes."""
    assert pinned("empty") == []
    assert len(set(pinned("pinned"))) == 10_000
    assert len(set(sizes(100))) > 50


def test_the_bench_has_all_rounds_of_a_full_area() -> None:
    """Where every page is pinned, an allocation makes all of its rounds."""
    assert len(full_area("android14-6.1", "anon", gib=1)) == 6
    assert len(full_area("android12-5.10", "file", gib=1)) == 11
