"""The scenarios that travel with pinnerfs, and the reference of their format."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import get_args

import msgspec
import numpy as np
import pytest

import pinnerfs
from pinnerfs.workload.quantities import Distribution
from pinnerfs.workload.schema import Memory, Phase, Region, Scenario, Stack, Task

FOLDER = Path(__file__).parents[1] / "scenarios"
MINUTE = 60_000_000

# What longterm_pinner holds after a minute. numpy promises a seed's stream for one release only: these are 2.4.6's.
GOLDEN = {
    "camera-stall": "e114384d3b1c99c7047b3e1bf34d8b87249812aa6ee1464b1145f245b04d0d6e",
    "gpu-put-page": "652dfb84b7b0a6807481c8ada79779a5f11f48a70061012c39b6710cbeb8eb81",
    "quiet-device": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "ring-overflow": "372dfc0ae38cc590063a487a6fd99fcc1bc83270c34dffd4ab881c74914bd352",
    "slow-direct-io": "30a8cd9008330243797cb7bbf3af9ee7740cf17bb334c046674a797363c6ce60",
    "threshold-edges": "9141362b70adac374ef3a33796b175cd560ce4dc6fdcde37d15cafa3040b73a3",
}


def _after_a_minute(name: str, **options: int) -> pinnerfs.Simulation:
    simulation = pinnerfs.Simulation(pinnerfs.load(name), **options)  # type: ignore[arg-type]
    simulation.advance(MINUTE)
    return simulation


def test_the_gallery_is_what_the_folder_holds() -> None:
    """Every scenario is named as its file, fits on a page, and begins with a comment on what to look for."""
    assert sorted(pinnerfs.gallery()) == sorted(GOLDEN)
    for name, path in pinnerfs.gallery().items():
        text = path.read_text()
        assert pinnerfs.load(name).name == name
        assert text.count("\n") <= 80
        assert text.startswith("# ") and "\n# Look for: " in text.partition("\nformat")[0]


@pytest.mark.parametrize("name", GOLDEN)
def test_a_seed_gives_the_same_bytes(name: str) -> None:
    """A minute of a scenario with its own seed gives the bytes that it always gave."""
    text = _after_a_minute(name).longterm_pinner()
    assert hashlib.sha256(text.encode()).hexdigest() == GOLDEN[name], (
        f"recorded with numpy 2.4.6, this is {np.__version__}"
    )


def test_quiet_device() -> None:
    """Nothing is long-term at the default threshold, and a lower one shows that pins are there."""
    assert _after_a_minute("quiet-device").longterm_pinner() == ""
    assert any(_after_a_minute("quiet-device", threshold=1000).records())


def test_camera_stall() -> None:
    """All long pins are the camera's, in CMA; some last longer than a second, most do not."""
    records = list(_after_a_minute("camera-stall").records())
    assert all("vb2_dma_sg_get_userptr" in "".join(record.stack) for record in records)
    assert {record.migratetype.name for record in records} == {"CMA"}
    longest = [record for record in records if record.ts > 1_000_000]
    assert 0 < len(longest) < len(records)


def test_gpu_put_page() -> None:
    """Only the GPU's stack is blamed, for times that the app held the pages."""
    records = list(_after_a_minute("gpu-put-page").records())
    assert records
    assert all("mali_kbase" in "".join(record.stack) for record in records)
    assert {record.ts for record in records} == {700_000}


def test_slow_direct_io() -> None:
    """The core dump is blamed, O_DIRECT never, although its pages stay marked."""
    simulation = _after_a_minute("slow-direct-io")
    stacks = ["".join(record.stack) for record in simulation.records()]
    assert stacks and all("get_dump_page" in stack for stack in stacks)
    assert simulation.stats()["pinned_now"] > 1000


def test_ring_overflow() -> None:
    """The ring is full, and records have been overwritten."""
    simulation = _after_a_minute("ring-overflow")
    assert len(list(simulation.records())) == 4096
    assert simulation.stats()["records_overwritten"] > 0


def test_threshold_edges() -> None:
    """Of three pins one is longer than the threshold: by one microsecond."""
    simulation = _after_a_minute("threshold-edges")
    assert [record.ts for record in simulation.records()] == [300_001]
    assert simulation.stats()["pins"] == 3


def _documented(heading: str) -> set[str]:
    """The keys in the first column of the tables of one part of the reference."""
    text = (FOLDER / "README.md").read_text()
    part = re.split(r"^(?:## |A region:)", text.partition(heading)[2], maxsplit=1, flags=re.MULTILINE)[0]
    return set(re.findall(r"^\| `(\w+)` \|", part, re.MULTILINE))


@pytest.mark.parametrize(
    ("heading", "table"),
    [
        ("## The scenario\n", Scenario),
        ("## `memory`\n", Memory),
        ("A region:\n", Region),
        ("## `stack`\n", Stack),
        ("## `task`\n", Task),
        ("## `task.phase`\n", Phase),
    ],
)
def test_the_reference_has_every_key(heading: str, table: type[msgspec.Struct]) -> None:
    """The reference explains each key of a table, and no others."""
    assert _documented(heading) == set(table.__struct_encode_fields__)


def test_the_reference_has_every_distribution() -> None:
    """The reference names each distribution with its keys, and no others."""
    text = (FOLDER / "README.md").read_text()
    rows = re.findall(r'^\| `"(\w+)"` \| (.*?) \|', text, re.MULTILINE)
    documented = {name: set(re.findall(r"`(\w+)`", keys)) for name, keys in rows}
    structs = get_args(Distribution)
    assert documented == {struct.__struct_config__.tag: set(struct.__struct_encode_fields__) for struct in structs}


def test_the_reference_s_example_is_a_scenario() -> None:
    """The whole scenario in the reference validates and pins something."""
    (example,) = re.findall(r"^```toml\n(.*?)^```$", (FOLDER / "README.md").read_text(), re.DOTALL | re.MULTILINE)
    simulation = pinnerfs.Simulation(pinnerfs.parse(example))
    simulation.advance(MINUTE)
    assert simulation.stats()["longterm_records"] > 0
