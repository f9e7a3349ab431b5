"""The random generators that libraries use themselves."""

from __future__ import annotations

import ctypes
import random
import struct
import sys
from typing import Any

from zerokernel.ambient.setting import GONE, Setting, pair


class _NumpyGenerator:
    """The state of NumPy's own generator, asked of NumPy only where its memory changed.

    Asking takes 40 µs, which every cell would pay. Where the state lies is found out, and
    what is found is tested; where the test fails, NumPy is asked each time.
    """

    def __init__(self) -> None:
        self._looked_at: Any = None
        self._places: tuple[tuple[int, int], ...] | None = None
        self._memory: list[bytes] = []
        self._state: Any = None

    def __call__(self, numpy_random: Any) -> Any:
        generator = getattr(numpy_random, "mtrand", None)
        owner = getattr(generator, "_rand", None)
        bits = getattr(owner, "_bit_generator", None)
        if bits is not self._looked_at:
            self._looked_at, self._state = bits, None
            self._places = _places(owner, bits)
        if self._places is None:
            return _ask(numpy_random.get_state)
        memory = [ctypes.string_at(*place) for place in self._places]
        if self._state is None or memory != self._memory:
            self._memory, self._state = memory, _ask(numpy_random.get_state)
        return self._state


def _ask(get_state: Any) -> Any:
    kind, keys, position, has_gauss, gauss = get_state()
    return (kind, keys.tobytes(), position, has_gauss, gauss)


_MERSENNE_BYTES = 624 * 4 + 4


def _places(owner: Any, bits: Any) -> tuple[tuple[int, int], ...] | None:
    """Where the state of a RandomState lies: of its bits, and the normal number kept back."""
    if type(bits).__name__ != "MT19937":
        return None
    try:
        kept = _offset_of_kept(type(owner))
        if kept is None:
            return None
        return (bits.ctypes.state_address, _MERSENNE_BYTES), (id(owner) + kept - 8, 16)
    except Exception:  # another NumPy
        return None


def _offset_of_kept(kind: Any) -> int | None:
    """Where in such an object the number is that a normal draw keeps back; tested twice."""
    probe = kind(1)
    found: set[int] | None = None
    for _ in range(2):
        probe.standard_normal()
        _, _, _, has, value = probe.get_state()
        held = ctypes.string_at(id(probe), kind.__basicsize__)
        here = {
            at for at in range(8, len(held) - 7, 8) if held[at : at + 8] == struct.pack("d", value)
        }
        here = {at for at in here if has == 1 and struct.unpack_from("i", held, at - 8)[0] == 1}
        probe.standard_normal()
        held = ctypes.string_at(id(probe), kind.__basicsize__)
        here = {at for at in here if struct.unpack_from("i", held, at - 8)[0] == 0}
        found = here if found is None else found & here
    return found.pop() if found is not None and len(found) == 1 else None


def _put_numpy(numpy_random: Any, state: Any) -> None:
    import numpy as np

    kind, keys, *rest = state
    numpy_random.set_state((kind, np.frombuffer(keys, np.uint32), *rest))


def _torch_generator() -> Any:
    return getattr(sys.modules.get("torch"), "default_generator", None)


def _torch_state(_: Any) -> Any:
    generator = _torch_generator()
    return GONE if generator is None else generator.get_state().numpy().tobytes()


def _put_torch(torch: Any, state: bytes) -> None:
    torch.default_generator.set_state(torch.frombuffer(bytearray(state), dtype=torch.uint8))


def _torch_seed(_: Any) -> Any:
    generator = _torch_generator()
    return GONE if generator is None else generator.initial_seed()


def _put_torch_seed(torch: Any, seed: int) -> None:
    """Seeds the devices' generators, as `torch.manual_seed` in the notebook could not."""
    if torch.cuda.is_initialized():
        torch.cuda.manual_seed_all(seed)


GENERATORS: tuple[Setting, ...] = (
    Setting("random", random.getstate, random.setstate),
    pair("numpy.random", "state", _NumpyGenerator(), _put_numpy),
    pair("torch", "seed", _torch_seed, _put_torch_seed),
    pair("torch", "random", _torch_state, _put_torch),
)
