"""Whether a value of the file is what its key wants. A ValueError says what is allowed."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, get_args, get_origin

from zerokernel.broker.service.schema import Key

_LARGEST_PORT = 65535


def converted(key: Key, value: Any, directory: Path) -> Any:
    """Gives the value for the key's field.

    Args:
        key: Whose it is.
        value: As tomllib gives it.
        directory: To which names of files are relative.

    Raises:
        ValueError: It is of another type or out of its range.
    """
    result = _of_type(key.hint, value)
    if key.choices and result not in key.choices:
        raise ValueError(f"{value!r} is none of {', '.join(map(repr, key.choices))}")
    if key.field == "port" and result > _LARGEST_PORT:
        raise ValueError(f"{value} is no port, of which there are {_LARGEST_PORT}")
    if key.is_path and value:
        return type(result)(directory / Path(value).expanduser())
    return result


def _of_type(hint: Any, value: Any) -> Any:
    if get_origin(hint) is tuple:
        return _texts(value)
    if _is_mapping(hint):
        return _numbers(value)
    if hint is bool:
        return _exactly(bool, value, "true or false")
    if hint is int:
        return _not_negative(_exactly(int, value, "a whole number"))
    if hint is float:
        return float(_not_negative(_number(value)))
    return hint(_exactly(str, value, "a text in quotes"))


def _is_mapping(hint: Any) -> bool:
    origin = get_origin(hint)
    return isinstance(origin, type) and issubclass(origin, Mapping) and float in get_args(hint)


def _exactly(kind: type, value: Any, wanted: str) -> Any:
    if type(value) is not kind:
        raise ValueError(f"{value!r} is not {wanted}")
    return value


def _number(value: Any) -> Any:
    if type(value) not in (int, float):
        raise ValueError(f"{value!r} is not a number")
    return value


def _not_negative(number: Any) -> Any:
    if not (math.isfinite(number) and number >= 0):
        raise ValueError(f"{number} is not a finite number from 0 on")
    return number


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(one, str) for one in value):
        raise ValueError(f"{value!r} is not a list of texts in quotes")
    return tuple(value)


def _numbers(value: Any) -> dict[str, float]:
    if not isinstance(value, dict):
        raise ValueError(f"{value!r} is not a table of numbers")
    return {name: float(_not_negative(_number(number))) for name, number in value.items()}
