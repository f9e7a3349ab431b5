"""The state around the namespace: directory, environment, import path, random generators."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class _Facet:
    """One piece of ambient state; ``read`` gives None where it does not apply."""

    read: Callable[[], Any]
    write: Callable[[Any], None]


def capture_ambient() -> dict[str, Any]:
    """The present ambient state of this process, cheap to take and to compare."""
    found = {name: facet.read() for name, facet in _FACETS.items()}
    return {name: value for name, value in found.items() if value is not None}


def diff(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """What `apply` needs to turn the state ``before`` into the state ``after``.

    Of the environment only the changed variables are in it, None for those that went.
    """
    delta = {
        name: value
        for name, value in after.items()
        if name != "environ" and not _same(before.get(name), value)
    }
    old, new = before["environ"], after["environ"]
    if old != new:
        changed = {key: value for key, value in new.items() if old.get(key) != value}
        delta["environ"] = changed | dict.fromkeys(old.keys() - new.keys())
    return delta


def apply(delta: dict[str, Any]) -> None:
    """Puts a difference into this process."""
    for name, value in delta.items():
        _FACETS[name].write(value)


def _same(old: Any, new: Any) -> bool:
    return type(old) is type(new) and bool(old == new)


def _directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:
        return None


# Set for each process or slice, or what proves who the user is: not the worker's to have.
_OWN_VARIABLES = frozenset(
    {
        "CUDA_DEVICE_ORDER",
        "CUDA_VISIBLE_DEVICES",
        "JPY_API_TOKEN",
        "JPY_PARENT_PID",
        "JUPYTERHUB_API_TOKEN",
        "JUPYTER_TOKEN",
        "MPLBACKEND",
        "NVIDIA_VISIBLE_DEVICES",
        "PYDEVD_DISABLE_FILE_VALIDATION",
        "PYTORCH_NVML_BASED_CUDA_CHECK",
    }
)


def _environ() -> dict[str, str]:
    return {
        key: value
        for key, value in os.environ.items()
        if key not in _OWN_VARIABLES and not key.startswith("ZEROKERNEL_")
    }


def _put_environ(changes: dict[str, str | None]) -> None:
    for key, value in changes.items():
        if value is None:
            os.environ.pop(key, None)
        else:
            os.environ[key] = value


def _put_path(path: list[str]) -> None:
    sys.path[:] = path


def _numpy_state() -> Any:
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return None
    kind, keys, position, has_gauss, gauss = numpy.get_state()
    return (kind, keys.tobytes(), position, has_gauss, gauss)


def _put_numpy(state: Any) -> None:
    import numpy as np

    kind, keys, *rest = state
    np.random.set_state((kind, np.frombuffer(keys, np.uint32), *rest))


def _torch_state() -> bytes | None:
    torch = sys.modules.get("torch")
    generator = getattr(torch, "default_generator", None)
    if generator is None:
        return None
    state: bytes = generator.get_state().numpy().tobytes()
    return state


def _put_torch(state: bytes) -> None:
    import torch

    torch.default_generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


_FACETS: dict[str, _Facet] = {
    "cwd": _Facet(_directory, os.chdir),
    "environ": _Facet(_environ, _put_environ),
    "path": _Facet(lambda: list(sys.path), _put_path),
    "random": _Facet(random.getstate, random.setstate),
    "numpy": _Facet(_numpy_state, _put_numpy),
    "torch": _Facet(_torch_state, _put_torch),
}
