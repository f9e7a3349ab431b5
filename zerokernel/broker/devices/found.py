"""GPUs and their parts as they are found, and as they may be leased."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

WHOLE = "full"
"""The form of a GPU that is not divided, as layouts name it."""

_SHARE = re.compile(r"1/([2-9]|1[0-6])")
_PROFILE = re.compile(r"(\d+c\.)?(\d+)g\.(\d+)gb\S*")


@dataclass(frozen=True)
class Gpu:
    """A GPU as NVML describes it.

    Attributes:
        index: In the order of the PCI bus.
        memory: Bytes.
        is_divided: Whether MIG is on.
        capability: Compute capability.
    """

    index: int
    uuid: str
    product: str
    memory: int
    is_divided: bool
    capability: tuple[int, int]


@dataclass(frozen=True)
class Part:
    """What of a GPU may be leased as one.

    Attributes:
        form: WHOLE, a MIG profile such as "3g.71gb", or a share such as "1/2".
        uuid: Of the GPU or MIG instance that a worker is shown.
        number: Of a share, from 1; 0 for others.
        memory: Bytes that it may have.
        instance: Ids of GPU instance and compute instance, where it is a MIG instance.
    """

    gpu: Gpu
    form: str
    uuid: str
    memory: int
    number: int = 0
    instance: tuple[int, int] | None = None

    @property
    def id(self) -> str:
        """The slice's id."""
        return f"{self.uuid}/{self.number}" if self.number else self.uuid

    @property
    def fraction(self) -> float:
        """The part of the GPU's memory that it has."""
        if is_share(self.form):
            return float(Fraction(self.form))
        return 1.0 if self.form == WHOLE else self.memory / self.gpu.memory


def is_share(form: str) -> bool:
    """Whether a form is a share of a GPU: "1/2" to "1/16"."""
    return _SHARE.fullmatch(form) is not None


def is_profile(form: str) -> bool:
    """Whether a form is a MIG profile, such as "3g.71gb" or "1c.3g.40gb"."""
    return _PROFILE.fullmatch(form) is not None


def memory_of_profile(profile: str) -> int:
    """Gives the bytes that a profile's name promises."""
    match = _PROFILE.fullmatch(profile)
    return int(match[3]) << 30 if match else 0


def in_words(form: str) -> str:
    """Names a form as what it is."""
    if is_share(form):
        return f"share {form} of a GPU"
    return "whole GPU" if form == WHOLE else f"MIG {form}"
