"""Labels for memory on a device: two 64-bit sums a chunk, computed there.

Bringing the bytes home to hash them would take as long as the results' way home. A label proves
that bytes at a place of this process are what they were, and nothing else: the keys are drawn anew
in each process, so that no data was made to collide.
"""

from __future__ import annotations

import functools
import os
from typing import Any

from zerokernel.crossing.buffers import CHUNK

_WORDS = CHUNK // 8
_PIECE = 32 << 20
"""So many bytes are summed at a time: two copies of them are needed meanwhile."""

_BASE = 1 << 160
"""These labels are below all others, of which the lowest are those of files."""

# The factors of splitmix64 and of MurmurHash3's last step, as signed numbers. Sums of plain
# products would not do: a changed sign of an even number of 64-bit floats would cancel out.
_FACTORS = (
    0x9E3779B97F4A7C15 - (1 << 64),
    0xBF58476D1CE4E5B9 - (1 << 64),
    0x94D049BB133111EB - (1 << 64),
    0xFF51AFD7ED558CCD - (1 << 64),
)
_SHIFTS = (32, 29, 32)
_MASK = (1 << 64) - 1


def labels_of(data: Any) -> tuple[int, ...]:
    """One label for each chunk of bytes on any device.

    Args:
        data: A flat tensor of uint8. Operations on it are not to be looked at by a mode.
    """
    import torch

    size = data.numel()
    whole, words = size // CHUNK * CHUNK, size // 8 * 8
    keys = _keys(str(data.device))
    sums = [
        _sums(data[start : min(start + _PIECE, whole)].view(torch.int64).view(-1, _WORDS), keys)
        for start in range(0, whole, _PIECE)
    ]
    if size > whole:
        last = data[whole:]
        if words < size:
            last = torch.nn.functional.pad(last, (0, 8 - size % 8))
        rest = last.view(torch.int64)
        sums.append(_sums(rest.view(1, -1), keys[: rest.numel()]))
    found = torch.cat(sums).tolist() if sums else []
    return tuple(-_BASE - ((one & _MASK) << 64 | other & _MASK) for one, other in found)


def _sums(words: Any, keys: Any) -> Any:
    """Mixes each word with the key of its place, and adds them up twice, by rows."""
    import torch

    mixed = words ^ keys
    mixed *= _FACTORS[0]
    for shift, factor in zip(_SHIFTS[:2], _FACTORS[1:3], strict=True):
        _fold(mixed, shift, factor)
    first = mixed.sum(1)
    _fold(mixed, _SHIFTS[2], _FACTORS[3])
    return torch.stack((first, mixed.sum(1)), 1)


def _fold(mixed: Any, shift: int, factor: int) -> None:
    high = mixed >> shift
    high &= (1 << 64 - shift) - 1  # torch shifts the sign in
    mixed ^= high
    mixed *= factor


@functools.cache
def _keys(device: str) -> Any:
    import torch

    drawn = torch.frombuffer(bytearray(_secret()), dtype=torch.int64)
    return drawn if device == "cpu" else drawn.to(device)


@functools.cache
def _secret() -> bytes:
    return os.urandom(CHUNK)
