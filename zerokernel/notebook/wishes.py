"""What a cell may ask of its slice beside a name: memory and a compute capability."""

from __future__ import annotations

import re

from zerokernel.errors import BadOption

_MEMORY = re.compile(r"(\d+(?:\.\d+)?)\s*([MGT])(i?)B?", re.IGNORECASE)
_POWERS = {"m": 2, "g": 3, "t": 4}
_CAPABILITY = re.compile(r"(\d{1,2})(?:\.(\d{1,2}))?")


def memory(text: str) -> int:
    """Gives the bytes of "40G" (as devices are sold: decimal), "500MB", "1.5T" or "40GiB".

    Raises:
        BadOption: It is none of these.
    """
    match = _MEMORY.fullmatch(text.strip())
    amount = float(match[1]) if match else 0.0
    if match is None or not amount:
        raise BadOption(f"`--memory` wants an amount such as 40G, 500M or 40GiB, not `{text}`.")
    unit = 1024 if match[3] else 1000
    return int(amount * unit ** _POWERS[match[2].lower()])


def capability(text: str) -> tuple[int, ...]:
    """Gives (9, 0) for "9.0" and for "9".

    Raises:
        BadOption: It is no compute capability.
    """
    match = _CAPABILITY.fullmatch(text.strip())
    if match is None:
        raise BadOption(f"`--min-capability` wants a number such as 9.0, not `{text}`.")
    return int(match[1]), int(match[2] or 0)
