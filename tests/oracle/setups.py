"""Setup steps for the cases that describe their setup in words, and reasons why cases cannot be replayed."""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace

from tests.oracle.acf import needs_failure
from tests.oracle.calls import Calls
from tests.oracle.cases import Case
from tests.oracle.cma import CmaCalls, is_cma, why_not
from tests.oracle.custom_scenarios import CUSTOM_SCENARIOS
from tests.oracle.phrases import PhraseCalls
from tests.oracle.sandbox import Sandbox
from tests.oracle.scenarios import recorded_pins
from tests.oracle.shells import SHELLS
from tests.oracle.system import SystemCalls

__all__ = [
    "applies_to",
    "calls_class",
    "has_custom_scenario",
    "prepare",
    "why_not_replayable",
    "with_implied_pins",
]

NO_INIT = ".noinit"  # at the end of a name: the kernel does not zero its memory; see caveats.toml

PP = "page_pinner"
Step = Callable[[Sandbox], object]


def _threshold(value: str, pins: int = 0) -> Step:
    def step(sandbox: Sandbox) -> None:
        sandbox.threshold(value)
        sandbox.pin(pins)

    return step


def _mode(mode: int, threshold: str = "777", *, uid: int | None = None, buffer_size: str | None = None) -> Step:
    """Set the mode of the root directory, the threshold, and optionally `buffer_size` or the owner of `threshold`."""

    def step(sandbox: Sandbox) -> None:
        sandbox.path.chmod(mode)
        sandbox.threshold(threshold)
        if buffer_size is not None:
            sandbox.write("page_pinner/buffer_size", buffer_size)
        if uid is not None:
            os.chown(sandbox.path / PP / "threshold", uid, uid)
            (sandbox.path / PP / "threshold").chmod(0o600)

    return step


def _open_to_all(sandbox: Sandbox) -> None:
    sandbox.path.chmod(0o755)
    (sandbox.path / PP / "threshold").chmod(0o666)


def _tracking_off(sandbox: Sandbox) -> None:
    sandbox.threshold("1000")
    sandbox.pin(1)
    sandbox.write("page_pinner/failure_tracking", "0")


def _tracking_on(sandbox: Sandbox) -> None:
    sandbox.write("page_pinner/failure_tracking", "1")


def _size(size: int, mode: int = 0o644, uid: int = 0) -> Step:
    """Give the file `threshold` the size, mode and owner that earlier cases left, if the kernel has it."""

    def step(sandbox: Sandbox) -> None:
        sandbox.threshold("777777")
        file = sandbox.path / PP / "threshold"
        if not file.exists():
            return
        os.truncate(file, size)
        file.chmod(mode)
        os.chown(file, uid, -1)

    return step


def _buffer_size(value: str) -> Step:
    """Set the buffer size that the case before has left."""
    return lambda sandbox: sandbox.write("page_pinner/buffer_size", value)


def _nothing(sandbox: Sandbox) -> None:
    pass


# Regular expression for the name of a case, without NO_INIT -> the step to take after `setup`. The first one counts.
STEPS: dict[str, Step] = {
    r"fs\.(ls-la-debug|mounts|filesystems|file)|(mksh|dash)\.th\.16": _nothing,
    r"fs\.times": _size(10),
    r"th\.(partial|seek|openflags|dup|badptr)": _nothing,
    r"lt\.tool\.(15|47|57|71)": _nothing,
    r"lt\.(empty-sys|th-max)": _threshold("1000"),
    r"lt\.(exact|readv|two-fds)": _nothing,
    r"lt\.(order|add-while-reading|clear-while-reading)": _threshold("1000", 3),
    r"lt\.clear-on-failed-write": _threshold("1000", 1),
    r"lt\.small-read-does-not-advance": _threshold("1000", 2),
    r"lt\.th0": _threshold("0", 3),
    r"lt\.eof-advances": _threshold("1000"),
    r"lt\.full-pread": _threshold("1000", 4096),
    r"lt\.deep\..*": _threshold("1000", 1),
    r"lt\.deep-stack": _threshold("1000", 1),
    r"lt\.full\..*": _nothing,
    r"ro\.longterm_pinner\.sys": _threshold("1000", 1),
    r"ro\.(alloc_contig_failed|buffer)\.sys|ro\..*\.(bash|ash)": _nothing,
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
    r"bs\.default": _buffer_size("1"),
    r"bs\.write\.0[5-7]": _buffer_size("8192"),
    r"bs\.write\.(09|1[01])": _buffer_size("16"),
    r"bs\..*": _nothing,
    r"rawfs\.root": _threshold("1000"),
    r"rawfs\.uid1000\.700": _nothing,
    r"rawfs\.uid1000\.755": _mode(0o755),
    r"misc\.(threshold|longterm_pinner|alloc_contig_failed|failure_tracking|buffer|buffer_size)": _threshold("1000", 2),
    r"misc\.preadv2": _nothing,
    r"tb\.th\.(17|18|19|20)": _size(10),
    r"tb\.th\.(21)": _size(10),
    r"tb\.th\.22": _size(10, 0o666),
}


