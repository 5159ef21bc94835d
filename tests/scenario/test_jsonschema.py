"""The JSON Schema of scenario files: it takes the gallery, and refuses typos and wrong units."""

from __future__ import annotations

import re
import subprocess
import sysconfig
from pathlib import Path

import fastjsonschema
import pytest

import pinnerfs
from pinnerfs.errors import PinnerfsError
from pinnerfs.scenario.gallery import gallery_directory
from pinnerfs.scenario.jsonschema import FILE_NAME, scenario_schema, schema_text
from pinnerfs.scenario.toml import parse_toml
from tests.mount.support import DEADLINE

TOMBI = Path(sysconfig.get_path("scripts")) / "tombi"
FIRST_LINE = f"#:schema ./{FILE_NAME}\n"
GOOD = (
    FIRST_LINE
    + """
format = 1
name = "made-up"
description = "for the tests"
seed = 7
duration = "60s"
threshold = "1.5 s"
race = 0.5

[memory]
size = "64MiB"
base_pfn = 0x80000
region = [
    { name = "normal", size = "32MiB", migratetype = "Movable", flags = ["uptodate", "lru"], zone = 1 },
    { name = "area", size = "16MiB", migratetype = "CMA", cma = "area", pages = "file" },
]

[stack.peek]
via = "slow"
syscall = "read"
frames = ["get_user_pages_remote+0x10/0x80", "mem_read [mod]"]

[[task]]
name = "reader"
stack = "peek"
region = "normal"
foll = "FOLL_GET"
pages = 2
start = { dist = "uniform", min = "0ms", max = "1s" }
release = { put_user_page = 9, put_page = 1 }
unmap = "with-release"
phase = [{ for = "10s", rate = "20/s", hold = { dist = "choice", values = ["1ms", "400ms"], weights = [3, 1] } }]

[[alloc]]
name = "camera"
area = "area"
stack = "heap"
pages = 4
phase = [{ for = "10s", every = "5s", hold = "1s" }]

[stack.heap]
frames = ["cma_heap_allocate"]

[[expect]]
at = "60s"
ts = { min = "1us", max = "500ms" }
kernel = "introduced"

[[fault]]
at = "5s"
op = "read"
errno = "EIO"
"""
)
# What is replaced in it, and by what. Each is a mistake.
MISTAKES = {
    "a key of the file": ("duration =", "durration ="),
    "a key of a task": ("pages = 2", "page = 2"),
    "a key of a phase": ("rate =", "rat ="),
    "a key of the memory": ("base_pfn =", "basepfn ="),
    "a key of a region": ("zone = 1", "zones = 1"),
    "a key of an expectation": ('at = "60s"\nts', 'at = "60s"\ntime'),
    "a key of a distribution": ('min = "0ms"', 'low = "0ms"'),
    "a key of a fault": ("errno =", "error ="),
    "a missing key": ('stack = "peek"\n', ""),
    "no such distribution": ('dist = "uniform"', 'dist = "unfiorm"'),
    "no such call": ("put_page = 1", "putpage = 1"),
    "no such FOLL flag": ('"FOLL_GET"', '"FOL_GET"'),
    "no such path": ('via = "slow"', 'via = "slowly"'),
    "no such migratetype": ('"Movable"', '"Moveable"'),
    "no such page flag": ('"uptodate"', '"up_to_date"'),
    "no such kernel": ('kernel = "introduced"', 'kernel = "introduecd"'),
    "no such operation": ('op = "read"', 'op = "reads"'),
    "no such errno": ('"EIO"', '"EI0"'),
    "no such unmap": ('"with-release"', '"with_release"'),
    "a time in parsecs": ('threshold = "1.5 s"', 'threshold = "5 parsecs"'),
    "a time without a unit": ('duration = "60s"', "duration = 60"),
    "a time in seconds": ('hold = "1s"', 'hold = "1 sec"'),
    "a negative time": ('every = "5s"', 'every = "-5s"'),
    "a time in a list": ('"400ms"]', '"400 msec"]'),
    "a size in megabytes": ('size = "64MiB"', 'size = "64MB"'),
    "a size without a unit": ('size = "32MiB"', "size = 33554432"),
    "a rate without a unit": ('rate = "20/s"', "rate = 20"),
    "a rate in Hz": ('rate = "20/s"', 'rate = "20Hz"'),
    "a frame with a blank": ("get_user_pages_remote+0x10/0x80", "get user pages"),
    "a frame in decimal": ("+0x10/0x80", "+16/128"),
    "a string for a number": ("pages = 2", 'pages = "2"'),
    "too many pages": ("pages = 2", "pages = 262145"),
    "a later format": ("format = 1", "format = 2"),
}


