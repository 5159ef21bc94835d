"""Replay the cases of alloc_contig_failed that need a failed allocation, on a mount."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from itertools import groupby

from pinnerfs import Client
from tests.oracle.cases import Case, Op, recorded_case
from tests.oracle.comparison import Comparison, canonical, same
from tests.oracle.layouts import freed_shown, texts_of
from tests.oracle.phrases import PhraseCalls
from tests.oracle.sandbox import Sandbox
from tests.oracle.scenarios import freed_of, scenario
from tests.oracle.scene import area_of
from tests.oracle.scene_mount import MountWorld, Plan
from tests.oracle.scene_play import FILE_CALL, Scene
from tests.oracle.scene_simulation import scenario_of

__all__ = ["needs_failure", "play_story"]

# Opens a sandbox; the arguments are a kernel, the text of a scenario, and options of `pinnerfs mount`.
OpenSandbox = Callable[[str, str, tuple[str, ...]], AbstractContextManager[Sandbox]]
RunScript = Callable[[Sandbox, Case], list[Comparison]]

# Found in the records of a failed allocation.
ALLOCATION_FAILED = re.compile(r"Failure detected at \[|Page pinned ts \[|\bcma_alloc\b")
NO_INIT = ".noinit"  # a kernel whose ring holds leftovers of memory: see caveats.toml
STORY = re.compile(r"acf\.cma-failure\.(.*)")
# Cases that show the records of the failures before them, and the story with these.
LATER = re.compile(r"acf\.(?:tools|empty|cma-failure)\.(.*)")
PINS_IN_AREA = ("anon.cma400", "shmem.cma400file")


def needs_failure(case: Case) -> bool:
    """Return whether the case is a story of a failed allocation, or shows the records of one."""
    return STORY.fullmatch(case.name) is not None or _story_before(case) is not None


def _story_before(case: Case) -> Case | None:
    """Return the story whose records the case finds, if there is one."""
    match = LATER.fullmatch(case.name)
    if match is None or not _shows_failure(case):
        return None
    if STORY.fullmatch(case.name) and match[1] in PINS_IN_AREA:
        return None  # these are its own
    name = match[1] if match[1] in PINS_IN_AREA else "anon.cma400"
    return recorded_case(case.generation, f"acf.cma-failure.{name}")


def _shows_failure(case: Case) -> bool:
    """Return whether the case shows records of a failed allocation."""
    if case.name.endswith(NO_INIT):
        return False
    return any(ALLOCATION_FAILED.search(text) for text in texts_of(case.shown)) or (
        "cma=" in case.boot and bool(freed_shown(case.shown))
    )


def _words(case: Case | None) -> Case | None:
    """Return the story without its calls on record files."""
    if case is None:
        return None
    return replace(case, ops=tuple(op for op in case.ops if not FILE_CALL.fullmatch(op["call"])))


class _SandboxClient(Client):
    """A client for a mount in another mount namespace, whose table the real one cannot read."""

    def _open_to_write(self, path: str) -> int:
        return os.open(self.root / path, os.O_WRONLY)


def _perform(sandbox: Sandbox, case: Case, calls: list[str]) -> list[Op]:
    caller = PhraseCalls(sandbox, case)
    return [caller.perform(call) for call in calls]


def play_story(case: Case, open_sandbox: OpenSandbox, run_script: RunScript) -> list[Comparison]:
    """Play the story of a case, or the one before it and then its script, and compare the answers."""
    stories = [story for story in (_words(_story_before(case)), _words(case) if case.shell is None else None) if story]
    plan = Plan()
    for story in stories:
        Scene(story, plan).play()
    base, pages = area_of(stories[0])
    file = "shmem" in stories[0].name
    freed = () if _shows_failure(case) else freed_of(case)
    if freed:
        text = _with_area(scenario((), freed), base, pages)
    else:
        text = scenario_of(file=file, base=base, pages=pages, tail="\n".join(laid.tasks(base) for laid in plan.laid))
    with open_sandbox(case.generation, text, ("--mm", "6.1.192")) as sandbox:
        world = MountWorld(stories[0], _SandboxClient(sandbox.path))
        if freed:
            world.pause(freed[-1].at)
        if len(stories) == 2 or case.shell is not None:
            wrong = [answer for answer in Scene(stories[0], world).play() if not answer.same]
            assert not wrong, wrong
        if case.shell is not None:
            return [_reduced(answer, case) for answer in run_script(sandbox, case)]
        return _play(case, world, sandbox)


def _with_area(text: str, base: int, pages: int) -> str:
    """Return a scenario with a CMA area in the gap before its first region."""
    match = re.search(r'\[\[memory\.region\]\]\nname = "between0"\nsize = "(\d+)MiB"\n', text)
    assert match is not None, text
    rest = int(match[1]) - (base + pages) * 4 // 1024
    area = f'[[memory.region]]\nname = "area"\nsize = "{pages * 4}KiB"\nmigratetype = "CMA"\ncma = "reserved"\n'
    gaps = [f'[[memory.region]]\nname = "gap{size}"\nsize = "{size}MiB"\n' for size in (base * 4 // 1024, rest)]
    return text.replace(match[0], f"{gaps[0]}\n{area}\n{gaps[1]}")


# The frames of a record but the first one: the recorded compiler and processor have others.
OUTER_FRAMES = re.compile(r"^( \S+)\+0x\S+\n(?: \S+\n)*", re.MULTILINE)
# Numbers that depend on the number of frames.
SIZES = re.compile(
    r"^\d+(?= bytes copied| \S+/(?:alloc_contig_failed|buffer)$)|(?<=relative offset -)\d+", re.MULTILINE
)
DURATION = re.compile(r"(?:(?<=pinned ts )|(?<=pinned for ))\d+(?= us)")


def _without_frames(text: str) -> str:
    text = DURATION.sub("N", text)
    text = SIZES.sub("N", OUTER_FRAMES.sub(r"\1\n", text))
    return text.replace(" pp_glue_mark_failed\n", " __alloc_contig_migrate_range\n")


def _without_stacks(op: Op) -> Op:
    """Return an answer with the first frame of its record alone, and without its length."""
    if not op.get("data"):
        return op
    return {**op, "data": _without_frames(op["data"]), "ret": "LENGTH"}


def _reduced(answer: Comparison, case: Case) -> Comparison:
    """Compare the output of a script again, without what depends on the frames of a record but its first."""
    if answer.same or answer.name == "exit":
        return answer
    theirs, ours = (canonical(_without_frames(ast.literal_eval(text)), case) for text in (answer.recorded, answer.got))
    return replace(answer, same=theirs == ours)


def _on_file(numbered: tuple[int, Op]) -> bool:
    return FILE_CALL.fullmatch(numbered[1]["call"]) is not None


def _play(case: Case, world: MountWorld, sandbox: Sandbox) -> list[Comparison]:
    answers: list[Comparison] = []
    scene = Scene(case, world)
    grouped = [(key, list(group)) for key, group in groupby(enumerate(case.ops), _on_file)]
    for number, (on_file, numbered) in enumerate(grouped):
        if not on_file:
            answers += [answer for at, op in numbered for answer in scene.call(at, op)]
            continue
        following = grouped[number + 1][1][0][1]["call"] if number + 1 < len(grouped) else ""
        world.set_tracking(not following.startswith("after failure_tracking 0->1"))
        ops = [op for _, op in numbered]
        got: list[Op] = sandbox.call(_perform, sandbox, case, [op["call"] for op in ops])
        answers += [
            Comparison(op["call"], repr(op), repr(answer), same(_without_stacks(op), _without_stacks(answer), case))
            for op, answer in zip(ops, got, strict=True)
        ]
    return answers
