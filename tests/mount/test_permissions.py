"""Access of an ordinary user to a mount of root's."""

from __future__ import annotations

import errno
import os
import subprocess

from tests.mount.support import DEADLINE, ORDINARY, Mount, Mounts, as_user, environment, newest_first, outcome


def _as_user(device: Mount, script: str) -> subprocess.CompletedProcess[str]:
    """Run a shell script as an ordinary user."""
    user = ["setpriv", f"--reuid={ORDINARY}", f"--regid={ORDINARY}", "--clear-groups"]
    return subprocess.run(
        [*user, "sh", "-c", script, "sh", device.path],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        env=environment(),
        cwd="/",
    )


CLOSED = [
    'cat "$1/page_pinner/threshold"',
    'cat "$1/page_pinner/longterm_pinner"',
    'echo 5 > "$1/page_pinner/threshold"',
    'ls "$1"',
    'cat "$1/.pinnerfs/clock"',
    'echo 5s > "$1/.pinnerfs/advance"',
]


def test_the_root_is_closed(public_mount: Mounts) -> None:
    """The root directory is 0700, so another user cannot reach any file."""
    device = public_mount()
    for script in CLOSED:
        done = _as_user(device, script)
        assert done.returncode != 0 and done.stdout == "", script
        assert "Permission denied" in done.stderr, script
    assert device.threshold.read_text() == "300000\n"
    assert device.control("clock") == "0\n"


def test_after_chmod_of_the_root(public_mount: Mounts) -> None:
    """After chmod 755 of the root directory, another user can read the files, but not write or use .pinnerfs."""
    device = public_mount()
    device.advance("3s")
    device.path.chmod(0o755)
    read = _as_user(device, 'cat "$1/page_pinner/threshold" "$1/page_pinner/longterm_pinner"')
    assert (read.returncode, read.stdout) == (0, "300000\n" + b"".join(newest_first(3)).decode())
    assert _as_user(device, 'ls -A "$1" "$1/page_pinner"').returncode == 0
    for script in (
        'echo 5 > "$1/page_pinner/threshold"',
        'echo 5 >> "$1/page_pinner/threshold"',
        'echo 5 > "$1/page_pinner/longterm_pinner"',
        'ls "$1/.pinnerfs"',
        'cat "$1/.pinnerfs/stats"',
        'echo 5s > "$1/.pinnerfs/advance"',
    ):
        refused = _as_user(device, script)
        assert refused.returncode != 0 and "Permission denied" in refused.stderr, script
    assert device.threshold.read_text() == "300000\n"
    assert device.read_all() == newest_first(3)


def test_system_calls_that_change_something(public_mount: Mounts) -> None:
    """Each system call that changes something is EACCES or EPERM for another user, as recorded on a kernel."""
    device = public_mount()
    device.path.chmod(0o755)
    file, other = device.threshold, device.path / "page_pinner" / "new"
    calls = {
        "open for writing": (lambda: os.open(file, os.O_WRONLY), errno.EACCES),
        "open for both": (lambda: os.open(file, os.O_RDWR), errno.EACCES),
        "open with truncation": (lambda: os.open(file, os.O_RDONLY | os.O_TRUNC), errno.EACCES),
        "create": (lambda: os.open(other, os.O_WRONLY | os.O_CREAT), errno.EACCES),
        "truncate": (lambda: os.truncate(file, 0), errno.EACCES),
        "chmod": (lambda: os.chmod(file, 0o666), errno.EPERM),
        "chown": (lambda: os.chown(file, ORDINARY, ORDINARY), errno.EPERM),
        "utime": (lambda: os.utime(file), errno.EACCES),
        "unlink": (lambda: os.unlink(file), errno.EACCES),
        "rename": (lambda: os.rename(file, other), errno.EACCES),
        "mkdir": (lambda: os.mkdir(other), errno.EACCES),
        "symlink": (lambda: os.symlink("x", other), errno.EACCES),
        "setxattr": (lambda: os.setxattr(file, "user.x", b"y"), errno.EACCES),
        "chmod of the root": (lambda: os.chmod(device.path, 0o777), errno.EPERM),
    }
    answers = {name: as_user(call) for name, (call, _) in calls.items()}
    # Some kernels check for support of attributes (EOPNOTSUPP) before permissions.
    assert answers.pop("setxattr") in (-errno.EACCES, -errno.EOPNOTSUPP)
    assert answers == {name: -error for name, (_, error) in calls.items() if name != "setxattr"}


def test_a_file_with_another_owner(public_mount: Mounts) -> None:
    """After a chown, the new owner can write the file and change its mode."""
    device = public_mount()
    device.path.chmod(0o711)
    os.chown(device.threshold, ORDINARY, -1)

    def work() -> bytes:
        with open(device.threshold, "wb", buffering=0) as file:
            file.write(b"5")
        os.chmod(device.threshold, 0o600)
        return device.threshold.read_bytes()

    assert as_user(work) == b"5\n"
    assert device.threshold.stat().st_mode & 0o7777 == 0o600
    assert device.threshold.stat().st_uid == ORDINARY
    # Other users have no access, except root.
    assert as_user(lambda: device.threshold.read_bytes(), uid=ORDINARY - 1) == -errno.EACCES
    assert device.threshold.read_bytes() == b"5\n"


def test_a_file_of_mode_0(public_mount: Mounts) -> None:
    """root can read and write a file of mode 0."""
    device = public_mount()
    device.threshold.chmod(0)
    assert device.shell("cat threshold; echo 5 > threshold; cat threshold").stdout == "300000\n5\n"


def test_a_passed_descriptor(public_mount: Mounts) -> None:
    """Permissions are checked at open: another user can read and write through root's descriptor."""
    device = public_mount()
    with device.opened(os.O_RDWR, "threshold") as file:
        assert as_user(lambda: (os.write(file, b"4242"), os.read(file, 100))) == (4, b"4242\n")


def test_initial_modes_and_owners(public_mount: Mounts) -> None:
    """Modes and owners are those of a debugfs."""
    device = public_mount()
    pinner = device.path / "page_pinner"
    modes = {path.name: path.stat().st_mode & 0o7777 for path in (device.path, pinner, *pinner.iterdir())}
    assert modes == {"mnt": 0o700, "page_pinner": 0o755, "threshold": 0o644, "longterm_pinner": 0o444}
    assert {(path.stat().st_uid, path.stat().st_gid) for path in (device.path, pinner, *pinner.iterdir())} == {(0, 0)}
    assert outcome(lambda: as_user(lambda: os.stat(device.threshold).st_mode)) == -errno.EACCES
