"""Values that replace those of a scenario's keys."""

from __future__ import annotations

import re
from typing import Any

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import load, read_source
from pinnerfs.scenario.settings import parse_setting, with_values

SETTINGS = {
    "task.camera.instances=2,4,8": (("task", "camera", "instances"), (2, 4, 8)),
    "race = 0.5": (("race",), (0.5,)),
    "task.camera.phase.1.gap=33ms,66ms": (("task", "camera", "phase", "1", "gap"), ("33ms", "66ms")),
    'a."b.c".d=x': (("a", "b.c", "d"), ("x",)),
    'stack.camera.via="slow","fast"': (("stack", "camera", "via"), ("slow", "fast")),
    "task.t.mapped=true,false": (("task", "t", "mapped"), (True, False)),
    'task.t.phase.1.hold={ dist = "uniform", min = "0ms", max = "1s" },"1s"': (
        ("task", "t", "phase", "1", "hold"),
        ({"dist": "uniform", "min": "0ms", "max": "1s"}, "1s"),
    ),
    "race=0,0.0": (("race",), (0, 0.0)),
    "culprit=1\nb = 2": (("culprit",), ("1\nb = 2",)),
    f"culprit={'[' * 999}": (("culprit",), ("[" * 999,)),
}
WRONG = {
    "": "'': wanted PATH=VALUE,..., such as task.camera.instances=2,4,8",
    "cpus": "wanted PATH=VALUE,...",
    "cpus=": "wanted PATH=VALUE,...",
    "=1": "wanted PATH=VALUE,...",
    "a b=1": "'a b' is no path: wanted the names of tables and a key with dots between",
    "a..b=1": "'a..b' is no path",
    "a\nb=1": "is no path",
    "seed=1,2": "the seeds of a sweep are those of --seeds",
    "threshold=1s": "the thresholds of a sweep are those of --thresholds",
    "cpus=2,4,2": "'cpus=2,4,2': 2 is given twice",
}
# Paths and values that this scenario refuses.
REFUSED = {
    "task.camra.instances=2": "no 'camra' in task: wanted one of 'camera'; did you mean 'camera'?",
    "tsk.camera.instances=2": "no 'tsk': wanted one of 'format', 'name', 'description', 'seed', 'culprit', 'memory', "
    "'stack', 'task', 'expect'; did you mean 'task'?",
    "task.camera.instancse=2": "task \"camera\": unknown key 'instancse': the keys are name, stack, ",
    "task.camera.instances=0": 'task "camera": instances = 0 must be at least 1',
    "task.camera.instances=many": "task \"camera\": instances = 'many' is a string: it must be an integer",
    "task.camera.instances=99999": 'task "camera" needs 99999 instances (limit 16384; raise it with --limit',
    "task.camera=2": "task.camera is a whole table: wanted one of its keys behind it",
    "task=2": "task = 2 is an integer: it must be an array",
    "task.camera.phase.3.gap=1s": "no '3' in task.camera.phase: wanted a number from 1 to 2",
    "task.camera.phase.gap=1s": "no 'gap' in task.camera.phase: wanted a number from 1 to 2",
    "memory.base_pfn.x=1": "memory.base_pfn = 524288 is an integer: it has no key 'x'",
    "memory.region.cma.size=5parsecs": "region \"cma\": size = '5parsecs' must be a number and a unit (B, KiB,",
    "memory.region.cma.size=512MiB": "memory",
    "culprit=app": "culprit = 'app' must be one of 'camera', 'none'",
    "expect.1.at=5": "expect 1: at = 5 has no unit: write a string such as '300ms'",
}


@pytest.mark.parametrize("text", SETTINGS)
def test_settings(text: str) -> None:
    """A path has TOML's dots and quotes; values are TOML's, and a simple string needs no quotes."""
    setting = parse_setting(text)
    assert (setting.path, setting.values) == SETTINGS[text]
    assert [*map(type, setting.values)] == [*map(type, SETTINGS[text][1])]


@pytest.mark.parametrize("text", WRONG)
def test_wrong_settings(text: str) -> None:
    """Another text is refused with what is wanted."""
    with pytest.raises(ValueError, match=re.escape(WRONG[text])):
        parse_setting(text)


@pytest.mark.parametrize("text", REFUSED)
def test_refused_values(text: str) -> None:
    """A path or a value that the scenario does not take is refused in the words of the scenario's own errors."""
    setting = parse_setting(text)
    with pytest.raises(PinnerfsError) as caught:
        with_values(read_source("camera-stall"), [setting], setting.values)
    message = str(caught.value)
    assert message.startswith(f"camera-stall: with {setting.text} = ") and REFUSED[text] in message
    assert (caught.value.exit_status, message.isprintable()) == (2, True)


def test_all_values_are_named() -> None:
    """The message names the values of all settings: only together they may be wrong."""
    settings = [parse_setting("cpus=4"), parse_setting("task.camera.pages=0")]
    with pytest.raises(
        PinnerfsError, match=r"^camera-stall: with cpus = 4, task\.camera\.pages = 0: task \"camera\": "
    ):
        with_values(read_source("camera-stall"), settings, (4, 0))


def test_a_key_by_two_paths() -> None:
    """A key that two paths name is refused: a row would show a value that was not played."""
    settings = [parse_setting("task.camera.instances=2"), parse_setting("task.1.instances=3")]
    with pytest.raises(PinnerfsError, match=r"task\.1\.instances is set already, by another path to the same table$"):
        with_values(read_source("camera-stall"), settings, (2, 3))


CHANGES: dict[str, Any] = {
    "task.camera.instances=7": lambda scenario: scenario.task[0].instances == 7,
    "task.1.instances=7": lambda scenario: scenario.task[0].instances == 7,
    "task.camera.phase.2.repeat=9": lambda scenario: scenario.task[0].phase[1].repeat == 9,
    "task.camera.start.max=7ms": lambda scenario: scenario.task[0].start.max == "7ms",
    "stack.camera.via=fast": lambda scenario: scenario.stack["camera"].via == "fast",
    "memory.region.cma.cma=area": lambda scenario: scenario.memory.region[1].cma == "area",
    "cpus=4": lambda scenario: scenario.cpus == 4,
}


@pytest.mark.parametrize("text", CHANGES)
def test_changes(text: str) -> None:
    """The value replaces one of the file or a default, and nothing else changes."""
    setting, source = parse_setting(text), read_source("camera-stall")
    changed = with_values(source, [setting], setting.values)
    assert CHANGES[text](changed) and not CHANGES[text](load("camera-stall"))
    assert with_values(source, [], ()) == load("camera-stall")
