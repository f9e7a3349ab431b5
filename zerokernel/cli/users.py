"""`zerokernel user`: who may use a shared broker."""

from __future__ import annotations

import argparse
import re
import sys
import time
from datetime import datetime
from typing import TYPE_CHECKING

from zerokernel.cli.serving import add_config_option
from zerokernel.errors import BadUser
from zerokernel.settings import Settings

if TYPE_CHECKING:
    from zerokernel.broker.service import Service
    from zerokernel.broker.users import Record, UserFile
    from zerokernel.cli.commands import Commands

_UNITS = {"m": 60.0, "h": 3600.0, "d": 86_400.0, "w": 604_800.0, "y": 31_536_000.0}
_LONGEST = 100 * _UNITS["y"]
_HEAD = ("user", "tier", "group", "admin", "token")


def add_commands(commands: Commands) -> None:
    """Adds `user` to the commands."""
    user = commands.add_parser("user", help="add, list and remove users of a shared broker")
    acts = user.add_subparsers(required=True, metavar="ACT")
    add = acts.add_parser("add", help="add a user and print the token, once")
    add.add_argument("name", metavar="NAME")
    add.add_argument("--tier", default="", help="by which the policy weighs what is used")
    add.add_argument("--group", default="", help="whose members count as one beside other groups")
    add.add_argument("--admin", action="store_true", help="may end the broker")
    _add_expiry(add)
    add.set_defaults(command=_add)
    listing = acts.add_parser("list", help="show the users")
    listing.set_defaults(command=_list)
    remove = acts.add_parser("remove", help="remove a user; the token ends with that")
    remove.add_argument("name", metavar="NAME")
    remove.set_defaults(command=_remove)
    token = acts.add_parser("token", help="print a new token for a user; the old one ends")
    token.add_argument("name", metavar="NAME")
    _add_expiry(token)
    token.set_defaults(command=_token)
    for act in (add, listing, remove, token):
        add_config_option(act)


def _add_expiry(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--expires", metavar="TIME", help="when the token ends from now on: 12h, 30d, 1y"
    )


def _add(settings: Settings, options: argparse.Namespace) -> int:
    from zerokernel.broker import users
    from zerokernel.broker.identity import User

    service, file = _opened(options)
    user = User(options.name, options.tier, options.group, options.admin)
    expires = expiry(options.expires, time.time())
    _show_token(users.add(file, user, service.policy.tiers, expires), options.name)
    return 0


def _list(settings: Settings, options: argparse.Namespace) -> int:
    from zerokernel.cli.status import table

    _, file = _opened(options)
    found, now = file.read(), time.time()
    rows = (_row(found[name], now) for name in sorted(found))
    print("\n".join(table(_HEAD, rows)) if found else f"There are no users in {file.path}.")
    return 0


def _remove(settings: Settings, options: argparse.Namespace) -> int:
    from zerokernel.broker import users

    _, file = _opened(options)
    users.remove(file, options.name)
    print(f"{options.name} is removed. Cells of theirs that run go on to their limit.")
    return 0


def _token(settings: Settings, options: argparse.Namespace) -> int:
    from zerokernel.broker import users

    _, file = _opened(options)
    expires = expiry(options.expires, time.time())
    _show_token(users.new_token(file, options.name, expires), options.name)
    return 0


def _opened(options: argparse.Namespace) -> tuple[Service, UserFile]:
    from zerokernel.broker.service import read_service
    from zerokernel.broker.users import UserFile

    service = read_service(options.config)
    return service, UserFile(service.users_file)


def _show_token(token: str, name: str) -> None:
    """The token alone on standard output, so that it can be piped where it belongs."""
    print(
        f"The token of {name}, which is shown this once. It goes into the file "
        "~/.config/zerokernel/token of that person, with mode 0600:",
        file=sys.stderr,
        flush=True,
    )
    print(token)


def expiry(text: str | None, now: float) -> float | None:
    """Gives the time for "30d" and the like, None for None. Raises BadUser."""
    if text is None:
        return None
    match = re.fullmatch(r"(\d{1,9})([mhdwy])", text.strip())
    seconds = float(match[1]) * _UNITS[match[2]] if match else 0.0
    if not 0 < seconds <= _LONGEST:
        raise BadUser(f"A token cannot expire in {text!r}; say 30m, 12h, 30d, 8w or 1y.")
    return now + seconds


def _row(record: Record, now: float) -> tuple[str, ...]:
    return (
        record.name,
        record.tier,
        record.group,
        "yes" if record.admin else "",
        _until(record, now),
    )


def _until(record: Record, now: float) -> str:
    if record.expires is None:
        return "does not expire"
    when = datetime.fromtimestamp(record.expires).strftime("%Y-%m-%d %H:%M")
    return f"until {when}" if record.is_valid(now) else f"expired {when}"
