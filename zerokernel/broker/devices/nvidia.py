"""NVIDIA GPUs and their MIG instances, by NVML. Nothing is initialised on a device."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

from zerokernel.broker.scheduling import Slice
from zerokernel.errors import DeviceUnavailable


@dataclass(frozen=True)
class _Found:
    """A GPU or MIG instance as NVML describes it."""

    index: int
    gpu: str
    uuid: str
    product: str
    profile: str
    memory: int
    share: float


class NvidiaDevices:
    """Whole GPUs, and the MIG instances of those on which MIG is on.

    Args:
        nvml: The module `pynvml`, or one like it.
        visible: What CUDA_VISIBLE_DEVICES was for the user: only these are given; None is all.
    """

    def __init__(self, nvml: Any, visible: str | None = None) -> None:
        self._nvml = nvml
        self._visible = visible

    def discover(self) -> list[Slice]:
        """Gives a slice for each GPU or instance that is visible.

        Raises:
            DeviceUnavailable: NVML or the driver does not answer.
        """
        with self._session():
            found = [one for gpu in self._gpus() for one in self._parts(*gpu)]
        return _slices(_visible(found, self._visible))

    def find_lost(self, slices: Iterable[Slice]) -> dict[str, str]:
        """Asks each device for its memory, which one that fell off the bus does not answer.

        Raises:
            DeviceUnavailable: The driver does not answer at all.
        """
        with self._session():
            found = {one.id: self._why_lost(one) for one in slices}
        return {name: why for name, why in found.items() if why}

    def _why_lost(self, one: Slice) -> str:
        try:
            handle = self._nvml.nvmlDeviceGetHandleByUUID(one.id)
            self._nvml.nvmlDeviceGetMemoryInfo(handle)
        except self._nvml.NVMLError as error:
            return f"{one.name} does not answer any more: {error}"
        return ""

    @contextmanager
    def _session(self) -> Iterator[None]:
        try:
            self._nvml.nvmlInit()
            try:
                yield
            finally:
                self._nvml.nvmlShutdown()
        except self._nvml.NVMLError as error:
            raise DeviceUnavailable(
                f"The NVIDIA driver does not tell which devices there are: {error}. "
                "`nvidia-smi` shows whether it works at all."
            ) from error

    def _gpus(self) -> Iterator[tuple[int, Any]]:
        for index in range(self._nvml.nvmlDeviceGetCount()):
            yield index, self._nvml.nvmlDeviceGetHandleByIndex(index)

    def _parts(self, index: int, handle: Any) -> Iterator[_Found]:
        nvml = self._nvml
        gpu, product = _text(nvml.nvmlDeviceGetUUID(handle)), _text(nvml.nvmlDeviceGetName(handle))
        total = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
        if not self._is_divided(handle):
            yield _Found(index, gpu, gpu, product, "", total, 1.0)
            return
        for instance in self._instances(handle):
            memory = int(nvml.nvmlDeviceGetMemoryInfo(instance).total)
            uuid = _text(nvml.nvmlDeviceGetUUID(instance))
            profile = self._profile(instance)
            yield _Found(index, gpu, uuid, product, profile, memory, memory / total)

    def _is_divided(self, handle: Any) -> bool:
        current = self._if_supported(lambda: self._nvml.nvmlDeviceGetMigMode(handle)[0])
        return bool(current == self._nvml.NVML_DEVICE_MIG_ENABLE)

    def _instances(self, handle: Any) -> Iterator[Any]:
        nvml = self._nvml
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                yield nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            except nvml.NVMLError_NotFound:
                continue  # positions without an instance are normal

    def _profile(self, instance: Any) -> str:
        """Gives the profile's name, such as "3g.71gb"."""
        name = _text(self._nvml.nvmlDeviceGetName(instance))
        if match := re.search(r"\bMIG (\d+c\.)?(\d+g\.\d+gb\S*)", name):
            return (match[1] or "") + match[2]
        # Older drivers give an instance its GPU's name.
        attributes = self._nvml.nvmlDeviceGetAttributes(instance)
        gigabytes = math.ceil(attributes.memorySizeMB / 1024)
        return f"{attributes.gpuInstanceSliceCount}g.{gigabytes}gb"

    def _if_supported(self, ask: Callable[[], Any]) -> Any:
        try:
            return ask()
        except self._nvml.NVMLError_NotSupported:
            return None


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # NVML before 11.5 gives bytes


def _visible(found: list[_Found], visible: str | None) -> list[_Found]:
    """Keeps what the words of CUDA_VISIBLE_DEVICES name: an index, or the start of a UUID."""
    if visible is None:
        return found
    kept: list[_Found] = []
    for word in (part.strip() for part in visible.split(",")):
        named = [one for one in found if _is_named(one, word)]
        if not named:
            break  # as CUDA does: what follows an unknown device is not visible
        kept += [one for one in named if one not in kept]
    return kept


def _is_named(one: _Found, word: str) -> bool:
    if word.isdigit():
        return one.index == int(word)
    return word.startswith(("GPU-", "MIG-")) and (
        one.uuid.startswith(word) or one.gpu.startswith(word)
    )


def _slices(found: list[_Found]) -> list[Slice]:
    products = {_short(one.product) for one in found if not one.profile}
    slices = [_slice(one, len(products) > 1) for one in found]
    count = Counter(one.name for one in slices)
    numbers: Counter[str] = Counter()
    named = []
    for one in slices:
        numbers[one.name] += 1
        number = f" #{numbers[one.name]}" if count[one.name] > 1 else ""
        named.append(replace(one, name=one.name + number))
    return named


def _slice(one: _Found, mixed: bool) -> Slice:
    """Gives the slice; where whole GPUs differ, each product is a size of its own."""
    short = _short(one.product)
    whole = f"full-{short.lower().replace(' ', '-')}" if mixed else "full"
    return Slice(
        id=one.uuid,
        name=f"{_share(one)} {short}",
        size=one.profile or whole,
        memory=one.memory,
        simulated=False,
        environment={"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": one.uuid},
    )


def _share(one: _Found) -> str:
    """Gives a word for the part of the GPU's memory, or the profile where none fits."""
    if not one.profile:
        return "full"
    words = {1.0: "full", 1 / 2: "half", 1 / 4: "quarter", 1 / 8: "eighth"}
    share = min(words, key=lambda known: abs(known - one.share))
    # Instances lose a little of their part to the driver.
    return words[share] if abs(share - one.share) < 0.12 * share else one.profile


def _short(product: str) -> str:
    """Gives "H200" for "NVIDIA H200", "A100" for "NVIDIA A100-SXM4-80GB"."""
    name = re.sub(r"^(NVIDIA|Tesla)\s+|\s*\(.*\)$", "", product)
    name = re.sub(r"^(Tesla|GeForce|Quadro)\s+", "", name)
    return re.sub(r"[- ](SXM|PCI|HBM|\d+GB|NVL).*$", "", name, flags=re.IGNORECASE)
