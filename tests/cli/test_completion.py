"""Completion of words in a shell: what click's scripts for bash, zsh and fish get, and a TAB in a real bash."""

from __future__ import annotations

import os
import pty
import select
import signal
import sys
import time
from pathlib import Path

import pytest

import pinnerfs
from pinnerfs.cli.commands import COMMANDS
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from tests.cli.conftest import Run
from tests.mount.support import DEADLINE, ROOT

MOUNTINFO = """
30 1 0:40 / /tmp/one rw - fuse.pinnerfs debugfs rw,user_id=0
31 1 0:41 / /tmp/other rw - fuse.sshfs host: rw,user_id=0
32 1 0:42 / /tmp/one/two rw - fuse.pinnerfs debugfs rw,user_id=1000
33 1 0:43 / /tmp/with\\040blank rw - fuse.pinnerfs debugfs rw,user_id=0
"""


def complete(run: Run, monkeypatch: pytest.MonkeyPatch, *words: str) -> list[str]:
    """Return what bash gets for the last word, as TYPE,VALUE."""
    monkeypatch.setenv("_PINNERFS_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(["pinnerfs", *words]))
    monkeypatch.setenv("COMP_CWORD", str(len(words)))
    result = run()
    assert (result.status, result.err) == (0, "")
    return result.out.split()


def plain(*values: str) -> list[str]:
    """Return values as bash gets them."""
    return [f"plain,{value}" for value in values]


def test_commands_and_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """The names of commands, their subcommands and their options are completed."""
    assert complete(run, monkeypatch, "") == plain(*COMMANDS)
    assert complete(run, monkeypatch, "m") == plain("mount")
    assert complete(run, monkeypatch, "--v") == plain("--version")
    assert complete(run, monkeypatch, "ctl", "/tmp/one", "s") == plain("stats")
    assert "plain,--quiet-migration" in complete(run, monkeypatch, "dump", "--qui")


@pytest.mark.parametrize("command", ["mount", "run", "dump", "show", "check"])
def test_scenarios(run: Run, monkeypatch: pytest.MonkeyPatch, command: str) -> None:
    """A scenario is completed from the gallery. What is no name of it is left to the shell as a path."""
    assert complete(run, monkeypatch, command, "cam") == plain("camera-stall")
    assert complete(run, monkeypatch, command, "") == plain(*sorted(pinnerfs.gallery()))
    assert complete(run, monkeypatch, command, "./cam") == ["file,./cam"]


def test_values_of_options(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Kernels and other choices are completed, also behind a `=`, which bash takes for a word of its own."""
    pixel = [name for name in GENERATIONS if name.startswith("pix")]
    assert complete(run, monkeypatch, "dump", "--kernel", "pix") == plain(*pixel)
    assert complete(run, monkeypatch, "dump", "--kernel", "=", "pix") == plain(*pixel)
    assert complete(run, monkeypatch, "dump", "--kernel", "=") == plain(*GENERATIONS)
    # The word of a bash without `=` in COMP_WORDBREAKS, and of zsh and fish.
    assert complete(run, monkeypatch, "dump", "--kernel=pix") == plain(*(f"--kernel={name}" for name in pixel))
    assert complete(run, monkeypatch, "mount", "--clock", "m") == plain("manual")
    assert complete(run, monkeypatch, "mount", "--trace", "fuse,e") == plain("fuse,engine")
    assert complete(run, monkeypatch, "dump", "--file", "") == plain("longterm_pinner")
    later = ("dump", "--kernel", "android14-6.1", "--file", "")
    assert complete(run, monkeypatch, *later) == plain("buffer")
    assert complete(run, monkeypatch, "mount", "--log", "x") == ["file,x"]
    assert complete(run, monkeypatch, "import", "./x") == complete(run, monkeypatch, "report", "./x") == ["file,./x"]
    assert complete(run, monkeypatch, "run", "--mountpoint", "/sy") == ["dir,/sy"]


def test_mounts(run: Run, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`umount` and `ctl` complete the mount points of pinnerfs, from the mount table alone."""
    (tmp_path / "mountinfo").write_text(MOUNTINFO.lstrip())
    real = os.open

    def from_file(path: str, *arguments: int, dir_fd: int | None = None) -> int:
        return real(tmp_path / "mountinfo" if path == "mountinfo" else path, *arguments, dir_fd=dir_fd)

    with monkeypatch.context() as patch:
        patch.setattr("pinnerfs.mounts.table.os.open", from_file)
        # None of these directories needs to exist or to answer. A name that the shell would have to quote is left out.
        assert complete(run, monkeypatch, "umount", "") == []
        assert complete(run, monkeypatch, "umount", "/") == plain("/tmp/one", "/tmp/one/two")
        assert complete(run, monkeypatch, "ctl", "/tmp/one/") == plain("/tmp/one/two")
        monkeypatch.chdir("/tmp")
        assert complete(run, monkeypatch, "umount", "o") == plain("one", "one/two")
        assert complete(run, monkeypatch, "umount", "./o") == plain("./one", "./one/two")
        # `mount` takes a directory that is no mount yet.
        assert complete(run, monkeypatch, "mount", "camera-stall", "/t") == ["dir,/t"]


def test_words_that_fit_nowhere(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """After an unknown command, or in the form of mount(8), completion prints no error."""
    complete(run, monkeypatch, "nonsense", "x")
    complete(run, monkeypatch, "camera-stall", "/tmp/d", "-o", "cl")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(run: Run, monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    """Each shell gets a script that asks pinnerfs, and an answer in its own form."""
    monkeypatch.setenv("_PINNERFS_COMPLETE", f"{shell}_source")
    script = run()
    assert (script.status, script.err) == (0, "") and f"_PINNERFS_COMPLETE={shell}_complete" in script.out
    monkeypatch.setenv("_PINNERFS_COMPLETE", f"{shell}_complete")
    monkeypatch.setenv("COMP_WORDS", "pinnerfs mount cam")
    monkeypatch.setenv("COMP_CWORD", "cam" if shell == "fish" else "2")
    assert "camera-stall" in run().out
    monkeypatch.setenv("COMP_WORDS", "pinnerfs mount --clock=m")
    monkeypatch.setenv("COMP_CWORD", "--clock=m" if shell == "fish" else "2")
    assert "--clock=manual" in run().out


class _Terminal:
    """A bash in a terminal, which the test types into."""

    def __init__(self, directory: Path) -> None:
        program = directory / "pinnerfs"
        call = "from pinnerfs.cli import main; main()"
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -c "{call}" "$@"\n')
        program.chmod(0o755)
        environment = os.environ | {"PATH": f"{directory}:{os.environ['PATH']}", "PS1": "$ ", "TERM": "dumb"}
        self.pid, self._terminal = pty.fork()
        if self.pid == 0:
            os.chdir(directory)
            os.execvpe("bash", ["bash", "--norc", "--noprofile", "-i"], environment | {"INPUTRC": "/dev/null"})

    def type(self, keys: str, wanted: str) -> str:
        """Type keys, and return what the terminal shows until the wanted text is there."""
        os.write(self._terminal, keys.encode())
        shown, until = b"", time.monotonic() + DEADLINE
        while wanted.encode() not in shown:
            assert select.select([self._terminal], [], [], max(0, until - time.monotonic()))[0], shown
            shown += os.read(self._terminal, 4096)
        return shown.decode()

    def close(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self._terminal)


def test_a_tab_in_bash(tmp_path: Path) -> None:
    """In a real bash, TAB completes a command, a scenario, an option and its value."""
    terminal = _Terminal(tmp_path)
    try:
        # The quotes keep the typed line from containing what the test waits for.
        terminal.type('eval "$(_PINNERFS_COMPLETE=bash_source pinnerfs)"; echo rea""dy\n', "ready")
        terminal.type("pinnerfs mou\t", "pinnerfs mount ")
        terminal.type("cam\t", "camera-stall ")
        terminal.type("--ker\t", "--kernel ")
        terminal.type("pix\t", "pixel-5.10 ")
        # The line as bash has it now, with an `echo` in front of it.
        shown = terminal.type('\x01echo \x05; echo do""ne\n', "done")
        assert "\npinnerfs mount camera-stall --kernel pixel-5.10\r\n" in shown
    finally:
        terminal.close()
