"""What NVML tells, asked once and in our words. Nothing is initialised on a device."""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from zerokernel.broker.devices.found import WHOLE, Gpu, Part
from zerokernel.errors import DeviceUnavailable

_ANY_INSTANCE = 0xFFFFFFFF
"""What NVML gives for the instance of an event that concerns the whole device."""


@dataclass(frozen=True)
class XidEvent:
    """An Xid error.

    Attributes:
        gpu: UUID of the GPU.
        instance: Ids of GPU instance and compute instance; None where all are concerned.
    """

    number: int
    gpu: str
    instance: tuple[int, int] | None = None


@dataclass(frozen=True)
class Machine:
    """What was found: the parts of each GPU, and GPUs that do not answer, by UUID or index."""

    parts: dict[Gpu, list[Part]]
    broken: dict[str, str]


class NvmlReader:
    """Asks the module `pynvml`, or one like it."""

    def __init__(self, nvml: Any) -> None:
        self._nvml = nvml
        # The mutable state: the set in which the driver collects events, while it is open.
        self._events: Any = None

    @contextmanager
    def session(self) -> Iterator[None]:
        """Keeps NVML open. Raises DeviceUnavailable where the driver does not answer."""
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

    # --- what there is (inside a session) -------------------------------------------------

    def machine(self) -> Machine:
        """Gives all GPUs and what they are divided into."""
        parts: dict[Gpu, list[Part]] = {}
        broken: dict[str, str] = {}
        for index in range(self._nvml.nvmlDeviceGetCount()):
            uuid = str(index)
            try:
                handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
                uuid = _text(self._nvml.nvmlDeviceGetUUID(handle))
                gpu = self._gpu(index, uuid, handle)
                parts[gpu] = list(self._parts(gpu, handle))
            except self._nvml.NVMLError as error:
                broken[uuid] = str(error)
        return Machine(parts, broken)

    def _gpu(self, index: int, uuid: str, handle: Any) -> Gpu:
        nvml = self._nvml
        product = _text(nvml.nvmlDeviceGetName(handle))
        total = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
        mode = self._if_supported(lambda: nvml.nvmlDeviceGetMigMode(handle)[0], None)
        major, minor = nvml.nvmlDeviceGetCudaComputeCapability(handle)
        divided = mode == nvml.NVML_DEVICE_MIG_ENABLE
        return Gpu(index, uuid, product, total, divided, (int(major), int(minor)))

    def _parts(self, gpu: Gpu, handle: Any) -> Iterator[Part]:
        if not gpu.is_divided:
            yield Part(gpu, WHOLE, gpu.uuid, gpu.memory)
            return
        nvml = self._nvml
        for index in range(nvml.nvmlDeviceGetMaxMigDeviceCount(handle)):
            try:
                one = nvml.nvmlDeviceGetMigDeviceHandleByIndex(handle, index)
            except nvml.NVMLError_NotFound:
                continue  # positions without an instance are normal
            memory = int(nvml.nvmlDeviceGetMemoryInfo(one).total)
            ids = nvml.nvmlDeviceGetGpuInstanceId(one), nvml.nvmlDeviceGetComputeInstanceId(one)
            uuid = _text(nvml.nvmlDeviceGetUUID(one))
            yield Part(gpu, self._profile(one), uuid, memory, instance=ids)

    def _profile(self, instance: Any) -> str:
        """Gives the profile's name, such as "3g.71gb"."""
        name = _text(self._nvml.nvmlDeviceGetName(instance))
        if match := re.search(r"\bMIG (\d+c\.)?(\d+g\.\d+gb\S*)", name):
            return (match[1] or "") + match[2]
        # Older drivers give an instance its GPU's name.
        attributes = self._nvml.nvmlDeviceGetAttributes(instance)
        gigabytes = math.ceil(attributes.memorySizeMB / 1024)
        return f"{attributes.gpuInstanceSliceCount}g.{gigabytes}gb"

    # --- how a part is (inside a session) -------------------------------------------------

    def used_memory(self, uuid: str) -> int | None:
        """Gives the bytes in use, None where the device does not answer."""
        try:
            return self._used(uuid)
        except self._nvml.NVMLError:
            return None

    def _used(self, uuid: str) -> int:
        handle = self._nvml.nvmlDeviceGetHandleByUUID(uuid)
        return int(self._nvml.nvmlDeviceGetMemoryInfo(handle).used)

    def why_lost(self, uuid: str) -> str:
        """Gives what the driver says of a part that does not answer, "" where it does."""
        try:
            self._used(uuid)
        except self._nvml.NVMLError as error:
            return str(error) or type(error).__name__
        return ""

    def processes(self, uuid: str) -> list[int]:
        """Gives the processes that compute there; a desktop that is shown by it is none."""
        nvml = self._nvml

        def ask(kind: str) -> set[int]:
            handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
            found = getattr(nvml, f"nvmlDeviceGet{kind}RunningProcesses")(handle)
            return {int(one.pid) for one in found}

        computing: set[int] = self._if_told(lambda: ask("Compute"), set())
        return sorted(computing - self._if_told(lambda: ask("Graphics"), set()))

    def needs_recovery(self, gpu: str) -> bool | None:
        """Whether a GPU must be reset before it is used again; None where that is not told."""
        nvml = self._nvml
        field = getattr(nvml, "NVML_FI_DEV_GET_GPU_RECOVERY_ACTION", None)
        if field is None:
            return None

        def ask() -> bool | None:
            (value,) = nvml.nvmlDeviceGetFieldValues(nvml.nvmlDeviceGetHandleByUUID(gpu), [field])
            return None if value.nvmlReturn else bool(value.value.uiVal)

        return self._if_told(ask, None)  # type: ignore[no-any-return]  # what `ask` gives

    def _if_supported(self, ask: Callable[[], Any], otherwise: Any) -> Any:
        try:
            return ask()
        except self._nvml.NVMLError_NotSupported:
            return otherwise

    def _if_told(self, ask: Callable[[], Any], otherwise: Any) -> Any:
        """For what not every driver, device and user is told; who is lost shows elsewhere."""
        nvml = self._nvml
        older = getattr(nvml, "NVMLLibraryMismatchError", nvml.NVMLError)
        try:
            return ask()
        except (nvml.NVMLError, older):
            return otherwise

    # --- events -------------------------------------------------------------------------

    def listen(self, gpus: list[str]) -> None:
        """Has the driver collect Xid errors of these GPUs from now on, until `stop_listening`.

        It keeps NVML open meanwhile. GPUs that cannot tell are left out.
        """
        nvml = self._nvml
        self.stop_listening()
        try:
            nvml.nvmlInit()
            self._events = nvml.nvmlEventSetCreate()
        except nvml.NVMLError:
            return
        for uuid in gpus:
            with contextlib.suppress(nvml.NVMLError):
                handle = nvml.nvmlDeviceGetHandleByUUID(uuid)
                kind = nvml.nvmlEventTypeXidCriticalError
                nvml.nvmlDeviceRegisterEvents(handle, kind, self._events)

    @property
    def listens(self) -> bool:
        """Whether events are being collected."""
        return self._events is not None

    def take_events(self) -> list[XidEvent]:
        """Gives the Xid errors since the last call, at once."""
        nvml, found = self._nvml, []
        while self._events is not None:
            try:
                event = nvml.nvmlEventSetWait_v2(self._events, 0)
            except nvml.NVMLError_Timeout:
                break
            except nvml.NVMLError:  # the device is gone: it is listened to again when it is back
                self.stop_listening()
                break
            with contextlib.suppress(nvml.NVMLError):  # a device without a name any more
                found.append(self._event(event))
        return found

    def _event(self, event: Any) -> XidEvent:
        ids = int(event.gpuInstanceId), int(event.computeInstanceId)
        uuid = _text(self._nvml.nvmlDeviceGetUUID(event.device))
        whole = _ANY_INSTANCE in ids
        return XidEvent(int(event.eventData), uuid, None if whole else ids)

    def stop_listening(self) -> None:
        """Gives the events and NVML back; harmless where nobody listens."""
        events, self._events = self._events, None
        if events is not None:
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlEventSetFree(events)
            with contextlib.suppress(self._nvml.NVMLError):
                self._nvml.nvmlShutdown()


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value  # NVML before 11.5 gives bytes
