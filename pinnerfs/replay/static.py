"""The other files of a capture, which a replay shows as they were."""

from __future__ import annotations

from collections.abc import Mapping

from pinnerfs.kernel.page_pinner.generations import Generation

__all__ = ["static_files"]

_MOST_FILES = 10_000
_LONGEST_NAME = 255  # bytes, of any file system


def static_files(sections: Mapping[str, str], generation: Generation) -> tuple[dict[str, bytes], list[str]]:
    """Return the files below the debugfs root by path, and notes of those that were left out.

    sections: as in `report.Capture`. A path may be hostile: `..` in it would lead out of the mount.
    generation: the kernel, whose files in page_pinner/ a device has itself.
    """
    own = {f"page_pinner/{name}" for name in generation.files}
    files: dict[str, bytes] = {}
    directories = {"page_pinner"}
    wrong = too_many = 0
    for path, text in sections.items():
        if path.startswith("/") or path in own:
            continue
        parts = path.split("/")
        above = {"/".join(parts[:at]) for at in range(1, len(parts))}
        if (
            parts[0] == ".pinnerfs"
            or not all(map(_is_name, parts))
            or path in directories
            or above & (own | files.keys())
        ):
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
