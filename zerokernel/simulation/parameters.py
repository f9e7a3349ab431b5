"""`KEY=VALUE` for the fields of a frozen dataclass, as the command line gives them."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from zerokernel.errors import BadSimulation

T = TypeVar("T")

_TRUE, _FALSE = ("yes", "true", "on", "1"), ("no", "false", "off", "0")


def changed(defaults: T, changes: Iterable[str], option: str) -> T:
    """Gives a copy with other fields; an entry of a table is named with a dot: `tiers.pro=3`.

    Args:
        defaults: What is changed, a frozen dataclass of numbers, words and tables of numbers.
        changes: `KEY=VALUE` each.
        option: Under which they were given, for messages.

    Raises BadSimulation, which names option and key.
    """
    for change in changes:
        key, given, text = change.partition("=")
        if not given:
            raise BadSimulation(f"{option} wants KEY=VALUE, not {change!r}.")
        try:
            defaults = _with(defaults, key.strip(), text.strip())
        except ValueError as error:
            raise BadSimulation(f"{option} {change}: {error}") from error
    return defaults


def _with(defaults: T, key: str, text: str) -> T:
    name, dot, entry = key.partition(".")
    known = {one.name: getattr(defaults, one.name) for one in dataclasses.fields(defaults)}  # type: ignore[arg-type] # only dataclasses are given
    if name not in known:
        raise ValueError(f"there is no {name!r}; there is {', '.join(known)}")
    old = known[name]
    if isinstance(old, Mapping):
        if not entry:
            raise ValueError(f"an entry of {name} is named with a dot, {name}.NAME=NUMBER")
        value: Any = {**old, entry: _number(text)}
    elif dot:
        raise ValueError(f"{name} has no entries")
    else:
        value = _value(text, old)
    made: T = dataclasses.replace(defaults, **{name: value})  # type: ignore[type-var] # as above
    return made


def _value(text: str, old: object) -> Any:
    if isinstance(old, bool):
        if text.lower() not in (*_TRUE, *_FALSE):
            raise ValueError("it is yes or no")
        return text.lower() in _TRUE
    if isinstance(old, str):
        return text
    number = _number(text)
    if isinstance(old, int):
        if number != int(number):
            raise ValueError("it is a whole number")
        return int(number)
    return number


def _number(text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        raise ValueError(f"{text!r} is no number") from None
    if not math.isfinite(number) or number < 0:
        raise ValueError("it is a finite number of 0 or more")
    return number


def layout_of(text: str, size: str = "large") -> dict[str, int]:
    """Gives slices by size from `16` or `large=12,xlarge=4`.

    Raises BadSimulation, which names what is wrong.
    """
    parts = [one.strip() for one in text.split(",")]
    named = [one if "=" in one else f"{size}={one}" for one in parts]
    layout: dict[str, int] = {}
    for part in named:
        name, _, count = part.partition("=")
        if not (name and count.isascii() and count.isdigit() and 1 <= int(count) <= 100_000):
            raise BadSimulation(
                f"--slices {text}: {part!r} is not a number of slices from 1 to 100,000, "
                "or SIZE=NUMBER."
            )
        if name in layout:
            raise BadSimulation(f"--slices {text}: {name!r} is there twice.")
        layout[name] = int(count)
    return layout
