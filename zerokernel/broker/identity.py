"""Who speaks: from a token to a person."""

from __future__ import annotations

import hmac
from dataclasses import dataclass
from typing import Protocol


@dataclass(frozen=True)
class User:
    """A person whom the broker serves.

    Attributes:
        tier: By which the policy weighs what is used; "" weighs 1.
        group: Whose members count as one beside other groups; "" for a user who has none.
        admin: Whether the broker does what concerns others too at this person's word.
    """

    name: str
    tier: str = ""
    group: str = ""
    admin: bool = False


class Identity(Protocol):
    """Tells who a token belongs to."""

    def of_token(self, token: str) -> User | None:
        """Gives the user, None where the token is nobody's."""

    def named(self, name: str) -> User | None:
        """Gives the user of that name, None where there is none (any more)."""


class OwnerIdentity:
    """The embedded broker's: one token, one person, the owner of the process."""

    def __init__(self, token: str, user: str) -> None:
        self._token = token.encode()
        self._user = User(user, admin=True)

    def of_token(self, token: str) -> User | None:
        """Compares in constant time."""
        # surrogateescape: a header may hold any bytes, and must not raise here.
        given = token.encode("utf-8", "surrogateescape")
        return self._user if hmac.compare_digest(given, self._token) else None

    def named(self, name: str) -> User | None:
        """Gives the owner."""
        return self._user if name == self._user.name else None
