"""Versions of what zerokernel stands on."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import dataclass

import zerokernel
from zerokernel.doctor.finding import Finding, bad, good
from zerokernel.messages import PROTOCOL_VERSION
from zerokernel.settings import Settings

_SHOWN = ("ipykernel", "ipython", "jupyter_client", "jupyterlab", "cloudpickle", "torch", "numpy")


@dataclass(frozen=True)
class VersionFacts:
    """What is installed.

    Attributes:
        python: Its version.
        system: "Linux" or another.
        found: Version of each distribution that is of interest and installed.
        broken: What zerokernel requires and is missing or of another version, with the
            requirement and what there is ("" for nothing).
    """

    python: str
    system: str
    found: dict[str, str]
    broken: dict[str, str]


def look(settings: Settings) -> VersionFacts:
    """Reads the metadata of installed distributions; imports none of them."""
    found = {name: version for name in _SHOWN if (version := _version(name))}
    return VersionFacts(platform.python_version(), platform.system(), found, _broken())


def judge(facts: VersionFacts) -> list[Finding]:
    """Bad where something that is required is missing."""
    found = [_versions(facts)]
    if facts.broken:
        told = ", ".join(
            f"{wanted} ({there or 'missing'})" for wanted, there in facts.broken.items()
        )
        found.append(
            bad(
                "requirements",
                f"not as zerokernel requires: {told}",
                "Cells may fail in ways that nobody has tested.",
                "pip install --upgrade zerokernel",
            )
        )
    return found


def _versions(facts: VersionFacts) -> Finding:
    own = f"zerokernel {zerokernel.__version__} (protocol {PROTOCOL_VERSION})"
    others = [f"{name} {version}" for name, version in facts.found.items()]
    says = ", ".join([own, f"Python {facts.python}", *others])
    if facts.system != "Linux":
        return bad(
            "versions",
            f"{says}, on {facts.system}",
            "zerokernel forks workers and needs Linux.",
            "Use `%%gpu --cpu` here, which runs cells in the notebook.",
        )
    return good("versions", says if "torch" in facts.found else f"{says}, no torch")


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _broken() -> dict[str, str]:
    """Compares the package's own requirements, extras apart, with what is installed."""
    from packaging.requirements import Requirement  # ipykernel, which is required, requires it

    try:
        lines = importlib.metadata.requires("zerokernel") or []
    except importlib.metadata.PackageNotFoundError:
        return {}  # a checkout on the path
    broken = {}
    for wanted in map(Requirement, lines):
        if wanted.marker is None or wanted.marker.evaluate({"extra": ""}):
            there = _version(wanted.name)
            if not there or not wanted.specifier.contains(there, prereleases=True):
                broken[f"{wanted.name}{wanted.specifier}"] = there
    return broken
