"""The README's commands, run as they stand."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import entry_points
from pathlib import Path

import pytest

from tests.mount.support import DEADLINE, OWN_SBIN, why_no_mount

ROOT = Path(__file__).parents[1]
README = ROOT / "README.md"
PATIENCE = 120  # seconds for a whole block

# Nothing of what root does here is seen outside: /mnt, /sbin and fstab are of the namespace alone.
AS_ROOT = f"""
set -e
mount -t tmpfs none /mnt
mkdir layer
{OWN_SBIN}
rm -f /sbin/mount.fuse.pinnerfs
cp /etc/fstab fstab
mount --bind fstab /etc/fstab
trap 'umount -l /mnt/debug 2>/dev/null || true' EXIT
"""


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)


def _run(command: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=PATIENCE, check=False
    )


@pytest.fixture
def work(tmp_path: Path) -> Iterator[tuple[Path, dict[str, str]]]:
    """An empty folder, and an environment in which the README's programs are found."""
    if (reason := why_no_mount(tmp_path)) is not None:
        if os.environ.get("PINNERFS_REQUIRE_FUSE") == "1":
            pytest.fail(f"this machine cannot mount: {reason}")
        pytest.skip(f"this machine cannot mount: {reason}")
    binaries = tmp_path / "bin"
    binaries.mkdir()
    for name, module in ("pinnerfs", "pinnerfs.cli"), ("mount.fuse.pinnerfs", "pinnerfs.cli.mount_helper"):
        program = binaries / name
        call = f"from {module} import main; main()"
        program.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -c "{call}" "$@"\n')
        program.chmod(0o755)
    folder = tmp_path / "work"
    folder.mkdir()
    yield folder, os.environ | {"PATH": f"{binaries}:{os.environ['PATH']}"}
    subprocess.run(["fusermount", "-uz", str(folder / "device")], capture_output=True, check=False, timeout=DEADLINE)


@pytest.mark.mount
def test_the_shell_blocks_run_from_top_to_bottom(work: tuple[Path, dict[str, str]]) -> None:
    """Pasted into one shell in an empty folder, the README's commands succeed and print what their comments say."""
    blocks = _blocks("sh")
    script = "set -e\n" + "\necho END OF BLOCK\n".join(blocks)
    done = _run(["bash", "-c", script], *work)
    assert done.returncode == 0, done.stderr
    printed = [text.splitlines() for text in done.stdout.split("END OF BLOCK\n")]
    said = {block.splitlines()[0]: lines for block, lines in zip(blocks, printed, strict=True)}
    assert "300000" in said["pinnerfs list"]
    above = [int(line) for line in said[next(first for first in said if "1000000 >" in first)] if line.isdecimal()]
    assert above[0] == 0 and len(above) >= 4 and all(ts > 1_000_000 for ts in above[1:4])
    assert "64" in said["mkdir live"]
    assert "line 1: task = 'nobody' must be one of 'camera'" in said["mkdir live"]
    assert all(int(line) > 0 for line in said[next(first for first in said if first.startswith("pinnerfs run"))])
    assert "./leak.toml: ok" in said["cat > leak.toml <<'TOML'"]
    assert said["mkdir odd"] == ["300000", "2"]


@pytest.mark.mount
@pytest.mark.skipif(os.geteuid() != 0, reason="mount(8) is root's")
def test_what_root_types(work: tuple[Path, dict[str, str]]) -> None:
    """The lines behind `# ` work as root."""
    lines = [line for block in _blocks("console") for line in block.splitlines() if line.startswith("# ")]
    assert any(line.startswith("# mount -t fuse.pinnerfs") for line in lines)
    script = AS_ROOT + "\n".join(line.removeprefix("# ") for line in lines)
    done = _run(["unshare", "-m", "--propagation", "private", "sh", "-c", script], *work)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.mount
def test_the_demo(work: tuple[Path, dict[str, str]]) -> None:
    """`make demo`, the first command of all, in the environment that `make` has made; `make test` is what runs here."""
    block = next(block for block in _blocks("console") if block.startswith("$ "))
    assert re.findall(r"^\$ (make \w+)", block, re.MULTILINE) == ["make demo", "make test"]
    if not (ROOT / ".venv" / ".stamp").exists():
        pytest.skip("nobody has called make here")
    done = _run(["make", "-s", "demo"], ROOT, work[1])
    assert (done.returncode, done.stderr) == (0, "")
    assert "rmdir" in done.stdout.splitlines()[-1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make device nodes")
@pytest.mark.parametrize(
    ("dev", "line"),
    [
        ("mknod -m 600 own/fuse c 10 229", 'demo: /dev/fuse is closed to you: run "chmod 666 /dev/fuse" as root, '),
        (":", 'demo: there is no /dev/fuse: run "modprobe fuse" as root; '),
    ],
)
def test_the_demo_without_fuse(tmp_path: Path, dev: str, line: str) -> None:
    """`make demo` of an ordinary user who cannot use /dev/fuse is one line that says what to do."""
    (tmp_path / "own").mkdir()
    user = "setpriv --reuid=65534 --regid=65534 --clear-groups"
    script = f"mount -t tmpfs -o dev,mode=755 none own && {dev} && mount --bind own /dev && cd / && exec {user} bash"
    demo = (ROOT / ".ci" / "demo").read_text()  # which the user may not be able to read
    done = subprocess.run(
        ["unshare", "-m", "--propagation", "private", "sh", "-c", script],
        input=demo,
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    assert (done.returncode, done.stdout) == (69, "")
    assert done.stderr.startswith(line) and done.stderr.count("\n") == 1


def test_the_python_blocks_run() -> None:
    """The README's Python example runs and prints the longest pin."""
    blocks = [block for block in _blocks("python") if "def test_" not in block]
    assert blocks
    for block in blocks:
        done = _run([sys.executable, "-c", block], ROOT, os.environ | {"PYTHONPATH": str(ROOT)})
        assert done.returncode == 0, done.stderr
        assert "us was the longest pin" in done.stdout


@pytest.mark.mount
def test_the_tests_for_pytest_run(work: tuple[Path, dict[str, str]]) -> None:
    """Those for pytest pass, in a folder of their own."""
    folder, environment = work
    blocks = [block for block in _blocks("python") if "def test_" in block]
    (folder / "test_blocks.py").write_text("\n".join(blocks))
    plugin = (
        []
        if "pinnerfs" in (point.name for point in entry_points(group="pytest11"))
        else ["-p", "pinnerfs.pytest_plugin"]
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *plugin, "test_blocks.py"]
    done = _run(command, folder, environment | {"PYTHONPATH": str(ROOT)})
    assert done.returncode == 0, done.stdout
    assert f"{len(blocks)} passed" in done.stdout
