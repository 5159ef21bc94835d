"""Finding scenarios, and parsing their text."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import gallery, load, parse
from tests.workload.stories import source, task

GOOD = source(task("a", 'for = "1s", every = "10ms", hold = "1ms"'))


def refusal(scenario: str | os.PathLike[str]) -> str:
    """Return the message with which a scenario is refused."""
    with pytest.raises(PinnerfsError) as caught:
        load(scenario)
    return str(caught.value)


@pytest.mark.parametrize("name", gallery())
def test_every_scenario_of_the_gallery_loads(name: str) -> None:
    """Each scenario of the gallery is valid, and has the name of its file."""
    scenario = load(name)
    assert scenario.name == name
    assert scenario.description


def test_camera_stall_is_in_the_gallery() -> None:
    """The gallery is found from any working directory."""
    assert "camera-stall" in gallery()


def test_an_unknown_name() -> None:
    """A name that is not in the gallery is answered with the names that are, and the nearest one."""
    words = refusal("camera-stale")
    assert words.startswith("no scenario 'camera-stale' in the gallery: wanted one of blind-spot, camera-stall, ")
    assert words.endswith(", or a path to a .toml file; did you mean 'camera-stall'?")


def test_an_empty_name() -> None:
    """An empty name is refused as empty."""
    assert refusal("") == "the scenario name is empty"


def test_an_undecodable_name() -> None:
    """An undecodable byte of a name is printed as \\xff."""
    assert refusal(os.fsdecode(b"a\xff")).startswith(r"no scenario 'a\xff' in the gallery")


@pytest.mark.parametrize("file", ["mine", "mine.toml"])
def test_a_name_of_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file: str) -> None:
    """A name that is not in the gallery, but a file in the working directory, is answered with that file's path."""
    (tmp_path / file).touch()
    monkeypatch.chdir(tmp_path)
    assert refusal("mine").endswith(f"; did you mean the file './{file}'?")


@pytest.mark.parametrize("how", ["path", "text", "relative"])
def test_a_file_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """A name with a / or with .toml at its end is a path."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    ways: dict[str, str | Path] = {"path": path, "text": str(path), "relative": "mine.toml"}
    scenario = load(ways[how])
    assert scenario.name == "story"


def test_a_missing_file(tmp_path: Path) -> None:
    """A missing file is refused with its path."""
    words = refusal(tmp_path / "none.toml")
    assert "cannot read scenario" in words and "none.toml" in words and "No such file or directory" in words


def test_bad_toml(tmp_path: Path) -> None:
    """A file that is not TOML is refused with line and column."""
    path = tmp_path / "bad.toml"
    path.write_text("format = 1\nname = \n")
    words = refusal(path)
    assert words.startswith(f"{path}: not TOML: ") and "line 2" in words


def test_an_empty_file(tmp_path: Path) -> None:
    """An empty file is refused with the first key that it lacks."""
    path = tmp_path / "empty.toml"
    path.touch()
    assert refusal(path) == f"{path}: the key 'format' is missing"


def test_brackets_nested_too_deeply() -> None:
    """A file of brackets is refused without a traceback."""
    with pytest.raises(PinnerfsError, match=r"^scenario: .*nested too deeply"):
        parse("a = " + "[" * 100_000)


def test_numbers_of_many_digits() -> None:
    """An integer that Python does not convert is refused."""
    with pytest.raises(PinnerfsError, match="not TOML"):
        parse("format = " + "1" * 10_000)


def test_not_utf8(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are refused with their position."""
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "\xe9"')
    assert refusal(path) == f"{path}: not UTF-8 text: invalid continuation byte at byte 8"
