"""`torch.cuda` and its relatives: what a process with such a device would be told."""

from __future__ import annotations

import contextlib
import uuid
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch

from zerokernel.emulation import streams
from zerokernel.emulation.devices import CPU, EmulatedDevice, devices
from zerokernel.emulation.generators import default_generator
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

    def __exit__(self, *exception: Any) -> bool:
        devices.current.index = self.prev_idx
        return False


class _DeviceOf(_DeviceContext):
    def __init__(self, obj: Any) -> None:
        super().__init__(obj.get_device() if obj.is_cuda else -1)


def _bytes_of(attribute: str) -> Callable[..., int]:
    def read(device: Any = None) -> int:
        return int(getattr(on_of(device), attribute))

    read.__name__ = {"allocated": "memory_allocated", "peak": "max_memory_allocated"}[attribute]
    return read


def _reset_peak(device: Any = None) -> None:
    on = on_of(device)
    on.peak = on.allocated


def _mem_get_info(device: Any = None) -> tuple[int, int]:
    total = devices.profile.memory
    return max(0, total - on_of(device).allocated), total


def _memory_stats(device: Any = None) -> OrderedDict[str, Any]:
    on = on_of(device)
    stats: OrderedDict[str, Any] = OrderedDict(num_alloc_retries=0, num_ooms=0)
    for kind in ("allocated_bytes", "reserved_bytes", "active_bytes", "requested_bytes"):
        stats[f"{kind}.all.current"], stats[f"{kind}.all.peak"] = on.allocated, on.peak
    return stats


def _memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    on = on_of(device)
    return (
        f"{on.device} (emulated): {on.allocated:,} bytes allocated, {on.peak:,} at most, "
        f"of {devices.profile.memory:,}"
    )


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


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **kwargs: Any) -> Any:
        raise EmulatedDeviceOnly(
            f"torch.cuda.{name} needs a real device, and this notebook's is emulated. "
            "Do it in a %%gpu cell."
        )

    refuse.__name__ = name
    return refuse


def _says(value: Any) -> Callable[..., Any]:
    return lambda *args, **kwargs: value


def _functions() -> dict[str, Any]:
    profile = devices.profile
    major, minor = profile.capability
    nothing = _says(None)
    allocated, peak = _bytes_of("allocated"), _bytes_of("peak")
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
        "memory_allocated": allocated,
        "memory_reserved": allocated,
        "memory_cached": allocated,
        "max_memory_allocated": peak,
        "max_memory_reserved": peak,
        "max_memory_cached": peak,
        "reset_peak_memory_stats": _reset_peak,
        "reset_max_memory_allocated": _reset_peak,
        "reset_max_memory_cached": _reset_peak,
        "reset_accumulated_memory_stats": nothing,
        "mem_get_info": _mem_get_info,
        "memory_stats": _memory_stats,
        "memory_summary": _memory_summary,
        "set_per_process_memory_fraction": nothing,
        "get_per_process_memory_fraction": _says(1.0),
        "utilization": _says(0),
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
        "Stream": streams.Stream,
        "Event": streams.Event,
        "StreamContext": streams.StreamContext,
        "stream": streams.StreamContext,
        "current_stream": streams.current_stream,
        "default_stream": streams.default_stream,
        "set_stream": streams.set_stream,
        "is_current_stream_capturing": _says(False),
        **{n: _refused(n) for n in ("CUDAGraph", "graph", "make_graphed_callables", "cudart")},
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
        "empty_cache": _says(None),
        "memory_allocated": _bytes_of("allocated"),
        "memory_reserved": _bytes_of("allocated"),
        "max_memory_allocated": _bytes_of("peak"),
        "max_memory_reserved": _bytes_of("peak"),
        "reset_peak_memory_stats": _reset_peak,
        "get_memory_info": _mem_get_info,
        "memory_stats": _memory_stats,
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
    """What is replaced in `torch.cuda`, `torch.accelerator`, `torch.backends` and `torch.version`."""
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
    table.append(Patch(torch.backends.cuda, "is_built", _says(True)))
    table.append(Patch(torch.backends.cudnn, "is_acceptable", _says(False)))
    if torch.version.cuda is None:
        table.append(Patch(torch.version, "cuda", devices.profile.cuda_version))
    return table + _array_types()


__all__ = ["CPU", "Properties", "get_device_properties", "patches"]
