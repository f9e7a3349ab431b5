"""Under which names a broker is reached, and what its users see of each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zerokernel.broker.identity import User
from zerokernel.settings import LOOPBACK

SOMEBODY = "another user"


@dataclass(frozen=True)
class Access:
    """What is the same for every caller.

    Attributes:
        hosts: Names that a Host header may have beside those of loopback; in small letters.
        show_users: Whether the status tells everybody who the others are.
    """

    hosts: frozenset[str] = frozenset()
    show_users: bool = False

    def is_host(self, name: str | None) -> bool:
        """Whether this broker is reached by that name."""
        return name in LOOPBACK or name in self.hosts

    def visible(self, status: Mapping[str, Any], user: User) -> dict[str, Any]:
        """Gives what of a broker's status a user may see.

        Slices, places and times are for all, for they say how long one waits. Of others'
        sessions, requests and the names of their notebooks nothing is told to anybody; their own
        names are told to administrators, and to all where that is set.
        """
        owners = {one["session"]: one["user"] for one in status["sessions"]}
        label = _Label(user, owners, self.show_users or user.admin)
        return {
            **status,
            "slices": [_slice(one, label) for one in status["slices"]],
            "queue": [_waiting(one, label) for one in status["queue"]],
            "sessions": [one for one in status["sessions"] if one["user"] == user.name],
            "engine": _engine(status["engine"], user),
        }


class _Label:
    """What the holder of a session is called."""

    def __init__(self, user: User, owners: Mapping[str, str], show: bool) -> None:
        self._user = user
        self._owners = owners
        self._show = show

    def is_own(self, session: str) -> bool:
        return not session or self._owners.get(session) == self._user.name

    def of(self, session: str) -> str:
        return (self._show and self._owners.get(session)) or SOMEBODY


def _slice(row: Mapping[str, Any], label: _Label) -> dict[str, Any]:
    if label.is_own(row["session"]):
        return dict(row)
    return {**row, "session": "", "session_name": label.of(row["session"])}


def _waiting(row: Mapping[str, Any], label: _Label) -> dict[str, Any]:
    if label.is_own(row["session"]):
        return dict(row)
    # The reason speaks to its own user ("your own …").
    hidden = {"request": "", "session": "", "reason": ""}
    return {**row, **hidden, "session_name": label.of(row["session"])}


def _engine(statistics: Mapping[str, Any], user: User) -> dict[str, Any]:
    """Gives it with the user's own supervisors: interpreters' paths are a person's own."""
    if "supervisors" not in statistics:
        return dict(statistics)
    own = [one for one in statistics["supervisors"] if one["user"] == user.name]
    return {**statistics, "supervisors": own}
