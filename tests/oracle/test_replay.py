"""What a real kernel answered, asked of the fake: the same shells and system calls, on a real mount."""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.oracle.cases import RECORDED, Case, load
from tests.oracle.caveats import Caveat, caveat_of, table
from tests.oracle.compare import form, words
from tests.oracle.stage import DEBUGFS, Stage

SHELLS = {
    "bash": ["/bin/bash", "-c"],
    # By its name, as the applet that it is.
    "ash": ["/bin/bash", "-c", 'exec -a ash busybox -c "$0"'],
    "dash": ["/usr/bin/dash", "-c"],
    "mksh": ["/usr/bin/mksh", "-c"],
}
TOOLS = {"ash": "busybox", "tb": "toybox"}


def _require(condition: bool, what: str) -> None:
    """Skip, by name, what this machine lacks; in CI nothing may be lacking."""
    if not condition:
        if os.environ.get("PINNERFS_REQUIRE_FUSE") == "1":
            pytest.fail(f"this machine lacks {what}")
        pytest.skip(f"this machine lacks {what}")


def _expected(kernel: str, text: str) -> str:
    """A recorded text as the kernel would print it: `introduced` prints the count, 1 for these lone holders."""
    if kernel != "introduced":
        return text
    # The second is what rev makes of it.
    return text.replace(" us count 0", " us count 1").replace("0 tnuoc su ", "1 tnuoc su ")


def _shell_differences(kernel: str, case: Case, stage: Stage) -> list[str]:
    done = stage.run([*SHELLS[case.shell], case.script])
    records = case.group in ("lt", "tb", "mksh", "dash") and case.long_pins > 0
    pairs: dict[str, tuple[Any, Any]] = {
        "stdout": (form(done.stdout, records), form(_expected(kernel, case.stdout), records)),
        "exit": (done.returncode, case.exit),
        "stderr": (words(done.stderr, records), words(case.stderr, records)),
    }
    return [f"{what}: wanted {wanted!r}, got {got!r}" for what, (got, wanted) in pairs.items() if got != wanted]


def _answer(kernel: str, answer: dict[str, Any]) -> dict[str, Any]:
    """An answer with a descriptor's number, and a record's data and length, in their form."""
    answer = {key: value for key, value in answer.items() if key != "call"}
    data = answer.get("data", "")
    if "Page pinned" in data:
        assert answer["ret"] == len(data)
        return {"ret": "len(data)", "data": form(_expected(kernel, data), records=True)}
    return answer


def _sys_differences(kernel: str, case: Case, stage: Stage, caveat: Caveat | None) -> list[str]:
    path = f"{DEBUGFS}/page_pinner/{'longterm_pinner' if case.group == 'lt' else 'threshold'}"
    calls = [op["call"] for op in case.ops]
    done = stage.run(
        [sys.executable, "-m", "tests.oracle.calls"], stdin=json.dumps({"calls": calls, "path": path}), check=True
    )
    answers = json.loads(done.stdout)
    if "unknown" in answers:
        pytest.skip(f"not replayed: this harness cannot make the call {answers['unknown']}")
    differences = []
    for op, got in zip(case.ops, answers, strict=True):
        wanted = _answer(kernel, op)
        if op["call"].startswith("open(") and op.get("ret", -1) >= 0:
            wanted = {"ret": "fd"}
        got = _answer("", got)
        covered = caveat is not None and caveat.covers(op["call"])
        if covered and got == wanted:
            differences.append(f"{op['call']}: has a caveat, and yet answers as recorded")
        elif not covered and got != wanted:
            differences.append(f"{op['call'][:200]}: wanted {wanted!r}, got {got!r}")
    return differences


@pytest.mark.mount
def test_case(kernel: str, case: Case, stages: Callable[[str, Case], Stage]) -> None:
    """A recorded case answers as the kernel did, or differs as its caveat says."""
    if not case.auto:
        pytest.skip("not replayed: its setup is in prose" + (" and waits for CMA" if case.waits_for_cma else ""))
    _require(os.access("/dev/fuse", os.R_OK | os.W_OK) and os.geteuid() == 0, "root, or a usable /dev/fuse")
    if case.kind == "shell":
        for tool in (SHELLS[case.shell][0], TOOLS.get(case.shell), TOOLS.get(case.group)):
            _require(tool is None or shutil.which(tool) is not None, tool or "")
    stage = stages(kernel, case)
    stage.prepare(case)
    caveat = caveat_of(case)
    if case.kind == "shell":
        differences = _shell_differences(kernel, case, stage)
        if caveat is not None:
            assert differences, f"{case.name} has a caveat, and yet answers as recorded"
            return
    else:
        differences = _sys_differences(kernel, case, stage, caveat)
    assert not differences, "\n".join(differences)


def test_every_recorded_case_has_a_state() -> None:
    """Each case in the repository is replayed, or named as one whose setup is prose, or as waiting for CMA."""
    states = Counter("replayed" if case.auto else "cma" if case.waits_for_cma else "prose" for case in load(RECORDED))
    assert states == {"replayed": 341, "prose": 110, "cma": 20}


def test_every_caveat_is_about_a_recorded_case() -> None:
    """A caveat names cases that exist."""
    covered = {caveat.what for case in load(RECORDED) if (caveat := caveat_of(case)) is not None}
    assert all(f"| {what} |" in table() for what in covered)
    assert len(covered) == table().count("\n") - 2


def test_the_readme_lists_the_caveats() -> None:
    """The README's table is the one made from the data."""
    readme = (Path(__file__).parents[2] / "README.md").read_text()
    assert f"<!-- caveats -->\n\n{table()}\n<!-- /caveats -->" in readme
