"""Where the server is and how it is entered, with the password kept out of sight."""

from __future__ import annotations

import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import psycopg
from psycopg.conninfo import conninfo_to_dict

from zerokernel.errors import LedgerUnavailable
from zerokernel.settings import has_password

_CONNECT_SECONDS = 2
"""A server that takes longer to let somebody in is as good as away: the broker waits for it."""

_DEFAULTS = {
    "connect_timeout": _CONNECT_SECONDS,
    # Of several servers the one that can be written to.
    "target_session_attrs": "read-write",
    # A server that went without a word is noticed.
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
}


@dataclass(frozen=True)
class Address:
    """A database on a server.

    Attributes:
        parameters: As libpq names them; no password is among them.
        password_file: Has the password, "" for libpq's own ways (`~/.pgpass`, the server's
            trust in this user, a certificate).
    """

    parameters: Mapping[str, str] = field(repr=False)
    password_file: Path | None = None

    def __str__(self) -> str:
        user, host = self.parameters.get("user"), self.parameters.get("host", "")
        who = f"{quote(user)}@" if user else ""
        database = self.parameters.get("dbname", "")
        if host.startswith(("/", "@")):
            return f"postgresql://{who}/{database}?host={host}"
        port = f":{found}" if (found := self.parameters.get("port")) else ""
        return f"postgresql://{who}{host}{port}/{database}"

    def connect(self, name: str) -> psycopg.Connection:
        """Makes a connection in which each statement is a transaction, unless it says `BEGIN`.

        Args:
            name: What the server's list of connections shows.

        Raises:
            LedgerUnavailable: The server is not there or refuses.
        """
        secret = self._password()
        arguments = {**_DEFAULTS, **self.parameters, "application_name": name}
        if secret:
            arguments["password"] = secret
        try:
            return psycopg.connect(autocommit=True, prepare_threshold=0, **arguments)  # type: ignore[arg-type]  # libpq's, by name
        except psycopg.Error as error:
            says = " ".join(str(error).split()).rstrip(".")
            raise LedgerUnavailable(
                f"The ledger {self} cannot be reached: {without(secret, says)}. See that the "
                "server runs and lets this user in, or change the settings ledger_url and "
                "ledger_password_file."
            ) from None  # what it came from may tell the password

    def _password(self) -> str:
        if self.password_file is None:
            return ""
        try:
            mode = self.password_file.stat().st_mode
            secret = self.password_file.read_text(encoding="utf-8").rstrip("\r\n")
        except (OSError, UnicodeDecodeError) as error:
            says = getattr(error, "strerror", None) or "it is no text"
            raise LedgerUnavailable(
                f"The ledger's password file {self.password_file} cannot be read: {says}."
            ) from None
        if stat.S_IMODE(mode) & 0o077:
            raise LedgerUnavailable(
                f"The ledger's password file {self.password_file} is open to other users: "
                "`chmod 600` it, and change the password if they may have read it."
            )
        return secret


def address_of(url: str, password_file: Path | None = None) -> Address:
    """Reads a URL. Raises LedgerUnavailable where it is not understood or has a password."""
    if has_password(url):
        raise LedgerUnavailable(
            "The ledger's URL has a password in it, which programs and logs would show. Write "
            "it into a file of mode 0600 and name that in the setting ledger_password_file."
        )
    try:
        parameters = conninfo_to_dict(url)
    except psycopg.Error:  # its text repeats parts of the URL
        raise LedgerUnavailable(
            "The ledger's URL is not understood: it looks like "
            "postgresql://USER@HOST:PORT/DATABASE, with %40 for @ and the like in names."
        ) from None
    if not str(parameters.get("port", "0")).replace(",", "").isdigit():
        raise LedgerUnavailable("The ledger's URL has a port that is no number.")
    return Address({key: str(value) for key, value in parameters.items()}, password_file)


def without(secret: str, text: str) -> str:
    """Gives a text without a password that it might repeat."""
    return text.replace(secret, "…") if secret else text
