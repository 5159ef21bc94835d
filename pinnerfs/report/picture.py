"""A report as an SVG picture, for a README: the same lines, and the same bytes each time."""

from __future__ import annotations

from collections.abc import Iterable
from xml.sax.saxutils import escape

from pinnerfs.report.lines import Line, clean

__all__ = ["svg"]

_CHARACTER, _LINE, _MARGIN = 8.4, 19, 16  # a font of 14 px

# Light, and dark where the reader's system is.
_STYLE = """\
text { font: 14px "DejaVu Sans Mono", Menlo, Consolas, monospace; fill: #1f2328; white-space: pre }
rect { fill: #f6f8fa; stroke: #d1d9e0 }
.title { font-weight: bold } .bad { font-weight: bold; fill: #cf222e } .good { fill: #1a7f37 }
.dim { fill: #59636e } .bar { fill: #0969da }
@media (prefers-color-scheme: dark) {
text { fill: #f0f6fc } rect { fill: #151b23; stroke: #3d444d }
.bad { fill: #ff7b72 } .good { fill: #3fb950 } .dim { fill: #9198a1 } .bar { fill: #58a6ff }
}"""


def svg(lines: Iterable[Line]) -> str:
    """Return lines as an SVG without outside references."""
    cleaned = [[(clean(span.text), span.style) for span in line] for line in lines]
    columns = max((sum(len(words) for words, _ in line) for line in cleaned), default=0)
    width, height = round(columns * _CHARACTER) + 2 * _MARGIN, len(cleaned) * _LINE + 2 * _MARGIN
    made = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}">',
        f"<style>\n{_STYLE}\n</style>",
        f'<rect x="0.5" y="0.5" width="{width - 1}" height="{height - 1}" rx="6"/>',
    ]
    for number, line in enumerate(cleaned):
        if not any(words for words, _ in line):
            continue
        y = _MARGIN + number * _LINE + 14
        # textLength keeps the columns where the reader's font is wider or narrower.
        length = f"{sum(len(words) for words, _ in line) * _CHARACTER:.1f}"
        spans = "".join(_span(words, style) for words, style in _merged(line))
        made.append(f'<text x="{_MARGIN}" y="{y}" xml:space="preserve" textLength="{length}">{spans}</text>')
    return "\n".join([*made, "</svg>", ""])


def _merged(line: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return the spans of a line, neighbours of one style joined."""
    merged: list[tuple[str, str]] = []
    for words, style in line:
        if merged and merged[-1][1] == style:
            merged[-1] = (merged[-1][0] + words, style)
        else:
            merged.append((words, style))
    return merged


def _span(words: str, style: str) -> str:
    return f'<tspan class="{style}">{escape(words)}</tspan>' if style else escape(words)
