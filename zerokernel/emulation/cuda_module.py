"""`torch.cuda` and its relatives: what a process with such a device would be told."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from zerokernel.emulation import memory, seeds, streams, where_real
from zerokernel.emulation.devices import devices
from zerokernel.emulation.patches import Patch
from zerokernel.emulation.streams import on_of
from zerokernel.errors import EmulatedDeviceOnly


@dataclass(frozen=True)
class Properties:
    """What `torch.cuda.get_device_properties` gives."""

    name: str
    major: int
    minor: int
    total_memory: int
    multi_processor_count: int
    uuid: str
    is_integrated: int = 0
    is_multi_gpu_board: int = 0
    max_threads_per_multi_processor: int = 2048
    max_threads_per_block: int = 1024
    regs_per_multiprocessor: int = 65536
    shared_memory_per_block: int = 49152
    shared_memory_per_multiprocessor: int = 233472
    shared_memory_per_block_optin: int = 232448
    warp_size: int = 32
    gcnArchName: str = ""  # noqa: N815
    L2_cache_size: int = 52428800
    pci_bus_id: int = 0
    pci_device_id: int = 0
    pci_domain_id: int = 0


def get_device_properties(device: Any = None) -> Properties:
    """Describes a device by the profile."""
    on, profile = on_of(device), devices.profile
    return Properties(
        profile.name,
        *profile.capability,
        profile.memory,
        profile.multiprocessors,
        str(uuid.uuid5(uuid.NAMESPACE_OID, f"{profile.name}/{on.index}")),
        gcnArchName=profile.name,
    )


def _set_device(device: Any) -> None:
    if isinstance(device, int) and device < 0:
        return
    devices.current.index = on_of(device).index


def _exchange(index: int) -> int:
    before = devices.current.index
    if index is not None and index >= 0:
        devices.current.index = devices.at(index).index
    return before


class _DeviceContext:
    """`with torch.cuda.device(1)`; a negative index or None changes nothing."""

    def __init__(self, device: Any) -> None:
        none = device is None or (isinstance(device, int) and device < 0)
        self.idx = -1 if none else on_of(device).index
        self.prev_idx = -1

    def __enter__(self) -> None:
        self.prev_idx = _exchange(self.idx)

    def __exit__(self, *exception: Any) -> None:
        devices.current.index = self.prev_idx


class _DeviceOf(_DeviceContext):
    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else -1)


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise EmulatedDeviceOnly(
            f"torch.cuda.{name} needs a real device, and this one is emulated. "
            f"Do it {where_real()}."
        )

    refuse.__name__ = name
    return refuse


def _refused_class(name: str) -> type:
    """A class, because libraries name it in annotations (`torch.cuda.CUDAGraph | None`)."""
    refuse = _refused(name)
    return type(name, (), {"__module__": "torch.cuda", "__new__": refuse})


def _says(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


def _functions() -> dict[str, Any]:
    profile = devices.profile
    major, minor = profile.capability
    nothing = _says(None)
    bf16 = major >= 8
    return {
        "is_available": _says(True),
        "is_initialized": _says(True),
        "init": nothing,
        "_lazy_init": nothing,
        "_is_in_bad_fork": _says(False),
        "device_count": _says(profile.count),
        "_device_count_nvml": _says(profile.count),
        "current_device": lambda: devices.current.index,
        "set_device": _set_device,
        "_exchange_device": _exchange,
        "_maybe_exchange_device": _exchange,
        "device": _DeviceContext,
        "device_of": _DeviceOf,
        "get_device_name": lambda device=None: on_of(device) and profile.name,
        "get_device_properties": get_device_properties,
        "get_device_capability": lambda device=None: on_of(device) and profile.capability,
        "get_arch_list": lambda: [f"sm_{major}{minor}"],
        "can_device_access_peer": lambda device, peer: on_of(device) is not on_of(peer),
        "is_bf16_supported": lambda including_emulation=True: bf16 or including_emulation,
        "is_tf32_supported": _says(bf16),
        "synchronize": lambda device=None: on_of(device) and None,
        "empty_cache": nothing,
        "ipc_collect": nothing,
        "reset_accumulated_memory_stats": nothing,
        **memory.functions(),
        **seeds.functions(),
        "set_per_process_memory_fraction": nothing,
        "get_per_process_memory_fraction": _says(1.0),
        "utilization": _says(0),
        "Stream": streams.Stream,
        "Event": streams.Event,
        "StreamContext": streams.StreamContext,
        "stream": streams.StreamContext,
        "current_stream": streams.current_stream,
        "default_stream": streams.default_stream,
        "set_stream": streams.set_stream,
        "is_current_stream_capturing": _says(False),
        **{n: _refused_class(n) for n in ("CUDAGraph", "graph")},
        **{n: _refused(n) for n in ("make_graphed_callables", "cudart")},
    }


_IN_SUBMODULES = {
    "random": ("manual_seed", "manual_seed_all", "get_rng_state", "set_rng_state", "seed"),
    "memory": ("memory_allocated", "max_memory_allocated", "mem_get_info", "empty_cache"),
    "streams": ("Stream", "Event"),
}


def _accelerator() -> dict[str, Any]:
    cuda = torch.device("cuda")
    return {
        "is_available": _says(True),
        "device_count": _says(devices.profile.count),
        "current_accelerator": lambda check_available=False: cuda,
        "current_device_index": lambda: devices.current.index,
        "current_device_idx": lambda: devices.current.index,
        "set_device_index": _set_device,
        "set_device_idx": _set_device,
        "synchronize": lambda device=None: None,
        "current_stream": streams.current_stream,
        "set_stream": streams.set_stream,
        "device_index": _DeviceContext,
        "empty_cache": _says(None),
        **{name: value for name, value in memory.functions().items() if "cached" not in name},
        "get_memory_info": memory.mem_get_info,
    }


class _NoRange(contextlib.ContextDecorator):
    def __init__(self, *args: Any, **kwargs: Any) -> None: ...
    def __enter__(self) -> None: ...
    def __exit__(self, *exception: Any) -> None: ...


def _array_types() -> list[Patch]:
    """`torch.cuda.FloatTensor` and the like: made from sizes or data, tested by `isinstance`."""
    names = [n for n in dir(torch.cuda) if n.endswith("Tensor") and hasattr(torch, n)]
    return [Patch(torch.cuda, name, _array_type(name)) for name in names]


def _array_type(name: str) -> Any:
    plain: Any = getattr(torch, name)

    class Kind(type):
        def __instancecheck__(cls, instance: object) -> bool:
            return (
                isinstance(instance, torch.Tensor)
                and instance.is_cuda
                and instance.dtype == plain.dtype
            )

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            with torch._C.DisableTorchFunction():
                made = plain(*args, **kwargs)
            return made.to(devices.here().device)

    return Kind(name, (), {"__module__": "torch.cuda", "dtype": plain.dtype, "is_cuda": True})


def patches() -> list[Patch]:
    """What is replaced in `torch.cuda`, `torch.accelerator`, `torch.backends`, `torch.version`."""
    functions = _functions()
    table = [Patch(torch.cuda, name, value) for name, value in functions.items()]
    for module, names in _IN_SUBMODULES.items():
        table += [Patch(getattr(torch.cuda, module), name, functions[name]) for name in names]
    accelerator = getattr(torch, "accelerator", None)
    if accelerator is not None:
        for name, value in _accelerator().items():
            if hasattr(accelerator, name):
                table.append(Patch(accelerator, name, value))
    for name in ("range_push", "range_pop", "mark", "range_start", "range_end"):
        table.append(Patch(torch.cuda.nvtx, name, _says(0)))
    table.append(Patch(torch.cuda.nvtx, "range", _NoRange))
    table += [Patch(torch, "Stream", streams.Stream), Patch(torch, "Event", streams.DeviceEvent)]
    table.append(Patch(torch.backends.cuda, "is_built", _says(True)))
    table.append(Patch(torch.backends.cudnn, "is_acceptable", _says(False)))
    if torch.version.cuda is None:
        table.append(Patch(torch.version, "cuda", devices.profile.cuda_version))
    return table + _array_types()
