"""One frozen Settings, from a configuration file and the environment.

Nobody else reads ``os.environ`` for zerokernel's own settings. Each field is read from
``ZEROKERNEL_<FIELD>`` first, then from the TOML file, else it is the default given here.
"""

from __future__ import annotations

import dataclasses
import json
import os
import re
import stat
import tempfile
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import unquote, urlsplit

from zerokernel.errors import ZeroKernelError


class BadSetting(ZeroKernelError):
    """A setting has a value that is not understood."""


@dataclass(frozen=True)
class Settings:
    """What may be configured. Times are seconds, sizes bytes.

    Attributes:
        runtime_directory: Sockets and the broker's address file; host-local, mode 0700.
        channel: "unix", or "tcp" where kernel and worker do not share a file system.
        default_duration: Limit of a cell that names none.
        default_size: Size of a cell that names none; "" is the smallest there is.
        status_line: Whether `%%gpu` shows its status line and receipt.
        gpu_cells: "marked" (those that begin with `%%gpu`), or "all": every cell that a person
            runs goes to a worker, as if it began with `%%gpu --quiet`.
        background_seconds: With gpu_cells "all", how long threads and tasks that a cell left
            running go on, on its lease; then they stand still until the next cell.
        park_seconds: How long an idle worker is kept, frozen, on a slice nobody wants.
        broker_url: The shared broker that serves this notebook instead of an embedded one:
            "https://HOST:PORT", or "http://" with a loopback address; "" for none.
        broker_token_file: A file of mode 0600 with this person's token for it; "" is
            `~/.config/zerokernel/token`. The variable `ZEROKERNEL_BROKER_TOKEN` comes first.
        broker_ca_file: A PEM file with the authority of its certificate; "" trusts those that
            the system trusts.
        broker_idle_seconds: An embedded broker without sessions ends after this time.
        broker_start_seconds: How long a kernel waits for a broker that it starts.
        worker_start_seconds: How long a cell waits for its worker to be ready.
        bind_seconds: How long a worker may take from its grant to the cell's first line.
        return_seconds: How long the results of a cell may take on their way home.
        extend_limits: Whether a cell may run on beyond its limit while nobody waits.
        kernel_grace_seconds: How long a session outlives its connection while the kernel
            lives; it ends at once with the kernel.
        broker_grace_seconds: How long workers wait for another broker when theirs is lost.
        broker_silence_seconds: A broker that does not answer for so long is replaced.
        supervisor_silence_seconds: A supervisor that says nothing for so long is ended.
        parked_memory: Bytes that all parked workers together may keep; 0 is a quarter of
            the machine's memory.
        forkserver_idle_seconds: A forkserver without notebooks ends after this time.
        ledger: "auto" (sql where the extra `broker` is installed and its file can be used,
            else memory), "memory", "sql".
        ledger_path: The sql ledger's file, host-local; "" is one in `$XDG_STATE_HOME/zerokernel`,
            or in the runtime directory where that is set or the home is on a network.
        ledger_url: The sql ledger's PostgreSQL database instead of a file, for a shared broker:
            "postgresql://USER@HOST:PORT/DATABASE", without a password; "" for none.
        ledger_password_file: A file of mode 0600 with that user's password; "" leaves it to
            `~/.pgpass` or to the server, if it knows this user without one.
        devices: "auto" (NVIDIA where NVML finds one, else simulated), "nvidia", "simulated".
        layout: What each GPU is divided into: a table, device (UUID, index or "*") → list of
            "full", MIG profiles, or shares such as "1/2"; "" takes what is found for it.
        sizes: Names for forms of a layout, and what they carry: a table, name → "is", "cores",
            "memory", "shm", "scratch"; "" names by the part of the GPU: small … xlarge.
        scrub_memory: When a device's memory is overwritten before the next notebook has it:
            "between users", "always", "never". That it is free is verified in any case.
        simulated_slices: Number of simulated slices where there is no device.
        simulated_memory: Memory that a simulated slice claims to have.
        simulated_machine: Whose slices are simulated instead: a recording that ships with
            zerokernel, such as "h200-mixed", or the path of one; "" for none.
        staging_bytes: Captures of waiting cells that may lie in workers; the rest is sent when
            the slice is granted. 0 is a quarter of the memory that is available.
        output_bytes: Text that a cell may show; of more, the first and the last is shown.
        output_messages: Displays that a cell may show; of more, the first and the last.
        output_display_bytes: Data that these displays may have together.
        containment: How a worker's processes are held together to be frozen and killed: "auto"
            (the best that works), "control group", "pid namespace", "process walk".
        change_detection: How changes of arrays and tensors are found: "auto" (by the pages that
            were written where the system tells and it pays, else by hash), "tracking" (wherever
            the system tells), "hash".
        emulate_cuda: Whether plain cells have a `cuda` device, emulated on the CPU.
        emulate_ptrace_denied: Forces buffers through the socket, as a machine would
            that forbids reading another process's memory.
    """

    runtime_directory: Path
    channel: str = "unix"
    default_duration: float = 60.0
    default_size: str = ""
    status_line: bool = True
    gpu_cells: str = "marked"
    background_seconds: float = 3.0
    park_seconds: float = 600.0
    broker_url: str = ""
    broker_token_file: str = ""
    broker_ca_file: str = ""
    broker_idle_seconds: float = 300.0
    broker_start_seconds: float = 20.0
    worker_start_seconds: float = 60.0
    bind_seconds: float = 60.0
    return_seconds: float = 60.0
    extend_limits: bool = True
    kernel_grace_seconds: float = 10.0
    broker_grace_seconds: float = 10.0
    broker_silence_seconds: float = 8.0
    supervisor_silence_seconds: float = 10.0
    parked_memory: int = 0
    forkserver_idle_seconds: float = 300.0
    ledger: str = "auto"
    ledger_path: str = ""
    ledger_url: str = ""
    ledger_password_file: str = ""
    devices: str = "auto"
    layout: str = ""
    sizes: str = ""
    scrub_memory: str = "between users"
    simulated_slices: int = 1
    simulated_memory: int = 8 << 30
    simulated_machine: str = ""
    staging_bytes: int = 0
    output_bytes: int = 16 << 20
    output_messages: int = 10_000
    output_display_bytes: int = 256 << 20
    containment: str = "auto"
    change_detection: str = "auto"
    emulate_cuda: bool = True
    emulate_ptrace_denied: bool = False


