"""Names inside plain text: string literals, magic lines, shell commands."""

from __future__ import annotations

import re
from collections.abc import Iterator
from string import Formatter

# After a dot it is an attribute, after a digit part of a number.
_IDENTIFIER = re.compile(r"(?<![\w.])[^\W\d]\w*")
# What IPython expands: `$name`, `$name.attribute`, not `$$name`.
_DOLLAR = re.compile(r"(?<!\$)\$\{?([^\W\d]\w*)")


def identifiers(text: str) -> frozenset[str]:
    """All words of ``text`` that could be names."""
    return frozenset(_IDENTIFIER.findall(text))


def expansions(text: str) -> Iterator[str]:
    """The expressions that IPython fills in for ``$name`` and ``{expression}``."""
    yield from _DOLLAR.findall(text)
    if "{" in text:
        yield from _braces(text)


def _braces(text: str) -> Iterator[str]:
    try:
        fields = list(Formatter().parse(text))
    except ValueError:  # unbalanced: IPython then leaves the text as it is
        return
    for _literal, expression, spec, _conversion in fields:
        if expression:
            yield expression
        if spec and "{" in spec:
            yield from _braces(spec)
