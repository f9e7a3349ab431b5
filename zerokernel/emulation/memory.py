"""How much memory an emulated device has in use: true sums, without an allocator's rounding."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from zerokernel.emulation.devices import devices
from zerokernel.emulation.limit import limit
from zerokernel.emulation.streams import on_of


def _bytes_of(attribute: str) -> Callable[..., int]:
    def read(device: Any = None) -> int:
        return int(getattr(on_of(device), attribute))

    read.__name__ = {"allocated": "memory_allocated", "peak": "max_memory_allocated"}[attribute]
    return read


def _reset_peak(device: Any = None) -> None:
    on = on_of(device)
    on.peak = on.mark = on.allocated


def _total() -> int:
    """All bytes of a device: what its slice has, else what the profile says."""
    return int(min(limit.memory, devices.profile.memory))


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Gives the bytes that are free, and all bytes of a device."""
    total = _total()
    return max(0, total - on_of(device).allocated), total


def _memory_stats(device: Any = None) -> OrderedDict[str, Any]:
    on = on_of(device)
    stats: OrderedDict[str, Any] = OrderedDict(num_alloc_retries=0, num_ooms=on.refused)
    for kind in ("allocated_bytes", "reserved_bytes", "active_bytes", "requested_bytes"):
        stats[f"{kind}.all.current"], stats[f"{kind}.all.peak"] = on.allocated, on.peak
    return stats


def _memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    on = on_of(device)
    return (
        f"{on.device} (emulated): {on.allocated:,} bytes allocated, {on.peak:,} at most, "
        f"of {_total():,}"
    )


def functions() -> dict[str, Callable[..., Any]]:
    """The functions of `torch.cuda.memory`, by name."""
    allocated, peak = _bytes_of("allocated"), _bytes_of("peak")
    return {
        "memory_allocated": allocated,
        "memory_reserved": allocated,
        "memory_cached": allocated,
        "max_memory_allocated": peak,
        "max_memory_reserved": peak,
        "max_memory_cached": peak,
        "reset_peak_memory_stats": _reset_peak,
        "reset_max_memory_allocated": _reset_peak,
        "reset_max_memory_cached": _reset_peak,
        "mem_get_info": mem_get_info,
        "memory_stats": _memory_stats,
        "memory_summary": _memory_summary,
    }
