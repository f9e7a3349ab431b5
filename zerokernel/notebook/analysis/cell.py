"""From a cell's text to its names."""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import lru_cache

from zerokernel.notebook.analysis import calls, definitions, literals, statements
from zerokernel.notebook.analysis.names import CellNames
from zerokernel.notebook.analysis.syntax import UNPARSABLE, parse
from zerokernel.notebook.analysis.visitor import CellVisitor

Transform = Callable[[str], str]

_HANDLERS = {**literals.HANDLERS, **calls.HANDLERS, **statements.HANDLERS, **definitions.HANDLERS}


def analyse_cell(source: str, transform: Transform | None = None) -> CellNames:
    """The names that a cell reads, binds and deletes.

    Args:
        source: the cell's body, in IPython's syntax where ``transform`` is given.
        transform: IPython's ``shell.transform_cell``, hashable. It writes magics and ``!`` lines
            as calls of ``get_ipython()``, which are recognised here.

    Raises:
        SyntaxError: as the parser raises it, with the cell's own lines. What only the compiler
            finds (``return`` outside a function) is left to where the cell runs: IPython runs
            the statements before it.
    """
    return _analyse(source if transform is None else transform(source), transform)


@lru_cache(maxsize=256)
def _analyse(source: str, transform: Transform | None) -> CellNames:
    def parse_inner(code: str) -> ast.Module | None:
        try:
            return parse(code if transform is None else transform(code))
        except UNPARSABLE:
            return None

    tree = parse(source)
    visitor = CellVisitor(_HANDLERS, parse_inner)
    try:
        visitor.visit_all(tree.body)
    except RecursionError:  # a sum of a thousand terms, say: Python's own compiler goes deeper
        return _all_identifiers(tree)
    return visitor.names()


def _all_identifiers(tree: ast.Module) -> CellNames:
    """Every identifier of the tree, without a look at scopes: too many, but none is missed."""
    names: set[str] = set()
    deleted: set[str] = set()
    for node in ast.walk(tree):
        names.update(value for _, value in ast.iter_fields(node) if isinstance(value, str))
        if isinstance(node, ast.Global):
            names.update(node.names)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Del):
            deleted.add(node.id)
    found = frozenset(name for name in names if name.isidentifier())
    return CellNames(
        read=found,
        bound=found,
        deleted=frozenset(deleted),
        closed=False,
        whole_namespace=False,
        mentioned=found,
        open_reasons=frozenset({"deep nesting"}),
    )
