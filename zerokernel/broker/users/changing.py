"""What an administrator does with users. A token is given once and kept nowhere."""

from __future__ import annotations

import difflib
from collections.abc import Collection
from dataclasses import replace

from zerokernel.broker.identity import User
from zerokernel.broker.users.file import UserFile
from zerokernel.broker.users.record import Record
from zerokernel.broker.users.tokens import digest, make_token
from zerokernel.errors import BadUser


def add(file: UserFile, user: User, tiers: Collection[str], expires: float | None = None) -> str:
    """Adds a user; gives the token.

    Args:
        file: Where users are.
        user: The new one.
        tiers: Those that the policy knows.
        expires: When the token ends, in seconds since the epoch; None for never.

    Raises:
        BadUser: There is one of that name, or no such tier, or a name is none.
        UsersUnavailable: The file cannot be used.
    """
    if user.tier and user.tier not in tiers:
        raise BadUser(f"There is no tier {user.tier!r}; there are {', '.join(tiers) or 'none'}.")
    token, name = make_token(), user.name
    record = Record(name, digest(token), user.tier, user.group, user.admin, expires)

    def with_it(users: dict[str, Record]) -> dict[str, Record]:
        if name in users:
            raise BadUser(
                f"There is a user {name} already. `zerokernel user token {name}` gives a new "
                f"token, `zerokernel user remove {name}` removes the user."
            )
        return {**users, name: record}

    file.change(with_it)
    return token


def remove(file: UserFile, name: str) -> None:
    """Removes a user, whose token ends with that. Raises BadUser, UsersUnavailable."""

    def without_it(users: dict[str, Record]) -> dict[str, Record]:
        _known(users, name)
        return {other: record for other, record in users.items() if other != name}

    file.change(without_it)


def new_token(file: UserFile, name: str, expires: float | None = None) -> str:
    """Gives a user a new token; the one before ends with that.

    Raises:
        BadUser, UsersUnavailable: There is no such user, or the file cannot be used.
    """
    token = make_token()

    def with_another(users: dict[str, Record]) -> dict[str, Record]:
        known = _known(users, name)
        return {**users, name: replace(known, token=digest(token), expires=expires)}

    file.change(with_another)
    return token


def _known(users: dict[str, Record], name: str) -> Record:
    if (record := users.get(name)) is not None:
        return record
    near = difflib.get_close_matches(name, users, 1)
    raise BadUser(
        f"There is no user {name!r}; " + (f"is {near[0]!r} meant?" if near else "see user list.")
    )
