"""Memory that devices write to by themselves, past the protection of its pages."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass
from typing import Any

_MEMORY_TYPE = 2  # CU_POINTER_ATTRIBUTE_MEMORY_TYPE
_NOT_PINNED = (1, 3)  # CUDA_ERROR_INVALID_VALUE, CUDA_ERROR_NOT_INITIALIZED


@dataclass(frozen=True)
class Pinned:
    """What is known of this process's pinned memory.

    Attributes:
        anywhere: The system counts pinned pages (io_uring, RDMA), without saying which.
        driver: CUDA's library where this process uses it; it knows its own.
    """

    anywhere: bool
    driver: Any = None

    def may_hold(self, start: int, stop: int) -> bool:
        """Whether a device may write to this range of memory."""
        if self.anywhere:
            return True
        return self.driver is not None and any(map(self._is_registered, (start, stop - 1)))

    def _is_registered(self, address: int) -> bool:
        kind = ctypes.c_uint()
        told = self.driver.cuPointerGetAttribute(
            ctypes.byref(kind), ctypes.c_int(_MEMORY_TYPE), ctypes.c_uint64(address)
        )
        return told not in _NOT_PINNED


def look() -> Pinned:
    """Asks the system, and whether CUDA's library is in this process."""
    with open("/proc/self/status", "rb") as file:
        lines = file.read().split(b"\n")
    counts = [int(line.split()[1]) for line in lines if line.startswith(b"VmPin:")]
    return Pinned(any(counts), _driver())


def _driver() -> Any:
    try:
        return ctypes.CDLL("libcuda.so.1", mode=os.RTLD_NOLOAD | os.RTLD_NOW)
    except OSError:
        return None
