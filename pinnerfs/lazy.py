"""Import of a package's public names when they are first used: every command of pinnerfs is a process of its own."""

from __future__ import annotations

# As typing.TYPE_CHECKING for type checkers. Importing typing would take longer than all the rest of this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

__all__ = ["importer"]


def importer(package: str, modules: Mapping[str, str]) -> Callable[[str], object]:
    """Return the `__getattr__` of a package. modules: the module that has each of its public names."""

    def fetch(name: str) -> object:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        from importlib import import_module

        return getattr(import_module(modules[name]), name)

    return fetch
