"""A private root directory: the machine's, with added links and directories. Nothing is created on the machine.

A directory that gets an addition becomes a mirror: a directory of a tmpfs, with a bind mount for each entry of the
original. So only the root and the directories above an addition are mirrors.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import TypeAlias, Union

from pinnerfs.mounts.detached import move_mount, new_mount
from pinnerfs.mounts.namespace import bind, check, libc, set_read_only

__all__ = ["Additions", "add_to_root"]

# By name: the target of a link, or what a directory must contain.
Additions: TypeAlias = Mapping[str, Union[str, "Additions"]]

MNT_DETACH = 0x2


def add_to_root(additions: Additions) -> None:
    """Give this process a root directory with the additions, or leave it as it is if it has them all.

    The process must be single-threaded and in a private mount namespace. OSError if that is impossible; then its root
    directory is as before. A file of the machine is replaced by an addition of the same name. Both the root directory
    and the other mirrors are read-only.
    """
    missing = _missing(additions, "/")
    if not missing:
        return
    with _kept_working_directory():
        root = os.open("/", os.O_PATH | os.O_DIRECTORY)
        mount = new_mount("tmpfs", {"source": "pinnerfs", "mode": "755"})
        move_mount(mount, root)
        os.fchdir(mount)
        os.close(mount)
        os.close(root)
        # From here on absolute paths lead to the machine's root directory, and relative ones to the new one.
        mask = os.umask(0o022)
        try:
            _mirror("/", ".", missing)
            set_read_only(".", True)
            os.chroot(".")
        except OSError:
            check(libc.umount2(b".", MNT_DETACH))
            raise
        finally:
            os.umask(mask)


@contextmanager
def _kept_working_directory() -> Iterator[None]:
    """Return to the working directory at the end: to its path in the new root directory, if there is one."""
    before = os.open(".", os.O_PATH)
    path = None
    with suppress(FileNotFoundError):  # it was deleted
        path = os.getcwd()
    try:
        yield
    finally:
        os.fchdir(before)
        os.close(before)
        if path is not None:
            with suppress(OSError):
                os.chdir(path)


def _missing(additions: Additions, path: str) -> Additions:
    """Return the additions that a directory of the machine does not have."""
    missing: dict[str, str | Additions] = {}
    for name, addition in additions.items():
        entry = os.path.join(path, name)
        if isinstance(addition, str):
            if os.path.realpath(entry) != os.path.realpath(addition):
                missing[name] = addition
        elif not os.path.isdir(entry):
            missing[name] = addition
        elif below := _missing(addition, entry):
            missing[name] = below
    return missing


def _mirror(source: str, target: str, additions: Additions) -> None:
    """Fill an empty directory with the entries of another one, and with the additions."""
    with os.scandir(source) as entries:
        for entry in entries:
            there = os.path.join(target, entry.name)
            addition = additions.get(entry.name)
            if addition is None:
                _show(entry, there)
            elif not isinstance(addition, str) and entry.is_dir(follow_symlinks=False):
                os.mkdir(there)
                _mirror(entry.path, there, addition)
    _create(target, additions)
    os.chmod(target, os.stat(source).st_mode & 0o7777)


def _create(target: str, additions: Additions) -> None:
    """Create the additions in a directory, except directories that it has."""
    for name, addition in additions.items():
        there = os.path.join(target, name)
        if isinstance(addition, str):
            os.symlink(addition, there)
        elif not os.path.isdir(there):
            os.mkdir(there)
            _create(there, addition)


def _show(entry: os.DirEntry[str], there: str) -> None:
    """Make an entry of the machine visible at another path."""
    # No stat of the entry, which a dead mount there would not answer: the type is known from the directory.
    if entry.is_symlink():
        os.symlink(os.readlink(entry.path), there)
        return
    is_directory = entry.is_dir(follow_symlinks=False)
    if is_directory:
        os.mkdir(there)
    else:
        os.close(os.open(there, os.O_CREAT | os.O_EXCL, 0o600))
    try:
        bind(entry.path, there)
    except FileNotFoundError:  # it was removed meanwhile
        os.rmdir(there) if is_directory else os.unlink(there)
