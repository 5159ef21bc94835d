"""The gallery's dumps name the culprits that the gallery's authors name, or say that they cannot."""

from __future__ import annotations

import pytest

import pinnerfs
from pinnerfs.kernel.calls import Event
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


def true_findings(made: Report, scenario: Scenario, generation: Generation) -> set[str]:
    """Return which findings of blind spots excuse this report. Fail if it has one that is untrue of the scenario."""
    found = {finding.name: finding for finding in made.findings if finding.name in BLIND}
    culprit = next((task for task in scenario.task if task.name == scenario.culprit), None)
    if "put-page" in found:
        by_put_page = {
            SITES.name("PIN", call_chain(scenario.stack[task.stack], generation)).key
            for task in scenario.task
            if "put_page" in task.releases
        }
        assert {*found["put-page"].sites} <= by_put_page, generation.name
        if made.culprit is not None and made.culprit not in found["put-page"].sites:
            del found["put-page"]
    if "foll-pin-invisible" in found:
        hidden = Event.pin_user_pages not in generation.pins
        assert hidden or " may be invisible " in found["foll-pin-invisible"].title, generation.name
        if made.culprit is not None and not (hidden and culprit is not None and culprit.foll == "FOLL_PIN"):
            del found["foll-pin-invisible"]
    if "failures-only" in found:
        assert not generation.has_threshold, generation.name
    return {*found}


@pytest.mark.parametrize("name", pinnerfs.gallery())
def test_the_culprit(name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over three seeds and all kernels, the report blames the culprit's stack, or states its blind spot."""
    scenario = pinnerfs.load(name)
    assert scenario.culprit is not None
    culprits = [task for task in scenario.task if task.name == scenario.culprit]
    # Records of dropped references have the stack of the release.
    stacks = [scenario.stack[name] for task in culprits for name in (task.stack, task.release_stack) if name]
    named = 0
    for generation in GENERATIONS.values():
        wanted = {SITES.name("PIN", call_chain(stack, generation)).site for stack in stacks}
        # Without an allocation that fails, the kernels without a threshold show nothing.
        for seed in (1, 2, 3) if generation.has_threshold or scenario.alloc else ():
            made = reports(scenario, generation, seed, tmp_path_factory)
            blamed = next((site.site for site in made.sites if site.key == made.culprit), None)
            excuses = true_findings(made, scenario, generation)
            if blamed in wanted:
                named += 1
                continue
            assert excuses or (blamed is None and made.proves), (generation.name, seed)
            if not wanted:
                assert blamed is None
    # The first kernel shows all culprits, except for those that another stack is blamed for.
    assert named >= 3 or scenario.culprit in ("none", "app")
