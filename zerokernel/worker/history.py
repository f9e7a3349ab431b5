"""`_` and `_5` in the worker: IPython's results, until the cell takes the names for its own."""

from __future__ import annotations

import re
from typing import Any

_LATEST = ("_", "__", "___")
_NUMBERED = re.compile(r"_\d+\Z")
_ABSENT = object()


def begin(shell: Any) -> None:
    """Before a cell: what came from the notebook under these names is IPython's."""
    for name in _LATEST:
        setattr(shell.displayhook, name, shell.user_ns.get(name, ""))


def rebound(shell: Any) -> set[str]:
    """After a cell: the names that it bound or deleted itself, as IPython's display hook sees it.

    From then on they are the user's, and IPython binds them no more.
    """
    space, hook = shell.user_ns, shell.displayhook
    found = {name for name in _LATEST if space.get(name, _ABSENT) is not getattr(hook, name)}
    result = f"_{hook.prompt_count}"
    return found | {name for name in space if _NUMBERED.match(name) and name != result}
