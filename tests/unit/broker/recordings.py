"""Recordings of machines that tests make up, in a few words."""

from __future__ import annotations

from typing import Any

MIB = 1 << 20
GIB = 1 << 30


def gpu(uuid: str, product: str = "NVIDIA H200", memory: int = 143_771 * MIB, **more: Any) -> Any:
    """A GPU; ``mig=True`` and ``instances`` where it is divided."""
    return {"uuid": uuid, "name": product, "memory": memory, "mig": None, **more}


def instance(
    uuid: str, profile: str = "3g.71gb", memory: int = 71_424 * MIB, gi: int = 1, **more: Any
) -> Any:
    """A MIG instance of an H200; ``name`` without the profile is what an older driver gives."""
    slices = int(profile.split("g.")[0])
    known = {"uuid": uuid, "name": f"NVIDIA H200 MIG {profile}", "memory": memory}
    return {**known, "gi": gi, "ci": 0, "slices": slices, **more}


def halves(number: int, **more: Any) -> Any:
    """An H200 in two halves, with gaps among the places for instances."""
    parts = [instance(f"MIG-{number}{letter}", gi=gi) for gi, letter in enumerate("ab", 1)]
    places = [parts[0], None, parts[1], None]
    return gpu(f"GPU-{number}", mig=True, instances=places, recovery=0, **more)


def machine(*gpus: Any, **more: Any) -> dict[str, Any]:
    """A recording of these GPUs."""
    return {"gpus": list(gpus), **more}


def stranger(process: int = 4242, **more: Any) -> dict[str, Any]:
    """Somebody else's process."""
    return {"pid": process, "name": "python", "user": "mallory", "memory": GIB, **more}
