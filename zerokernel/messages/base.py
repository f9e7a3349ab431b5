"""What every message is, and which version of them this is."""

from __future__ import annotations

from dataclasses import dataclass

from zerokernel.errors import ProtocolMismatch

PROTOCOL_VERSION = 3
"""Raised by one with each incompatible change of a message."""


@dataclass(frozen=True)
class Message:
    """One message. Its class name is its kind on the wire."""


def check_protocol(theirs: int) -> None:
    """Raises ProtocolMismatch where the peer speaks another version."""
    if theirs != PROTOCOL_VERSION:
        raise ProtocolMismatch(
            f"The other side speaks protocol {theirs}, this one {PROTOCOL_VERSION}: their "
            "zerokernel versions differ. Restart the older side after upgrading it."
        )
