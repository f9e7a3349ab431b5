"""Names of a shell's namespace that are IPython's own and never cross."""

from __future__ import annotations

import re

_OWN = frozenset(
    "In Out get_ipython exit quit open _ __ ___ _i _ii _iii _oh _dh _ih _sh _exit_code "
    "__name__ __doc__ __package__ __loader__ __spec__ __builtin__ __builtins__ __file__ "
    "__annotations__ __cached__ __session__".split()
)
_NUMBERED = re.compile(r"_i?\d+\Z")


def is_hidden(name: str) -> bool:
    """Whether a name belongs to the shell and not to the user."""
    return name in _OWN or _NUMBERED.match(name) is not None
