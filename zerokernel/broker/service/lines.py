"""In which line of a TOML file a key is, for error messages."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Sequence
from typing import Any

Keys = tuple[str, ...]


def line_of(text: str, path: Sequence[str]) -> int | None:
    """Gives the line of a key, else that of the innermost table that it is in.

    Args:
        text: A file that tomllib reads.
        path: The key with its tables before it, such as ("policy", "tiers", "pro").

    Returns:
        The line, counted from 1; None where not even its table is written down.
    """
    wanted, best, depth = tuple(path), None, 0
    for number, keys in _keys(text):
        if wanted[: len(keys)] == keys and len(keys) > depth:
            best, depth = number, len(keys)
    return best


def _keys(text: str) -> Iterator[tuple[int, Keys]]:
    """Gives each table's head and each key, with its line."""
    table: Keys = ()
    for number, line in enumerate(text.splitlines(), 1):
        stripped = line.strip()
        if stripped.startswith("["):
            if (head := _path(stripped)) is not None:
                table = head
                yield number, table
        elif (key := _path(_before_value(stripped))) is not None:
            yield number, (*table, *key)


def _before_value(line: str) -> str:
    """Gives "key = 0" for "key = value"; a quoted key may hold an "="."""
    quote = ""
    for position, character in enumerate(line):
        if quote:
            quote = "" if character == quote else quote
        elif character in "\"'":
            quote = character
        elif character == "=":
            return f"{line[:position]}= 0"
    return ""


def _path(line: str) -> Keys | None:
    """Lets tomllib read one line; gives the keys in it, None where it is no such line."""
    try:
        body: Any = tomllib.loads(line)
    except tomllib.TOMLDecodeError:
        return None
    keys: list[str] = []
    while isinstance(body, dict) and body:
        key, body = next(iter(body.items()))
        keys.append(key)
        if isinstance(body, list):  # [[array of tables]]
            break
    return tuple(keys) or None