def mistake(name: str) -> str:
    """Return the text with a mistake."""
    right, wrong = MISTAKES[name]
    assert GOOD.count(right) == 1
    return GOOD.replace(right, wrong)


def tombi(*paths: Path) -> dict[str, list[str]]:
    """Return what a public validator of TOML says about each file that it refuses, by the file's name."""
    done = subprocess.run(
        [TOMBI, "lint", "--offline", "--no-cache", *paths],
        capture_output=True,
        text=True,
        timeout=DEADLINE,
        check=False,
        cwd=paths[0].parent,
    )
    said = re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)
    refused: dict[str, list[str]] = {}
    for message, file in re.findall(r"^ *Error: (.*)\n +at (.*?):\d+:\d+$", said, re.MULTILINE):
        refused.setdefault(Path(file).name, []).append(message)
    assert done.returncode == (1 if refused else 0), said
    return refused


def test_the_file_is_the_schema() -> None:
    """The file beside the gallery is the schema, byte for byte. It is ASCII."""
    text = schema_text()
    assert (gallery_directory() / FILE_NAME).read_text() == text, f"write: pinnerfs schema > scenarios/{FILE_NAME}"
    assert text.isascii()


def test_every_key_is_described() -> None:
    """Each key of each table has a description; those of distributions have that of the distribution."""
    for name, definition in scenario_schema()["$defs"].items():
        assert definition["description"] and definition["additionalProperties"] is False
        if "dist" not in definition["properties"]:
            assert [key for key, value in definition["properties"].items() if not value["description"]] == [], name


def test_no_number_for_a_quantity() -> None:
    """No key takes both a number and a string: a quantity without its unit is a mistake."""
    for definition in scenario_schema()["$defs"].values():
        for key, value in definition["properties"].items():
            types = {member.get("type") for member in value.get("anyOf", [value])}
            assert "null" not in types and not ("string" in types and types & {"integer", "number"}), key


def test_the_gallery_names_the_schema() -> None:
    """The first line of each scenario of the gallery names the file beside it."""
    for path in pinnerfs.gallery().values():
        assert path.read_text().startswith(FIRST_LINE), path


def test_a_public_validator(tmp_path: Path) -> None:
    """It takes the gallery and a made-up scenario, and refuses each of many typos and wrong units."""
    assert tombi(*pinnerfs.gallery().values()) == {}
    (tmp_path / FILE_NAME).write_text(schema_text())
    (tmp_path / "good.toml").write_text(GOOD)
    for number, name in enumerate(MISTAKES):
        (tmp_path / f"{number}.toml").write_text(mistake(name))
    refused = tombi(*sorted(tmp_path.glob("*.toml")))
    assert {name for number, name in enumerate(MISTAKES) if f"{number}.toml" not in refused} == set()
    assert "good.toml" not in refused and len(refused) == len(MISTAKES) >= 20


def test_a_json_validator() -> None:
    """A validator of JSON finds the same: each mistake, and nothing in what is right."""
    validate = fastjsonschema.compile({**scenario_schema(), "$schema": "http://json-schema.org/draft-07/schema#"})
    for path in pinnerfs.gallery().values():
        validate(parse_toml(path.read_text()))
    validate(parse_toml(GOOD))
    for name in MISTAKES:
        with pytest.raises(fastjsonschema.JsonSchemaException):
            validate(parse_toml(mistake(name)))


def test_pinnerfs_agrees() -> None:
    """pinnerfs refuses each of these mistakes, too, and takes what is right."""
    pinnerfs.parse(GOOD)
    for name in MISTAKES:
        with pytest.raises(PinnerfsError):
            pinnerfs.parse(mistake(name))
