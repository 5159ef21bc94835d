"""What the commands print when all is well."""

from __future__ import annotations

import hashlib
import os
import pty
import re
import select
import signal
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import click
import pytest

import pinnerfs
from pinnerfs import cli
from tests.cli.conftest import Run
from tests.workload.stories import source, task

ROOT = Path(__file__).parents[2]
COMMANDS = ["mount", "umount", "run", "ctl", "dump", "check", "list", "show"]
HELPS = [
    [],
    *([command] for command in COMMANDS),
    *(["ctl", "m", command] for command in ("advance", "clock", "do", "stats")),
]


@pytest.mark.parametrize("command", HELPS, ids=lambda command: " ".join(command) or "pinnerfs")
def test_help(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]) -> None:
    """-h and --help say what a command does, with an example, in lines that fit a terminal."""
    if command[:1] == ["ctl"] and len(command) > 1:
        # ctl looks at its mount before it hands on.
        monkeypatch.chdir(tmp_path)
        (tmp_path / "m" / ".pinnerfs").mkdir(parents=True)
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short == long
    assert (short.status, short.err) == (0, "")
    assert "Usage: pinnerfs" in short.out
    assert re.search(r"^  Example:\n +(mkdir|pinnerfs) ", short.out, re.MULTILINE)
    assert max(map(len, short.out.splitlines())) <= 80


def test_help_is_there_for_every_command(run: Run) -> None:
    """The main help names every command, and without arguments it is shown, too."""
    out = run("-h").out
    assert [command for command in COMMANDS if not re.search(rf"^  {command} ", out, re.MULTILINE)] == []
    bare = run()
    assert out.strip() in (bare.out + bare.err)


def test_the_list_of_commands_says_what_they_say() -> None:
    """What the main help says of a command, which it does not import, is the first sentence of the command's own."""
    context = click.Context(cli._cli)
    own = {name: str(cli._cli.get_command(context, name).help) for name in COMMANDS}  # type: ignore[union-attr]
    assert set(cli.COMMANDS) == set(COMMANDS)
    for name, says in cli.COMMANDS.items():
        assert " ".join(own[name].split()).startswith(says)


def test_version(run: Run) -> None:
    """--version prints name and version."""
    result = run("--version")
    assert (result.status, result.out, result.err) == (0, f"pinnerfs {pinnerfs.__version__}\n", "")


def test_list(run: Run) -> None:
    """list prints one line a scenario, the name first, then what it is."""
    result = run("list")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(pinnerfs.gallery())
    assert "camera-stall" in pinnerfs.gallery()
    for line in lines:
        name, _, description = line.partition(" ")
        assert description.strip() == pinnerfs.load(name).description


@pytest.mark.parametrize("name", sorted(pinnerfs.gallery()))
def test_show_and_check(run: Run, name: str) -> None:
    """show explains a scenario of the gallery, each task of it; check finds nothing wrong with it, by name or path."""
    shown = run("show", name)
    scenario = pinnerfs.load(name)
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.startswith(f"{name}: {scenario.description}\n")
    assert [task.name for task in scenario.task if f"task {task.name}" not in shown.out] == []
    path = pinnerfs.gallery()[name]
    checked = run("check", name, path)
    assert (checked.status, checked.out, checked.err) == (0, f"{name}: ok\n{path}: ok\n", "")


def test_dump_twice(run: Run) -> None:
    """Two dumps with one seed have the same sha256, and one with another seed has not."""
    digests = [
        hashlib.sha256(run("dump", "camera-stall", "--at", "60s", "--seed", seed).out.encode()).hexdigest()
        for seed in (5, 5, 6)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_dump_is_the_simulation(run: Run) -> None:
    """dump prints what the Python face has, with threshold, seed and kernel as asked."""
    simulation = pinnerfs.Simulation(
        pinnerfs.load("camera-stall"), seed=3, threshold=0x10000, kernel="android12-5.10-early"
    )
    simulation.advance("30s")
    kernel = ("--kernel", "android12-5.10-early")
    result = run("dump", "camera-stall", "--at", "30s", "--seed", "3", "--threshold", "0x10000", *kernel)
    assert (result.status, result.err) == (0, "")
    assert result.out == simulation.longterm_pinner()


def test_dump_before_anything_happened(run: Run) -> None:
    """A dump of the moment 0 is empty, and no error."""
    assert run("dump", "camera-stall", "--at", "0s").out == ""


@pytest.mark.parametrize("lines", [0, 1, 100])
def test_dump_into_head(lines: int) -> None:
    """`pinnerfs dump | head` ends quietly."""
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m pinnerfs dump camera-stall --at 600s --threshold 0 | head -n {lines}', sys.executable],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == lines


IMPATIENT = "import pinnerfs.cli.progress as progress, pinnerfs.cli; progress.PATIENCE = 0; pinnerfs.cli.main()"


def test_dump_on_a_terminal_that_takes_long() -> None:
    """On a terminal a long dump shows its progress on stderr; the records are the same, byte for byte."""
    command = [sys.executable, "-c", IMPATIENT, "dump", "ring-overflow", "--at", "60s"]
    plain = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=120, check=True)
    assert plain.stderr == b""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        with os.fdopen(theirs, "wb", buffering=0) as stderr:
            shown = subprocess.run(command, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, timeout=120, check=True)
            progress = os.read(ours, 65536).decode()
        assert terminal
    assert shown.stdout == plain.stdout != b""
    assert "running" in progress and "100%" in progress


# A year of it would be played for hours.
ENDLESS = source(
    task("t", 'for = "1h", every = "10us", hold = "5us"'), '[[expect]]\nat = "8000h"\n', stack='frames = ["who"]'
)


@pytest.mark.parametrize("command", [["dump", "endless.toml", "--at", "8000h"], ["check", "--expect", "endless.toml"]])
def test_ctrl_c_ends_what_takes_long(tmp_path: Path, command: list[str]) -> None:
    """What takes long shows its progress on a terminal, and Ctrl-C there ends it: 130, without a word."""
    (tmp_path / "endless.toml").write_text(ENDLESS)
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.dup2(os.open("out", os.O_CREAT | os.O_WRONLY), 1)
        os.execve(sys.executable, [sys.executable, "-c", IMPATIENT, *command], os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        said = b""
        while b"running" not in said:
            assert select.select([terminal], [], [], 120)[0], said
            said += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        with suppress(OSError):  # EIO once nobody has the terminal open
            while select.select([terminal], [], [], 120)[0]:
                said += os.read(terminal, 4096)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
        child = 0
        assert b"Traceback" not in said and b"Error" not in said
        assert (tmp_path / "out").read_text() == ""
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)
