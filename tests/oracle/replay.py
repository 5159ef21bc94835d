"""Replay a case: set it up, run it, and compare its answers with the recorded ones."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from pinnerfs import Simulation
from pinnerfs import load as load_scenario
from tests.oracle import cma
from tests.oracle.calls import UnknownCall
from tests.oracle.cases import Case, Op, recorded_case
from tests.oracle.comparison import Comparison, canonical, same
from tests.oracle.sandbox import DEADLINE, Sandbox
from tests.oracle.scenarios import freed_of, pins_of, scenario
from tests.oracle.setups import calls_class
from tests.oracle.shells import ShellAnswer, busybox_head_reports_errors, run_shell

__all__ = ["SandboxPool", "compare_calls", "replay_calls", "replay_shell", "set_up"]

# The recorder stopped this case early, because the emulator was slow.
INTERRUPTED = {"lt.full.dd-skip"}
# `head` may write its two lines by one write or by two. The answers of both cases are right for both.
RACES = {"mksh.th.16": "dash.th.16", "dash.th.16": "mksh.th.16"}
# busybox `head` cannot write its output here. Older versions print the error but exit with status 0.
HEAD_WRITE_FAILS = {"th.ash.31"}
MAX_MOUNTED = 4  # limit of sandboxes that stay mounted


class SandboxPool:
    """Sandboxes that cases with the same pins share. A sandbox is reused while its tree is unchanged."""

    def __init__(self, directory: Path) -> None:
        # The daemons are forks of this process. Do the lazy imports here once.
        import_module("pinnerfs.cli.mount")
        Simulation(load_scenario("camera-stall")).advance("1s")
        self._directory = directory
        self._sandboxes: OrderedDict[tuple[str, str, tuple[str, ...]], Sandbox] = OrderedDict()

    def get(self, case: Case) -> Sandbox:
        """Return a sandbox whose scenario has the pins of the case's setup."""
        freed = freed_of(case)
        if cma.is_cma(case):
            key = (case.generation, cma.scenario(case), cma.options(case))
        else:
            key = (case.generation, scenario(pins_of(case), freed), ())
        sandbox = self._sandboxes.pop(key, None)
        if sandbox is not None and not sandbox.usable():
            sandbox.close()
            sandbox = None
        if sandbox is None:
            sandbox = Sandbox(self._directory, *key)
            if freed:
                sandbox.pass_over(freed[-1].at)
        self._sandboxes[key] = sandbox
        if len(self._sandboxes) > MAX_MOUNTED:
            self._sandboxes.popitem(last=False)[1].close()
        return sandbox

    @contextmanager
    def alone(self, kernel: str, text: str, options: tuple[str, ...] = ()) -> Iterator[Sandbox]:
        """Open a sandbox with this scenario and close it after use."""
        sandbox = Sandbox(self._directory, kernel, text, options)
        try:
            yield sandbox
        finally:
            sandbox.close()

    def close(self) -> None:
        """Close all sandboxes."""
        for sandbox in self._sandboxes.values():
            sandbox.close()
        self._sandboxes.clear()


def set_up(sandbox: Sandbox, case: Case) -> None:
    """Write the threshold of the setup, which clears the records, and then pin. Or set up the areas of CMA."""
    sandbox.reset()
    if cma.is_cma(case):
        cma.set_up(sandbox, case)
        return
    sandbox.rewind(len(pins_of(case)))
    sandbox.threshold(case.threshold or "300000")
    sandbox.pin(case.long_pins)


def replay_shell(sandbox: Sandbox, case: Case, leftovers: dict[str, str]) -> list[Comparison]:
    """Run the script of a case and compare its exit status, stdout and stderr."""
    name = case.name
    if cma.is_cma(case):
        case = cma.without_machine(case)
    answer = run_shell(sandbox, case, leftovers)
    if name in INTERRUPTED:
        # Compare only as many lines as were recorded.
        answer = ShellAnswer(
            case.exit, _first_lines(answer.stdout, case.stdout), _first_lines(answer.stderr, case.stderr)
        )
    if name in HEAD_WRITE_FAILS and busybox_head_reports_errors():
        case = replace(case, stdout=case.stdout.replace("rc=0", "rc=1"))
    answers = _compare(case, answer)
    if name in RACES and not all(answered.same for answered in answers):
        answers = _compare(recorded_case(case.recorded, RACES[name]), answer)
    return answers


def _first_lines(answered: str, recorded: str) -> str:
    """Return as many lines of an answer as were recorded."""
    return "".join(answered.splitlines(keepends=True)[: recorded.count("\n")])


def _compare(case: Case, answer: ShellAnswer) -> list[Comparison]:
    answers = [Comparison("exit", str(case.exit), str(answer.exit), answer.exit == case.exit)]
    for what, recorded, got in (("stdout", case.stdout, answer.stdout), ("stderr", case.stderr, answer.stderr)):
        if cma.is_cma(case):
            got, recorded = cma.without_history(got, case), cma.without_history(recorded, case)
        ours, theirs = canonical(got, case), canonical(recorded, case)
        # The command was killed. When that happened decides how often it repeated a line and where the last line ends.
        if case.exit == "timeout":
            ours, theirs = sorted(set(ours[:-1])), sorted(set(theirs[:-1]))
        answers.append(Comparison(what, repr(recorded), repr(got), ours == theirs))
    return answers


def _perform(sandbox: Sandbox, case: Case) -> list[Op] | UnknownCall:
    caller = calls_class(case)(sandbox, case)
    try:
        return [caller.perform(op["call"]) for op in case.ops]
    except UnknownCall as unknown:
        return unknown


def replay_calls(sandbox: Sandbox, case: Case) -> list[Comparison]:
    """Make the calls of a case and compare the answers. Raise UnknownCall if a call or phrase is unsupported."""
    answers = sandbox.call(_perform, sandbox, case, uid=case.uid, deadline=DEADLINE)
    if isinstance(answers, UnknownCall):
        raise answers
    return compare_calls(case, answers)


def compare_calls(case: Case, answers: list[Op]) -> list[Comparison]:
    """Compare the answers to the calls of a case with the recorded ones."""
    return [
        Comparison(op["call"], repr(op), repr(answer), same(op, answer, case))
        for op, answer in zip(case.ops, answers, strict=True)
    ]
