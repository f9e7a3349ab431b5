"""One user as the file has them: a line of JSON."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from dataclasses import dataclass
from typing import Any

from zerokernel.broker.identity import User
from zerokernel.errors import BadUser

_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._@+-]{0,63}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_NAME_RULE = "1 to 64 letters, digits and . _ @ + -, the first a letter, a digit or _"


@dataclass(frozen=True)
class Record:
    """A user and the digest of their token.

    Raises BadUser where a field is not what it should be.

    Attributes:
        token: The token's SHA-256, as hex digits.
        expires: When the token ends, in seconds since the epoch; None for never.
    """

    name: str
    token: str
    tier: str = ""
    group: str = ""
    admin: bool = False
    expires: float | None = None

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.name):
            raise BadUser(f"A user cannot be called {self.name!r}: a name is {_NAME_RULE}.")
        for what, value in (("group", self.group), ("tier", self.tier)):
            if value and not _NAME.fullmatch(value):
                raise BadUser(f"A {what} cannot be called {value!r}: its name is {_NAME_RULE}.")
        if not _DIGEST.fullmatch(self.token):
            raise BadUser(f"The token of {self.name} is not the SHA-256 of one, 64 hex digits.")
        if self.expires is not None and not math.isfinite(self.expires):
            raise BadUser(f"The token of {self.name} cannot expire at {self.expires}.")

    def __repr__(self) -> str:
        return f"Record({self.name!r}, tier {self.tier!r}, group {self.group!r})"

    @property
    def user(self) -> User:
        """Who that is to the broker."""
        return User(self.name, self.tier, self.group, self.admin)

    def is_valid(self, now: float) -> bool:
        """Whether the token counts at a time, in seconds since the epoch."""
        return self.expires is None or now < self.expires


_KINDS: dict[str, tuple[type, ...]] = {
    "name": (str,),
    "token": (str,),
    "tier": (str,),
    "group": (str,),
    "admin": (bool,),
    "expires": (int, float, type(None)),
}


def parse(line: str) -> Record:
    """Reads a line. Raises BadUser."""
    try:
        body = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise BadUser(f"It is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadUser("It is not a JSON object.")
    for key, value in body.items():
        _check(key, value)
    if missing := {"name", "token"} - body.keys():
        raise BadUser(f"It lacks {', '.join(sorted(missing))}.")
    return Record(**body)


def _check(key: str, value: Any) -> None:
    kinds = _KINDS.get(key)
    if kinds is None:
        raise BadUser(f"There is no {key!r} of a user; there are {', '.join(_KINDS)}.")
    if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
        raise BadUser(f"The {key} cannot be {value!r}.")


def as_line(record: Record) -> str:
    """Gives the line that `parse` reads, without what is as it is by default."""
    body = {
        field.name: value
        for field in dataclasses.fields(record)
        if (value := getattr(record, field.name)) != field.default
    }
    return json.dumps(body)
