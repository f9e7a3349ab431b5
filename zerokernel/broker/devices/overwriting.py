"""Overwrites the memory of a device: run as ``python -m zerokernel.broker.devices.overwriting``.

A process of its own, because the broker must not initialise a device, and what it takes there
ends with it. It sees one device (CUDA_VISIBLE_DEVICES), takes all memory that is free, in blocks
as large as they come, fills it, and reads a sample of each block back.
"""

from __future__ import annotations

import ctypes
import sys

_LARGEST, _LEAST = 8 << 30, 2 << 20
_SAMPLE = 4096
_FILLING = 0xA5


class CudaFailed(Exception):
    """The CUDA driver refused something."""


def main() -> int:
    """Overwrites what is visible; prints how many bytes, or why not."""
    try:
        print(_overwrite(_Driver()))
    except (CudaFailed, OSError) as error:
        print(f"it could not be overwritten: {error}", file=sys.stderr)
        return 1
    return 0


class _Driver:
    """The few functions of the CUDA driver that this needs."""

    def __init__(self) -> None:
        self._cuda = ctypes.CDLL("libcuda.so.1")
        self._call("cuInit", ctypes.c_uint(0))
        device, self._context = ctypes.c_int(), ctypes.c_void_p()
        self._call("cuDeviceGet", ctypes.byref(device), ctypes.c_int(0))
        self._call("cuDevicePrimaryCtxRetain", ctypes.byref(self._context), device)
        self._call("cuCtxSetCurrent", self._context)

    def _call(self, name: str, *arguments: object) -> None:
        if status := getattr(self._cuda, name)(*arguments):
            raise CudaFailed(f"{name} gives error {status}")

    def take(self, size: int) -> ctypes.c_uint64 | None:
        """Gives so many bytes, None where there are not so many."""
        address = ctypes.c_uint64()
        try:
            self._call("cuMemAlloc_v2", ctypes.byref(address), ctypes.c_size_t(size))
        except CudaFailed:
            return None
        return address

    def fill(self, address: ctypes.c_uint64, size: int) -> None:
        """Writes to each byte."""
        self._call("cuMemsetD8_v2", address, ctypes.c_ubyte(_FILLING), ctypes.c_size_t(size))

    def is_filled(self, address: ctypes.c_uint64, size: int) -> bool:
        """Whether first and last bytes are what was written."""
        for start in (0, size - _SAMPLE):
            sample = (ctypes.c_ubyte * _SAMPLE)()
            there = ctypes.c_uint64(address.value + start)
            self._call("cuMemcpyDtoH_v2", sample, there, ctypes.c_size_t(_SAMPLE))
            if bytes(sample) != bytes([_FILLING]) * _SAMPLE:
                return False
        return True


def _overwrite(driver: _Driver) -> int:
    """Fills all free memory, which this process's end gives back; gives the bytes."""
    size, total = _LARGEST, 0
    blocks: list[tuple[ctypes.c_uint64, int]] = []
    while size >= _LEAST:
        address = driver.take(size)
        if address is None:
            size //= 2
            continue
        driver.fill(address, size)
        blocks.append((address, size))
        total += size
    if not blocks:
        raise CudaFailed("none of its memory is free")
    if not all(driver.is_filled(*block) for block in blocks):
        raise CudaFailed("what was written there reads back as something else")
    return total


if __name__ == "__main__":
    sys.exit(main())
