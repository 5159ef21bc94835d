"""The gallery's dumps name the culprits that the gallery's authors name, or say that they cannot."""

from __future__ import annotations

import pytest

import pinnerfs
from pinnerfs.kernel.page_pinner.generations import GENERATIONS, Generation
from pinnerfs.report import Report, analyse, read
from pinnerfs.report.naming import load_sites
from pinnerfs.scenario.schema import Scenario
from pinnerfs.workload.callchains import call_chain

# When a scenario shows what it is about, if not after a minute.
AT = {"cma-retries": "4s", "every-kernel": "10s", "faceunlock-fails": "10s", "vfio-guest": "61min"}

# The findings that say why a culprit cannot be seen.
BLIND = {"put-page", "foll-pin-invisible", "failures-only", "no-release", "marks-gone"}

SITES = load_sites()


def reports(scenario: Scenario, generation: Generation, seed: int, directory: pytest.TempPathFactory) -> Report:
    """Return the report of all of page_pinner's files, as `pinnerfs report DIRECTORY` reads them."""
    simulation = pinnerfs.Simulation(scenario, seed=seed, kernel=generation.name)
    simulation.advance(AT.get(scenario.name, "60s"))
    root = directory.mktemp("debug") / "page_pinner"
    root.mkdir()
    for name in generation.files:
        text = simulation.cat(name) if name in generation.record_files else ""
        (root / name).write_text(text)
    return analyse(read(root.parent))


@pytest.mark.parametrize("name", pinnerfs.gallery())
def test_the_culprit(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over three seeds and all kernels, the report blames the culprit's stack, or states its blind spot."""
    scenario = pinnerfs.load(name)
    assert scenario.culprit is not None
    stack = next((scenario.stack[task.stack] for task in scenario.task if task.name == scenario.culprit), None)
    named = 0
    for generation in GENERATIONS.values():
        wanted = None if stack is None else SITES.name("PIN", call_chain(stack, generation)).site
        # Without an allocation that fails, the kernels without a threshold show nothing.
        for seed in (1, 2, 3) if generation.has_threshold or scenario.alloc else ():
            made = reports(scenario, generation, seed, tmp_path_factory)
            blamed = next((site.site for site in made.sites if site.key == made.culprit), None)
            if wanted is not None and blamed == wanted:
                named += 1
                continue
            assert made.proves or BLIND & {finding.name for finding in made.findings}, (generation.name, seed)
            if wanted is None:
                assert blamed is None
    # The first kernel shows all culprits, except for those that another stack is blamed for.
    assert named >= 3 or scenario.culprit in ("none", "app")
