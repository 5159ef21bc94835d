"""The command `import`."""

from __future__ import annotations

from pathlib import Path

import pinnerfs
from tests.mount.support import pinnerfs as run


def test_import_and_check(tmp_path: Path) -> None:
    """What `import` prints of a dump passes `check --expect`; what was skipped of the dump is on stderr."""
    simulation = pinnerfs.Simulation(pinnerfs.load("threshold-edges"))
    simulation.advance("10s")
    (tmp_path / "dump.txt").write_text(simulation.cat() + "Page pinned ts 5 us count 1\n")
    done = run("import", tmp_path / "dump.txt")
    assert done.returncode == 0
    assert done.stderr.endswith(": the first line of a record is cut off\n")
    (tmp_path / "mine.toml").write_text(done.stdout)
    checked = run("check", "--expect", tmp_path / "mine.toml")
    assert checked.returncode == 0, checked.stderr
    assert run("import", "-", input=simulation.cat()).stdout.splitlines()[2:] == done.stdout.splitlines()[2:]


def test_refusals(tmp_path: Path) -> None:
    """An empty record file, a missing file and a file without records are one line each and status 2."""
    (tmp_path / "longterm_pinner").touch()
    (tmp_path / "text").write_text("nothing\n")
    messages = {"longterm_pinner": "it has no record", "none": "No such file", "text": "nothing to report"}
    for name, message in messages.items():
        done = run("import", tmp_path / name)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1)
        assert message in done.stderr
