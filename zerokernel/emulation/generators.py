"""`torch.Generator(device="cuda")` and the devices' default generators."""

from __future__ import annotations

from typing import Any

import torch

from zerokernel.emulation.devices import EmulatedDevice, devices, resolve

_Plain: Any = torch._C.Generator


class EmulatedGenerator(_Plain):  # type: ignore[misc]  # its base is Any
    """A CPU generator that says it is on a device."""

    _on: EmulatedDevice

    @property
    def device(self) -> Any:
        """The emulated device."""
        return self._on.device

    def clone_state(self) -> Any:
        """Gives another generator on the same device, in the same state."""
        return make(self._on, super().get_state())

    def __reduce__(self) -> Any:
        return _rebuilt, (self._on.index, self.initial_seed(), self.get_state())


def make(on: EmulatedDevice, state: Any = None) -> EmulatedGenerator:
    """Makes a generator on a device, with torch's own first seed where no state is given."""
    generator = EmulatedGenerator()
    generator._on = on
    if state is not None:
        generator.set_state(state)
    return generator


def _rebuilt(index: int, seed: int, state: Any) -> EmulatedGenerator:
    generator = make(devices.at(index))
    generator.manual_seed(seed)
    generator.set_state(state)
    return generator


def is_emulated(generator: Any) -> bool:
    """Whether a generator is on an emulated device."""
    return isinstance(generator, EmulatedGenerator)


def default_generator(on: EmulatedDevice) -> Any:
    """The generator that random functions on a device draw from."""
    if on.generator is None:
        on.generator = make(on)
        on.generator.manual_seed(torch.default_generator.initial_seed())
    return on.generator


def state_of(on: EmulatedDevice) -> tuple[int, bytes]:
    """Seed and state of a device's generator."""
    generator = default_generator(on)
    with torch._C.DisableTorchFunction():
        return int(generator.initial_seed()), generator.get_state().numpy().tobytes()


def put_state(on: EmulatedDevice, state: tuple[int, bytes]) -> None:
    """Puts a device's generator into a state that `state_of` gave, in this process or another."""
    seed, held = state
    generator = default_generator(on)
    with torch._C.DisableTorchFunction():
        generator.manual_seed(seed)
        generator.set_state(torch.frombuffer(bytearray(held), dtype=torch.uint8))


class _Kind(type):
    def __instancecheck__(cls, instance: object) -> bool:
        return isinstance(instance, _Plain)

    def __subclasscheck__(cls, subclass: type) -> bool:
        return issubclass(subclass, _Plain)

    def __call__(cls, device: Any = "cpu") -> Any:
        on = resolve(device)
        return _Plain(device) if on is None else make(on)


class Generator(metaclass=_Kind):
    """Stands where `torch.Generator` is: gives one of either kind."""


Generator.__module__, Generator.__qualname__ = "torch", "Generator"
