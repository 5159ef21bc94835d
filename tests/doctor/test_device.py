"""The check of /dev/fuse."""

from __future__ import annotations

import errno

import pytest

from pinnerfs.doctor.device import check_device
from pinnerfs.errors import NO_FUSE
from tests.doctor.conftest import Doctor
from tests.mount.support import AS_USER

BROKEN = {
    "missing": (
        "mkdir own/dev; mknod own/dev/null c 1 3; mount --bind own/dev /dev",
        "missing",
        "modprobe fuse; in a container: start the container with --device /dev/fuse",
    ),
    "a file": (
        "touch own/fuse; mount --bind own/fuse /dev/fuse",
        "not the FUSE device, which is 10:229",
        "rm /dev/fuse; mknod -m 666 /dev/fuse c 10 229",
    ),
    "another device": (
        "mknod own/fuse c 1 3; mount --bind own/fuse /dev/fuse",
        "not the FUSE device, which is 10:229",
        "rm /dev/fuse; mknod -m 666 /dev/fuse c 10 229",
    ),
    "without a driver": (
        "mknod own/fuse c 10 250; mount --bind own/fuse /dev/fuse",
        "does not open: No such device",
        "modprobe fuse",
    ),
    "nodev": (
        "mknod -m 666 own/fuse c 10 229; mount --bind own/fuse /dev/fuse; mount -o remount,bind,nodev /dev/fuse",
        "on a file system that is mounted with nodev",
        'mount -o remount,bind,dev "$(findmnt -fnro TARGET -T /dev/fuse)"',
    ),
}
WITH_MODE = "mknod -m {mode} own/fuse c 10 229; mount --bind own/fuse /dev/fuse"


@pytest.mark.parametrize("case", BROKEN)
def test_broken(doctor: Doctor, case: str) -> None:
    """Without a usable /dev/fuse nothing can be mounted: exit status 69, and the check has the remedy."""
    setup, text, remedy = BROKEN[case]
    result = doctor(setup)
    assert result.check("/dev/fuse") == {"state": "error", "text": text, "remedy": remedy}
    assert (result.status, result.data["mount"], result.data["run"]) == (NO_FUSE, False, False)
    assert result.err == "Error: this machine cannot mount; `dump` and `check --expect` need only numpy\n"


def test_the_remedies_work(doctor: Doctor) -> None:
    """After the remedy for a wrong file or a mode the device is ok."""
    setup = "mkdir own/dev; mknod own/dev/null c 1 3; touch own/dev/fuse; mount --bind own/dev /dev\n"
    mended = doctor(setup + BROKEN["a file"][2])
    assert (mended.check("/dev/fuse")["state"], mended.status) == ("ok", 0)
    mended = doctor(f"{WITH_MODE.format(mode=600)}\nchmod 666 /dev/fuse")
    assert mended.check("/dev/fuse")["state"] == "ok"
    mended = doctor(f"{BROKEN['nodev'][0]}\n{BROKEN['nodev'][2]}")
    assert mended.check("/dev/fuse")["state"] == "ok"


def test_a_mode_for_root_alone(doctor: Doctor) -> None:
    """With mode 0600 root can mount, and is told that other users cannot. A user cannot mount: exit status 69."""
    setup = WITH_MODE.format(mode=600)
    as_root = doctor(setup)
    warning = {"state": "warning", "text": "opens, but mode 0600 is not for all users", "remedy": "chmod 666 /dev/fuse"}
    assert (as_root.check("/dev/fuse"), as_root.data["mount"], as_root.status) == (warning, True, 0)
    as_user = doctor(setup, *AS_USER, "1000", "doctor", "--json")
    text = "mode 0600 does not let uid 1000 open it"
    assert as_user.check("/dev/fuse") == {"state": "error", "text": text, "remedy": "chmod 666 /dev/fuse"}
    assert (as_user.status, as_user.data["mount"], as_user.data["run"]) == (NO_FUSE, False, False)
    for result, whom in (as_root, "ordinary users"), (as_user, "this user"):
        text = result.check("user namespaces")["text"]
        # This machine may forbid user namespaces.
        assert text.endswith(f", because {whom} cannot open /dev/fuse") or "cannot mount in one" in text


def test_the_rules_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    """EPERM comes from the device rules of a container."""
    error = PermissionError(errno.EPERM, "Operation not permitted")
    monkeypatch.setattr("pinnerfs.doctor.device.device_error", lambda: error)
    found = check_device()
    assert found.line == (
        "error   /dev/fuse: the device rules of this container forbid to open it; "
        "to mend it: start the container with --device /dev/fuse"
    )
