"""What the commands print on success."""

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
from pinnerfs.cli.commands import COMMANDS, commands
from pinnerfs.kernel.page_pinner.generations import GENERATIONS
from pinnerfs.scenario.jsonschema import schema_text
from tests.cli.conftest import Run
from tests.workload.stories import source, task

ROOT = Path(__file__).parents[2]
DEADLINE = 120
HELPS = [
    [],
    *([command] for command in COMMANDS),
    *(["ctl", "m", command] for command in ("advance", "clock", "do", "stats")),
]


@pytest.mark.parametrize("command", HELPS, ids=lambda command: " ".join(command) or "pinnerfs")
def test_help(run: Run, command: list[str]) -> None:
    """-h and --help print what a command does and end with an example, in lines that fit a terminal."""
    short, long = run(*command, "-h"), run(*command, "--help")
    assert short == long
    assert (short.status, short.err) == (0, "")
    assert "Usage: pinnerfs" in short.out
    assert re.search(r"^  Example:\n +(mkdir|pinnerfs) ", short.out, re.MULTILINE)
    assert max(map(len, short.out.splitlines())) <= 80


def test_no_command(run: Run) -> None:
    """Without a command pinnerfs prints its help, with every command, on stderr and exits with status 2."""
    bare = run()
    assert (bare.status, bare.out, bare.err) == (2, "", run("-h").out)
    assert [command for command in COMMANDS if not re.search(rf"^  {command} ", bare.err, re.MULTILINE)] == []


def test_the_list_of_commands() -> None:
    """The main help describes a command with the first sentence of the command's own help."""
    context = click.Context(commands)
    for name, description in COMMANDS.items():
        command = commands.get_command(context, name)
        assert command is not None and command.help is not None
        assert command.help.replace("\n", " ").startswith(description)


def test_version(run: Run) -> None:
    """--version prints name and version."""
    result = run("--version")
    assert (result.status, result.out, result.err) == (0, f"pinnerfs {pinnerfs.__version__}\n", "")


def test_list(run: Run) -> None:
    """`pinnerfs list` prints one line per scenario: its name and its description."""
    result = run("list")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert [line.split()[0] for line in lines] == sorted(pinnerfs.gallery())
    assert "camera-stall" in pinnerfs.gallery()
    for line in lines:
        name, _, description = line.partition(" ")
        assert description.strip() == pinnerfs.load(name).description


def test_list_kernels(run: Run) -> None:
    """--kernels prints for each kernel its files, the lines of a record, what is tracked and the evidence."""
    result = run("list", "--kernels")
    assert (result.status, result.err) == (0, "")
    for name, generation in GENERATIONS.items():
        (block,) = re.findall(rf"^{re.escape(name)}: .*\n((?:  .*\n)+)", result.out, re.MULTILINE)
        assert re.search(rf"^  files +{', '.join(generation.files)}$", block, re.MULTILINE)
        assert re.search(r"^  tracks +\w", block, re.MULTILINE)
        assert re.search(rf"^  evidence +{generation.evidence}; ", block, re.MULTILINE)
        assert [file for file in generation.record_files if not re.search(rf"^  {file} +\w", block, re.MULTILINE)] == []
    assert "  alloc_contig_failed  Page pinned ts [    8.239262]\n" in result.out
    assert "Flags 0x8000000000080014(0x8000000000080014(uptodate|lru|swapbacked|zone=2))\n" in result.out


@pytest.mark.parametrize("name", sorted(pinnerfs.gallery()))
def test_show_and_check(run: Run, name: str) -> None:
    """The gallery passes check by name and by path, and show describes each task."""
    shown = run("show", name)
    scenario = pinnerfs.load(name)
    assert (shown.status, shown.err) == (0, "")
    assert shown.out.startswith(f"{name}: {scenario.description}\n")
    assert [task.name for task in scenario.task if f"task {task.name}" not in shown.out] == []
    path = pinnerfs.gallery()[name]
    checked = run("check", name, path)
    assert (checked.status, checked.out, checked.err) == (0, f"{name}: ok\n{path}: ok\n", "")


