"""Finding and reading scenario files."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import gallery, load, parse
from pinnerfs.scenario.limits import Limits
from tests.mount.support import pinnerfs
from tests.workload.stories import source, task

GOOD = source(task("a", 'for = "1s", every = "10ms", hold = "1ms"'))


def refusal(scenario: str | os.PathLike[str]) -> str:
    """The words with which a file is refused."""
    with pytest.raises(PinnerfsError) as caught:
        load(scenario)
    return str(caught.value)


@pytest.mark.parametrize("name", gallery())
def test_every_scenario_of_the_gallery_loads(name: str) -> None:
    """Each scenario that travels along is in order, and has its file's name."""
    scenario = load(name)
    assert scenario.name == name
    assert scenario.description


def test_camera_stall_is_in_the_gallery() -> None:
    """The gallery is found, whatever the working directory is."""
    assert "camera-stall" in gallery()


def test_an_unknown_name() -> None:
    """A name that is not in the gallery is answered with those that are."""
    words = refusal("camera-stale")
    assert words.startswith("no scenario 'camera-stale' in the gallery: wanted one of ")
    assert "camera-stall" in words and words.endswith("or a path to a .toml file")


@pytest.mark.parametrize("how", ["path", "text", "relative"])
def test_a_file_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str) -> None:
    """Whatever has a / in it or ends in .toml is a path."""
    path = tmp_path / "mine.toml"
    path.write_text(GOOD)
    monkeypatch.chdir(tmp_path)
    ways: dict[str, str | Path] = {"path": path, "text": str(path), "relative": "mine.toml"}
    scenario = load(ways[how])
    assert scenario.name == "story"


def test_a_missing_file(tmp_path: Path) -> None:
    """A file that is not there is named."""
    words = refusal(tmp_path / "none.toml")
    assert "cannot read scenario" in words and "none.toml" in words and "No such file or directory" in words


def test_a_folder(tmp_path: Path) -> None:
    """A folder is not a scenario."""
    assert "it is not a regular file" in refusal(tmp_path)


@pytest.mark.parametrize("special", ["/dev/zero", "/dev/null"])
def test_a_device(special: str) -> None:
    """A device is refused unread."""
    assert "it is not a regular file" in refusal(special)


def test_a_fifo(tmp_path: Path) -> None:
    """A fifo is refused and nobody waits for its writer."""
    os.mkfifo(tmp_path / "pipe.toml")
    assert "it is not a regular file" in refusal(tmp_path / "pipe.toml")


def test_a_file_without_a_size() -> None:
    """A file of /proc that shows no size is read so far and no further."""
    assert "it is larger than 1048576 bytes" in refusal("/proc/self/pagemap")


def test_a_file_that_keeps_its_readers_waiting() -> None:
    """A regular file that waits for its writer, as some of /proc do, is refused and not waited for."""
    if os.geteuid() != 0:
        pytest.skip("the kernel's log is root's")
    done = pinnerfs("check", "/proc/kmsg")
    assert (done.returncode, done.stdout) == (2, "")
    # The one if it has nothing to say at the moment, the other if it has.
    waiting = "cannot read scenario '/proc/kmsg': Resource temporarily unavailable"
    assert waiting in done.stderr or "/proc/kmsg: not TOML" in done.stderr


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """A file that the user may not read is refused with the system's words."""
    path = tmp_path / "secret.toml"
    path.write_text(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    assert "Permission denied" in refusal(path)


def test_a_loop_of_links(tmp_path: Path) -> None:
    """A link that leads nowhere is refused with the system's words."""
    path = tmp_path / "loop.toml"
    path.symlink_to(path)
    assert "cannot read scenario" in refusal(path)


def test_a_nul_in_the_path() -> None:
    """A path that no system call takes is refused in words."""
    assert "embedded null" in refusal("a\0b.toml")
    assert "no scenario" in refusal("a\0b")


def test_a_path_that_is_too_long() -> None:
    """A name beyond the system's limit is refused in words."""
    assert "File name too long" in refusal("x" * 5000 + ".toml")


def test_bad_toml(tmp_path: Path) -> None:
    """What is not TOML is refused with line and column."""
    path = tmp_path / "bad.toml"
    path.write_text("format = 1\nname = \n")
    words = refusal(path)
    assert words.startswith(f"{path}: not TOML: ") and "line 2" in words


def test_an_empty_file(tmp_path: Path) -> None:
    """An empty file misses what is required."""
    path = tmp_path / "empty.toml"
    path.touch()
    assert "missing required field" in refusal(path)


def test_brackets_nested_too_deeply() -> None:
    """A file of brackets is refused in words, and not with a stack trace."""
    with pytest.raises(PinnerfsError, match=r"the scenario: .*nested too deeply"):
        parse("a = " + "[" * 100_000)


def test_numbers_of_many_digits() -> None:
    """An integer beyond what Python converts is refused in words."""
    with pytest.raises(PinnerfsError, match="not TOML"):
        parse("format = " + "1" * 10_000)


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """A file of over 1 MiB is refused unread."""
    path = tmp_path / "large.toml"
    most = Limits().file
    path.write_text(GOOD + "#" * (most + 1 - len(GOOD)))
    assert "it is larger than 1048576 bytes, which --limit file=SIZE raises" in refusal(path)
    assert load(path, Limits(file=most + 1)).name == "story"
    path.write_text(GOOD + "#" * (most - len(GOOD)))
    assert load(path).name == "story"


def test_not_utf8(tmp_path: Path) -> None:
    """Bytes that are not UTF-8 are refused with their place."""
    path = tmp_path / "latin.toml"
    path.write_bytes(b'name = "\xe9"')
    assert refusal(path) == f"{path}: not UTF-8 text: invalid continuation byte at byte 8"


def test_words_are_those_of_toml() -> None:
    """A message calls a table a table, and not an object."""
    with pytest.raises(PinnerfsError) as caught:
        parse(GOOD.replace("[stack.s]", "[stack]"))
    assert "object" not in str(caught.value) and "table" in str(caught.value)
