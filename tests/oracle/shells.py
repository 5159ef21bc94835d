"""Run a recorded script with its shell in a sandbox."""

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
from tests.oracle.sandbox import Sandbox

__all__ = ["SHELLS", "ShellAnswer", "busybox_head_reports_errors", "missing_tools", "run_shell"]

PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "HOME": "/", "LC_ALL": "C", "TZ": "UTC"}
# Shell of a case -> the program, and argv[0], which the shell prints in its messages.
SHELLS = {
    "bash": ("bash", "/bin/bash"),
    "ash": ("busybox", "ash"),
    "dash": ("dash", "/usr/bin/dash"),
    "mksh": ("mksh", "/usr/bin/mksh"),
}
# Programs that a minimal Debian does not have.
TOOLS = ("busybox", "toybox", "python3", "perl", "less", "xxd", "rev", "hexdump", "file", "setpriv", "diff", "cmp")
# Files that an earlier case left in /tmp.
LEFTOVERS = {"/tmp/v31": "31\n"}
SLEEP_TIMEOUT = Path(__file__).with_name("sleep_timeout.py")
DEADLINE = 60  # seconds for a script; large, because the machine may be busy


@dataclass(frozen=True)
class ShellAnswer:
    """The exit status of a script ("timeout" if it was killed) and its output."""

    exit: int | str
    stdout: str
    stderr: str


def missing_tools(case: Case) -> list[str]:
    """Return the programs of the case that this machine does not have."""
    if case.shell is None:
        return []
    words = set(re.findall(r"[\w.+-]+", case.script))
    wanted = [SHELLS[case.shell][0] if case.shell in SHELLS else case.shell, *(tool for tool in TOOLS if tool in words)]
    if " sh -c" in case.script:
        wanted.append("busybox")
    return [tool for tool in dict.fromkeys(wanted) if shutil.which(tool, path=PATH) is None]


def busybox_head_reports_errors() -> bool:
    """Return whether `busybox head` exits with an error if it cannot write its output. Try it with /dev/full."""
    with open("/dev/full", "wb") as full:
        done = subprocess.run(["busybox", "head", "-n", "1", "/etc/passwd"], stdout=full, stderr=subprocess.DEVNULL)
    return done.returncode != 0


def _replacement_programs(case: Case) -> dict[str, str]:
    """Return replacements for programs of the machine: name -> one line of shell."""
    programs = {}
    for name in ("sleep", "timeout"):
        if re.search(rf"\b{name} [\d.]", case.script):
            programs[name] = f'exec {sys.executable} -I {SLEEP_TIMEOUT} {name} "$@"'
    return programs


def _run(
    case: Case, program: str, name: str, leftovers: dict[str, str], line_limits: tuple[int, int] | None
) -> ShellAnswer:
    os.umask(0o022)
    for path, text in leftovers.items():
        with open(path, "w") as file:
            file.write(text)
    environment = ENVIRONMENT
    os.mkdir("/tmp/.bin")
    for called, script in _replacement_programs(case).items():
        with open(f"/tmp/.bin/{called}", "w") as file:
            file.write(f"#!/bin/sh\n{script}\n")
        os.chmod(f"/tmp/.bin/{called}", 0o755)
    if " sh -c" in case.script:
        # `sh` was busybox on the recorded machine.
        os.symlink(shutil.which("busybox", path=PATH) or "", "/tmp/.bin/sh")
    if os.listdir("/tmp/.bin"):
        environment = environment | {"PATH": f"/tmp/.bin:{PATH}"}
    if case.script.startswith("file "):
        # The recorded machine had no database for `file`.
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
        status, (out, err) = _read_output(process, line_limits)
    return ShellAnswer(status, out.decode(errors="surrogateescape"), err.decode(errors="surrogateescape"))


def _read_output(
    process: subprocess.Popen[bytes], line_limits: tuple[int, int] | None
) -> tuple[int | str, list[bytes]]:
    """Read stdout and stderr of a process until it ends, or kill it when both have `line_limits` lines."""
    assert process.stdout is not None and process.stderr is not None
    output = [b"", b""]
    deadline = time.monotonic() + DEADLINE
    with selectors.DefaultSelector() as selector:
        for index, pipe in enumerate((process.stdout, process.stderr)):
            selector.register(pipe, selectors.EVENT_READ, index)
        while selector.get_map():
            for key, _ in selector.select(max(0, deadline - time.monotonic())):
                part = os.read(key.fd, 1 << 16)
                output[key.data] += part
                if not part:
                    selector.unregister(key.fileobj)
            limits_reached = line_limits is not None and all(
                text.count(b"\n") >= lines for text, lines in zip(output, line_limits, strict=True)
            )
            if limits_reached or time.monotonic() > deadline:
                process.kill()
                return "timeout", output
    return process.wait(max(1, deadline - time.monotonic())), output


def run_shell(sandbox: Sandbox, case: Case, leftovers: dict[str, str] | None = None) -> ShellAnswer:
    """Run the script and return its answer. `leftovers` are files that earlier cases left in /tmp, by path.

    If the recorder killed the script, kill it when it has written the recorded lines and one more line to stderr.
    """
    assert case.shell is not None
    program, name = SHELLS[case.shell]
    found = shutil.which(program, path=PATH)
    assert found is not None
    line_limits = None
    if case.exit == "timeout":
        line_limits = (case.stdout.count("\n"), case.stderr.count("\n") + 1)
    answer = sandbox.call(_run, case, found, name, LEFTOVERS | (leftovers or {}), line_limits, uid=case.uid)
    assert isinstance(answer, ShellAnswer)
    return answer
