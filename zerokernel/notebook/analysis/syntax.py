"""Parsing, apart from the flags and warnings of this package."""

from __future__ import annotations

import ast
import warnings

_FLAGS = ast.PyCF_ONLY_AST | ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
# What the parser raises: ValueError for null bytes, the last two for what nests too deep.
UNPARSABLE = (SyntaxError, ValueError, RecursionError, MemoryError)


def parse(source: str) -> ast.Module:
    """The tree of a cell's text in plain Python, top-level await included.

    Raises:
        SyntaxError: as the parser raises it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they are shown where the cell runs
        tree = compile(source, "<cell>", "exec", _FLAGS, dont_inherit=True)
    assert isinstance(tree, ast.Module)
    return tree


def parse_expression(source: str) -> ast.Module | None:
    """The tree of an expression inside a text, or None if it is none."""
    try:
        return parse(f"({source})")
    except UNPARSABLE:
        return None
