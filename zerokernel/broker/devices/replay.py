"""NVML as it was on another machine: a module like `pynvml` over a recording.

A recording is a JSON object: GPUs with their MIG instances, memory in use and processes, the
errors that they answer with, and the Xid errors that happened. Those in ``recordings/`` ship with
the package. A recording in a file is read again when the file changes.
"""

# ruff: noqa: D102, N801, N802, N815 - names and meanings are those of pynvml

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from zerokernel.settings import BadSetting

SHIPPED = Path(__file__).with_name("recordings")

Handle = dict[str, Any]
"""A GPU or an instance, as it is recorded."""


def shipped() -> list[str]:
    """Gives the names of the recordings that ship with the package."""
    return sorted(file.stem for file in SHIPPED.glob("*.json"))


def read_recording(file: Path) -> dict[str, Any]:
    """Reads a recording. Raises BadSetting where it cannot be read."""
    try:
        recording = json.loads(file.read_text())
    except (OSError, ValueError) as error:
        raise BadSetting(f"The recording {file} cannot be read: {error}") from error
    if not isinstance(recording, dict) or not isinstance(recording.get("gpus"), list):
        raise BadSetting(f"The recording {file} has no list of gpus.")
    return recording


class ReplayNvml:
    """Answers as NVML did.

    Args:
        recording: The recording, its file, or the name of one that ships with the package.

    Attributes:
        recording: What is answered; a test may change it.
        sessions: How often it was opened more than closed.
        scrubbed: Devices that were overwritten, in order.
    """

    NVML_DEVICE_MIG_ENABLE = 1
    NVML_FI_DEV_GET_GPU_RECOVERY_ACTION = 276
    nvmlEventTypeXidCriticalError = 8

    class NVMLError(Exception):
        """As pynvml's."""

    class NVMLError_NotSupported(NVMLError):
        """As pynvml's."""

    class NVMLError_NotFound(NVMLError):
        """As pynvml's."""

    class NVMLError_Timeout(NVMLError):
        """As pynvml's."""

    def __init__(self, recording: Mapping[str, Any] | Path | str) -> None:
        file = SHIPPED / f"{recording}.json" if isinstance(recording, str) else recording
        self._file = file if isinstance(file, Path) else None
        self._read_at = -1
        self.recording: dict[str, Any] = {} if isinstance(file, Path) else dict(file)
        self.sessions = 0
        self.scrubbed: list[str] = []
        self._events_given = 0
        self._refresh()

    def _refresh(self) -> None:
        if self._file is None:
            return
        try:
            changed = self._file.stat().st_mtime_ns
        except OSError as error:
            raise BadSetting(f"The recording {self._file} cannot be read: {error}") from error
        if changed != self._read_at:
            self.recording, self._read_at = read_recording(self._file), changed

    # --- beside NVML --------------------------------------------------------------------

    def owner(self, process: int, roots: frozenset[int]) -> str | None:
        """Tells whose a recorded process is."""
        for one in self._parts():
            for known in one.get("processes", ()):
                if known["pid"] == process:
                    name, user = known.get("name"), known.get("user")
                    return f"process {process} ({name}) of user {user}" if name else None
        return None

    def scrub(self, uuid: str) -> str:
        """Overwrites nothing, and says what the recording has of it."""
        self.scrubbed.append(uuid)
        return str(self.nvmlDeviceGetHandleByUUID(uuid).get("scrub", ""))

    # --- the library --------------------------------------------------------------------

    def nvmlInit(self) -> None:
        self._refresh()
        if why := self.recording.get("error"):
            raise self.NVMLError(why)
        self.sessions += 1

    def nvmlShutdown(self) -> None:
        self.sessions -= 1

    def nvmlSystemGetDriverVersion(self) -> str:
        return str(self.recording.get("driver", ""))

    # --- devices ------------------------------------------------------------------------

    def nvmlDeviceGetCount(self) -> int:
        return len(self.recording["gpus"])

    def nvmlDeviceGetHandleByIndex(self, index: int) -> Handle:
        return self._answering(self.recording["gpus"][index])

    def nvmlDeviceGetHandleByUUID(self, uuid: str) -> Handle:
        for one in self._parts():
            if one["uuid"] == uuid:
                return self._answering(one)
        raise self.NVMLError_NotFound("Not Found")

    def _parts(self) -> Iterator[Handle]:
        for gpu in self.recording["gpus"]:
            yield gpu
            yield from (one for one in gpu.get("instances", ()) if one is not None)

    def _answering(self, one: Handle) -> Handle:
        if why := one.get("error"):
            raise self.NVMLError(why)
        return one

    def nvmlDeviceGetUUID(self, one: Handle) -> str:
        return str(one["uuid"])

    def nvmlDeviceGetName(self, one: Handle) -> str:
        return str(one["name"])

    def nvmlDeviceGetMemoryInfo(self, one: Handle) -> Any:
        self._answering(one)
        total, used = one["memory"], one.get("used", 0)
        return SimpleNamespace(total=total, used=used, free=total - used)

    def nvmlDeviceGetCudaComputeCapability(self, gpu: Handle) -> tuple[int, int]:
        major, minor = gpu.get("capability", (9, 0))
        return major, minor

    def nvmlDeviceGetFieldValues(self, gpu: Handle, fields: list[int]) -> list[Any]:
        action = gpu.get("recovery")
        if action is None or fields != [self.NVML_FI_DEV_GET_GPU_RECOVERY_ACTION]:
            raise self.NVMLError_NotSupported("Not Supported")
        return [SimpleNamespace(nvmlReturn=0, value=SimpleNamespace(uiVal=action))]

    # --- MIG ----------------------------------------------------------------------------

    def nvmlDeviceGetMigMode(self, gpu: Handle) -> list[int]:
        if gpu.get("mig") is None:
            raise self.NVMLError_NotSupported("Not Supported")
        return [int(gpu["mig"]), int(gpu["mig"])]

    def nvmlDeviceGetMaxMigDeviceCount(self, gpu: Handle) -> int:
        return len(gpu.get("instances", ()))

    def nvmlDeviceGetMigDeviceHandleByIndex(self, gpu: Handle, index: int) -> Handle:
        if (found := gpu["instances"][index]) is None:
            raise self.NVMLError_NotFound("Not Found")
        return self._answering(found)

    def nvmlDeviceGetAttributes(self, one: Handle) -> Any:
        return SimpleNamespace(
            gpuInstanceSliceCount=one["slices"], memorySizeMB=one["memory"] >> 20
        )

    def nvmlDeviceGetGpuInstanceId(self, one: Handle) -> int:
        return int(one["gi"])

    def nvmlDeviceGetComputeInstanceId(self, one: Handle) -> int:
        return int(one["ci"])

    # --- processes ----------------------------------------------------------------------

    def nvmlDeviceGetComputeRunningProcesses(self, one: Handle) -> list[Any]:
        return [_process(known) for known in one.get("processes", ())]

    def nvmlDeviceGetGraphicsRunningProcesses(self, one: Handle) -> list[Any]:
        return [_process(known) for known in one.get("processes", ()) if known.get("graphics")]

    # --- events -------------------------------------------------------------------------

    def nvmlEventSetCreate(self) -> set[str]:
        return set()

    def nvmlDeviceRegisterEvents(self, gpu: Handle, kinds: int, events: set[str]) -> None:
        if not kinds & self.nvmlEventTypeXidCriticalError:
            raise self.NVMLError_NotSupported("Not Supported")
        events.add(gpu["uuid"])

    def nvmlEventSetWait_v2(self, events: set[str], milliseconds: int) -> Any:
        self._refresh()
        happened = self.recording.get("events", ())
        while self._events_given < len(happened):
            event = happened[self._events_given]
            self._events_given += 1
            if event["gpu"] in events:
                return SimpleNamespace(
                    device={"uuid": event["gpu"]},
                    eventType=self.nvmlEventTypeXidCriticalError,
                    eventData=event["xid"],
                    gpuInstanceId=event.get("gi", 0xFFFFFFFF),
                    computeInstanceId=event.get("ci", 0xFFFFFFFF),
                )
        raise self.NVMLError_Timeout("Timeout")

    def nvmlEventSetFree(self, events: set[str]) -> None:
        events.clear()


