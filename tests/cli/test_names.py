"""File names with control characters, in each command that takes one: no escape sequence, no forged line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.cli.conftest import Run
from tests.cli.test_errors import PLAIN, ROOT
from tests.mount.support import DEADLINE

NAMES = {
    "an escape sequence": "\x1b[31mred\x1b]0;title\x07",
    "a forged line": "a\nError: forged",
    "a carriage return": "a\rError: forged",
    "a C1 control": "\x9b31m",
    "a bidirectional override": "\u202eabc",
    "a line separator": "a\u2028b",
    "invalid UTF-8": "\udcff\udcfe",
}

# NAME is replaced. No command succeeds.
COMMANDS = [
    ["NAME"],
    ["NAME.toml"],
    ["NAME", "-o", "ro"],
    ["list", "NAME"],
    ["check", "NAME"],
    ["check", "./NAME.toml"],
    ["check", "--NAME"],
    ["check", "-NAME"],
    ["check", "--limit", "NAME", "good.toml"],
    ["check", "--limit", "pins=NAME", "good.toml"],
    ["show", "NAME"],
    ["show", "./NAME.toml"],
    ["dump", "./NAME.toml", "--at", "1s"],
    ["dump", "good.toml", "--at", "NAME"],
    ["dump", "good.toml", "--at", "1s", "--kernel", "NAME"],
    ["dump", "good.toml", "--at", "1s", "--threshold", "NAME"],
    ["dump", "good.toml", "--at", "1s", "--seed", "NAME"],
    ["sweep", "./NAME.toml"],
    ["sweep", "good.toml", "--at", "1s", "--set", "NAME"],
    ["sweep", "good.toml", "--at", "1s", "--set", "cpus=NAME"],
    ["sweep", "good.toml", "--at", "1s", "--set", "task.t.stack=NAME"],
    ["sweep", "good.toml", "--at", "1s", "--seeds", "NAME"],
    ["sweep", "good.toml", "--at", "1s", "--thresholds", "NAME"],
    ["sweep", "good.toml", "--at", "1s", "-o", "NAME/f"],
    ["report", "NAME"],
    ["report", "./NAME.toml"],
    ["report", "good.toml", "--sites", "NAME"],
    ["report", "--diff", "NAME"],
    ["report", "NAME", "--fail-if", "NAME"],
    ["report", "NAME", "--sort", "NAME"],
    ["umount", "NAME"],
    ["umount", "m", "NAME"],
    ["umount", "--max-wait", "NAME", "m"],
    ["ctl", "NAME", "clock"],
    ["ctl", "NAME", "stats"],
    ["ctl", "NAME", "advance", "5s"],
    ["ctl", "NAME", "do", "free"],
    ["ctl", "NAME", "NAME"],
    ["ctl", "m", "advance", "NAME"],
    ["ctl", "m", "do", "NAME"],
    ["quiet-device", "NAME", "-o", "unknown"],
    ["quiet-device", "m", "-o", "NAME"],
    ["quiet-device", "m", "-o", "mode=NAME"],
    ["quiet-device", "NAME", "-o", "remount"],
    ["mount", "./NAME.toml", "m"],
    ["mount", "quiet-device", "NAME"],
    ["mount", "quiet-device", "m", "--log", "NAME/log"],
    ["mount", "quiet-device", "m", "--clock", "NAME"],
    ["mount", "quiet-device", "m", "--trace", "NAME"],
    ["run", "./NAME.toml", "--", "true"],
    ["run", "quiet-device", "--mountpoint", "NAME", "--", "true"],
    ["run", "quiet-device", "--log", "NAME/log", "--", "true"],
]


@pytest.mark.parametrize("kind", NAMES)
def test_every_command(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """An error that quotes a name is one printable line."""
    (tmp_path / "good.toml").write_text(PLAIN)
    (tmp_path / "m").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("pinnerfs.cli.device.choose", lambda *_: None)  # it changes the log of later tests
    for command in COMMANDS:
        result = run(*(word.replace("NAME", NAMES[kind]) for word in command))
        assert result.status in (1, 2, 69), command
        assert result.out == ""
        line = result.err.removesuffix("\n")
        assert line.startswith("Error: ") and line.isprintable(), command


@pytest.mark.parametrize("kind", NAMES)
def test_scenario_files(run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    """The name of a file is printable in the output of check, and in its error."""
    monkeypatch.chdir(tmp_path)
    good, bad = f"./{NAMES[kind]}.toml", f"./{NAMES[kind]}-bad.toml"
    Path(good).write_text(PLAIN + '[[expect]]\nat = "1s"\nrecords = { max = 100 }\n')
    Path(bad).write_text(PLAIN.replace("every =", "rat ="))
    for command in ["check", good], ["check", "--expect", good], ["check", good, bad], ["check", bad], ["show", bad]:
        result = run(*command)
        lines = [*result.out.split("\n"), *result.err.split("\n")]
        assert all(line.isprintable() for line in lines), command
        assert not any(line == "Error: forged" for line in lines)
        assert result.status == (2 if bad in command else 0), result.err


@pytest.mark.parametrize("kind", NAMES)
def test_log_lines(tmp_path: Path, kind: str) -> None:
    """Whatever names a user chooses: each line of the log begins with its time, and is printable."""
    from tests.mount.support import Mounts, pinnerfs, scenario, why_no_mount

    if (reason := why_no_mount(tmp_path)) is not None:
        pytest.skip(f"this machine cannot mount: {reason}")
    name = NAMES[kind]
    mounts = Mounts(tmp_path)
    try:
        device = mounts(scenario(tmp_path), "--verbose", "--trace", "fuse", name=name)
        bad = os.fsencode(name)
        for path in device.path / name, device.path / "page_pinner" / name:
            with pytest.raises(OSError):
                path.write_text("x")
            with pytest.raises(OSError):
                path.symlink_to(name)
        for file in device.path / ".pinnerfs" / "do", device.path / ".pinnerfs" / "advance", device.threshold:
            with pytest.raises(OSError):
                file.write_bytes(bad)
        assert pinnerfs("umount", device.path).returncode == 0
        assert device.gone()
        # The name of the log has control characters, too.
        lines = device.log.read_text().removesuffix("\n").split("\n")
        device.log.unlink()
    finally:
        mounts.close()
    assert len(lines) > 10
    for line in lines:
        assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} (INFO|DEBUG|WARNING) ", line) and line.isprintable(), (
            line
        )


def test_the_error_of_a_process(tmp_path: Path) -> None:
    """The bytes on stderr of a real process are printable ASCII and a newline."""
    done = subprocess.run(
        [sys.executable, "-m", "pinnerfs", "umount", b"\x1b[31m\n\xff\x9b"],
        capture_output=True,
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        timeout=DEADLINE,
        check=False,
    )
    assert re.fullmatch(rb"Error: [ -~]+\n", done.stderr)
