"""State of the process: directory, environment, import path, limits, collector, decimals."""

from __future__ import annotations

import gc
import os
import sys
import time
from typing import Any

from zerokernel.ambient.setting import GONE, Setting, attributes, pair
from zerokernel.settings import CREDENTIALS

# Set for each process or slice, or a credential: not the worker's to have.
_OWN_VARIABLES = CREDENTIALS | frozenset(
    {
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "JPY_PARENT_PID",
        "MPLBACKEND",
        "NVIDIA_VISIBLE_DEVICES",
        "PYDEVD_DISABLE_FILE_VALIDATION",
        "PYTORCH_NVML_BASED_CUDA_CHECK",
    }
)

SHARING = {
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
}
"""What a worker's environment has unless the notebook's says otherwise: that a library takes of the
device what it needs, and not all of it, which starves the others of the same process."""


def _directory() -> Any:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return GONE


class _Environment:
    """The environment, decoded again only when it changed."""

    def __init__(self) -> None:
        self._raw: dict[Any, Any] = {}
        self._read: dict[str, str] = {}

    def read(self) -> dict[str, str]:
        raw = getattr(os.environ, "_data", None)
        if raw is None or raw != self._raw:
            self._raw = dict(raw or {})
            self._read = {key: value for key, value in os.environ.items() if not _is_own(key)}
        return self._read

    def write(self, changes: dict[str, Any]) -> None:
        for key, value in changes.items():
            if value is GONE:
                os.environ.pop(key, None)
            else:
                os.environ[key] = value


def _is_own(key: str) -> bool:
    return key in _OWN_VARIABLES or key.startswith("ZEROKERNEL_")


def _put_path(path: list[str]) -> None:
    sys.path[:] = path


def _put_collecting(on: bool) -> None:
    (gc.enable if on else gc.disable)()


def _decimal_context(decimal: Any) -> Any:
    # (precision, rounding, exponents, flags, traps): the arguments of a Context
    return decimal.getcontext().__reduce__()[1]


def _put_decimal_context(decimal: Any, values: Any) -> None:
    wanted, context = decimal.Context(*values), decimal.getcontext()
    for name in ("prec", "rounding", "Emin", "Emax", "capitals", "clamp"):
        setattr(context, name, getattr(wanted, name))
    context.flags.update(wanted.flags)
    context.traps.update(wanted.traps)


_environment = _Environment()

PROCESS: tuple[Setting, ...] = (
    # What is imported to apply the rest is found by these.
    Setting("environ", _environment.read, _environment.write, keyed=True, exact=True),
    Setting("cwd", _directory, os.chdir),
    Setting("sys.path", lambda: list(sys.path), _put_path),
    Setting("timezone", lambda: (time.tzname, time.timezone), lambda _: time.tzset()),
    pair(
        "sys",
        "recursionlimit",
        lambda m: m.getrecursionlimit(),
        lambda m, v: m.setrecursionlimit(v),
    ),
    pair(
        "sys",
        "switchinterval",
        lambda m: m.getswitchinterval(),
        lambda m, v: m.setswitchinterval(v),
    ),
    pair(
        "sys",
        "int_max_str_digits",
        lambda m: m.get_int_max_str_digits(),
        lambda m, v: m.set_int_max_str_digits(v),
    ),
    *attributes("sys", "dont_write_bytecode"),
    Setting("gc.enabled", gc.isenabled, _put_collecting),
    Setting("gc.threshold", gc.get_threshold, lambda value: gc.set_threshold(*value)),
    pair("locale", "all", lambda m: m.setlocale(m.LC_ALL), lambda m, v: m.setlocale(m.LC_ALL, v)),
    pair("decimal", "context", _decimal_context, _put_decimal_context),
    pair(
        "socket",
        "timeout",
        lambda m: m.getdefaulttimeout() or 0.0,
        lambda m, v: m.setdefaulttimeout(v or None),
    ),
    pair(
        "csv",
        "field_size_limit",
        lambda m: m.field_size_limit(),
        lambda m, v: m.field_size_limit(v),
    ),
    pair(
        "multiprocessing",
        "start_method",
        lambda m: m.get_start_method(allow_none=True) or "",
        lambda m, v: m.set_start_method(v or None, force=True),
    ),
)
