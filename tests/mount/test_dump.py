"""`pinnerfs dump` against a mount with the manual clock."""

from __future__ import annotations

import pytest

from tests.mount.support import Mounts, pinnerfs


@pytest.mark.parametrize(
    "options",
    [(), ("--seed", "7"), ("--threshold", "500000"), ("--threshold", "0x10", "--kernel", "android12-5.10-early")],
)
def test_dump_is_what_a_mount_shows(mount: Mounts, options: tuple[str, ...]) -> None:
    """dump --at 60s prints what cat prints on a mount that was advanced by 60 s or started at 60 s."""
    dumped = pinnerfs("dump", "camera-stall", "--at", "60s", *options)
    assert (dumped.returncode, dumped.stderr) == (0, "")
    advanced = mount("camera-stall", *options, name="advanced")
    advanced.advance("60s")
    assert advanced.shell("cat longterm_pinner").stdout == dumped.stdout
    started = mount("camera-stall", *options, "--start", "60s", name="started")
    assert started.shell("cat longterm_pinner").stdout == dumped.stdout