def _process(known: Mapping[str, Any]) -> Any:
    return SimpleNamespace(pid=known["pid"], usedGpuMemory=known.get("memory"))


def record(nvml: Any) -> dict[str, Any]:
    """Makes a recording of this machine, without names of users and programs.

    Args:
        nvml: The module `pynvml`, or one like it.
    """
    nvml.nvmlInit()
    try:
        handles = [nvml.nvmlDeviceGetHandleByIndex(n) for n in range(nvml.nvmlDeviceGetCount())]
        driver = str(nvml.nvmlSystemGetDriverVersion())
        return {"driver": driver, "gpus": [_gpu(nvml, one) for one in handles]}
    finally:
        nvml.nvmlShutdown()


def _gpu(nvml: Any, handle: Any) -> dict[str, Any]:
    gpu = _part(nvml, handle)
    gpu["capability"] = list(nvml.nvmlDeviceGetCudaComputeCapability(handle))
    try:
        gpu["mig"] = nvml.nvmlDeviceGetMigMode(handle)[0] == nvml.NVML_DEVICE_MIG_ENABLE
    except nvml.NVMLError_NotSupported:
        gpu["mig"] = None
    if gpu["mig"]:
        count = nvml.nvmlDeviceGetMaxMigDeviceCount(handle)
        gpu["instances"] = [_instance(nvml, handle, index) for index in range(count)]
    return gpu


def _instance(nvml: Any, gpu: Any, index: int) -> dict[str, Any] | None:
    try:
        handle = nvml.nvmlDeviceGetMigDeviceHandleByIndex(gpu, index)
    except nvml.NVMLError_NotFound:
        return None
    return {
        **_part(nvml, handle),
        "gi": nvml.nvmlDeviceGetGpuInstanceId(handle),
        "ci": nvml.nvmlDeviceGetComputeInstanceId(handle),
        "slices": nvml.nvmlDeviceGetAttributes(handle).gpuInstanceSliceCount,
    }


def _part(nvml: Any, handle: Any) -> dict[str, Any]:
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return {
        "uuid": str(nvml.nvmlDeviceGetUUID(handle)),
        "name": str(nvml.nvmlDeviceGetName(handle)),
        "memory": int(memory.total),
        "used": int(memory.used),
    }
