"""The configuration file of a shared broker: checked whole, every error with its line."""

from __future__ import annotations

import difflib
import ipaddress
import json
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from zerokernel import settings as configuration
from zerokernel.broker.devices.layout import read_layout
from zerokernel.broker.devices.sizes import read_sizes
from zerokernel.broker.embedded import policy_of
from zerokernel.broker.scheduling import QUOTAS, Policy
from zerokernel.broker.scheduling.policy import USUAL_TIER
from zerokernel.broker.service.lines import line_of
from zerokernel.broker.service.schema import SHARED_DEFAULTS, WHOLE_TABLES, Key, Reach, tables
from zerokernel.broker.service.values import converted
from zerokernel.settings import BadSetting, Settings


@dataclass(frozen=True)
class Service:
    """All that a shared broker is told.

    Attributes:
        reach: Where it listens, to whom it answers, where its files lie.
        settings: What it has in common with every broker.
        policy: How it decides.
    """

    reach: Reach
    settings: Settings
    policy: Policy

    @property
    def users_file(self) -> Path:
        """Where its users are."""
        return Path(self.reach.users or self.reach.state_directory / "users.jsonl")

    @property
    def has_tls(self) -> bool:
        """Whether it serves https."""
        return bool(self.reach.certificate)


def read_service(path: Path) -> Service:
    """Reads a configuration file.

    Environment variables and the configuration of users do not count for a shared broker.

    Raises:
        BadSetting: The file cannot be read, or has a key that there is not or a value that
            cannot be; the message gives file, line, key and what is allowed.
    """
    try:
        text = path.read_text(encoding="utf-8")
        body = tomllib.loads(text)
    except (OSError, UnicodeDecodeError) as error:
        raise BadSetting(f"The configuration {path} cannot be read: {error}") from error
    except tomllib.TOMLDecodeError as error:
        raise BadSetting(f"{path} is not TOML: {error}") from error
    return _Reader(path, text).read(body)


def is_loopback(address: str) -> bool:
    """Whether only this machine reaches the address."""
    if address == "localhost":
        return True
    try:
        return ipaddress.ip_address(address).is_loopback
    except ValueError:
        return False


class _Reader:
    """One file's content, and where in it things stand."""

    def __init__(self, path: Path, text: str) -> None:
        self._path = path
        self._text = text
        self._values: dict[str, dict[str, Any]] = {"reach": {}, "settings": {}, "policy": {}}
        self._places: dict[str, tuple[str, ...]] = {}  # where each field was set

    def read(self, body: Mapping[str, Any]) -> Service:
        known = tables()
        for table, content in body.items():
            if table in WHOLE_TABLES:
                self._set((table,), WHOLE_TABLES[table], self._table((table,), content))
            elif table not in known:
                self._unknown((table,), "table", [*known, *WHOLE_TABLES])
            else:
                for key, value in self._table((table,), content).items():
                    if key not in known[table]:
                        self._unknown((table, key), "key", known[table])
                    self._set((table, key), known[table][key], value)
        return self._checked()

    def _set(self, place: tuple[str, ...], key: Key, value: Any) -> None:
        self._places[key.field] = place
        try:
            if key.hint is dict:
                result = json.dumps(value)
            else:
                result = converted(key, value, self._path.absolute().parent)
        except (TypeError, ValueError) as error:
            self._fail(place, f"{error}.")
        self._values[key.owner][key.field] = result

    def _checked(self) -> Service:
        reach = Reach(**self._values["reach"])
        self._check_reach(reach)
        settings = self._settings(reach)
        try:
            policy = replace(policy_of(settings), **{"quotas": QUOTAS, **self._values["policy"]})
        except ValueError as error:
            self._fail(self._place_in(str(error), "policy", "tiers"), str(error))
        self._check_quotas(policy)
        return Service(reach, settings, policy)

    def _settings(self, reach: Reach) -> Settings:
        values = {**SHARED_DEFAULTS, "ledger_path": str(reach.state_directory / "ledger.sqlite")}
        values |= self._values["settings"]
        try:
            settings = configuration.checked(Settings(**values))
        except BadSetting as error:
            self._fail(self._place_in(str(error), "ledger"), str(error))
        for table, read in (("layout", read_layout), ("sizes", read_sizes)):
            try:
                read(getattr(settings, table))
            except BadSetting as error:
                self._fail(self._place_in(str(error), table), str(error))
        return settings

    def _check_quotas(self, policy: Policy) -> None:
        for tier in self._values["policy"].get("quotas", ()):
            if tier not in policy.tiers and tier != USUAL_TIER:  # that of those who have none
                self._unknown(("policy", "quotas", tier), "tier", policy.tiers)

    def _check_reach(self, reach: Reach) -> None:
        if bool(reach.certificate) != bool(reach.key):
            self._fail(("tls",), "TLS needs both, certificate and key.")
        plain = not reach.certificate and not reach.allow_plain
        if plain and not is_loopback(reach.address):
            self._fail(
                ("broker", "address"),
                f"{reach.address} can be reached from other machines, and tokens would cross the "
                "network in the clear. Give a certificate and its key in [tls], listen on "
                "127.0.0.1 behind a proxy that does, or set allow_plain = true.",
            )

    # --- errors ---------------------------------------------------------------------------

    def _table(self, place: tuple[str, ...], value: Any) -> Mapping[str, Any]:
        if not isinstance(value, dict):
            self._fail(place, f"{value!r} is not a table.")
        return value

    def _unknown(self, place: tuple[str, ...], what: str, there: Iterable[str]) -> NoReturn:
        names = list(there)
        near = difflib.get_close_matches(place[-1], names, 1)
        remedy = f"Is {near[0]} meant?" if near else f"There are {', '.join(names)}."
        self._fail(place, f"there is no such {what}. {remedy}")

    def _place_in(self, message: str, *otherwise: str) -> tuple[str, ...]:
        """Gives where the field was set that a message names, or the entry of a table."""
        words = message.split()
        for field, place in self._places.items():
            if field in words and field not in WHOLE_TABLES:
                return place
        entries = self._entries(otherwise)
        named = [name for name in entries if repr(name) in message]
        return (*otherwise, *named[:1]) if entries else otherwise[:1]

    def _entries(self, place: tuple[str, ...]) -> Iterable[str]:
        content: Any = tomllib.loads(self._text)
        for key in place:
            content = content.get(key, {})
        return content if isinstance(content, dict) else ()

    def _fail(self, place: tuple[str, ...], why: str) -> NoReturn:
        line = line_of(self._text, place)
        where = f"{self._path}, line {line}" if line is not None else str(self._path)
        table, key = f"[{place[0]}]", ".".join(place[1:])
        raise BadSetting(f"{where}: {f'{table} {key}'.strip()}: {why}")
