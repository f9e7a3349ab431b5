"""Who a token belongs to, by the file of users."""

from __future__ import annotations

import hmac
import logging
import time
from collections.abc import Callable, Collection

from zerokernel.broker.identity import User
from zerokernel.broker.users.file import UserFile
from zerokernel.broker.users.record import Record
from zerokernel.broker.users.tokens import digest
from zerokernel.errors import BadUser, UsersUnavailable

log = logging.getLogger("zerokernel.broker")


class FileIdentity:
    """Reads the file again when it changed: a removed user's token ends with the next look.

    A file that others may have written counts as empty. One with a line that is not understood
    leaves those in force who were there before, so that a slip locks nobody out.

    Args:
        file: The users.
        tiers: Those that the policy knows; another one is told in the log, and weighs 1.
        clock: Seconds since the epoch, by which tokens expire.

    Raises UsersUnavailable, BadUser where the file cannot be used to begin with.
    """

    def __init__(
        self,
        file: UserFile,
        tiers: Collection[str] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._file = file
        self._tiers = tiers
        self._clock = clock
        # All mutable state: what the file said, and which one that was.
        self._signature = file.signature()
        self._users: dict[str, Record] = {}
        self._by_digest: dict[str, Record] = {}
        self._take(file.read())

    def __repr__(self) -> str:
        return f"<FileIdentity {len(self._users)} users of {self._file.path}>"

    def of_token(self, token: str) -> User | None:
        """Gives the user, None where the token is nobody's or has expired."""
        self._refresh()
        given = digest(token)
        record = self._by_digest.get(given)
        if record is None or not hmac.compare_digest(record.token, given):
            return None
        return record.user if record.is_valid(self._clock()) else None

    def named(self, name: str) -> User | None:
        """Gives the user of that name, also where the token has expired."""
        self._refresh()
        record = self._users.get(name)
        return record.user if record is not None else None

    def _refresh(self) -> None:
        signature = self._file.signature()
        if signature == self._signature:
            return
        self._signature = signature
        try:
            self._take(self._file.read())
        except UsersUnavailable as error:
            log.error("%s Until then nobody is let in.", error)
            self._take({})
        except BadUser as error:
            log.error("%s Until that is mended, the users from before stay.", error)

    def _take(self, users: dict[str, Record]) -> None:
        for one in users.values():
            if one.tier and self._tiers and one.tier not in self._tiers:
                log.warning("user %s has the tier %r, which is unknown", one.name, one.tier)
        self._users = users
        self._by_digest = {one.token: one for one in users.values()}
        log.info("%s users may use this broker", len(users))
