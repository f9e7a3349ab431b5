"""Names of a shell's namespace that are IPython's own and never cross."""

from __future__ import annotations

import re

_SHELL = "In Out get_ipython exit quit open _ __ ___ _i _ii _iii _oh _dh _ih _sh _exit_code"
_MODULE = "name doc package loader spec builtin builtins file annotations cached session"
_OWN = frozenset({*_SHELL.split(), *(f"__{name}__" for name in _MODULE.split())})
_NUMBERED = re.compile(r"_i?\d+\Z")


def is_hidden(name: str) -> bool:
    """Whether a name belongs to the shell and not to the user."""
    return name in _OWN or _NUMBERED.match(name) is not None