def load(environment: Mapping[str, str] | None = None) -> Settings:
    """Reads the settings.

    Raises:
        BadSetting: A value is not understood, or the file names an unknown setting.
    """
    env = os.environ if environment is None else environment
    path = _configuration_file(env)
    values: dict[str, Any] = {"runtime_directory": _default_runtime_directory(env)}
    hints = get_type_hints(Settings)
    for name, value in _read_file(path).items():
        if name not in hints:
            raise BadSetting(f"{path} has a setting {name!r}, which zerokernel does not know.")
        values[name] = _convert(name, hints[name], value)
    for name, hint in hints.items():
        raw = env.get(f"ZEROKERNEL_{name.upper()}")
        if raw is not None:
            values[name] = _convert(name, hint, raw)
    return checked(Settings(**values))


def as_environment(settings: Settings) -> dict[str, str]:
    """Gives the variables under which ``load`` finds these settings again."""
    return {
        f"ZEROKERNEL_{field.name.upper()}": str(getattr(settings, field.name))
        for field in dataclasses.fields(settings)
    }


def state_directory(
    settings: Settings, environment: Mapping[str, str] | None = None
) -> Path | None:
    """Gives where this person's files outlive a restart of the machine.

    None where the runtime directory is not the usual one: what belongs to a broker of its
    own lies there. The directory need not exist, and may be on a network home.
    """
    env = os.environ if environment is None else environment
    if settings.runtime_directory != _default_runtime_directory(env):
        return None
    home = env.get("XDG_STATE_HOME") or os.path.join(env.get("HOME", "/"), ".local", "state")
    return Path(home) / "zerokernel"


def _configuration_file(env: Mapping[str, str]) -> Path:
    if named := env.get("ZEROKERNEL_CONFIG"):
        return Path(named)
    return _configuration_directory(env) / "config.toml"


def _configuration_directory(env: Mapping[str, str]) -> Path:
    home = env.get("XDG_CONFIG_HOME") or os.path.join(env.get("HOME", "/"), ".config")
    return Path(home) / "zerokernel"


