"""A scenario is untrusted: it cannot run code or open other files."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pinnerfs
from tests.mount.support import DEADLINE, environment

# Texts that a careless program would open, run or format.
WORDS = (
    "/etc/passwd",
    "../secret.toml",
    "file:///etc/passwd",
    "$(touch owned)",
    "`touch owned`; touch owned",
    "__import__('os').system('touch owned')",
    "{0.__class__.__mro__} {} {x} %s %n",
)
SCENARIO = """
format = 1
name = {word}
description = {word}
[memory]
size = "64MiB"
region = [{{ name = {word}, size = "64MiB" }}]
[stack.{word}]
frames = ["driver"]
syscall = "ioctl"
via = "slow"
[[task]]
name = {word}
stack = {word}
region = {word}
[[task.phase]]
for = "1s"
every = "100ms"
hold = "400ms"
[[task]]
name = "sharer"
stack = {word}
share = {word}
[[task.phase]]
for = "1s"
every = "100ms"
hold = "400ms"
"""

# Prints the audit events of the second play, when all modules are imported.
PLAY = """
import shlex, sys, pinnerfs

def play():
    simulation = pinnerfs.Simulation(pinnerfs.load(sys.argv[1]))
    simulation.advance("2s")
    simulation.do("pin hold=1ms task=" + shlex.quote(simulation.scenario.task[0].name))
    simulation.advance("1s")
    return simulation.cat()

play()
asked, listening = [], True
sys.addaudithook(lambda event, arguments: listening and asked.append(f"{event} {arguments[0]}"))
text = play()
listening = False
print(*asked, sep="\\n")
print(text)
"""


@pytest.mark.parametrize("word", WORDS)
def test_a_scenario_opens_and_runs_nothing(tmp_path: Path, word: str) -> None:
    """The names in a scenario are only names: they are not opened, imported, compiled or formatted."""
    path = tmp_path / "evil.toml"
    path.write_text(SCENARIO.format(word=f'"{word}"'))
    done = subprocess.run(
        [sys.executable, "-c", PLAY, path],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        timeout=DEADLINE,
        env=environment(),
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    asked, _, text = done.stdout.partition("\nPage pinned")
    assert text.count("\nPFN") >= 10
    assert "\n driver+0x" in text
    opened, where, *memory = asked.split("\n")
    assert opened == f"open {path}"
    assert where.startswith("open /proc/self/fd/")
    assert set(memory) <= {"mmap.__new__ -1"}  # anonymous
    assert [file.name for file in tmp_path.iterdir()] == ["evil.toml"]


@pytest.mark.parametrize("word", WORDS)
def test_a_frame_is_a_symbol(tmp_path: Path, word: str) -> None:
    """Only a symbol is accepted as a frame, because records print frames unchanged."""
    path = tmp_path / "evil.toml"
    path.write_text(SCENARIO.format(word='"f"').replace('"driver"', f'"{word}"'))
    with pytest.raises(pinnerfs.PinnerfsError, match="is not a frame: write symbol"):
        pinnerfs.load(path)


def test_a_system_call_is_a_name(tmp_path: Path) -> None:
    """A system call must be a name, because it is inserted into a call chain."""
    path = tmp_path / "evil.toml"
    for syscall in ("{0.__class__}", "{}", "%s", "../x", ""):
        path.write_text(SCENARIO.format(word='"f"').replace('"ioctl"', f'"{syscall}"'))
        with pytest.raises(pinnerfs.PinnerfsError, match="must be the name of a system call"):
            pinnerfs.load(path)
