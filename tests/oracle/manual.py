"""The cases whose setup is told in prose: how each is brought about, and what the others wait for."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace

from tests.oracle.calls import Calls
from tests.oracle.cases import RECORDED_BY, Case
from tests.oracle.prose import Prose
from tests.oracle.scenarios import recorded_pins
from tests.oracle.shells import SHELLS
from tests.oracle.system import System
from tests.oracle.told import TOLD
from tests.oracle.world import World

__all__ = ["completed", "of_another_kernel", "performer_of", "prepare", "state", "told"]

# Cases of these names need a CMA allocation, which no scenario has yet.
WAITING = r"cma\..*|acf\.cma-failure\..*|acf\.tools\.shmem\.cma400file|ft\.off\.longterm\.cma"

PP = "page_pinner"
Step = Callable[[World], object]


def _threshold(value: str, pins: int = 0) -> Step:
    def step(world: World) -> None:
        world.threshold(value)
        world.pin(pins)

    return step


def _mode(mode: int, threshold: str = "777", **owner: int) -> Step:
    """The root's mode, and the threshold's value and perhaps its owner."""

    def step(world: World) -> None:
        world.path.chmod(mode)
        world.threshold(threshold)
        if owner:
            os.chown(world.path / PP / "threshold", owner["uid"], owner["uid"])
            (world.path / PP / "threshold").chmod(0o600)

    return step


def _open_to_all(world: World) -> None:
    world.path.chmod(0o755)
    (world.path / PP / "threshold").chmod(0o666)


def _tracking_off(world: World) -> None:
    world.threshold("1000")
    world.pin(1)
    world.write("page_pinner/failure_tracking", "0")


def _tracking_on(world: World) -> None:
    world.write("page_pinner/failure_tracking", "1")


def _size(size: int, mode: int = 0o644, uid: int = 0) -> Step:
    """What the cases before had made of the file `threshold`."""

    def step(world: World) -> None:
        world.threshold("777777")
        file = world.path / PP / "threshold"
        os.truncate(file, size)
        file.chmod(mode)
        os.chown(file, uid, -1)

    return step


def _nothing(world: World) -> None:
    pass


# The name of a case (a regular expression), and what is done before it, beyond `setup`.
STEPS: dict[str, Step] = {
    r"fs\.(ls-la-debug|mounts|filesystems|file)|(mksh|dash)\.th\.16": _nothing,
    r"fs\.times": _size(10),
    r"th\.(partial|seek|openflags|dup|badptr)": _nothing,
    r"lt\.tool\.(15|47|57|71)": _nothing,
    r"lt\.(empty-sys|th-max)": _threshold("1000"),
    r"lt\.(exact|readv)": _nothing,
    r"lt\.(order|add-while-reading|clear-while-reading)": _threshold("1000", 3),
    r"lt\.clear-on-failed-write": _threshold("1000", 1),
    r"lt\.small-read-does-not-advance": _threshold("1000", 2),
    r"lt\.th0": _threshold("0", 3),
    r"lt\.eof-advances": _threshold("1000"),
    r"lt\.two-fds": _threshold("1000", 3),
    r"lt\.full-pread": _threshold("1000", 4096),
    r"lt\.deep\..*": _threshold("1000", 1),
    r"lt\.deep-stack": _threshold("1000", 1),
    r"lt\.full\..*": _nothing,
    r"ro\.longterm_pinner\.sys": _threshold("1000", 1),
    r"ro\.alloc_contig_failed\.sys|ro\..*\.(bash|ash)": _nothing,
    r"perm\.uid1000\.0700": _mode(0o700),
    r"perm\.uid1000\.0755(\.ash)?": _mode(0o755),
    r"perm\.uid1000\.0711": _mode(0o711, "4242"),
    r"perm\.uid1000\.owner": _mode(0o755, uid=1000),
    r"perm\.uid1000\.0666": _open_to_all,
    r"perm\.root-nocap": _mode(0o711, "4242"),
    r"perm\.fd-passing": _nothing,
    r"ft\.write\..*": _nothing,
    r"ft\.off(-sys|\.ash|\.longterm)?": _tracking_off,
    r"acf\.(empty|tools)\..*": _nothing,
    r"rawfs\.root": _threshold("1000"),
    r"rawfs\.uid1000\.700": _nothing,
    r"rawfs\.uid1000\.755": _mode(0o755),
    r"misc\.(threshold|longterm_pinner|alloc_contig_failed|failure_tracking)": _threshold("1000", 2),
    r"misc\.preadv2": _nothing,
    r"tb\.th\.(17|18|19|20)": _size(10),
    r"tb\.th\.(21)": _size(10),
    r"tb\.th\.22": _size(10, 0o666),
}


# What the prose says of the pins: how many, for how long in ms.
PINS: dict[str, tuple[int, int]] = {r"lt\.full\..*": (4096, 12), r"ft\.off\.longterm": (1, 6)}
# The cases whose pins are all in their answer, and the threshold under which they were recorded.
SHOWN = {"perm.uid1000.0666": "5"}


def completed(case: Case) -> Case:
    """The case with the pins that its prose speaks of."""
    if case.name in SHOWN:
        return replace(case, long_pins=len(recorded_pins(case)), threshold=SHOWN[case.name])
    for pattern, (count, hold_ms) in PINS.items():
        if re.fullmatch(pattern, case.name):
            return replace(case, long_pins=count, hold_ms=hold_ms, threshold=case.threshold or "1000")
    return case


def _step(case: Case) -> Step | None:
    name = case.name
    return next((step for pattern, step in STEPS.items() if re.fullmatch(pattern, name)), None)


def state(case: Case) -> str | None:
    """Why a case cannot be replayed; None where it can."""
    if case.problem is not None:
        return case.problem
    if re.fullmatch(WAITING, case.name):
        return "waiting for CMA"
    if case.shell is not None and case.shell not in SHELLS:
        return f"of a shell that nobody knows here, {case.shell!r}"
    if case.auto:
        return None
    return None if _step(case) is not None or told(case) else "not yet written out"


def of_another_kernel(case: Case, kernel: str) -> bool:
    """Return whether only another kernel can be asked a case of pins.

    Booted with `pp_hook_pin`, the kernel that answered tracked FOLL_PIN. A kernel that tracks it anyway is asked then.
    """
    if case.family == "lt" and "pp_hook_pin" in case.boot:
        return kernel == RECORDED_BY
    return case.name == "lt.foll-pin" and kernel != RECORDED_BY


def told(case: Case) -> bool:
    """Whether the case is played by a scenario of its own."""
    return case.name in TOLD


def prepare(world: World, case: Case) -> dict[str, str]:
    """Bring about what the prose says; the files that earlier cases left in /tmp."""
    if case.auto:
        return {}
    step = _step(case)
    if step is not None:
        step(world)
    if case.name == "lt.tool.71":
        # What `cat` had shown in the case before: the other half of the difference.
        lines = [line[2:] for line in case.stdout.splitlines() if line.startswith("> ")]
        own = (world.path / PP / "longterm_pinner").read_bytes().decode().splitlines()
        for number, at in enumerate((0, 12, 24)):
            own[at : at + 2] = lines[2 * number : 2 * number + 2]
        return {"/tmp/ltcat": "\n".join(own) + "\n"}
    return {}


def performer_of(case: Case) -> type[Calls]:
    """Who makes the calls of a case."""
    if case.auto:
        return Calls
    return System if re.match(r"misc\.|rawfs\.root", case.name) else Prose
