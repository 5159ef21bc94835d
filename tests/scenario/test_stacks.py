"""Call stacks and the form of their frames."""

from __future__ import annotations

import pytest

from pinnerfs.scenario.gallery import parse
from tests.scenario.refusals import PHASE, refusal
from tests.workload.stories import source, task


@pytest.mark.parametrize(
    ("stack", "words"),
    [
        (
            'frames = [""]',
            (
                "stack \"s\": frames has '', which is not a frame: write symbol or symbol+0x10/0x80, and add ' "
                "[module]' if it is in a module"
            ),
        ),
        ('frames = "who"', "stack \"s\": frames = 'who' is a string: it must be an array"),
        ("", "stack \"s\": the key 'frames' is missing"),
        ('frames = ["who"]\nvia = "v"', "stack \"s\": via = 'v' must be one of 'fast', 'slow'"),
    ],
)
def test_a_refused_stack_has_its_name(stack: str, words: str) -> None:
    """A mistake in a stack is reported with the name of that stack."""
    first = '[stack.a]\nframes = ["who"]\n'
    text = source(task("a", PHASE), stack=stack).replace("[stack.s]", f"{first}[stack.s]")
    assert refusal(text + '[stack.z]\nframes = ["who"]\n') == words


@pytest.mark.parametrize(
    "frame",
    [
        "npu_ioctl",
        "npu_ioctl+0x50/0x80",
        "npu_ioctl [npu]",
        "npu_ioctl+0x0/0x1 [npu-core]",
        "__arm64_sys_ioctl",
        "copy_strings.isra.0+0x1c/0x2e0",
        "do_one.llvm.1234567",
        "$x.23",
        "vb2_ioctl_qbuf.cfi_jt",
    ],
)
def test_frames(frame: str) -> None:
    """A frame has the form in which a kernel prints it; offset and module may be left out."""
    assert parse(source(task("a", PHASE), stack=f'frames = ["{frame}"]')).stack["s"].frames == [frame]


@pytest.mark.parametrize(
    "frame",
    [
        "npu ioctl",
        "npu_ioctl+80/10",
        "npu_ioctl+0x50",
        "npu_ioctl+0x50/80",
        "npu_ioctl+0x5g/0x80",
        "x[npu]",
        "x [npu",
        "x [n pu]",
        "x  [npu]",
        " x",
        "x ",
        "0x12",
        "ioctl()",
        "ioctl\u00e4",
    ],
)
def test_what_is_no_frame(frame: str) -> None:
    """A frame in another form is refused with what a frame looks like."""
    words = refusal(source(task("a", PHASE), stack=f'frames = ["{frame}"]'))
    assert words == (
        f'stack "s": frames has {frame!r}, which is not a frame: '
        "write symbol or symbol+0x10/0x80, and add ' [module]' if it is in a module"
    )


@pytest.mark.parametrize("offset", ["0x80/0x80", "0x81/0x80", "0x0/0x0"])
def test_an_offset_beyond_the_size(offset: str) -> None:
    """An offset beyond the size of its function is refused."""
    words = refusal(source(task("a", PHASE), stack=f'frames = ["x+{offset}"]'))
    assert f"frames has 'x+{offset}', whose offset must be below its size" in words
