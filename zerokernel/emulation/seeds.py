"""The random generators of emulated devices, as `torch.cuda.random` sets and reads them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from zerokernel.emulation.devices import EmulatedDevice, devices
from zerokernel.emulation.generators import default_generator
from zerokernel.emulation.streams import on_of


def _manual_seed(seed: int) -> None:
    default_generator(devices.here()).manual_seed(int(seed))


def _all() -> list[EmulatedDevice]:
    return devices.all[: devices.profile.count]


def _manual_seed_all(seed: int) -> None:
    for on in _all():
        default_generator(on).manual_seed(int(seed))


def _seed() -> None:
    default_generator(devices.here()).seed()


def _seed_all() -> None:
    _manual_seed_all(default_generator(devices.here()).seed())


def _initial_seed() -> int:
    return int(default_generator(devices.here()).initial_seed())


def _get_rng_state(device: Any = "cuda") -> Any:
    return default_generator(on_of(device)).get_state()


def _get_rng_state_all() -> list[Any]:
    return [_get_rng_state(on.index) for on in _all()]


def _set_rng_state(new_state: Any, device: Any = "cuda") -> None:
    default_generator(on_of(device)).set_state(new_state)


def _set_rng_state_all(new_states: Iterable[Any]) -> None:
    for on, state in zip(_all(), new_states, strict=False):
        _set_rng_state(state, on.index)


def functions() -> dict[str, Any]:
    """The functions of `torch.cuda.random`, by name, and the generators."""
    return {
        "manual_seed": _manual_seed,
        "manual_seed_all": _manual_seed_all,
        "seed": _seed,
        "seed_all": _seed_all,
        "initial_seed": _initial_seed,
        "get_rng_state": _get_rng_state,
        "get_rng_state_all": _get_rng_state_all,
        "set_rng_state": _set_rng_state,
        "set_rng_state_all": _set_rng_state_all,
        "default_generators": tuple(default_generator(on) for on in _all()),
    }