def _read_file(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            return tomllib.load(file)
    except FileNotFoundError:
        return {}
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise BadSetting(f"The configuration {path} cannot be read: {error}") from error


def _default_runtime_directory(env: Mapping[str, str]) -> Path:
    # Never a network home: sockets and locks do not work there, and two hosts would meet.
    base = env.get("XDG_RUNTIME_DIR")
    if base and os.access(base, os.W_OK):
        return Path(base) / "zerokernel"
    return Path(tempfile.gettempdir()) / f"zerokernel-{os.getuid()}"


_TABLES = ("layout", "sizes")
"""Settings that are a table in the file; in a variable they are that table as JSON."""
_TRUE, _FALSE = {"1", "true", "yes", "on"}, {"0", "false", "no", "off"}


def _convert(name: str, hint: Any, value: Any) -> Any:
    try:
        if isinstance(value, dict):
            if name not in _TABLES:
                raise ValueError("it is no table")
            return json.dumps(value)
        if hint is bool and isinstance(value, str):
            if (word := value.strip().lower()) not in _TRUE | _FALSE:
                raise ValueError("say true or false")
            return word in _TRUE
        if hint is bool and not isinstance(value, bool):
            raise ValueError("say true or false")
        return hint(value)
    except (TypeError, ValueError) as error:
        raise BadSetting(f"The setting {name} cannot be {value!r}: {error}") from error


CHOICES = {
    "channel": ("unix", "tcp"),
    "devices": ("auto", "nvidia", "simulated"),
    "containment": ("auto", "control group", "pid namespace", "process walk"),
    "ledger": ("auto", "memory", "sql"),
    "gpu_cells": ("marked", "all"),
    "change_detection": ("auto", "tracking", "hash"),
    "scrub_memory": ("between users", "always", "never"),
}
"""What settings can be that are one of a few words."""


def checked(settings: Settings) -> Settings:
    """Gives the settings back. Raises BadSetting where one of them cannot be."""
    for name, choices in CHOICES.items():
        if (value := getattr(settings, name)) not in choices:
            raise BadSetting(f"The setting {name} is {value!r}; it can be {', '.join(choices)}.")
    for field in dataclasses.fields(settings):
        value = getattr(settings, field.name)
        if isinstance(value, (int, float)) and not 0 <= value < float("inf"):
            raise BadSetting(f"The setting {field.name} cannot be {value}.")
    _check_ledger(settings)
    _check_broker_url(settings.broker_url)
    if settings.default_duration == 0:
        raise BadSetting("The setting default_duration must be above 0.")
    return settings


def has_password(url: str) -> bool:
    """Whether a database's URL may have a password in it, however it is written."""
    _, _, rest = url.partition("://")
    names, _, options = unquote(rest).partition("?")
    between = re.match(r"[^/@:]*:[^/@]*@", rest) or re.search(r":.*@", names)
    return bool(between or re.search(r"(^|&)\w*password=", options))


LOOPBACK = {"localhost", "127.0.0.1", "::1"}
"""What this machine calls itself, and nobody else does."""
TOKEN_VARIABLE = "ZEROKERNEL_BROKER_TOKEN"
"""A person's token for a shared broker; never a setting, for settings are handed on and shown."""
CREDENTIALS = frozenset({TOKEN_VARIABLE, "JPY_API_TOKEN", "JUPYTERHUB_API_TOKEN", "JUPYTER_TOKEN"})
"""What proves to broker, Hub and server who the user is: no forkserver and no worker has it."""


def _check_broker_url(url: str) -> None:
    if not url:
        return
    try:
        parts = urlsplit(url)
        known = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        known = False
    if not known or parts.path not in ("", "/") or "@" in parts.netloc or parts.query:
        raise BadSetting("The setting broker_url is not of the form https://HOST:PORT.")
    if parts.scheme == "http" and parts.hostname not in LOOPBACK:
        raise BadSetting(
            f"The setting broker_url is {url!r}: a token would cross the network in the clear. "
            "It can be https://…, or http:// with a loopback address."
        )


def broker_token(settings: Settings, environment: Mapping[str, str] | None = None) -> str:
    """Gives this person's token for the shared broker: from the variable, else from the file.

    Raises:
        BadSetting: There is none, or others can read its file.
    """
    env = os.environ if environment is None else environment
    if token := env.get(TOKEN_VARIABLE, "").strip():
        return token
    named = settings.broker_token_file
    path = Path(named).expanduser() if named else _configuration_directory(env) / "token"
    try:
        with path.open(encoding="utf-8", errors="surrogateescape") as file:
            mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
            token = file.read(4096).strip()
    except OSError as error:
        raise BadSetting(
            f"The broker {settings.broker_url} wants a token, and {path} cannot be read: "
            f"{error.strerror}. Write the token that its administrator gave you into that file, "
            f"with mode 0600, or into the variable {TOKEN_VARIABLE}."
        ) from error
    if mode & 0o077:
        raise BadSetting(f"The token in {path} can be read by others. Run `chmod 600 {path}`.")
    if not token:
        raise BadSetting(f"The file {path} is empty; it should have your token for the broker.")
    return token


def _check_ledger(settings: Settings) -> None:
    # Settings are handed on in the environment, and shown: none of them may be a secret.
    for name in ("ledger_url", "ledger_path"):
        if has_password(getattr(settings, name)):
            raise BadSetting(
                f"The setting {name} has a password in it. Write that into a file of mode 0600, "
                "name the file in the setting ledger_password_file, and leave the password out."
            )
    known = settings.ledger_url.startswith(("postgresql://", "postgres://"))
    if settings.ledger_url and not known:
        raise BadSetting(
            "The setting ledger_url is not that of a PostgreSQL database: it begins with "
            "postgresql://. A file is named in the setting ledger_path."
        )
