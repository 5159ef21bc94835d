"""Replaying a case: bring about its setup, run it, and say where the answer differs."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from importlib import import_module
from pathlib import Path

from pinnerfs import Simulation
from pinnerfs import load as load_scenario
from tests.oracle.calls import UnknownCall
from tests.oracle.cases import RECORDED, Case, Op, load
from tests.oracle.comparison import Comparison, canonical, same
from tests.oracle.sandbox import DEADLINE, Sandbox
from tests.oracle.scenarios import pins_of, scenario
from tests.oracle.setups import calls_class
from tests.oracle.shells import ShellAnswer, busybox_head_reports_errors, run_shell

__all__ = ["SandboxPool", "compare_calls", "replay_calls", "replay_shell", "set_up"]

# Stopped in its middle by the recorder, for the emulator was slow.
INTERRUPTED = {"lt.full.dd-skip"}
# Two programs raced: `head` wrote both lines at once, or one after the other. Either answer is right.
RACES = {"mksh.th.16": "dash.th.16", "dash.th.16": "mksh.th.16"}
# What busybox's `head` is asked that cannot write. Older ones print why, and exit with 0 all the same.
HEAD_WRITE_FAILS = {"th.ash.31"}
MAX_MOUNTED = 4  # sandboxes that stay mounted


class SandboxPool:
    """Mounts that are shared by cases of the same pins. One is taken again when its tree is as on the first day."""

    def __init__(self, directory: Path) -> None:
        # What a daemon imports late, it has from here, as it is forked.
        import_module("pinnerfs.cli.mount")
        Simulation(load_scenario("camera-stall")).advance("1s")
        self._directory = directory
        self._sandboxes: OrderedDict[tuple[str, str, bool], Sandbox] = OrderedDict()

    def get(self, case: Case, kernel: str, *, sendfile: bool = False) -> Sandbox:
        """A sandbox in which the pins of the case's setup can happen."""
        key = (kernel, scenario(pins_of(case)), sendfile)
        sandbox = self._sandboxes.pop(key, None)
        if sandbox is not None and not sandbox.usable():
            sandbox.close()
            sandbox = None
        if sandbox is None:
            sandbox = Sandbox(self._directory, kernel, key[1], sendfile=sendfile)
        self._sandboxes[key] = sandbox
        if len(self._sandboxes) > MAX_MOUNTED:
            self._sandboxes.popitem(last=False)[1].close()
        return sandbox

    @contextmanager
    def alone(self, kernel: str, text: str) -> Iterator[Sandbox]:
        """A sandbox for one use, with a scenario of its own."""
        sandbox = Sandbox(self._directory, kernel, text)
        try:
            yield sandbox
        finally:
            sandbox.close()

    def close(self) -> None:
        """Take all of them down."""
        for sandbox in self._sandboxes.values():
            sandbox.close()
        self._sandboxes.clear()


def set_up(sandbox: Sandbox, case: Case) -> None:
    """Write the threshold of the setup, which clears; then the pins."""
    sandbox.rewind(len(pins_of(case)))
    sandbox.threshold(case.threshold or "300000")
    sandbox.pin(case.long_pins)


def replay_shell(sandbox: Sandbox, case: Case, leftovers: dict[str, str]) -> list[Comparison]:
    """Run the script: its exit status, stdout and stderr."""
    name = case.name
    answer = run_shell(sandbox, case, leftovers)
    if name in INTERRUPTED:
        # It must begin as recorded, and may go on.
        answer = ShellAnswer(
            case.exit, _first_lines(answer.stdout, case.stdout), _first_lines(answer.stderr, case.stderr)
        )
    if name in HEAD_WRITE_FAILS and busybox_head_reports_errors():
        case = replace(case, stdout=case.stdout.replace("rc=0", "rc=1"))
    answers = _compare(case, answer)
    if name in RACES and not all(answered.same for answered in answers):
        answers = _compare(next(case for case in load(RECORDED) if case.name == RACES[name]), answer)
    return answers


def _first_lines(answered: str, recorded: str) -> str:
    """As many lines of an answer as were recorded."""
    return "".join(answered.splitlines(keepends=True)[: recorded.count("\n")])


def _compare(case: Case, answer: ShellAnswer) -> list[Comparison]:
    answers = [Comparison("exit", str(case.exit), str(answer.exit), answer.exit == case.exit)]
    for what, recorded, got in (("stdout", case.stdout, answer.stdout), ("stderr", case.stderr, answer.stderr)):
        ours, theirs = canonical(got, case), canonical(recorded, case)
        # A command that had to be stopped: how often it said the same hangs on when, and where its last line ends.
        if case.exit == "timeout":
            ours, theirs = sorted(set(ours[:-1])), sorted(set(theirs[:-1]))
        answers.append(Comparison(what, repr(recorded), repr(got), ours == theirs))
    return answers


def _perform(sandbox: Sandbox, case: Case) -> list[Op] | UnknownCall:
    performer = calls_class(case)(sandbox, case)
    try:
        return [performer.perform(op["call"]) for op in case.ops]
    except UnknownCall as unknown:
        return unknown


def replay_calls(sandbox: Sandbox, case: Case) -> list[Comparison]:
    """Make the calls. Raises UnknownCall where one of them is told in words that this harness does not know."""
    answers = sandbox.call(_perform, sandbox, case, uid=case.uid, deadline=DEADLINE)
    if isinstance(answers, UnknownCall):
        raise answers
    return compare_calls(case, answers)


def compare_calls(case: Case, answers: list[Op]) -> list[Comparison]:
    """The same for answers that are already there."""
    return [
        Comparison(op["call"], repr(op), repr(answer), same(op, answer, case))
        for op, answer in zip(case.ops, answers, strict=True)
    ]
