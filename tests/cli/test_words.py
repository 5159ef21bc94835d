"""What other people have written, shown on a terminal."""

from __future__ import annotations

from pathlib import Path

import pytest

from pinnerfs.cli.words import plain
from tests.cli.conftest import Run
from tests.workload.stories import source, task


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("two\nlines\tand µs\udcff", "two\nlines\tand µs\udcff"),
        ("\x1b[2J", r"\x1b[2J"),
        ("\x00\x07\r\x7f\x9b", r"\x00\x07\r\x7f\x9b"),
    ],
)
def test_control_characters_are_written_out(text: str, shown: str) -> None:
    """What a terminal would obey is shown as an escape; all else stays."""
    assert plain(text) == shown


EVIL = source(task("a", 'for = "1s", every = "10ms", hold = "1ms"')).replace('"story"', r'"\u001b]0;owned\u0007"')


@pytest.mark.parametrize(
    ("command", "text", "shown"),
    [
        ("show", EVIL, r"\x1b]0;owned\x07"),
        ("check", EVIL.replace("every =", r'"\u001b[2J" ='), r"unknown field `\x1b[2J`"),
        ("show", EVIL.replace("every =", r'"\u001b[2J" ='), r"unknown field `\x1b[2J`"),
    ],
)
def test_a_scenario_cannot_steer_the_terminal(tmp_path: Path, run: Run, command: str, text: str, shown: str) -> None:
    """Nothing that stands in a scenario reaches the terminal as a command to it."""
    path = tmp_path / "evil.toml"
    path.write_text(text)
    done = run(command, path)
    assert shown in done.out + done.err
    assert "\x1b" not in done.out + done.err
