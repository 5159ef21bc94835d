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
from tests.oracle.calls import Unknown
from tests.oracle.cases import RECORDED, Case, Op, load
from tests.oracle.forms import Answered, canonical, same
from tests.oracle.manual import performer_of
from tests.oracle.scenarios import pins_of, scenario
from tests.oracle.shells import Answer, busybox_head_fails, run_shell
from tests.oracle.world import DEADLINE, World

__all__ = ["Worlds", "compare_calls", "replay_calls", "replay_shell", "set_up"]

# Stopped in its middle by the recorder, for the emulator was slow.
CUT = {"lt.full.dd-skip"}
# Two programs raced: `head` wrote both lines at once, or one after the other. Either answer is right.
EITHER = {"mksh.th.16": "dash.th.16", "dash.th.16": "mksh.th.16"}
# What busybox's `head` is asked that cannot write. Older ones print why, and exit with 0 all the same.
HEAD_FAILS = {"th.ash.31"}
KEPT = 4  # worlds that stay mounted


class Worlds:
    """Mounts that are shared by cases of the same pins. One is taken again when its tree is as on the first day."""

    def __init__(self, folder: Path) -> None:
        # What a daemon imports late, it has from here, as it is forked.
        import_module("pinnerfs.cli.mount")
        Simulation(load_scenario("camera-stall")).advance("1s")
        self._folder = folder
        self._worlds: OrderedDict[tuple[str, str], World] = OrderedDict()

    def get(self, case: Case, kernel: str) -> World:
        """A world in which the pins of the case's setup can happen."""
        key = (kernel, scenario(pins_of(case)))
        world = self._worlds.pop(key, None)
        if world is not None and not world.usable():
            world.close()
            world = None
        if world is None:
            world = World(self._folder, kernel, key[1])
        self._worlds[key] = world
        if len(self._worlds) > KEPT:
            self._worlds.popitem(last=False)[1].close()
        return world

    @contextmanager
    def alone(self, kernel: str, text: str) -> Iterator[World]:
        """A world for one use, with a scenario of its own."""
        world = World(self._folder, kernel, text)
        try:
            yield world
        finally:
            world.close()

    def close(self) -> None:
        """Take all of them down."""
        for world in self._worlds.values():
            world.close()
        self._worlds.clear()


def set_up(world: World, case: Case) -> None:
    """Write the threshold of the setup, which clears; then the pins."""
    world.rewind(len(pins_of(case)))
    world.threshold(case.threshold or "300000")
    world.pin(case.long_pins)


def replay_shell(world: World, case: Case, left: dict[str, str]) -> list[Answered]:
    """Run the script: its exit status, stdout and stderr."""
    name = case.name
    answer = run_shell(world, case, left)
    if name in CUT:
        # It must begin as recorded, and may go on.
        answer = Answer(case.exit, _begin(answer.stdout, case.stdout), _begin(answer.stderr, case.stderr))
    if name in HEAD_FAILS and busybox_head_fails():
        case = replace(case, stdout=case.stdout.replace("rc=0", "rc=1"))
    answers = _compare(case, answer)
    if name in EITHER and not all(answered.same for answered in answers):
        answers = _compare(next(case for case in load(RECORDED) if case.name == EITHER[name]), answer)
    return answers


def _begin(answered: str, recorded: str) -> str:
    """As many lines of an answer as were recorded."""
    return "".join(answered.splitlines(keepends=True)[: recorded.count("\n")])


def _compare(case: Case, answer: Answer) -> list[Answered]:
    answers = [Answered("exit", str(case.exit), str(answer.exit), answer.exit == case.exit)]
    for what, recorded, got in (("stdout", case.stdout, answer.stdout), ("stderr", case.stderr, answer.stderr)):
        ours, theirs = canonical(got, case), canonical(recorded, case)
        # A command that had to be stopped: how often it said the same hangs on when, and where its last line ends.
        if case.exit == "timeout":
            ours, theirs = sorted(set(ours[:-1])), sorted(set(theirs[:-1]))
        answers.append(Answered(what, repr(recorded), repr(got), ours == theirs))
    return answers


def _perform(world: World, case: Case) -> list[Op] | Unknown:
    performer = performer_of(case)(world, case)
    try:
        return [performer.perform(op["call"]) for op in case.ops]
    except Unknown as unknown:
        return unknown


def replay_calls(world: World, case: Case) -> list[Answered]:
    """Make the calls. Raises Unknown where one of them is told in words that this harness does not know."""
    answers = world.inside(_perform, world, case, uid=case.uid, deadline=DEADLINE)
    if isinstance(answers, Unknown):
        raise answers
    return compare_calls(case, answers)


def compare_calls(case: Case, answers: list[Op]) -> list[Answered]:
    """The same for answers that are already there."""
    return [
        Answered(op["call"], repr(op), repr(answer), same(op, answer, case))
        for op, answer in zip(case.ops, answers, strict=True)
    ]
