"""CMA areas: regions with `cma` and `order_per_bit`."""

from __future__ import annotations

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import parse
from tests.scenario.refusals import PHASE, refusal
from tests.workload.stories import source, task


def areas(*keys: str) -> str:
    """Return a scenario with a region of 16 MiB for each of these keys."""
    regions = ", ".join(f'{{ name = "r{number}", size = "16MiB", {key} }}' for number, key in enumerate(keys))
    memory = f'[memory]\nsize = "64MiB"\nregion = [{regions}]\n'
    return source(task("a", PHASE, region="r0"), memory=memory)


@pytest.mark.parametrize("name", ["faceauth_tpu", "reserved", "linux,cma", "a.b", "farawimg@0", "x" * 63])
def test_an_area_has_the_name_of_its_node(name: str) -> None:
    """All names of device tree nodes are names of areas."""
    (region,) = parse(areas(f'migratetype = "CMA", cma = "{name}", order_per_bit = 12')).memory.region
    assert (region.cma, region.order_per_bit) == (name, 12)


def test_a_region_of_migratetype_cma_needs_no_area() -> None:
    """A region whose pageblocks are CMA does not have to be an area that can be allocated from."""
    (region,) = parse(areas('migratetype = "CMA"')).memory.region
    assert (region.cma, region.order_per_bit) == (None, 0)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ('cma = "a"', "cma = 'a' goes with migratetype = 'CMA', and this is 'Movable'"),
        (
            'migratetype = "CMA", cma = "a/b"',
            "cma = 'a/b' must be the name of a CMA area, with at most 63 letters, digits and any of _.,@+-",
        ),
        (
            'migratetype = "CMA", cma = ".."',
            "cma = '..' must be the name of a CMA area, with at most 63 letters, digits and any of _.,@+-",
        ),
        (
            'migratetype = "CMA", cma = ""',
            "cma = '' must be the name of a CMA area, with at most 63 letters, digits and any of _.,@+-",
        ),
        ('migratetype = "CMA", order_per_bit = 2', "order_per_bit = 2 goes with a CMA area: add `cma`"),
        ('migratetype = "CMA", cma = "a", order_per_bit = -1', "order_per_bit = -1 must be from 0 to 18"),
        ('migratetype = "CMA", cma = "a", order_per_bit = 19', "order_per_bit = 19 must be from 0 to 18"),
        (
            'migratetype = "CMA", cma = "a", order_per_bit = 13',
            "size = '16MiB' must be a multiple of 32768KiB: one bit stands for 8192 pages",
        ),
    ],
)
def test_wrong_areas_are_refused(keys: str, words: str) -> None:
    """A mistake in an area's keys is one line that names the region, the value and what was wanted."""
    assert refusal(areas(keys)) == f'region "r0": {words}'


def test_two_areas_have_two_names() -> None:
    """Each area has its own name: it is the name of its directory."""
    with pytest.raises(PinnerfsError, match="two CMA areas have the name 'a'"):
        parse(areas('migratetype = "CMA", cma = "a"', 'migratetype = "CMA", cma = "a"'))
