"""What compiles or records a program cannot do so under the emulation.

`torch.compile` runs eagerly here, with one warning. `torch.export` would end the process: with
tensors on the device it is refused, otherwise the emulation stands aside meanwhile.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch

from zerokernel.emulation import checks, where_real
from zerokernel.emulation.devices import device_of, put_all
from zerokernel.emulation.patches import Patch
from zerokernel.errors import EmulatedDeviceOnly

_compile_before: Any = torch.compile
_export_before: Any = torch.export.export
_script_before: Any = torch.jit.script
_Script: Any = torch._C.ScriptFunction
_call_script_before = _Script.__call__
_call_module_before: Any = torch.nn.Module.__call__
_Profile: Any = torch.profiler.profiler._KinetoProfile
_profiler_before = _Profile.__init__


class _State:
    """The mutable state: how the emulation stands aside, and what has been said already."""

    suspended: Callable[[], AbstractContextManager[None]]
    warned = False
    stance: Any = None


state = _State()


def _compile(*args: Any, **kwargs: Any) -> Any:
    eagerly()
    if not state.warned:
        state.warned = True
        warnings.warn(
            "torch.compile runs eagerly here, where the cuda device is emulated. "
            f"{where_real().capitalize()} it compiles.",
            stacklevel=2,
        )
    return _compile_before(*args, **kwargs)


def eagerly() -> None:
    """Has everything that torch compiles run as it is written."""
    if state.stance is None:
        from torch._dynamo import eval_frame

        state.stance = eval_frame._stance
        eval_frame._set_stance(eval_frame.DynamoStance("force_eager"))


def install() -> None:
    """Stops what has been compiled before."""
    if "torch._dynamo" in sys.modules:
        eagerly()


def remove() -> None:
    """Lets torch compile again."""
    if state.stance is not None:
        from torch._dynamo import eval_frame

        eval_frame._set_stance(state.stance)
        state.stance = None
    state.warned = False


def _export(mod: Any, args: Any = (), kwargs: Any = None, **options: Any) -> Any:
    tensors: list[Any] = []
    checks.collect((args, kwargs or {}), tensors)
    if isinstance(mod, torch.nn.Module):
        tensors += [*mod.parameters(), *mod.buffers()]
    if any(device_of(tensor) is not None for tensor in tensors):
        raise EmulatedDeviceOnly(
            "torch.export cannot record a model on the emulated cuda device. "
            f"Export it {where_real()}, or move it to the CPU first."
        )
    with state.suspended():
        return _export_before(mod, args, kwargs, **options)


def _script(*args: Any, **kwargs: Any) -> Any:
    with state.suspended():
        return _script_before(*args, **kwargs)


def _run_script(self: Any, *args: Any, **kwargs: Any) -> Any:
    """A program of TorchScript runs where no mode sees it: its results are where its inputs are."""
    result = _call_script_before(self, *args, **kwargs)
    return _where_inputs_are(result, (args, kwargs))


def _run_module(self: Any, *args: Any, **kwargs: Any) -> Any:
    result = _call_module_before(self, *args, **kwargs)
    return _where_inputs_are(result, (args, kwargs, list(self.parameters())))


def _where_inputs_are(result: Any, inputs: Any) -> Any:
    tensors: list[Any] = []
    checks.collect(inputs, tensors)
    for tensor in tensors:
        if (on := device_of(tensor)) is not None:
            return put_all(result, on)
    return result


def _profiled(self: Any, *args: Any, activities: Any = None, **kwargs: Any) -> None:
    """The profiler sees the CPU only: there is no device to record."""
    wanted = [torch.profiler.ProfilerActivity.CPU]
    if activities is not None:
        wanted = [one for one in activities if one in wanted] or wanted
    _profiler_before(self, *args, activities=wanted, **kwargs)


def patches() -> list[Patch]:
    """What is replaced of the compilers."""
    return [
        Patch(_Script, "__call__", _run_script),
        Patch(torch.jit.ScriptModule, "__call__", _run_module),
        Patch(_Profile, "__init__", _profiled),
        Patch(torch, "compile", _compile),
        Patch(torch.export, "export", _export),
        Patch(torch.jit, "script", _script),
    ]


@contextmanager
def nothing() -> Iterator[None]:
    """Stands for `suspended` where nothing is installed."""
    yield


state.suspended = nothing