def test_show_pages_and_releases(run: Run, tmp_path: Path) -> None:
    """show tells the frames of a task that has `pfn`, and how often each of its calls releases."""
    path = tmp_path / "story.toml"
    phase = 'for = "1s", every = "10ms", hold = "1ms"'
    path.write_text(source(task("a", phase, pages=2, pfn=4096, release="{ put_page = 1, put_user_page = 9 }")))
    (line,) = [line for line in run("show", path).out.splitlines() if line.startswith("task a: ")]
    assert "pins 2 contiguous pages in normal from PFN 4096 with FOLL_GET" in line
    assert "releases them by put_user_page (9 in 10) or put_page (1 in 10)" in line


def test_show_faults(run: Run, tmp_path: Path) -> None:
    """show tells from when on a fault is in force, and its rule."""
    path = tmp_path / "story.toml"
    fault = '[[fault]]\nat = "5s"\nop = "read"\nerrno = "EIO"\n'
    path.write_text(source(task("a", 'for = "1s", every = "10ms", hold = "1ms"')) + fault)
    assert run("show", path).out.splitlines()[-1] == "fault from 5s: add,op=read,errno=EIO"


def test_schema(run: Run) -> None:
    """`pinnerfs schema` prints the JSON Schema of scenario files."""
    result = run("schema")
    assert (result.status, result.out, result.err) == (0, schema_text(), "")


def test_dump_twice(run: Run) -> None:
    """Two dumps with the same seed are equal, byte for byte; one with another seed differs."""
    digests = [
        hashlib.sha256(run("dump", "camera-stall", "--at", "60s", "--seed", seed).out.encode()).hexdigest()
        for seed in (5, 5, 6)
    ]
    assert digests[0] == digests[1] != digests[2]


def test_dump_a_file(run: Run) -> None:
    """--file chooses among the record files of the kernel."""
    simulation = pinnerfs.Simulation(pinnerfs.load("every-kernel"), kernel="pixel-5.10")
    simulation.advance("10s")
    dump = ("dump", "every-kernel", "--at", "10s", "--kernel", "pixel-5.10")
    assert run(*dump, "--file", "alloc_contig_failed").out == simulation.cat("alloc_contig_failed") != ""
    assert run(*dump).out == run(*dump, "--file", "longterm_pinner").out == simulation.cat() != ""


def test_show_what_is_mapped(run: Run, tmp_path: Path) -> None:
    """show tells which pages a task does not map, and when it unmaps the others."""
    path = tmp_path / "story.toml"
    phase = 'for = "1s", every = "10ms", hold = "1ms"'
    tasks = [
        task("a", phase, mapped=0).replace("mapped = 0", "mapped = false"),
        task("b", phase, unmap="with-release"),
        task("c", phase, unmap="5ms"),
    ]
    path.write_text(source(*tasks))
    lines = [line for line in run("show", path).out.splitlines() if line.startswith("task ")]
    assert [line.split("put_user_page, ")[1].split(", stack")[0] for line in lines] == [
        "has not mapped them",
        "unmaps them then",
        "unmaps them 5ms after the pin",
    ]


def test_dump_is_the_simulation(run: Run) -> None:
    """A dump has the records of a Simulation with the same threshold, seed and kernel."""
    simulation = pinnerfs.Simulation(
        pinnerfs.load("camera-stall"), seed=3, threshold=0x10000, kernel="android12-5.10-early"
    )
    simulation.advance("30s")
    kernel = ("--kernel", "android12-5.10-early")
    result = run("dump", "camera-stall", "--at", "30s", "--seed", "3", "--threshold", "0x10000", *kernel)
    assert (result.status, result.err) == (0, "")
    assert result.out == simulation.cat()


def test_dump_at_the_start(run: Run) -> None:
    """A dump at time 0 is empty, and no error."""
    assert run("dump", "camera-stall", "--at", "0s").out == ""


