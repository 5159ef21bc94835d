"""The example at the end of each help, pasted into a shell."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

from pinnerfs.cli.commands import COMMANDS, commands
from pinnerfs.cli.ctl import ctl
from pinnerfs.cli.mount_options import helper
from tests.mount.support import PRIVATE_SBIN, why_no_mount

ROOT = Path(__file__).parents[2]
DEADLINE = 120
MOUNTING = ["", "ctl", *(f"ctl {name}" for name in ctl.commands), "mount", "record", "run", "umount"]
PLAYING = [name for name in COMMANDS if name not in MOUNTING]


def example(command: click.Command | None) -> str:
    """Return the commands of the example, with which the help ends."""
    assert command is not None
    help_text = command.get_help(click.Context(command, info_name="pinnerfs"))
    found = re.search(r"^  Example[^\n]*:\n((?:    .*\n)+)\n(?:Options|Commands):", help_text, re.MULTILINE)
    assert found is not None
    return found[1]


def find(name: str) -> click.Command | None:
    """Return the command of a name such as "ctl clock"."""
    first, _, second = name.partition(" ")
    if second:
        return ctl.commands[second]
    return commands.get_command(click.Context(commands), first) if first else commands


@pytest.fixture
def directory(tmp_path: Path) -> Iterator[Path]:
    """A directory with the programs, which takes the place of /tmp/d as well."""
    for name, module in ("pinnerfs", "pinnerfs.cli"), ("mount.fuse.pinnerfs", "pinnerfs.cli.mount_helper"):
        program = tmp_path / "bin" / name
        program.parent.mkdir(exist_ok=True)
        call = f"from {module} import main; main()"
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -c "{call}" "$@"\n')
        program.chmod(0o755)
    yield tmp_path
    subprocess.run(["fusermount", "-uz", tmp_path / "d"], capture_output=True, timeout=DEADLINE, check=False)


def paste(script: str, directory: Path, *shell: str) -> str:
    """Run an example in a shell that stops at a failure. Return what it prints."""
    done = subprocess.run(
        [*shell, "sh", "-euc", script.replace("/tmp/d", f"{directory}/d")],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=directory,
        env=os.environ | {"PATH": f"{directory}/bin:{os.environ['PATH']}"},
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.mark.parametrize("name", PLAYING)
def test_examples(directory: Path, name: str) -> None:
    """An example that needs no mount prints something, or writes a file."""
    printed = paste(example(find(name)), directory)
    assert printed or any(file.is_file() and file.stat().st_size for file in directory.iterdir())


@pytest.mark.mount
@pytest.mark.parametrize("name", MOUNTING)
def test_examples_that_mount(directory: Path, name: str) -> None:
    """An example that mounts prints something, and leaves no mount."""
    (directory / "d").mkdir()
    if (reason := why_no_mount(directory / "d")) is not None:
        pytest.skip(f"this machine cannot mount: {reason}")
    assert paste(example(find(name)), directory)
    assert not os.path.ismount(directory / "d")


@pytest.mark.mount
def test_the_example_of_the_mount_helper(directory: Path) -> None:
    """The example of mount.fuse.pinnerfs prints something. It writes to the /sbin of a mount namespace."""
    (directory / "d").mkdir()
    if os.geteuid() != 0:
        pytest.skip("mount(8) needs root")
    if (reason := why_no_mount(directory / "d")) is not None:
        pytest.skip(f"this machine cannot mount: {reason}")
    (directory / "layer").mkdir()
    assert paste(PRIVATE_SBIN + example(helper), directory, "unshare", "-m", "--propagation", "private")
