"""The wording of comments, docstrings, messages and pages, as far as a program can check it."""

from __future__ import annotations

import ast
import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# Words that slow down a reader who is in a hurry or no native speaker, and what to write instead.
BANNED = {
    r"whoever|whosoever": "name the caller, user or process",
    r"who (?:has|had|is|may|gets|looks|asks|holds|reads|knows|comes|wants) (?:it|that|none|one|not|for|at)": "name it",
    r"nobody|somebody|anybody": "name the caller, user or process, or use the passive voice",
    r"be (?:it|they)": "whether it is",
    r"lest": "so that … not",
    r"the books|books": "the accounting",
    r"shall": "must, or the present tense",
    r"folders?": "directory",
    r"leaves? with (?:status )?[0-9]": "exits with status",
    r"(?:in|out of) (?:the|its|anybody's) way(?: of)?": "say what blocks what",
    r"for want of": "without, or: if there is no",
    r"steer(?:s|ed|ing)?": "control",
    r"(?:it|that|this|these|those|them) alone": "only",
    r"likewise": "also",
    r"thereof|therein|hitherto|whence|thence|henceforth|whereupon|wherein": "a plain sentence",
    r"comes? of it|come to pass": "what happens",
    r"travels? with": "comes with",
}
PATTERNS = [(re.compile(rf"\b(?:{words})\b", re.IGNORECASE), instead) for words, instead in BANNED.items()]

SKIPPED = {"tests/test_prose.py"}  # it names the words
SKIPPED_DIRECTORIES = ("tests/oracle/cases/", ".venv/", ".git/", "build/", "dist/")


def _files() -> Iterator[str]:
    for pattern in (
        "**/*.py",
        "**/*.md",
        "**/*.toml",
        ".ci/*",
        "Makefile",
        ".github/**/*.yml",
        ".pre-commit-*.yaml",
        "pinnerfs/ci/*",
    ):
        for path in ROOT.glob(pattern):
            name = path.relative_to(ROOT).as_posix()
            if path.is_file() and name not in SKIPPED and not name.startswith(SKIPPED_DIRECTORIES):
                yield name


def _prose_of_python(source: str) -> Iterator[tuple[int, str]]:
    """Yield the first line and the text of each comment and string; a string without a blank is not prose."""
    for token in tokenize.generate_tokens(io.StringIO(source).readline):
        if token.type == tokenize.COMMENT:
            yield token.start[0], token.string
        elif token.type == tokenize.STRING and not _is_code(token.string):
            yield token.start[0], re.sub(r"\{[^{}]*\}", "", token.string)
        elif tokenize.tok_name[token.type] == "FSTRING_MIDDLE":  # Python 3.12 and later
            yield token.start[0], token.string


def _is_code(literal: str) -> bool:
    """Recognise names, paths and patterns; and scripts for another interpreter, by their imports or assignments."""
    if not re.search(r"\s", literal):
        return True
    try:
        text = ast.literal_eval(literal)
    except (SyntaxError, ValueError):  # an f-string
        return False
    return isinstance(text, bytes) or re.search(r"^(?:import|from) \w+", text, re.MULTILINE) is not None


def _prose(name: str) -> list[tuple[int, str]]:
    text = (ROOT / name).read_text()
    if name.endswith(".py"):
        return list(_prose_of_python(text))
    return [(1, text)]


@pytest.mark.parametrize("name", sorted(_files()))
def test_plain_words(name: str) -> None:
    """No comment, docstring, message or page has a word that has a plainer one."""
    found = [
        f"{name}:{line + text.count(chr(10), 0, match.start())}: {match[0]!r}; write {instead}"
        for line, text in _prose(name)
        for pattern, instead in PATTERNS
        for match in pattern.finditer(text)
    ]
    assert not found, "\n" + "\n".join(found)


def test_the_check_finds_what_it_looks_for() -> None:
    """Comments, docstrings and parts of f-strings are read, and code is not."""
    source = 'folder = 1  # a folder\nx = f"no folder {folder} here"\ny = ("folder", b"a folder")\n'
    found = [(line, text) for line, text in _prose_of_python(source) if "folder" in text]
    assert found == [(1, "# a folder"), (2, found[1][1])] and "folder" in found[1][1]
