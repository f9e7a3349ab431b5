"""Sizes that an administrator defines: what they stand for, and what they carry."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from zerokernel.broker.devices.found import WHOLE, is_profile, is_share
from zerokernel.broker.devices.tables import read_table
from zerokernel.settings import BadSetting

LIMITS = ("cores", "memory", "shm", "scratch")
"""What a size may carry of the machine, as it is written."""

_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}
_AMOUNT = re.compile(r"(\d+(?:\.\d+)?)\s*([kmgt]?)(?:i?b)?", re.IGNORECASE)


@dataclass(frozen=True)
class Size:
    """One size.

    Attributes:
        form: What it stands for: "full", a MIG profile, a share; "" for what has this name anyway.
        limits: "cores", and "memory", "shm" and "scratch" in bytes; only those that are set.
    """

    name: str
    form: str = ""
    limits: Mapping[str, int] = field(default_factory=dict)


def read_sizes(text: str) -> tuple[Size, ...]:
    """Reads the setting ``sizes``: a JSON object, name → table.

    Raises:
        BadSetting: It is not that.
    """
    declared = read_table("sizes", text, "sizes", "name = {is = ..., cores = ...}")
    return tuple(_size(name, table) for name, table in declared.items())


def _size(name: str, table: object) -> Size:
    if not isinstance(table, dict) or not re.fullmatch(r"[\w.-]{1,40}", name):
        raise BadSetting(f"The size {name!r} is no table, or its name is none.")
    known = dict(table)
    form = str(known.pop("is", ""))
    if form and not (form == WHOLE or is_profile(form) or is_share(form)):
        raise BadSetting(
            f"The size {name!r} is said to be {form!r}; it can be {WHOLE!r}, a MIG profile such "
            'as "3g.71gb", or a share such as "1/2".'
        )
    if unknown := known.keys() - set(LIMITS):
        raise BadSetting(
            f"The size {name!r} has {', '.join(sorted(unknown))}; it can have is, "
            f"{', '.join(LIMITS)}."
        )
    return Size(name, form, {key: _amount(name, key, value) for key, value in known.items()})


def _amount(name: str, key: str, value: Any) -> int:
    match = _AMOUNT.fullmatch(str(value).strip())
    if isinstance(value, bool) or match is None or (match[2] and key == "cores"):
        raise BadSetting(f"The size {name!r} has {key} = {value!r}, which is no amount.")
    amount = int(float(match[1]) * _UNITS[match[2].lower()])
    if amount <= 0:
        raise BadSetting(f"The size {name!r} has {key} = {value!r}, which is nothing.")
    return amount
