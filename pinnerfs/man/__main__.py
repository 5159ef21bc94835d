"""Write all man pages below a directory: `python -m pinnerfs.man DIRECTORY`."""

from __future__ import annotations

import sys
from pathlib import Path

from pinnerfs.errors import BAD_INPUT, in_a_line


def main() -> None:
    """Write the pages, or exit with an error of one line."""
    if len(sys.argv) != 2:
        print("Error: wanted one directory: python3 -m pinnerfs.man DIRECTORY", file=sys.stderr)
        raise SystemExit(BAD_INPUT)
    try:
        import markdown_it  # noqa: F401
    except ImportError:
        message = "man pages need the Python package markdown-it-py: pip install markdown-it-py"
        raise SystemExit(f"Error: {message}") from None
    from pinnerfs.man.pages import pages

    try:
        for name, text in pages().items():
            path = Path(sys.argv[1], name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="ascii")
    except OSError as error:
        raise SystemExit(f"Error: cannot write {in_a_line(str(error.filename))}: {error.strerror}") from None


if __name__ == "__main__":
    main()