@pytest.mark.parametrize("lines", [0, 1, 100])
def test_dump_into_head(lines: int) -> None:
    """`pinnerfs dump | head` ends silently."""
    done = subprocess.run(
        ["bash", "-c", f'"$0" -m pinnerfs dump camera-stall --at 600s --threshold 0 | head -n {lines}', sys.executable],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("\n") == lines


IMPATIENT = "import pinnerfs.cli.progress as progress, pinnerfs.cli; progress.DELAY = 0; pinnerfs.cli.main()"


def test_dump_on_a_terminal_that_takes_long() -> None:
    """On a terminal a long dump shows a progress bar on stderr; the records are the same, byte for byte."""
    command = [sys.executable, "-c", IMPATIENT, "dump", "ring-overflow", "--at", "60s"]
    plain = subprocess.run(command, capture_output=True, cwd=ROOT, timeout=DEADLINE, check=True)
    assert plain.stderr == b""
    ours, theirs = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as terminal:
        with os.fdopen(theirs, "wb", buffering=0) as stderr:
            shown = subprocess.run(
                command, stdout=subprocess.PIPE, stderr=stderr, cwd=ROOT, timeout=DEADLINE, check=True
            )
            progress = os.read(ours, 65536).decode()
        assert terminal
    assert shown.stdout == plain.stdout != b""
    assert "running" in progress and "100%" in progress


# Playing a year of it would take hours.
ENDLESS = source(
    task("t", 'for = "1h", every = "10us", hold = "5us"'), '[[expect]]\nat = "8000h"\n', stack='frames = ["who"]'
)


WITHOUT_END = [["dump", "endless.toml", "--at", "8000h"], ["check", "--expect", "endless.toml"]]


@pytest.mark.parametrize("command", WITHOUT_END)
def test_what_would_take_hours_is_refused(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command: list[str]
) -> None:
    """A command whose work is over the limit says what it would take and how to raise the limit, and plays nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "endless.toml").write_text(ENDLESS)
    result = run(*command)
    assert (result.status, result.out) == (2, "")
    (line,) = result.err.splitlines()
    assert re.fullmatch(
        r"Error: endless\.toml: to play it takes as much work as \d{13} pins of a single page, about 12 days "
        r"\(limit 1000000000; raise it with --limit work=N\)",
        line,
    )


@pytest.mark.parametrize("command", WITHOUT_END)
def test_ctrl_c_ends_what_takes_long(tmp_path: Path, command: list[str]) -> None:
    """Ctrl-C on a terminal ends a long command with status 130 and no message, and shows the cursor again."""
    (tmp_path / "endless.toml").write_text(ENDLESS)
    raised = ["--limit", f"work={10**15}"]
    child, terminal = pty.fork()
    if child == 0:
        os.chdir(tmp_path)
        os.dup2(os.open("out", os.O_CREAT | os.O_WRONLY), 1)
        os.execve(
            sys.executable, [sys.executable, "-c", IMPATIENT, *command, *raised], os.environ | {"PYTHONPATH": str(ROOT)}
        )
    try:
        said = b""
        while b"running" not in said:
            assert select.select([terminal], [], [], DEADLINE)[0], said
            said += os.read(terminal, 4096)
        os.write(terminal, b"\x03")
        with suppress(OSError):  # EIO when the terminal is closed
            while select.select([terminal], [], [], DEADLINE)[0]:
                said += os.read(terminal, 4096)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 130
        child = 0
        assert b"Traceback" not in said and b"Error" not in said
        assert said.rstrip().endswith(b"\033[?25h")
        assert (tmp_path / "out").read_text() == ""
    finally:
        if child:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        os.close(terminal)


def test_no_sentence_of_the_help_is_cut_off(run: Run) -> None:
    """The lists of commands have a whole sentence for each."""
    for group in (["--help"], ["ctl", "--help"]):
        out = run(*group).out
        commands = out[out.index("\nCommands:\n") :]
        assert "Advance a manual clock by TIME.\n" in commands or group == ["--help"]
        assert "..." not in commands
