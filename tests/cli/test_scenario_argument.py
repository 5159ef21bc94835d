"""Where commands take a scenario from: standard input, a process substitution, and mount.fuse's command line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import pinnerfs
from tests.mount.support import is_mounted, why_no_mount

ROOT = Path(__file__).parents[2]
DEADLINE = 120
NAME = "camera-stall"
SOURCE = pinnerfs.gallery()[NAME]


def execute(directory: Path, script: str) -> str:
    """Run a bash script in which `pinnerfs` is this checkout. Return what it prints; stderr stays empty."""
    done = subprocess.run(
        ["bash", "-euc", f'pinnerfs() {{ "{sys.executable}" -m pinnerfs "$@"; }}\n{script}'],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=directory,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """A directory with a mount point, on a machine that can mount."""
    (tmp_path / "mnt").mkdir()
    if (reason := why_no_mount(tmp_path / "mnt")) is not None:
        pytest.skip(f"this machine cannot mount: {reason}")
    return tmp_path


WAYS = {"standard input": f"- < {SOURCE}", "process substitution": f"<(cat {SOURCE})"}


@pytest.mark.parametrize("way", WAYS)
def test_commands_that_do_not_mount(tmp_path: Path, way: str) -> None:
    """show, check and dump read the scenario from a pipe as from its file."""
    for command in ("show {}", "dump {} --at 30s", "dump --at 30s {}"):
        assert execute(tmp_path, f"pinnerfs {command.format(WAYS[way])}") == execute(
            tmp_path, f"pinnerfs {command.format(NAME)}"
        )
    assert execute(tmp_path, f"pinnerfs check {WAYS[way]}").endswith(": ok\n")
    assert ": ok at " in execute(tmp_path, f"pinnerfs check --expect {WAYS[way]}")


@pytest.mark.mount
@pytest.mark.parametrize("way", WAYS)
def test_mount_and_run(directory: Path, way: str) -> None:
    """The commands mount and run read the scenario before they start the daemon."""
    records = execute(directory, f"pinnerfs dump {NAME} --at 30s")
    cat = "cat mnt/page_pinner/longterm_pinner"
    script = f"pinnerfs mount {WAYS[way]} mnt --clock manual --start 30s; {cat}; pinnerfs umount mnt"
    if way == "standard input":
        script = script.replace(f" < {SOURCE} mnt", " mnt").replace("--start 30s", f"--start 30s < {SOURCE}")
    assert execute(directory, script) == records != ""
    scenario = "-" if way == "standard input" else WAYS[way]
    redirect = f"< {SOURCE}" if way == "standard input" else ""
    script = f"pinnerfs run --mountpoint $PWD/mnt --clock manual --start 30s {scenario} -- {cat} {redirect}"
    assert execute(directory, script) == records


@pytest.mark.mount
@pytest.mark.parametrize("scenario", [NAME, "./mine.toml"])
@pytest.mark.parametrize("options", ["-o rw,dev,suid,clock=manual,start=30s", "-orw,clock=manual -o start=30s"])
def test_the_call_of_mount_fuse(directory: Path, scenario: str, options: str) -> None:
    """`pinnerfs SCENARIO MOUNTPOINT -o OPTIONS` mounts, which is what mount.fuse of libfuse calls."""
    (directory / "mine.toml").write_text(SOURCE.read_text())
    cat = "cat mnt/page_pinner/longterm_pinner"
    out = execute(directory, f"pinnerfs {scenario} mnt {options}; {cat}; pinnerfs umount mnt")
    assert out == execute(directory, f"pinnerfs dump {NAME} --at 30s") != ""
    assert not is_mounted(directory / "mnt")


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) needs root")
@pytest.mark.skipif(not os.path.exists("/sbin/mount.fuse"), reason="mount.fuse is not installed")
def test_mount_fuse_itself(directory: Path) -> None:
    """mount(8) without mount.fuse.pinnerfs in /sbin mounts through mount.fuse, which finds pinnerfs in its PATH."""
    (directory / "pinnerfs").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m pinnerfs "$@"\n')
    (directory / "pinnerfs").chmod(0o755)
    inside = """
    mount -t tmpfs none /usr/local/bin
    cp pinnerfs /usr/local/bin
    mount -t fuse.pinnerfs camera-stall mnt -o clock=manual,start=30s
    cat mnt/page_pinner/longterm_pinner
    umount mnt
    """
    out = execute(directory, f"unshare -m --propagation private sh -euc '{inside}'")
    assert out == execute(directory, f"pinnerfs dump {NAME} --at 30s") != ""
