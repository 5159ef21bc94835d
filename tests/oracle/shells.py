"""Running a recorded script with its shell, inside a world."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from dataclasses import dataclass

from tests.oracle.cases import Case
from tests.oracle.world import World

__all__ = ["SHELLS", "Answer", "missing_tools", "run_shell"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/", "LC_ALL": "C", "TZ": "UTC"}
# How each shell was started: the program, and the name that it goes by in its messages.
SHELLS = {
    "bash": ("bash", "/bin/bash"),
    "ash": ("busybox", "ash"),
    "dash": ("dash", "/usr/bin/dash"),
    "mksh": ("mksh", "/usr/bin/mksh"),
}
# Programs that are packages of their own, beside what every Debian has.
TOOLS = ("busybox", "toybox", "python3", "perl", "less", "xxd", "rev", "hexdump", "file", "setpriv", "diff", "cmp")
# What an earlier case of the same kind left in /tmp.
LEFT_IN_TMP = {"/tmp/v31": "31\n"}
STOPPED_AFTER = 1  # seconds for what never ends


@dataclass(frozen=True)
class Answer:
    """What a script left: its status ("timeout" where it had to be stopped) and what it wrote."""

    exit: int | str
    stdout: str
    stderr: str


def missing_tools(case: Case) -> list[str]:
    """The programs of the case that this machine lacks."""
    if case.shell is None:
        return []
    words = set(re.findall(r"[\w.+-]+", case.script))
    wanted = [SHELLS[case.shell][0] if case.shell in SHELLS else case.shell, *(tool for tool in TOOLS if tool in words)]
    if " sh -c" in case.script:
        wanted.append("busybox")
    return [tool for tool in dict.fromkeys(wanted) if shutil.which(tool, path=PATH) is None]


def _run(case: Case, program: str, name: str, left: dict[str, str], patience: float) -> Answer:
    os.umask(0o022)
    for path, text in left.items():
        with open(path, "w") as file:
            file.write(text)
    environment = ENVIRONMENT
    if " sh -c" in case.script:
        # The machine that answered had busybox as `sh`.
        os.mkdir("/tmp/.bin")
        os.symlink(shutil.which("busybox", path=PATH) or "", "/tmp/.bin/sh")
        environment = environment | {"PATH": f"/tmp/.bin:{PATH}"}
    if case.script.startswith("file "):
        # It had no data for `file`.
        environment = environment | {"MAGIC": "/nowhere"}
    process = subprocess.Popen(
        [name, "-c", case.script],
        executable=program,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
    )
    status: int | str
    try:
        out, err = process.communicate(timeout=patience)
        status = process.returncode
    except subprocess.TimeoutExpired as late:
        process.kill()
        out, err = late.stdout or b"", late.stderr or b""
        status = "timeout"
    return Answer(status, out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape"))


def run_shell(world: World, case: Case, left: dict[str, str] | None = None) -> Answer:
    """The answer of the script, with files that earlier cases left in /tmp."""
    assert case.shell is not None
    program, name = SHELLS[case.shell]
    found = shutil.which(program, path=PATH)
    assert found is not None
    patience = STOPPED_AFTER if case.exit == "timeout" else 15
    answer = world.inside(_run, case, found, name, LEFT_IN_TMP | (left or {}), patience, uid=case.uid)
    assert isinstance(answer, Answer)
    return answer
