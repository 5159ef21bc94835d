"""A replay of a dump gives the same dump."""

from __future__ import annotations

import os
from functools import cache

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import pinnerfs
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.replay import Replay, recording_of
from pinnerfs.report import read_text
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import Simulation
from tests.replay.captures import capture_of

# Thousands take minutes: set this to try more by hand.
EXAMPLES = int(os.environ.get("PINNERFS_REPLAY_EXAMPLES", "40"))

load = cache(pinnerfs.load)


def played(scenario: Scenario, kernel: str, seed: int, threshold: int, tenths: int) -> Simulation:
    """Return a simulation at a moment in its first seconds."""
    chosen = threshold if GENERATIONS[kernel].has_threshold else None
    simulation = Simulation(scenario, kernel=kernel, seed=seed, threshold=chosen)
    simulation.advance_to(tenths * 100_000)
    return simulation


@settings(
    max_examples=EXAMPLES, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)
@given(
    name=st.sampled_from(sorted(pinnerfs.gallery())),
    kernel=st.sampled_from(sorted(GENERATIONS)),
    seed=st.integers(0, 2**64 - 1),
    threshold=st.sampled_from([-1, 0, 1, 50, 1000, 20_000, 300_000, 1_000_000]),
    tenths=st.integers(0, 150),
)
def test_dump_of_a_replay_of_a_dump(name: str, kernel: str, seed: int, threshold: int, tenths: int) -> None:
    """Every file comes back to the byte, in the capture format, and as a bare `cat` of each record file."""
    simulation = played(load(name), kernel, seed, threshold, tenths)
    text = capture_of(simulation)
    recording = recording_of(read_text(text), kernel=kernel)
    assert recording.notes == ()
    assert capture_of(Replay(recording)) == text
    for file in simulation.generation.record_files:
        bare = simulation.cat(file)
        if not bare:
            continue
        again = Replay(recording_of(read_text(bare), kernel=kernel))
        assert [found for found in again.generation.record_files if again.cat(found)] == [file]
        assert again.cat(file) == bare
        if file == simulation.generation.main_file:
            assert Replay(recording_of(read_text(bare))).cat() == bare  # whichever of the kernels that fit is chosen
