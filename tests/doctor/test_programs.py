"""The checks of libfuse, fusermount, fuse.conf, the mount helper and numpy's release."""

from __future__ import annotations

import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError
from pathlib import Path

import pytest

from pinnerfs.cli.child import in_child
from pinnerfs.cli.load_numpy import load_numpy
from pinnerfs.doctor.release import RECORDED, check_numpy
from pinnerfs.errors import NO_FUSE
from tests.doctor.conftest import DOCTOR, Doctor
from tests.mount.support import DEADLINE, LIKE_A_USER, PRIVATE_ETC, PRIVATE_SBIN, ROOT, environment

AS_A_USER = (*LIKE_A_USER, "doctor", "--json")
PROGRAM = shutil.which("fusermount") or ""
BIND = 'program=$(readlink -f "$(command -v fusermount)"); cp "$program" own/fusermount; '


def test_no_libfuse(doctor: Doctor, directory: Path) -> None:
    """Without libfuse 2 an ordinary user cannot mount, but `run` may work. Root needs none."""
    setup = 'printf "#!/bin/sh\\n" > own/ldconfig; chmod 755 own/ldconfig; '
    setup += 'mount --bind own/ldconfig "$(readlink -f /sbin/ldconfig)"'
    # Without a compiler in PATH: ctypes.util.find_library would find the library with it.
    (directory / "bin").mkdir()
    path = ("env", f"PATH={directory / 'bin'}")
    remedy = "apt install libfuse2t64 || apt install libfuse2"
    text = "cannot load libfuse 2: Unable to find libfuse"
    as_user = doctor(setup, *path, *AS_A_USER)
    assert as_user.check("libfuse 2") == {"state": "error", "text": text, "remedy": remedy}
    assert as_user.data["mount"] is False
    as_root = doctor(setup, *path, *DOCTOR)
    text += "; root mounts without it"
    assert as_root.check("libfuse 2") == {"state": "warning", "text": text, "remedy": remedy}
    assert (as_root.data["mount"], as_root.status) == (True, 0)
    assert doctor().check("libfuse 2")["text"].startswith("version 2.")


@pytest.mark.parametrize(
    ("case", "setup", "prefix", "text", "remedy"),
    [
        ("not setuid", "chmod 755 own/fusermount; {bind}", (), "is not setuid root", "chown root {p}; chmod u+s {p}"),
        (
            "nosuid",
            'chmod 4755 own/fusermount; {bind}; mount -o remount,bind,nosuid "$program"',
            (),
            "is on a file system that is mounted with nosuid",
            "mount that file system without nosuid",
        ),
        (
            "no_new_privs",
            "chmod 4755 own/fusermount; {bind}",
            ("setpriv", "--no-new-privs"),
            "no_new_privs is set",
            "start the container without no-new-privileges",
        ),
    ],
)
def test_fusermount_that_cannot_become_root(
    doctor: Doctor, case: str, setup: str, prefix: tuple[str, ...], text: str, remedy: str
) -> None:
    """A fusermount that cannot become root is an error for a user, with the command that mends it."""
    setup = BIND + setup.format(bind='mount --bind own/fusermount "$program"')
    result = doctor(setup, *prefix, *AS_A_USER)
    found = result.check("fusermount")
    assert (found["state"], found["remedy"]) == ("error", remedy.format(p=PROGRAM))
    assert text in found["text"] and result.data["mount"] is False
    if case == "not setuid":
        assert doctor(f"{setup}\n{found['remedy']}", *AS_A_USER).check("fusermount")["state"] == "ok"


def test_no_fusermount(doctor: Doctor, directory: Path) -> None:
    """Without fusermount in PATH the package is named; with fusermount3 alone, the link."""
    (directory / "bin").mkdir()
    path = ("env", f"PATH={directory / 'bin'}")
    found = doctor(":", *path, *AS_A_USER).check("fusermount")
    assert found == {"state": "error", "text": "not found in PATH", "remedy": "apt install fuse3"}
    other = directory / "bin/fusermount3"
    other.symlink_to(PROGRAM)
    found = doctor(":", *path, *DOCTOR).check("fusermount")
    assert found["remedy"] == f"ln -s {other} /usr/local/bin/fusermount"
    assert (found["state"], found["text"]) == ("warning", "not found in PATH; root mounts without it")


