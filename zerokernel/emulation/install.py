"""Puts the emulation in place and takes it back, without a trace."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FunctionType, ModuleType
from typing import Any

import torch

from zerokernel.emulation import (
    autograd,
    casting,
    compiling,
    cuda_module,
    defaults,
    functions,
    generators,
    getters,
    mode,
    movement,
    operators,
    parallel,
    rules,
    storages,
    threads,
    wrappers,
)
from zerokernel.emulation.devices import devices
from zerokernel.emulation.patches import Patch, PatchTable
from zerokernel.emulation.profile import DeviceProfile
from zerokernel.errors import CannotEmulate


class _Installed:
    """The mutable state: the table that is in place, None where there is no emulation.

    And for functions and classes in it, by address: the module that they stand in, and the name.
    """

    table: PatchTable | None = None
    paths: dict[int, tuple[str, str]] = {}  # noqa: RUF012  # one for the process, as the table


_state = _Installed()
_lock = threading.RLock()


def install(profile: DeviceProfile, *, from_the_start: bool = False) -> None:
    """Emulates `cuda` in this process; a second call changes the profile.

    Args:
        profile: What the device says of itself.
        from_the_start: Whether no tensor was made before: copies may then be put off until one
            of the two is written to.

    Raises:
        CannotEmulate: A real device is visible to this process.
    """
    with _lock:
        lazily = movement.copying.lazily if _state.table is not None else from_the_start
        if _state.table is not None:
            remove()
        elif torch.cuda.is_available():
            raise CannotEmulate(
                "This process sees a real CUDA device, so cuda is not emulated. "
                'Set CUDA_VISIBLE_DEVICES="" before torch is imported.'
            )
        devices.configure(profile)
        movement.copying.lazily = lazily
        if not mode.HANDLERS:
            rules.fill()
        _state.table = wrappers.followed.table = PatchTable(_patches())
        _state.paths = _paths(_state.table)
        _enter()


def _paths(table: PatchTable) -> dict[int, tuple[str, str]]:
    """Of one that stands in several places, the first."""
    paths: dict[int, tuple[str, str]] = {}
    for patch in table.patches:
        in_module = isinstance(patch.owner, ModuleType)
        if in_module and isinstance(patch.replacement, (FunctionType, type)):
            paths.setdefault(id(patch.replacement), (patch.owner.__name__, patch.name))
    return paths


def path_of(item: Any) -> tuple[str, str] | None:
    """Module and name of what a function or class of ours stands for; None for any other."""
    return _state.paths.get(id(item))


def _patches() -> list[Patch]:
    parts = (
        *(storages, getters, autograd, functions, cuda_module, casting),
        *(threads, compiling, defaults, parallel, wrappers, operators),
    )
    table = [patch for part in parts for patch in part.patches()]
    return [*table, Patch(torch, "Generator", generators.Generator)]


def _enter() -> None:
    assert _state.table is not None
    _state.table.install()
    storages.registration.enter()
    compiling.state.suspended = suspended
    compiling.install()
    threads.state.active = True
    mode.act(True)
    mode.push()
    threads.reach_living()


def _leave() -> None:
    assert _state.table is not None
    threads.state.active = False
    mode.act(False)
    mode.pop()
    threads.reach_living()
    compiling.remove()
    compiling.state.suspended = compiling.nothing
    storages.registration.leave()
    _state.table.remove()


def remove() -> None:
    """Takes the emulation back; tensors that were on an emulated device are CPU tensors then.

    Where another thread still has a mode, it does nothing.
    """
    with _lock:
        if _state.table is not None:
            _leave()
            _state.table = wrappers.followed.table = None
            _state.paths = {}  # what dies with the table leaves its address to others
            wrappers.followed.classes.clear()


@contextmanager
def suspended() -> Iterator[None]:
    """Has the emulation stand aside: device tensors are CPU tensors meanwhile, in every thread."""
    with _lock:
        if _state.table is None:
            yield
            return
        _leave()
        try:
            yield
        finally:
            _enter()
