"""The checks of capabilities and of user namespaces."""

from __future__ import annotations

import errno
import sys

import pytest

from pinnerfs.doctor.privileges import check_capabilities
from pinnerfs.errors import NO_FUSE
from tests.doctor.conftest import DOCTOR, Doctor
from tests.mount.support import AS_USER

# Runs a command in a user namespace with the same users, in which the sysctls of namespaces can be written.
INNER = """
import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
inside, outside = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    if libc.unshare(0x10000000 | 0x20000):  # CLONE_NEWUSER, CLONE_NEWNS
        sys.exit("unshare: " + os.strerror(ctypes.get_errno()))
    os.write(inside[1], b"x")
    os.read(outside[0], 1)
    os.setresgid(0, 0, 0), os.setresuid(0, 0, 0)
    os.execvp("sh", ["sh", "-c", 'eval "$0"; exec "$@"', *sys.argv[1:]])
os.close(inside[1])
if os.read(inside[0], 1):
    for kind in "uid_map", "gid_map":
        ranges = [line.split() for line in open("/proc/self/" + kind)]
        with open(f"/proc/{child}/{kind}", "w") as file:
            file.write("".join(f"{first} {first} {count}\\n" for first, _, count in ranges))
    os.write(outside[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
NO_NAMESPACES = "echo 0 > /proc/sys/user/max_user_namespaces"
OPEN_TO_ALL = "mknod -m 666 own/fuse c 10 229; mount --bind own/fuse /dev/fuse"


def test_root_with_all_rights(doctor: Doctor) -> None:
    """Root that can mount is told so."""
    result = doctor()
    assert result.check("capabilities")["state"] == "ok"
    assert (result.data["mount"], result.data["run"], result.status, result.err) == (True, True, 0, "")


def test_root_of_a_container(doctor: Doctor) -> None:
    """Root without CAP_SYS_ADMIN cannot mount, and the check names the options of a container."""
    result = doctor(":", "setpriv", "--bounding-set=-sys_admin", *DOCTOR)
    assert result.check("capabilities") == {
        "state": "error",
        "text": "uid 0 without CAP_SYS_ADMIN, as in a container, cannot mount",
        "remedy": "start the container with --device /dev/fuse --cap-add SYS_ADMIN --security-opt apparmor=unconfined",
    }
    assert result.data["mount"] is False
    # `run` still works if the container allows user namespaces.
    assert result.status == (0 if result.data["run"] else NO_FUSE)


@pytest.mark.parametrize(
    ("number", "text", "remedy"),
    [
        (
            errno.EPERM,
            "mounting fails in spite of CAP_SYS_ADMIN: Operation not permitted; seccomp",
            "start the container",
        ),
        (errno.ENOSYS, "this kernel has no fsmount(2)", "boot Linux 5.2 or later"),
    ],
)
def test_a_mount_that_fails(doctor: Doctor, number: int, text: str, remedy: str) -> None:
    """What seccomp or an old kernel forbids is an error, although root has all capabilities."""
    assert doctor().check("capabilities")["state"] == "ok"  # else this process cannot tell
    found = check_capabilities(lambda work: number)
    assert found.state == "error" and found.text.startswith(text) and (found.remedy or "").startswith(remedy)


@pytest.mark.parametrize("user", ["root", "an ordinary user"])
def test_no_user_namespaces(doctor: Doctor, user: str) -> None:
    """Without user namespaces an ordinary user cannot `run`. Root can, and is told about the others."""
    others = user == "root"
    command = DOCTOR if others else (*AS_USER, "1000", "doctor", "--json")
    result = doctor(OPEN_TO_ALL, sys.executable, "-c", INNER, NO_NAMESPACES, *command)
    whom = "ordinary users" if others else "this user"
    assert result.check("user namespaces") == {
        "state": "warning" if others else "error",
        "text": f"{whom} cannot mount in one (No space left on device), so `pinnerfs run` fails; "
        "user.max_user_namespaces is 0",
        "remedy": "sysctl -w user.max_user_namespaces=15000",
    }
    assert result.data["run"] is others


@pytest.mark.parametrize(
    ("sysctl", "bad", "good"),
    [("apparmor_restrict_unprivileged_userns", 1, 0), ("unprivileged_userns_clone", 0, 1)],
)
def test_the_sysctls_of_distributions(doctor: Doctor, sysctl: str, bad: int, good: int) -> None:
    """The sysctl of a distribution that forbids user namespaces is named. If they work in spite of it, all is ok."""
    setting = f"mount -t tmpfs none /proc/sys/kernel; echo {bad} > /proc/sys/kernel/{sysctl}"
    result = doctor(OPEN_TO_ALL, sys.executable, "-c", INNER, f"{setting}; {NO_NAMESPACES}", *DOCTOR)
    found = result.check("user namespaces")
    assert found["text"].endswith(f"; kernel.{sysctl} is {bad} and user.max_user_namespaces is 0")
    assert found["remedy"] == f"sysctl -w kernel.{sysctl}={good} user.max_user_namespaces=15000"
    result = doctor(f"{OPEN_TO_ALL}; {setting}")
    assert result.check("user namespaces")["state"] == "ok"


def test_a_chroot(doctor: Doctor) -> None:
    """In a chroot the kernel allows no user namespace, and no sysctl is to blame."""
    root = "mkdir own/root; mount --rbind / own/root; mount --make-rprivate own/root; " + OPEN_TO_ALL
    result = doctor(root, "chroot", "own/root", *DOCTOR)
    found = result.check("user namespaces")
    assert found["state"] == "warning"
    assert "(Operation not permitted)" in found["text"] and "a chroot, or the seccomp rules" in found["text"]


def test_no_proc(doctor: Doctor) -> None:
    """Without /proc nothing works: exit status 69, and the remedy mends it."""
    result = doctor("umount -l /proc")
    text, remedy = "not mounted, so nothing else was checked", "mount -t proc proc /proc"
    assert result.data["checks"] == [{"name": "/proc", "state": "error", "text": text, "remedy": remedy}]
    assert (result.status, result.data["mount"], result.data["run"]) == (NO_FUSE, False, False)
    assert doctor(f"umount -l /proc; {remedy}").check("/proc")["state"] == "ok"