def test_fuse_conf(doctor: Doctor) -> None:
    """user_allow_other counts on a line of its own, and the remedy adds it."""
    setup = f"{PRIVATE_ETC.strip()}\n"
    reason = ": ordinary users cannot mount with --allow-other"
    remedy = "echo user_allow_other >> /etc/fuse.conf"
    missing = doctor(f"{setup}rm -f /etc/fuse.conf").check("user_allow_other")
    text = f"/etc/fuse.conf: No such file or directory{reason}"
    assert missing == {"state": "warning", "text": text, "remedy": remedy}
    commented = f"{setup}echo '#user_allow_other' > /etc/fuse.conf\n"
    text = f"not set in /etc/fuse.conf{reason}"
    assert doctor(commented).check("user_allow_other") == {"state": "warning", "text": text, "remedy": remedy}
    assert doctor(f"{commented}{remedy}").check("user_allow_other")["state"] == "ok"


def test_the_mount_helper(doctor: Doctor, directory: Path) -> None:
    """Without a helper mount(8) cannot mount; the generic one cannot remount; the remedy installs ours."""
    program = directory / "mount.fuse.pinnerfs"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    setup = f"{PRIVATE_SBIN.strip()}\nrm -f /sbin/mount.fuse /sbin/mount.fuse.pinnerfs\n"
    path = ("env", f"PATH={directory}:/usr/sbin:/usr/bin:/sbin:/bin")
    none = doctor(setup, *path, *DOCTOR).check("mount helper")
    assert none == {
        "state": "warning",
        "text": "no /sbin/mount.fuse.pinnerfs: mount -t fuse.pinnerfs and fstab do not work",
        "remedy": f"ln -sf {program} /sbin/",
    }
    generic = doctor(f"{setup}cp {program} /sbin/mount.fuse", *path, *DOCTOR).check("mount helper")
    assert generic["text"].endswith(": mount -t fuse.pinnerfs works, but no remount")
    assert doctor(f"{setup}{none['remedy']}", *path, *DOCTOR).check("mount helper")["state"] == "ok"
    broken = doctor(f"{setup}ln -s /nowhere/helper /sbin/mount.fuse.pinnerfs", *path, *DOCTOR)
    assert broken.check("mount helper") == none


def test_the_release_of_numpy(doctor: Doctor, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Another release than the recorded one is a warning, and the remedy names that one."""
    metadata = directory / "numpy-9.9.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: numpy\nVersion: 9.9\n")
    found = doctor(":", "env", f"PYTHONPATH={directory}:{ROOT}", *DOCTOR).check("numpy")
    assert found["state"] == "warning" and found["text"].startswith("9.9: a seed may give other records")
    assert found["remedy"] == f"python3 -m pip install numpy=={RECORDED}"

    def missing(name: str) -> str:
        raise PackageNotFoundError(name)

    monkeypatch.setattr("pinnerfs.doctor.release.version", missing)
    absent = check_numpy(in_child, load_numpy)
    assert (absent.state, absent.text) == ("error", "not installed")


def test_a_numpy_that_cannot_be_imported(doctor: Doctor, directory: Path) -> None:
    """If Python cannot import numpy, neither `mount` nor `run` can work."""
    (directory / "numpy").mkdir()
    (directory / "numpy" / "__init__.py").write_text('raise ImportError("no libgfortran")\n')
    examined = doctor(":", "env", f"PYTHONPATH={directory}:{ROOT}", *DOCTOR)
    found = examined.check("numpy")
    assert found["state"] == "error" and found["text"].startswith("cannot import numpy: no libgfortran; ")
    assert found["remedy"] == f"python3 -m pip install --force-reinstall numpy=={RECORDED}"
    assert (examined.status, examined.data["mount"], examined.data["run"]) == (NO_FUSE, False, False)


def test_the_recorded_release() -> None:
    """The release is the one that the tests, with their digests, are pinned to."""
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    assert f"numpy=={RECORDED}" in extras["test"]


def test_text() -> None:
    """Without --json there is one line for each check, with the state first, and the verdicts come last."""
    done = subprocess.run(
        [sys.executable, "-m", "pinnerfs", "doctor"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
    )
    lines = done.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "error"}
    assert all((": " in line) and (line.startswith("ok") or "; to mend it: " in line) for line in lines[:-2])
    assert [line[8:].partition(":")[0] for line in lines[-2:]] == ["pinnerfs mount", "pinnerfs run"]
