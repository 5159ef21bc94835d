"""The man page of a command, made from its help."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator, Mapping, Sequence

import click

from pinnerfs.man.roff import bold, escaped, example, filled, heading, italic, tagged, title

__all__ = ["SeeAlso", "command_page", "context_of"]

SeeAlso = Sequence[tuple[str, int]]  # names of pages, with their sections


def context_of(command: click.Command, name: str, parent: click.Context | None = None) -> click.Context:
    """Return a context in which a command tells its usage."""
    return click.Context(command, parent=parent, info_name=name, help_option_names=["-h", "--help"])


def command_page(
    context: click.Context,
    name: str,
    section: int,
    version: str,
    see_also: SeeAlso,
    commands: Mapping[str, str] | None = None,
    more: str = "",
) -> str:
    """Return the page `name` of a command.

    `commands` are those that have pages of their own, by the name of the page. `more` is further sections.
    """
    command = context.command
    description, examples = _help(command)
    about = description[0].partition(". ")[0] if description else ""
    parts = [
        title(name, section, version, about[:1].lower() + about[1:]),
        heading("Synopsis"),
        _usage(context),
        heading("Description"),
        *(f".PP\n{filled(_marked(paragraph))}" for paragraph in description),
        heading("Options"),
        *_options(context),
    ]
    if commands is not None:
        parts += [
            heading("Commands"),
            *(tagged(f"\\fB{escaped(page)}\\fR(1)", _marked(commands[page])) for page in commands),
        ]
    elif isinstance(command, click.Group):
        parts += [heading("Commands"), *_subcommands(context, command)]
    parts += [more, heading("Examples"), *examples, heading("See also"), _references(see_also)]
    return "".join(parts)


def _help(command: click.Command) -> tuple[list[str], list[str]]:
    """Return the paragraphs of a help, and its examples as roff. `\\b` marks lines that are not filled."""
    description, examples = [], []
    for paragraph in re.split(r"\n\s*\n", inspect.cleandoc(command.help or "")):
        lines = paragraph.split("\n")
        if lines[0].strip() != "\b":
            description.append(" ".join(line.strip() for line in lines))
            continue
        label, *body = lines[1:]
        if label.strip() != "Example:":
            examples.append(f".PP\n{filled(escaped(label))}")
        examples.append(example([line.removeprefix("  ") for line in body]))
    return description, examples


def _marked(text: str) -> str:
    """Return prose with what is in backticks in bold."""
    parts = text.split("`")
    return "".join(bold(part) if number % 2 else escaped(part) for number, part in enumerate(parts))


def _usage(context: click.Context) -> str:
    pieces = context.command.collect_usage_pieces(context)
    return f".PP\n{filled(' '.join([bold(context.command_path), *map(italic, pieces)]))}"


def _options(context: click.Context) -> Iterator[str]:
    for param in context.command.get_params(context):
        record = param.get_help_record(context) if isinstance(param, click.Option) else None
        if record is not None:
            names, text = record
            # `--seed N` and `-f, --force`; what is not an option is the name of its value.
            words = re.split(r"([ ,/]+)", names)
            yield tagged(
                "".join(
                    bold(word) if word.startswith("-") else italic(word) if word.strip(" ,/") else word
                    for word in words
                ),
                _marked(text),
            )


def _subcommands(context: click.Context, group: click.Group) -> Iterator[str]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        inner = context_of(command, name, context)
        description, examples = _help(command)
        yield heading(name, 2)
        yield _usage(inner)
        yield from (f".PP\n{filled(_marked(paragraph))}" for paragraph in description)
        yield from _options(inner)
        yield from examples


def _references(pages: SeeAlso) -> str:
    return filled(",\n".join(f"\\fB{escaped(name)}\\fR({section})" for name, section in pages))
