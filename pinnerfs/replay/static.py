"""The other files of a capture, which a replay shows as they were."""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["static_files"]

_MOST_FILES = 10_000
_LONGEST_NAME = 255  # bytes, of any file system
_OWN = ("page_pinner", ".pinnerfs")  # directories whose files a device has itself


def static_files(sections: Mapping[str, str]) -> tuple[dict[str, bytes], list[str]]:
    """Return the files below the debugfs root by path, and notes of those that were left out.

    sections: as in `report.Capture`. A path may be hostile: `..` in it would lead out of the mount.
    """
    files: dict[str, bytes] = {}
    directories: set[str] = set()
    wrong = too_many = 0
    for path, text in sections.items():
        parts = path.split("/")
        if path.startswith("/") or (parts[0] == "page_pinner" and len(parts) == 2):
            continue
        above = {"/".join(parts[:at]) for at in range(1, len(parts))}
        if parts[0] in _OWN or not all(map(_is_name, parts)) or path in directories or above & files.keys():
            wrong += 1
        elif len(files) >= _MOST_FILES:
            too_many += 1
        else:
            files[path] = text.encode("latin-1")
            directories |= above
    notes = []
    if wrong:
        notes.append(f"left out {wrong} of the other files: no debugfs has a file with such a path")
    if too_many:
        notes.append(f"left out {too_many} of the other files: a replay has at most {_MOST_FILES}")
    return files, notes


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and len(name) <= _LONGEST_NAME and "\0" not in name
