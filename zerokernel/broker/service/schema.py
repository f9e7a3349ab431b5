"""Which keys the configuration of a shared broker has: the fields of what they end up in.

A key has the type, the default and the choices of its field, which stand there alone.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from zerokernel import settings as configuration
from zerokernel.broker.scheduling import OVER_QUOTA, Policy
from zerokernel.settings import Settings

Owner = Literal["reach", "settings", "policy"]


@dataclass(frozen=True)
class Reach:
    """Where a shared broker listens, to whom it answers, where its files lie.

    Attributes:
        address: The IP address, or name, on which it listens.
        port: The TCP port; 0 takes a free one, which the log tells.
        names: Host names by which it is reached, beside its address and those of loopback.
        allow_plain: Whether it listens on other addresses than loopback also without TLS.
        show_users: Whether users see each other's names in the status; if not, "another user".
        shutdown_grace_seconds: How long running cells may go on after SIGTERM.
        state_directory: For files that outlive a restart of the machine; host-local.
        certificate: PEM file with the server's certificate and those that it depends on.
        key: PEM file with its key, which not everybody may read.
        users: The file of users; "" is "users.jsonl" in the state directory.
    """

    address: str = "127.0.0.1"
    port: int = 8470
    names: tuple[str, ...] = ()
    allow_plain: bool = False
    show_users: bool = False
    shutdown_grace_seconds: float = 60.0
    state_directory: Path = Path("/var/lib/zerokernel")
    certificate: str = ""
    key: str = ""
    users: str = ""


@dataclass(frozen=True)
class Key:
    """One key of the file.

    Attributes:
        owner: In what it ends up.
        field: The field's name there.
        hint: Its type; dict for a table that is kept as it is.
        is_path: Whether it is a file's name, relative to the configuration's directory.
        choices: The values that it can have; () where there are others.
    """

    owner: Owner
    field: str
    hint: Any
    is_path: bool = False
    choices: tuple[str, ...] = ()


SHARED_DEFAULTS: Mapping[str, Any] = {
    "runtime_directory": Path("/run/zerokernel"),
    "ledger": "sql",  # never by itself in memory: the books of many are not to be lost
}
"""Settings whose default is another for a shared broker."""

_SETTINGS_OF_BROKER = ("runtime_directory", "broker_grace_seconds")
_SETTINGS_OF_WORKERS = (
    "channel",
    "containment",
    "park_seconds",
    "parked_memory",
    "forkserver_idle_seconds",
    "worker_start_seconds",
    "bind_seconds",
    "return_seconds",
    "extend_limits",
    "kernel_grace_seconds",
    "supervisor_silence_seconds",
)
_SETTINGS_OF_SLICES = (
    "devices",
    "scrub_memory",
    "simulated_slices",
    "simulated_memory",
    "simulated_machine",
)
_LEDGER = {
    "kind": "ledger",
    "path": "ledger_path",
    "url": "ledger_url",
    "password_file": "ledger_password_file",
}
_LEDGER_KINDS = ("sql", "memory")  # no "auto": what an administrator gets is what was said
_FILES = {"certificate", "key", "users", "state_directory", "runtime_directory"}
_FILES |= {"ledger_path", "ledger_password_file"}

_CHOICES = {"over_quota": OVER_QUOTA}

_NOT_IN_THE_FILE = {
    # Set by a setting.
    *("park_seconds", "kernel_grace_seconds", "bind_seconds", "return_seconds"),
    *("extend_limits", "parked_memory", "scrub"),
    # Times of the machinery, which no administrator has a reason to change.
    *("deadline_slack", "stop_seconds", "release_grace", "answers_per_session"),
}


def tables() -> dict[str, dict[str, Key]]:
    """Gives the keys of each table; those of a table that is kept as it is are not listed."""
    reach = get_type_hints(Reach)
    policy = get_type_hints(Policy)
    own = [name for name in reach if name not in ("certificate", "key", "users")]
    return {
        "broker": {name: _key("reach", name, reach[name]) for name in own}
        | {name: _setting(name) for name in _SETTINGS_OF_BROKER},
        "tls": {name: _key("reach", name, reach[name]) for name in ("certificate", "key")},
        "users": {"file": _key("reach", "users", reach["users"])},
        "policy": {
            field.name: _key("policy", field.name, policy[field.name], _CHOICES.get(field.name, ()))
            for field in dataclasses.fields(Policy)
            if field.name not in _NOT_IN_THE_FILE
        },
        "workers": {name: _setting(name) for name in _SETTINGS_OF_WORKERS},
        "slices": {name: _setting(name) for name in _SETTINGS_OF_SLICES},
        "ledger": {key: _setting(name) for key, name in _LEDGER.items()}
        | {"kind": _key("settings", "ledger", str, _LEDGER_KINDS)},
    }


WHOLE_TABLES = {name: Key("settings", name, dict) for name in ("layout", "sizes")}
"""Tables that other parts read."""


def _setting(name: str) -> Key:
    hint = get_type_hints(Settings)[name]
    return _key("settings", name, hint, configuration.CHOICES.get(name, ()))


def _key(owner: Owner, name: str, hint: Any, choices: tuple[str, ...] = ()) -> Key:
    return Key(owner, name, hint, name in _FILES, choices)
