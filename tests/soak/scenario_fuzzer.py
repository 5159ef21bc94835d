"""A process that reads made scenarios and plays those that are right, with little memory and time for each.

Called as `python -m tests.soak.scenario_fuzzer SEED COUNT IT.toml`: the input at hand lies in the file IT.toml, should
it come to grief, and the one that took longest in IT.slowest. Prints counts as JSON.
"""

from __future__ import annotations

import json
import random
import re
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import parse
from pinnerfs.scenario.schema import Scenario
from pinnerfs.simulation import Simulation
from tests.soak.scenario_inputs import make

MEMORY = 3 << 30  # of address space, a good part of it numpy's own
PATIENCE = 60  # seconds for an input, beside whatever else the machine does
PLAYED = 5_000_000  # us
STEPS = 8

# A refusal names its place: a line, a table, or a key at the top.
PLACES = (
    r"^IT:\d+: ",
    r"^IT: (task|alloc|region|expect|stack|memory)\b",
    r"\(at end of document\)",
    r"at byte \d+",
    r"^IT: (unknown key|the key) '",
    r"^IT: (two (tasks|allocs|regions|CMA areas) |name is empty|a stack's name |\w+ = |\w+ is an? )",
    r"nested too deeply",
)
PLACE = re.compile("|".join(PLACES))


def play(scenario: Scenario) -> tuple[object, ...]:
    """What comes of some seconds, or of some steps where much happens."""
    simulation = Simulation(scenario)
    for step, _ in enumerate(simulation.steps_to(PLAYED), start=1):
        if step == STEPS:
            break
    return simulation.now, simulation.cat(), simulation.stats()


def attack(data: bytes) -> str:
    """What became of an input, in a word; an exception is a fault."""
    try:
        scenario = parse(data, "IT")
    except PinnerfsError as error:
        message = str(error)
        assert error.exit_status == 2
        assert message.startswith("IT:") and message.isprintable() and len(message) < 5000, message
        assert PLACE.search(message), message
        return "over a limit" if "; raise it with --limit" in message else "refused"
    first, second = play(scenario), play(scenario)
    assert first == second, "not the same twice"
    return "played"


def main(seed: int, count: int, witness: Path) -> None:
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    rng = random.Random(seed)
    outcomes: Counter[str] = Counter()
    longest = 0.0
    for _ in range(count):
        data = make(rng)
        witness.write_bytes(data)
        signal.alarm(PATIENCE)  # which ends this process
        began = time.monotonic()
        outcomes[attack(data)] += 1
        if (took := time.monotonic() - began) > longest:
            longest = took
            witness.with_suffix(".slowest").write_bytes(data)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"outcomes": outcomes, "longest": longest, "peak": peak}))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), Path(sys.argv[3]))
