"""State around the namespace that a cell may read and change.

Working directory, environment variables, the module search path, and the random
generators of random, NumPy and torch. A library that is not imported is left alone.
"""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable
from typing import Any

# Set per process or per slice: the notebook's values are not the worker's.
_OWN_VARIABLES = frozenset(
    {
        "CUDA_VISIBLE_DEVICES",
        "CUDA_DEVICE_ORDER",
        "NVIDIA_VISIBLE_DEVICES",
        "PYTORCH_NVML_BASED_CUDA_CHECK",
        "MPLBACKEND",
        "JPY_PARENT_PID",
        "PYDEVD_DISABLE_FILE_VALIDATION",
    }
)


def capture() -> dict[str, Any]:
    """Takes the state as it is now, as plain values that pickle."""
    return {name: read() for name, (read, _) in _PARTS.items()}


def diff(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The parts of ``after`` that differ from ``before``."""
    return {name: value for name, value in after.items() if value != before.get(name)}


def apply(state: dict[str, Any]) -> None:
    """Makes this process's state as ``state`` says, part by part; None leaves a part alone."""
    for name, value in state.items():
        if value is not None:
            _PARTS[name][1](value)


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _OWN_VARIABLES}


def _set_environment(wanted: dict[str, str]) -> None:
    now = _environment()
    for name in now.keys() - wanted.keys():
        del os.environ[name]
    for name, value in wanted.items():
        if now.get(name) != value:
            os.environ[name] = value


def _directory() -> str | None:
    try:
        return os.getcwd()
    except FileNotFoundError:  # somebody removed it; the notebook stands there all the same
        return None


def _set_search_path(wanted: list[str]) -> None:
    if sys.path != wanted:
        sys.path[:] = wanted


def _numpy_state() -> Any:
    numpy = sys.modules.get("numpy.random")
    if numpy is None:
        return None
    name, keys, *rest = numpy.get_state()
    return (name, keys.tobytes(), *rest)


def _set_numpy_state(state: tuple[Any, ...]) -> None:
    import numpy as np

    name, keys, *rest = state
    np.random.set_state((name, np.frombuffer(keys, dtype=np.uint32), *rest))


def _torch_state() -> bytes | None:
    torch = sys.modules.get("torch")
    if torch is None:
        return None
    return bytes(torch.get_rng_state().numpy().tobytes())


def _set_torch_state(state: bytes) -> None:
    import torch

    torch.set_rng_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


_PARTS: dict[str, tuple[Callable[[], Any], Callable[[Any], None]]] = {
    "directory": (_directory, os.chdir),
    "environment": (_environment, _set_environment),
    "search_path": (lambda: list(sys.path), _set_search_path),
    "random": (random.getstate, random.setstate),
    "numpy": (_numpy_state, _set_numpy_state),
    "torch": (_torch_state, _set_torch_state),
}
