"""Random scenario files: mutations of the gallery, and random tables with the schema's keys."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

from pinnerfs.scenario.gallery import gallery
from pinnerfs.scenario.quantities import RATES, SIZES, TIMES

__all__ = ["make"]

# Values that broke parsers of other formats.
NASTY = (
    *("-1", "0", "1", "10", "4096", "1000000000", "9223372036854775807", "9223372036854775808", "-9223372036854775809"),
    *("1" + "0" * 400, "1" + "0" * 5000, "1e308", "1e400", "-0.0", "5e-324", "nan", "-nan", "inf", "-inf", "0xffff"),
    *("true", "[]", "{}", "[[]]", '""', '" "', '"\\u0000"', '"\\u001b[2J"', '"\\ud800"', '"\\U0010ffff"', '"a\\nb"'),
    *("1979-05-27", "07:32:00", "'''x'''", '"""x"""', "[" * 300 + "]" * 300, "[" * 5000, "{a=" * 300 + "1" + "}" * 300),
    *('"-5s"', '"1e9s"', '"5 s"', '"5  s"', '"٣s"', '"0us"', '"366h"', '"8784h"', '"8785h"', '"99999999999999999h"'),
    *('"0.0000000000000000000000001us"', '"1TiB"', '"4096B"', '"1/us"', '"0.001/h"', '"1/0"', '"free"', '"never"'),
    *('"camera"', '"../../etc/passwd"', '"/dev/zero"', '"$(id)"', '"%s%n"', f'"{"x" * 5000}"', "a", "=", "#", "\0"),
)


def make(rng: random.Random) -> bytes:
    """Return one random file."""
    return rng.choice((_flipped, _cut, _swapped, _revalued, _random, _random, _random, _nested))(rng)


def _source(rng: random.Random) -> str:
    return _SOURCES[rng.randrange(len(_SOURCES))]


_SOURCES = [path.read_text() for path in gallery().values()]


def _flipped(rng: random.Random) -> bytes:
    data = bytearray(_source(rng).encode())
    for _ in range(rng.choice((1, 1, 2, 8, 100))):
        at = rng.randrange(len(data))
        data[at] = rng.randrange(256) if rng.random() < 0.5 else data[at] ^ 1 << rng.randrange(8)
    return bytes(data)


def _cut(rng: random.Random) -> bytes:
    """Return a gallery file with some pieces removed or repeated."""
    data = bytearray(_source(rng).encode())
    for _ in range(rng.choice((1, 1, 3))):
        start = rng.randrange(len(data))
        piece = data[start : start + rng.choice((1, 5, 80, 1000))]
        data[start : start + len(piece)] = piece * rng.choice((0, 0, 2, 50))
        data = data or bytearray(b"\n")
    return bytes(data)


def _swapped(rng: random.Random) -> bytes:
    """Return a gallery file with some keys, values or lines swapped."""
    lines = _source(rng).splitlines()
    pairs = [at for at, line in enumerate(lines) if " = " in line]
    for _ in range(rng.choice((1, 1, 3))):
        one, other = rng.choice(pairs), rng.choice(pairs)
        (key, _, value), (other_key, _, other_value) = (lines[at].partition(" = ") for at in (one, other))
        match rng.randrange(4):
            case 0:
                lines[one], lines[other] = f"{key} = {other_value}", f"{other_key} = {value}"
            case 1:
                lines[one], lines[other] = f"{other_key} = {value}", f"{key} = {other_value}"
            case 2:
                lines[one], lines[other] = lines[other], lines[one]
            case 3:
                lines[one] = f"{value} = {key}"
    return "\n".join(lines).encode()


def _revalued(rng: random.Random) -> bytes:
    lines = _source(rng).splitlines()
    pairs = [at for at, line in enumerate(lines) if " = " in line]
    for _ in range(rng.choice((1, 1, 2))):
        at = rng.choice(pairs)
        lines[at] = f"{lines[at].partition(' = ')[0]} = {rng.choice((*NASTY, *_OF_SCHEMA))}"
    return "\n".join(lines).encode(errors="surrogatepass")


_OF_SCHEMA = [json.dumps(f"{number}{unit}") for number in (0, 1, 7, 1000) for unit in (*TIMES, *SIZES, *RATES)]


def _nested(rng: random.Random) -> bytes:
    """Return a file with deep nesting, or with very many keys, tables or values."""
    depth = rng.choice((1, 3, 40, 400, 3000))
    count = rng.choice((10, 1000, 20_000))
    choice = '{ dist = "choice", values = [' * depth + '"1ms"' + "] }" * depth
    text = rng.choice(
        (
            _scenario(_inline({"hold": "%s", "every": "1s", "for": "1s"})).replace('"%s"', choice),
            ".".join(["a"] * depth) + " = 1",
            f"[{'.'.join(['task'] * depth)}]",
            "[[task]]\n" * count,
            "".join(f"[stack.s{number}]\nframes = []\n" for number in range(count)),
            _scenario(", ".join([_inline({"every": "1s", "for": "1s", "hold": "1ms"})] * count)),
            _scenario(_inline({"every": "1s", "for": "1s", "hold": {"dist": "choice", "values": ["1ms"] * count}})),
            'description = "' + "x" * count + '"',
        )
    )
    return text.encode()


def _scenario(phases: str) -> str:
    return f"""
