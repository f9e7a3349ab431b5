"""Versions of installed packages, as imported: they differ where one was installed meanwhile."""

from __future__ import annotations

import sys

from zerokernel.ambient.origin import is_installed


class _Versions:
    """Compares both processes.

    The mutable state: what is imported here, as long as the number of modules stays; what the
    other process has; and of which packages it was said that they differ.
    """

    def __init__(self) -> None:
        self._count = -1
        self._here: dict[str, str] = {}
        self._there: dict[str, str] = {}
        self._said: set[str] = set()

    def read(self) -> dict[str, str]:
        """Versions of the packages that are imported here, where they tell it."""
        if len(sys.modules) != self._count:
            self._count = len(sys.modules)
            found = {
                name: vars(module).get("__version__")
                for name, module in list(sys.modules.items())
                if "." not in name and hasattr(module, "__dict__") and is_installed(module)
            }
            self._here = {name: value for name, value in found.items() if isinstance(value, str)}
        return self._here

    def told(self, versions: dict[str, object]) -> None:
        """Notes what the other process has imported."""
        self._there |= {name: value for name, value in versions.items() if isinstance(value, str)}

    def notes(self) -> list[str]:
        """A sentence, once, for each package of which this worker has another version."""
        here = self.read()
        differing = {n for n, v in self._there.items() if here.get(n, v) != v} - self._said
        self._said |= differing
        return [
            f"`{name}` is {here[name]} in the worker and {self._there[name]} in the notebook: "
            "it was installed meanwhile; restart the kernel, and `zerokernel stop` the broker"
            for name in sorted(differing)
        ]


versions = _Versions()
