"""Running a recorded script with its shell, inside a world."""

from __future__ import annotations

import os
import re
import selectors
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from tests.oracle.cases import Case
from tests.oracle.world import World

__all__ = ["SHELLS", "Answer", "busybox_head_fails", "missing_tools", "run_shell"]

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
PATIENT = Path(__file__).with_name("patient.py")
PATIENCE = 60  # seconds for a script, however busy the machine is


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


def busybox_head_fails() -> bool:
    """Return whether this busybox's `head` exits with an error when it cannot write, which a full disk shows."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(["busybox", "head", "-n", "1", "/etc/passwd"], stdout=full, stderr=subprocess.DEVNULL)
    return done.returncode != 0


def _own_programs(case: Case) -> dict[str, str]:
    """Return the programs, by name, that stand in for the machine's own: one line of shell each."""
    programs = {}
    for name in ("sleep", "timeout"):
        if re.search(rf"\b{name} [\d.]", case.script):
            programs[name] = f'exec {sys.executable} -I {PATIENT} {name} "$@"'
    return programs


def _run(case: Case, program: str, name: str, left: dict[str, str], enough: tuple[int, int] | None) -> Answer:
    os.umask(0o022)
    for path, text in left.items():
        with open(path, "w") as file:
            file.write(text)
    environment = ENVIRONMENT
    os.mkdir("/tmp/.bin")
    for called, script in _own_programs(case).items():
        with open(f"/tmp/.bin/{called}", "w") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(f"/tmp/.bin/{called}", 0o755)
    if " sh -c" in case.script:
        # The machine that answered had busybox as `sh`.
        os.symlink(shutil.which("busybox", path=PATH) or "", "/tmp/.bin/sh")
    if os.listdir("/tmp/.bin"):
        environment = environment | {"PATH": f"/tmp/.bin:{PATH}"}
    if case.script.startswith("file "):
        # It had no data for `file`.
        environment = environment | {"MAGIC": "/nowhere"}
    with subprocess.Popen(
        [name, "-c", case.script],
        executable=program,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment,
        cwd="/",
    ) as process:
        status, (out, err) = _listen(process, enough)
    return Answer(status, out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape"))


def _listen(process: subprocess.Popen[bytes], enough: tuple[int, int] | None) -> tuple[int | str, list[bytes]]:
    """Take what a process writes until its end. It is stopped as soon as both outputs have `enough` lines."""
    assert process.stdout is not None and process.stderr is not None
    said = [b"", b""]
    deadline = time.monotonic() + PATIENCE
    with selectors.DefaultSelector() as selector:
        for index, pipe in enumerate((process.stdout, process.stderr)):
            selector.register(pipe, selectors.EVENT_READ, index)
        while selector.get_map():
            for key, _ in selector.select(max(0, deadline - time.monotonic())):
                part = os.read(key.fd, 1 << 16)
                said[key.data] += part
                if not part:
                    selector.unregister(key.fileobj)
            has_enough = enough is not None and all(
                text.count(b"\n") >= lines for text, lines in zip(said, enough, strict=True)
            )
            if has_enough or time.monotonic() > deadline:
                process.kill()
                return "timeout", said
    return process.wait(max(1, deadline - time.monotonic())), said


def run_shell(world: World, case: Case, left: dict[str, str] | None = None) -> Answer:
    """Return the answer of the script, with files that earlier cases left in /tmp.

    A script that was stopped when it was recorded is stopped when it has said as much, and one line more.
    """
    assert case.shell is not None
    program, name = SHELLS[case.shell]
    found = shutil.which(program, path=PATH)
    assert found is not None
    enough = None
    if case.exit == "timeout":
        enough = (case.stdout.count("\n"), case.stderr.count("\n") + 1)
    answer = world.inside(_run, case, found, name, LEFT_IN_TMP | (left or {}), enough, uid=case.uid)
    assert isinstance(answer, Answer)
    return answer
