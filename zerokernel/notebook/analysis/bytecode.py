"""The global names in compiled code: exact, where ``co_names`` mixes in attributes."""

from __future__ import annotations

import dis
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from types import CodeType

from zerokernel.notebook.analysis.openers import (
    MAIN_LOOKUPS,
    OPENING_ATTRIBUTES,
    OPENING_BUILTINS,
    UNPICKLERS,
    UNPICKLING,
    WHOLE_ATTRIBUTES,
)
from zerokernel.notebook.analysis.text import identifiers

_READING = frozenset(
    dis.opmap[name]
    for name in ("LOAD_GLOBAL", "LOAD_NAME", "DELETE_GLOBAL", "LOAD_FROM_DICT_OR_GLOBALS")
    if name in dis.opmap
)
_LOAD_GLOBAL = dis.opmap["LOAD_GLOBAL"]
_EXTENDED_ARG = dis.EXTENDED_ARG
_HAS_DOCSTRING = 0x4000000  # the code flag of Python 3.14; before it the slot was always there
_OPTIMIZED = 0x1  # a function, not a class body or module


@dataclass(frozen=True)
class CodeNames:
    """What a code object and those nested in it do with global names."""

    read: frozenset[str]
    mentioned: frozenset[str]
    """Identifiers inside its string constants, docstrings apart."""
    closed: bool
    whole_namespace: bool


@lru_cache(maxsize=4096)
def code_names(code: CodeType) -> CodeNames:
    """The global names that ``code`` may read, with those of the code nested in it."""
    read: set[str] = set()
    words: set[str] = set()
    attributes: set[str] = set()
    mentions_main = False
    for part in _nested(code):
        read |= _global_names(part)
        attributes.update(part.co_names)
        for text in _texts(part):
            words |= identifiers(text)
            mentions_main |= text == "__main__"
    whole = (
        "globals" in read
        or not WHOLE_ATTRIBUTES.isdisjoint(attributes)
        or "__main__" in attributes
        or (mentions_main and not MAIN_LOOKUPS.isdisjoint(attributes))
    )
    closed = not whole and _is_closed(read, attributes)
    return CodeNames(frozenset(read), frozenset(words), closed, whole)


def _is_closed(read: set[str], attributes: set[str]) -> bool:
    # In a function `vars`, `dir` and `locals` show what is the function's own.
    if not read.isdisjoint(OPENING_BUILTINS - {"vars", "dir", "locals"}):
        return False
    opening = OPENING_ATTRIBUTES | {"run_line_magic", "run_cell_magic"}
    if not attributes.isdisjoint(opening):
        return False
    return attributes.isdisjoint(UNPICKLING) or attributes.isdisjoint(UNPICKLERS)


def _nested(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


def _texts(code: CodeType) -> Iterator[str]:
    constants = code.co_consts
    if code.co_flags & _OPTIMIZED and not code.co_name.startswith("<"):
        has_slot = sys.version_info < (3, 14) or code.co_flags & _HAS_DOCSTRING
        constants = constants[1:] if has_slot else constants
    return (constant for constant in constants if type(constant) is str)


def _global_names(code: CodeType) -> set[str]:
    names = code.co_names
    instructions = code.co_code
    found: set[str] = set()
    extended = 0
    for at in range(0, len(instructions), 2):
        operation = instructions[at]
        argument = extended | instructions[at + 1]
        extended = argument << 8 if operation == _EXTENDED_ARG else 0
        if operation in _READING:
            found.add(names[argument >> _SHIFT if operation == _LOAD_GLOBAL else argument])
    return found


def _load_global_shift() -> int:
    """How many low bits of LOAD_GLOBAL's argument are flags; it changed between versions."""

    def probe() -> object:
        return zerokernel_first, zerokernel_second  # type: ignore[name-defined] # noqa: F821

    code = probe.__code__.co_code
    arguments = [code[at + 1] for at in range(0, len(code), 2) if code[at] == _LOAD_GLOBAL]
    return 1 if arguments == [0, 2] else 0


_SHIFT = _load_global_shift()
