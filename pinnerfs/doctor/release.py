"""The check of numpy: that Python can import it, and its release, which decides the records that a seed gives."""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version

from pinnerfs.doctor.finding import Finding
from pinnerfs.doctor.privileges import InChild
from pinnerfs.errors import PinnerfsError

__all__ = ["RECORDED", "check_numpy"]

# The release that the digests in the tests are recorded with. numpy keeps a seed's random stream only within a release.
RECORDED = "2.4.6"


def check_numpy(in_child: InChild[None], load_numpy: Callable[[], None]) -> Finding:
    """Import numpy, and compare its release with the one that the project's digests are recorded with."""
    try:
        found = version("numpy")
    except PackageNotFoundError:
        return Finding("numpy", "error", "not installed", f"python3 -m pip install numpy=={RECORDED}")
    try:
        in_child(load_numpy)
    except PinnerfsError as error:
        return Finding("numpy", "error", str(error), f"python3 -m pip install --force-reinstall numpy=={RECORDED}")
    if found == RECORDED:
        return Finding("numpy", "ok", f"{found}, which the project's digests are recorded with")
    text = f"{found}: a seed may give other records than with {RECORDED}, which the project's digests are recorded with"
    return Finding("numpy", "warning", text, f"python3 -m pip install numpy=={RECORDED}")