format = 1
name = "made"
description = "by a fuzzer"
[memory]
size = "64MiB"
region = [{{ name = "all", size = "64MiB" }}]
[stack.s]
frames = ["f"]
[[task]]
name = "t"
stack = "s"
region = "all"
phase = [{phases}]
"""


def _random(rng: random.Random) -> bytes:
    """Return a file with the schema's keys, mostly with values of the right kind."""
    regions = [f"r{number}" for number in range(rng.choice((1, 1, 2, 3)))]
    stacks = [f"s{number}" for number in range(rng.choice((1, 1, 2)))]
    names = [f"t{number}" for number in range(rng.choice((0, 1, 1, 2, 4)))]
    order = rng.choice((10, 10, 0, 3, 12))
    block = 4 << order
    size = block * rng.choice((1, 8, 64, 1000))
    some = _Some(rng)
    tables = {
        "format": 1,
        "name": "random",
        "description": "by a fuzzer",
        **some(seed=lambda: rng.randrange(1 << 64), duration=some.time, threshold=some.time, race=rng.random),
        "memory": {
            "size": f"{size * len(regions)}KiB",
            "pageblock_order": order,
            "region": [
                {
                    "name": name,
                    "size": f"{size}KiB",
                    **some(
                        migratetype=lambda: rng.choice(("CMA", "Movable", "Isolate")),
                        flags=lambda: rng.sample(("uptodate", "lru", "head", "locked"), 2),
                        zone=lambda: rng.randrange(4),
                    ),
                }
                for name in regions
            ],
        },
        "stack": {
            name: {
                "frames": [f"f{number}" for number in range(rng.choice((0, 1, 5, 40)))],
                **some(via=lambda: rng.choice(("slow", "fast")), syscall=lambda: "ioctl"),
            }
            for name in stacks
        },
        "task": [_task(some, name, names, regions, stacks) for name in names],
        "expect": [{"at": some.time(), "records": rng.randrange(9)}] * rng.choice((0, 0, 1)),
    }
    text = "\n".join(f"{key} = {_value(value)}" for key, value in tables.items())
    for _ in range(rng.choice((0, 0, 0, 0, 1, 2))):
        # Replace a value by a nasty one.
        words = text.split(" = ")
        at = rng.randrange(1, len(words))
        rest = words[at].lstrip('"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-')
        words[at] = rng.choice(NASTY) + rest
        text = " = ".join(words)
    return text.encode(errors="surrogatepass")


def _task(some: _Some, name: str, names: list[str], regions: list[str], stacks: list[str]) -> dict[str, object]:
    rng = some.rng
    never = rng.random() < 0.1
    pages: dict[str, object]
    if rng.random() < 0.2 and len(names) > 1:
        pages = {"share": rng.choice(names)}
    else:
        pages = {"region": rng.choice(regions)} | some(
            pages=lambda: rng.choice((1, 2, 7, 64, 1000)),
            order=lambda: rng.choice((0, 0, 1, 3)),
            pick=lambda: rng.choice(("contiguous", "scattered")),
        )
        if rng.random() < 0.1:
            pages = {"region": regions[0], "pfn": rng.choice((0, 0, 8, 1000))}
    releases = ("put_page", "free", "put_user_page", {"put_user_page": 9, "put_page": rng.randrange(1, 10)})
    release = {"release": "never"} if never else some(release=lambda: rng.choice(releases))
    return {
        "name": name,
        "stack": rng.choice(stacks),
        **pages,
        **release,
        **some(
            instances=lambda: rng.choice((1, 2, 3, 50)),
            start=some.quantity,
            foll=lambda: rng.choice(("FOLL_GET", "FOLL_PIN", "none")),
        ),
        "phase": [_phase(some, never) for _ in range(rng.choice((1, 1, 2, 3)))],
    }


def _phase(some: _Some, never: bool) -> dict[str, object]:
    rng = some.rng
    lasts: dict[str, object] = {"for": some.quantity()} if rng.random() < 0.6 else {"repeat": rng.choice((1, 3, 10**9))}
    if "for" in lasts and rng.random() < 0.2:
        return lasts
    rate = f"{rng.choice((1, 50))}/{rng.choice(('ms', 's'))}"
    ways: list[tuple[str, object]] = [("every", some.time()), ("gap", some.quantity()), ("rate", rate)]
    arrivals = dict([rng.choice(ways)])
    return lasts | arrivals | ({} if never else {"hold": some.quantity()})


class _Some:
    """A source of optional keys: some(key=draw) has the key half of the time."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng

    def __call__(self, **draws: Callable[[], object]) -> dict[str, object]:
        return {key: draw() for key, draw in draws.items() if self.rng.random() < 0.5}

    def time(self) -> str:
        rng = self.rng
        return f"{rng.choice((1, 1, 5, 20, 300))}{rng.choice(('us', 'ms', 'ms', 'ms', 's', 'min', 'h'))}"

    def quantity(self) -> object:
        middle = self.time()
        return self.rng.choice(
            (
                middle,
                middle,
                {"dist": "uniform", "min": "0us", "max": middle},
                {"dist": "exponential", "mean": middle, "max": "8000h"},
                {"dist": "normal", "mean": middle, "sd": self.time(), "max": "8000h"},
                {"dist": "lognormal", "median": middle, "sigma": self.rng.choice((0, 1, 2.5, 10)), "max": "8000h"},
                {"dist": "choice", "values": [middle, self.time()], "weights": [self.rng.randrange(9), 1.5]},
            )
        )


def _value(value: object) -> str:
    """Return a value as TOML."""
    if isinstance(value, dict):
        return _inline(value)
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    return json.dumps(value)


def _inline(table: dict[str, object]) -> str:
    return f"{{ {', '.join(f'{key} = {_value(value)}' for key, value in table.items())} }}"
