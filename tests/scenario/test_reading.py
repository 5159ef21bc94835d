"""Reading scenario files, pipes and stdin."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario import reading
from pinnerfs.scenario.gallery import load
from pinnerfs.scenario.limits import Limits
from tests.mount.support import DEADLINE, pinnerfs
from tests.workload.stories import source, task

GOOD = source(task("a", 'for = "1s", every = "10ms", hold = "1ms"'))


def refusal(scenario: str | os.PathLike[str]) -> str:
    """Return the message with which a file is refused."""
    with pytest.raises(PinnerfsError) as caught:
        load(scenario)
    return str(caught.value)


def pinnerfs_in_bash(arguments: str) -> subprocess.CompletedProcess[str]:
    """Run pinnerfs with arguments that bash expands."""
    command = ["bash", "-c", f"{shlex.quote(sys.executable)} -m pinnerfs {arguments}"]
    return subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=DEADLINE, check=False
    )


def test_a_directory(tmp_path: Path) -> None:
    """A directory is refused."""
    assert "it is a directory, not a regular file or a pipe" in refusal(tmp_path)


@pytest.mark.parametrize("special", ["/dev/zero", "/dev/null"])
def test_a_device(special: str) -> None:
    """A device is refused."""
    assert "it is a device, not a regular file or a pipe" in refusal(special)


def test_a_fifo_without_a_writer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fifo is refused if no data comes in time."""
    monkeypatch.setattr(reading, "PIPE_TIMEOUT", 1)
    os.mkfifo(tmp_path / "pipe.toml")
    assert refusal(tmp_path / "pipe.toml").endswith("pipe.toml': no data came for 1 s")


def test_a_fifo_with_a_writer(tmp_path: Path) -> None:
    """A fifo is read to its end, however many parts its writer makes."""
    path = tmp_path / "pipe.toml"
    os.mkfifo(path)
    half = len(GOOD) // 2
    writer: list[str | Path] = ["sh", "-c", '(printf %s "$1"; printf %s "$2") > "$0"', path, GOOD[:half], GOOD[half:]]
    with subprocess.Popen(writer) as process:
        assert load(path).name == "story"
        assert process.wait(DEADLINE) == 0


def test_a_pipe_that_is_too_long() -> None:
    """A pipe without an end is read no further than the limit."""
    done = pinnerfs_in_bash("check <(yes)")
    assert (done.returncode, done.stdout) == (2, "")
    assert "it is larger than 1048576 bytes" in done.stderr and done.stderr.count("\n") == 1


def test_process_substitution(tmp_path: Path) -> None:
    """A scenario can come from a program, by the shell's <(...)."""
    (tmp_path / "good").write_text(GOOD)
    done = pinnerfs_in_bash(f"check <(cat {tmp_path}/good)")
    assert (done.returncode, done.stderr) == (0, "")


def test_stdin(tmp_path: Path) -> None:
    """`-` reads a file or a pipe on stdin."""
    (tmp_path / "good").write_text(GOOD)
    for command in (f"check - < {tmp_path}/good", f"check - < <(cat {tmp_path}/good)"):
        done = pinnerfs_in_bash(command)
        assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(
    ("redirection", "words"),
    [
        ("< /dev/null", "cannot read scenario from stdin: standard input is empty"),
        ("<&-", "cannot read scenario from stdin: standard input is empty"),
        ("< <(yes)", "cannot read scenario from stdin: it is larger than 1048576 bytes"),
        ("< <(echo sede = 1)", "stdin:1: unknown key 'sede': "),
    ],
)
def test_refused_stdin(redirection: str, words: str) -> None:
    """A message about a scenario from stdin says so."""
    done = pinnerfs_in_bash(f"check - {redirection}")
    assert (done.returncode, done.stdout) == (2, "")
    assert words in done.stderr and done.stderr.count("\n") == 1


def test_stdin_twice(tmp_path: Path) -> None:
    """A second `-` finds standard input empty."""
    (tmp_path / "good").write_text(GOOD)
    done = pinnerfs_in_bash(f"check - - < {tmp_path}/good")
    assert done.returncode == 2
    assert "cannot read scenario from stdin: standard input is empty" in done.stderr


def test_a_file_without_a_size() -> None:
    """A file of /proc that has no size is read only up to the limit."""
    assert "it is larger than 1048576 bytes" in refusal("/proc/self/pagemap")


def test_a_file_that_keeps_its_readers_waiting() -> None:
    """A regular file whose reads block, as in /proc, is refused at once."""
    if os.geteuid() != 0:
        pytest.skip("the kernel's log is root's")
    done = pinnerfs("check", "/proc/kmsg")
    assert (done.returncode, done.stdout) == (2, "")
    # The one if it has nothing to say at the moment, the other if it has.
    waiting = "cannot read scenario '/proc/kmsg': Resource temporarily unavailable"
    assert waiting in done.stderr or "/proc/kmsg: not TOML" in done.stderr


def test_a_standard_input_that_keeps_its_readers_waiting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A regular file on standard input gets the timeout of a pipe, because its reads may block, as those of /proc/kmsg.

    A test that read /proc/kmsg to its end would take lines from the syslog daemon, so none is read here.
    """

    def wait(descriptor: int) -> None:
        raise ValueError("no data came")

    monkeypatch.setattr(reading, "_wait", wait)
    (tmp_path / "file").write_text(GOOD)
    with open(tmp_path / "file") as file, pytest.raises(ValueError, match="no data came"):
        reading.Input(file.fileno()).read()
    # By its path it is opened so that its reads do not block.
    assert reading.read_path(tmp_path / "file", 1 << 20).decode() == GOOD


def test_a_file_that_may_not_be_read(tmp_path: Path) -> None:
    """A file that the user may not read is refused with the system's message."""
    path = tmp_path / "secret.toml"
    path.write_text(GOOD)
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("root reads everything")
    assert "Permission denied" in refusal(path)


def test_a_loop_of_links(tmp_path: Path) -> None:
    """A loop of links is refused with the system's message."""
    path = tmp_path / "loop.toml"
    path.symlink_to(path)
    assert "cannot read scenario" in refusal(path)


def test_a_nul_in_the_path() -> None:
    """A path with a NUL is refused."""
    assert "embedded null" in refusal("a\0b.toml")
    assert "no scenario" in refusal("a\0b")


def test_a_path_that_is_too_long() -> None:
    """A path that is too long is refused."""
    assert "File name too long" in refusal("x" * 5000 + ".toml")


def test_a_file_that_is_too_large(tmp_path: Path) -> None:
    """A file of more than 1 MiB is refused."""
    path = tmp_path / "large.toml"
    most = Limits().file
    path.write_text(GOOD + "#" * (most + 1 - len(GOOD)))
    assert "it is larger than 1048576 bytes; raise the limit with --limit file=SIZE" in refusal(path)
    assert load(path, Limits(file=most + 1)).name == "story"
    path.write_text(GOOD + "#" * (most - len(GOOD)))
    assert load(path).name == "story"
