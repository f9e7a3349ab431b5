"""Text in a cell: which literals may name variables and which are only shown or compared."""

from __future__ import annotations

import ast

from zerokernel.notebook.analysis.visitor import CellVisitor, Handler


def shown(visitor: CellVisitor, node: ast.expr | None) -> None:
    """Visit an expression whose text, where it is a literal, nobody evaluates as code."""
    match node:
        case ast.Constant():
            pass
        case ast.JoinedStr():
            visitor.visit_all(v for v in node.values if not isinstance(v, ast.Constant))
        case ast.Tuple() | ast.List() | ast.Set():
            for element in node.elts:
                shown(visitor, element)
        case _:
            visitor.visit(node)


def _constant(visitor: CellVisitor, node: ast.Constant) -> None:
    if isinstance(node.value, str):
        visitor.mention(node.value)


def _formatted(visitor: CellVisitor, node: ast.FormattedValue) -> None:
    visitor.visit(node.value)
    shown(visitor, node.format_spec)


def _statement(visitor: CellVisitor, node: ast.Expr) -> None:
    shown(visitor, node.value)  # docstrings


def _subscript(visitor: CellVisitor, node: ast.Subscript) -> None:
    visitor.visit(node.value)
    if isinstance(node.slice, ast.Constant):
        visitor.module_named(node.slice.value)  # sys.modules["__main__"]
    shown(visitor, node.slice)


def _dict(visitor: CellVisitor, node: ast.Dict) -> None:
    for key, value in zip(node.keys, node.values, strict=True):
        shown(visitor, key)
        visitor.visit(value)


def _compare(visitor: CellVisitor, node: ast.Compare) -> None:
    first, *rest = node.comparators
    shown(visitor, node.left)
    shown(visitor, first)
    visitor.branch(rest)


def _raise(visitor: CellVisitor, node: ast.Raise) -> None:
    if isinstance(node.exc, ast.Call):
        visitor.visit(node.exc.func)
        for argument in [*node.exc.args, *(k.value for k in node.exc.keywords)]:
            shown(visitor, argument)
    else:
        visitor.visit(node.exc)
    visitor.visit(node.cause)


HANDLERS: dict[type[ast.AST], Handler] = {
    ast.Compare: _compare,
    ast.Constant: _constant,
    ast.Dict: _dict,
    ast.Expr: _statement,
    ast.FormattedValue: _formatted,
    ast.Raise: _raise,
    ast.Subscript: _subscript,
}
