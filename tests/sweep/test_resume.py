"""The file that keeps the results of a sweep."""

from __future__ import annotations

import errno
import os
import re
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.sweep.play import Result
from pinnerfs.sweep.resume import opened

ARGUMENTS = {"sweep": 1, "seeds": "0..9", "thresholds": (100, 200), "set": {}}
LINES = [(Result(100, place, 0, 1, 5), Result(200, 0, 0, None, None)) for place in range(3)]
HEAD = b'{"sweep":1,"seeds":"0..9","thresholds":[100,200],"set":{},"pinnerfs":'


def write(path: Path, *lines: tuple[Result, ...]) -> None:
    """Add lines to a file of results."""
    with opened(str(path), ARGUMENTS, 10) as file:
        for line in lines:
            file.add(line)


def read(path: Path, **changed: object) -> list[tuple[Result, ...]]:
    """Return the results that a file has."""
    with opened(str(path), ARGUMENTS | changed, 10) as file:
        return file.done


def test_results_come_back(tmp_path: Path) -> None:
    """What was added is there when the file is opened again, and more can be added."""
    path = tmp_path / "f"
    write(path, *LINES[:2])
    assert read(path) == LINES[:2]
    write(path, LINES[2])
    assert read(path) == LINES
    assert path.read_bytes().startswith(HEAD)
    assert path.read_bytes().splitlines()[1] == b"[[100,0,0,1,5],[200,0,0,null,null]]"


@pytest.mark.parametrize("missing", [1, 10, 34])
def test_an_unfinished_line(tmp_path: Path, missing: int) -> None:
    """What a killed process left of a last line is cut off."""
    path = tmp_path / "f"
    write(path, *LINES)
    whole = path.read_bytes()
    path.write_bytes(whole[:-missing])
    write(path, LINES[2])
    assert path.read_bytes() == whole


@pytest.mark.parametrize("length", [0, 1, 30])
def test_an_unfinished_first_line(tmp_path: Path, length: int) -> None:
    """A process that was killed while it wrote the first line leaves a file as good as empty."""
    path = tmp_path / "f"
    path.write_bytes(HEAD[:length])
    write(path, *LINES)
    assert read(path) == LINES


def test_other_arguments(tmp_path: Path) -> None:
    """A file of a sweep with other arguments is refused with what differs, and keeps its bytes."""
    path = tmp_path / "f"
    write(path, *LINES)
    before = path.read_bytes()
    message = f"-o {path}: it has a sweep with other arguments: seeds = '0..9', now '0..8'; name another file"
    with pytest.raises(PinnerfsError, match=re.escape(message)) as caught:
        read(path, seeds="0..8")
    assert (caught.value.exit_status, path.read_bytes()) == (2, before)
    with pytest.raises(PinnerfsError, match=r"numpy = '1\.0', now '"):
        path.write_bytes(re.sub(rb'"numpy":"[^"]*"', b'"numpy":"1.0"', before))
        read(path)


NO_SWEEP = {
    "text": b"hello\n",
    "text without a line break": b"hello",
    "other JSON": b'{"a": 1}\n',
    "a list": b"[1]\n",
    "bytes": b"\xff\xfe\n\n",
}


@pytest.mark.parametrize("name", NO_SWEEP)
def test_another_file(tmp_path: Path, name: str) -> None:
    """A file that has no sweep is refused, and keeps its bytes."""
    path = tmp_path / "f"
    path.write_bytes(NO_SWEEP[name])
    with pytest.raises(PinnerfsError, match="it exists and has no sweep; name another file") as caught:
        read(path)
    assert (caught.value.exit_status, path.read_bytes()) == (2, NO_SWEEP[name])


DAMAGE = {
    "a line of text": (b"damage\n", ":5: not the results of a play: "),
    "a short result": (b"[[1,2]]\n", ":5: not the results of a play: "),
    "too many lines": (b"[[100,0,0,1,5]]\n" * 8, ":12: more results than the sweep has plays (10)"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_damage(tmp_path: Path, name: str) -> None:
    """A damaged line is refused with its number."""
    path = tmp_path / "f"
    write(path, *LINES)
    damage, message = DAMAGE[name]
    path.write_bytes(path.read_bytes() + damage)
    with pytest.raises(PinnerfsError, match=re.escape(f"-o {path}{message}")) as caught:
        read(path)
    assert caught.value.exit_status == 2


def test_two_at_once(tmp_path: Path) -> None:
    """Two sweeps cannot write to one file."""
    path = str(tmp_path / "f")
    with (
        opened(path, ARGUMENTS, 10),
        pytest.raises(PinnerfsError, match="another sweep writes to it; wait for that one"),
        opened(path, ARGUMENTS, 10),
    ):
        pass


def test_files_that_cannot_be_opened(tmp_path: Path) -> None:
    """An error of the file system is told with the file's name."""
    with (
        pytest.raises(PinnerfsError, match=f"^-o {tmp_path}: cannot open it: Is a directory"),
        opened(str(tmp_path), {}, 1),
    ):
        pass
    for path in "/dev/null", "/dev/full":
        with (
            pytest.raises(PinnerfsError, match=f"^-o {path}: it is not a regular file$"),
            opened(path, {}, 1),
        ):
            pass


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that fails is told with the file's name."""

    def write(descriptor: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    path = str(tmp_path / "f")
    with opened(path, ARGUMENTS, 1) as file:
        monkeypatch.setattr("os.write", write)
        with pytest.raises(PinnerfsError, match=rf"^-o {path}: cannot write to it: No space left on device$"):
            file.add(LINES[0])
