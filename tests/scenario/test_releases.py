"""The calls that release the pages of a task."""

from __future__ import annotations

import pytest

from pinnerfs.scenario.gallery import parse
from tests.scenario.refusals import PHASE, refusal
from tests.workload.stories import source, story, task

WEIGHTS = [
    ("{ put_user_page = 9, put_page = 1 }", {"put_user_page": 9, "put_page": 1}),
    ("{ free = 2, put_page = 1 }", {"put_page": 1, "free": 2}),  # in the schema's order, whatever the file's is
    ("{ put_page = 1000000 }", {"put_page": 1000000}),
    ('"free"', {"free": 1}),
]


@pytest.mark.parametrize(("release", "calls"), WEIGHTS)
def test_releases(release: str, calls: dict[str, int]) -> None:
    """A task releases its pages by one call, or by several with weights."""
    text = source(task("a", PHASE)).replace('name = "a"', f'name = "a"\nrelease = {release}')
    (one,) = parse(text).task
    assert [*one.releases.items()] == [*calls.items()]


@pytest.mark.parametrize(("foll", "call"), [("FOLL_GET", "put_user_page"), ("FOLL_PIN", "unpin_user_page")])
def test_the_release_that_goes_with_foll(foll: str, call: str) -> None:
    """A task that does not say how it releases its pages uses the call that goes with its pins."""
    (one,) = story(task("a", PHASE, foll=foll)).task
    assert one.releases == {call: 1}


@pytest.mark.parametrize(
    ("release", "words"),
    [
        (
            "{}",
            (
                'task "a": release is an empty table: it must have one or more of put_user_page, '
                "unpin_user_page, put_page, free"
            ),
        ),
        ("{ put_page = 0 }", 'task "a": release.put_page = 0 must be from 1 to 1000000'),
        ("{ put_page = 1000001 }", 'task "a": release.put_page = 1000001 must be from 1 to 1000000'),
        (
            "{ put_page = 1, never = 1 }",
            'task "a": release.never is not allowed: a task releases all of its holds, or none',
        ),
        (
            "{ put_user_pages = 1 }",
            (
                "task \"a\": release has the unknown call 'put_user_pages': the calls are put_user_page, "
                "unpin_user_page, put_page, free; did you mean 'put_user_page'?"
            ),
        ),
    ],
)
def test_refused_weights(release: str, words: str) -> None:
    """Wrong weights of releases are refused."""
    text = source(task("a", PHASE)).replace('name = "a"', f'name = "a"\nrelease = {release}')
    assert refusal(text) == words
