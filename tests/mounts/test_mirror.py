"""A private root directory with additions. Each test makes a small directory tree the root directory first."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pinnerfs.mounts.mirror import Additions, add_to_root
from tests.mount.support import in_namespace

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its root directory")


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Create a tree with each kind of file."""
    for directory, mode in ("bin", 0o755), ("sys/kernel/mm", 0o555), ("closed", 0o700):
        (tmp_path / directory).mkdir(parents=True)
        (tmp_path / directory).chmod(mode)
    (tmp_path / "bin" / "true").write_text("true\n")
    (tmp_path / "sys" / "notes").write_text("notes\n")
    (tmp_path / "sys" / "kernel").chmod(0o751)
    (tmp_path / "closed" / "key").write_text("key\n")
    (tmp_path / "lib").symlink_to("bin")
    (tmp_path / "dangling").symlink_to("/nowhere")
    (tmp_path / "file").write_text("file\n")
    os.mkfifo(tmp_path / "pipe")
    return tmp_path


def _tree(top: str = "/") -> dict[str, str]:
    """Return the mode of each file below a directory, and its text or target."""
    seen = {}
    for directory, directories, files in os.walk(top):
        for name in directories + files:
            path = os.path.join(directory, name)
            mode = os.lstat(path).st_mode
            text = os.readlink(path) if stat.S_ISLNK(mode) else Path(path).read_text() if stat.S_ISREG(mode) else ""
            # A link has no mode of its own.
            seen[path] = f"{stat.S_IFMT(mode) if stat.S_ISLNK(mode) else mode:o} {text}"
    return seen


def _with(machine: Path, additions: Additions, look: Callable[[], Any] = _tree) -> Any:
    """Return what a process sees that has the machine as its root directory, with additions."""

    def work() -> Any:
        os.chdir(machine)
        os.chroot(".")
        add_to_root(additions)
        return look()

    return in_namespace(work)


def _original(machine: Path) -> dict[str, str]:
    return {path.removeprefix(str(machine)): text for path, text in _tree(str(machine)).items()}


def test_additions(machine: Path) -> None:
    """Links and directories are added, below new directories and below those of the machine. All else is the same."""
    before = _original(machine)
    seen = _with(machine, {"d": "/sys", "system": {"bin": {"sh": "/bin/true"}}, "sys": {"kernel": {"mm": {"cma": {}}}}})
    assert seen == before | {
        "/d": "120000 /sys",
        "/system": "40755 ",
        "/system/bin": "40755 ",
        "/system/bin/sh": "120000 /bin/true",
        "/sys/kernel/mm/cma": "40755 ",
    }
    assert _original(machine) == before


def test_replacements(machine: Path) -> None:
    """An addition replaces a file or a link of the machine, and a directory if it is a link."""
    before = _original(machine)
    seen = _with(machine, {"file": {"new": {}}, "lib": {"new": {}}, "closed": "/bin", "dangling": {}})
    for path in "/closed/key", "/lib", "/file", "/closed", "/dangling":
        del before[path]
    assert seen == before | {
        **dict.fromkeys(("/file", "/file/new", "/lib", "/lib/new", "/dangling"), "40755 "),
        "/closed": "120000 /bin",
    }


def test_nothing_to_add(machine: Path) -> None:
    """If the machine has all additions, the root directory stays, and stays writable."""

    def look() -> bool:
        Path("/new").touch()
        return Path("/new").exists()

    assert _with(machine, {"bin": {}, "lib": "/bin", "sys": {"kernel": {"mm": {}}}}, look) is True
    assert (machine / "new").exists()


def test_writes(machine: Path) -> None:
    """Mirrors are read-only, and the machine's own directories are not."""

    def look() -> list[str]:
        refused = []
        for path in "/new", "/system/new", "/sys/new", "/bin/new", "/sys/kernel/new":
            try:
                Path(path).touch()
            except OSError as error:
                refused.append(f"{path}: {error.strerror}")
        return refused

    refused = _with(machine, {"system": {}, "sys": {"added": {}}}, look)
    assert refused == [f"{path}: Read-only file system" for path in ("/new", "/system/new", "/sys/new")]
    assert (machine / "bin" / "new").exists() and (machine / "sys" / "kernel" / "new").exists()


def test_mounts_of_the_machine(machine: Path) -> None:
    """Mounts below the machine's directories are there, too."""

    def work() -> str:
        from pinnerfs.mounts.namespace import bind

        bind(str(machine / "closed"), str(machine / "sys" / "kernel"))
        os.chdir(machine)
        os.chroot(".")
        add_to_root({"d": "/sys", "sys": {"added": {}}})
        return Path("/d/kernel/key").read_text()

    assert in_namespace(work) == "key\n"


def test_a_failure(machine: Path) -> None:
    """After a failure half-way, the process has the machine's root directory and its working directory."""

    def work() -> tuple[int, str, dict[str, str]]:
        os.chdir(machine)
        os.chroot(".")
        os.chdir("/sys/kernel")
        try:
            add_to_root({"d": "/sys", "n" * 256: {}})
        except OSError as error:
            number = error.errno or 0
        return number, os.getcwd(), _tree()

    number, directory, seen = in_namespace(work)
    assert (os.strerror(number), directory) == ("File name too long", "/sys/kernel")
    assert seen == _original(machine)


def test_the_working_directory(machine: Path) -> None:
    """The working directory has the same path, in the new root directory."""

    def work() -> list[str]:
        os.chdir(machine)
        os.chroot(".")
        seen = []
        for number, path in enumerate(("/sys/kernel", "/bin", "/")):
            os.chdir(path)
            add_to_root({f"new{number}": {}, "sys": {"kernel": {f"new{number}": {}}}})
            seen += [os.getcwd(), *sorted(os.listdir("."))]
        return seen

    root = ["bin", "closed", "dangling", "file", "lib", "new0", "new1", "new2", "pipe", "sys"]
    assert in_namespace(work) == ["/sys/kernel", "mm", "new0", "/bin", "true", "/", *root]
