"""Messages to and from JSON. What arrives may come from anybody."""

from __future__ import annotations

import dataclasses
import json
import types
import typing
from functools import cache
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from zerokernel.errors import MalformedMessage
from zerokernel.messages.base import Message

_T = TypeVar("_T", bound=Message)


@cache
def _kinds() -> dict[str, type[Message]]:
    return {kind.__name__: kind for kind in Message.__subclasses__()}


@cache
def _fields(kind: Any) -> tuple[tuple[str, Any, bool], ...]:
    hints = get_type_hints(kind)
    return tuple(
        (
            f.name,
            hints[f.name],
            f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING,
        )
        for f in dataclasses.fields(kind)
    )


def encode(message: Message) -> bytes:
    """Gives the message as UTF-8 JSON."""
    kind = type(message)
    body: dict[str, Any] = {"kind": kind.__name__}
    for name, _, _ in _fields(kind):  # type: ignore[arg-type]  # mypy takes Message.__hash__ for the class's
        body[name] = getattr(message, name)
    return json.dumps(body, separators=(",", ":"), default=_plain).encode()


def _plain(value: object) -> object:
    """Turns what Jupyter puts into message contents into JSON: dates and bytes."""
    if hasattr(value, "isoformat"):
        return value.isoformat()
    if isinstance(value, bytes):
        return value.decode("ascii", "backslashreplace")
    return str(value)


def decode(data: bytes | str) -> Message:
    """Reads a message that anybody may have sent.

    Raises:
        MalformedMessage: It is not JSON, of no known kind, or a field is missing, unknown
            or of another type.
    """
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"A message is not JSON: {error}") from error
    if not isinstance(body, dict):
        raise MalformedMessage("A message is not a JSON object.")
    name = body.pop("kind", None)
    kind = _kinds().get(name) if isinstance(name, str) else None
    if kind is None:
        raise MalformedMessage(f"There is no message of kind {name!r}.")
    return _build(kind, body)


def decode_as(kind: type[_T], data: bytes | str) -> _T:
    """Like decode, and raises MalformedMessage where it is of another kind."""
    message = decode(data)
    if not isinstance(message, kind):
        raise MalformedMessage(f"Expected {kind.__name__}, got {type(message).__name__}.")
    return message


def _build(kind: type[Message], body: dict[str, Any]) -> Message:
    values: dict[str, Any] = {}
    for name, hint, required in _fields(kind):  # type: ignore[arg-type]  # mypy takes Message.__hash__ for the class's
        if name in body:
            values[name] = _checked(kind, name, hint, body.pop(name))
        elif required:
            raise MalformedMessage(f"{kind.__name__} lacks {name!r}.")
    if body:
        raise MalformedMessage(f"{kind.__name__} has no field {next(iter(body))!r}.")
    return kind(**values)


def _checked(kind: type[Message], name: str, hint: Any, value: Any) -> Any:
    if not _fits(hint, value):
        raise MalformedMessage(f"{kind.__name__}.{name} is not of type {hint}.")
    if get_origin(hint) is tuple:
        return tuple(value)
    return float(value) if hint is float else value


def _fits(hint: Any, value: Any) -> bool:
    """Whether a JSON value is of the annotated type (those that messages use)."""
    origin = get_origin(hint)
    if hint is Any:
        return True
    if origin in (typing.Union, types.UnionType):
        return any(_fits(option, value) for option in get_args(hint))
    if origin is tuple:
        item = get_args(hint)[0]
        return isinstance(value, list) and all(_fits(item, one) for one in value)
    if origin is dict:
        _, item = get_args(hint)
        return isinstance(value, dict) and all(_fits(item, one) for one in value.values())
    if hint is float:
        return isinstance(value, (int, float)) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint)