# Steps for one kernel, where an earlier case had left another value.
KERNEL_STEPS: dict[tuple[str, str], Step] = {
    ("pixel-5.10", "rawfs.root"): _threshold("0"),
    ("android14-6.1", "perm.uid1000.0755"): _mode(0o755, buffer_size="1"),
    ("android14-6.1", "perm.uid1000.0755.ash"): _mode(0o755, buffer_size="1"),
    ("android14-6.1", "perm.uid1000.0711"): _mode(0o711, buffer_size="1"),
}

# Pins that a case describes in words: regular expression for its name -> number of pins, hold in ms.
PINS: dict[str, tuple[int, int]] = {
    r"lt\.full\..*": (4096, 12),
    r"lt\.two-fds": (3, 5),
    r"ft\.off\.longterm": (1, 6),
}
# Cases whose answer shows all pins -> the threshold at that time.
ALL_PINS_SHOWN = {"perm.uid1000.0666": "5"}


def with_implied_pins(case: Case) -> Case:
    """Return the case with the pins that it describes only in words."""
    if case.name in ALL_PINS_SHOWN:
        return replace(case, long_pins=len(recorded_pins(case)), threshold=ALL_PINS_SHOWN[case.name])
    if case.script.startswith("diff "):
        # A program of the kernel's own may have pinned a page, too.
        return replace(case, long_pins=str(case.shown[0]).count(" pinned "))
    for pattern, (count, hold_ms) in PINS.items():
        if re.fullmatch(pattern, case.name):
            return replace(case, long_pins=count, hold_ms=hold_ms, threshold=case.threshold or "1000")
    return case


def _step(case: Case) -> Step | None:
    if (case.generation, case.name) in KERNEL_STEPS:
        return KERNEL_STEPS[case.generation, case.name]
    name = case.name.removesuffix(NO_INIT)
    return next((step for pattern, step in STEPS.items() if re.fullmatch(pattern, name)), None)


def why_not_replayable(case: Case) -> str | None:
    """Return why a case cannot be replayed, or None if it can."""
    if case.problem is not None:
        return case.problem
    if is_cma(case):
        return why_not(case)
    if case.shell is not None and case.shell not in SHELLS:
        return f"unsupported shell {case.shell!r}"
    if case.auto:
        return None
    known = needs_failure(case) or _step(case) is not None or has_custom_scenario(case)
    return None if known else "no setup step in tests/oracle/setups.py"


def applies_to(case: Case) -> bool:
    """Return whether the case applies to its kernel, or was recorded from one that tracks FOLL_PIN otherwise.

    The recorded kernels track FOLL_PIN only if booted with `pp_hook_pin`. `introduced` always tracks it.
    """
    if case.family == "lt" and "pp_hook_pin" in case.boot:
        return case.generation == "introduced"
    return case.name != "lt.foll-pin" or case.generation != "introduced"


def has_custom_scenario(case: Case) -> bool:
    """Return whether the case has a scenario of its own in custom_scenarios."""
    return case.name in CUSTOM_SCENARIOS


def prepare(sandbox: Sandbox, case: Case) -> dict[str, str]:
    """Run the setup step of a case, and return the files that earlier cases left in /tmp, by path."""
    if case.auto:
        return {}
    step = _step(case)
    if step is not None:
        step(sandbox)
    if case.name == "lt.tool.71":
        # Rebuild the output of `cat` in the previous case, which this case compares with.
        lines = [line[2:] for line in case.stdout.splitlines() if line.startswith("> ")]
        own = (sandbox.path / PP / "longterm_pinner").read_bytes().decode().split("\n\n")[:-1]
        heads = ["\n".join(lines[at : at + 2]) for at in range(0, len(lines), 2)]
        stacks = [record.split("\n", 2)[2] for record in own[-len(heads) :]]
        return {"/tmp/ltcat": "".join(f"{head}\n{stack}\n\n" for head, stack in zip(heads, stacks, strict=True))}
    return {}


def calls_class(case: Case) -> type[Calls]:
    """Return the class that makes the calls of a case."""
    if is_cma(case):
        return CmaCalls
    if case.auto:
        return Calls
    return SystemCalls if re.match(r"misc\.|rawfs\.root", case.name) else PhraseCalls
