"""What scripts and shells get of mounts: completion of mount points, counters as JSON."""

from __future__ import annotations

import json
import sys

from tests.mount.support import Mounts, pinnerfs, run_command
from tests.mount.test_stopped import _stopped


def test_completion_of_mounts(mount: Mounts) -> None:
    """`umount` and `ctl` complete mounts of pinnerfs, also one whose daemon is stopped, which blocks nothing."""
    one, _ = mount(name="one"), mount(name="two")
    for directory, word in ((one.path.parent, ""), ("/", f"{one.path.parent}/")):
        for command in ("umount", "ctl"):
            words = f"pinnerfs {command} {word}"
            variables = f"_PINNERFS_COMPLETE=bash_complete COMP_CWORD=2 COMP_WORDS='{words}'"
            script = f'{variables} exec "{sys.executable}" -c "from pinnerfs.cli import main; main()"'
            with _stopped(one):
                done = run_command(["sh", "-c", script], cwd=directory)
            assert (done.returncode, done.stderr) == (0, "")
            assert {f"plain,{word}one", f"plain,{word}two"} <= {*done.stdout.splitlines()}


def test_stats_as_json(mount: Mounts) -> None:
    """`ctl DIR stats --json` has the counters of the text."""
    device = mount()
    device.advance("10s")
    done = pinnerfs("ctl", device.path, "stats", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout) == {"format": 1, "stats": device.stats()}
