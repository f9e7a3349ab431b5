"""Why a broker closes a session's WebSocket."""

from __future__ import annotations

from enum import IntEnum

DONE = 1000
"""With this RFC 6455 code a notebook closes for good; without any, it may come back."""


class CloseCode(IntEnum):
    """Codes of the range that RFC 6455 leaves to applications."""

    MALFORMED = 4400
    REFUSED = 4403
    PROTOCOL = 4409
    REPLACED = 4410
    START_FAILED = 4503
    FAILED = 4500
    ENDING = 4504
