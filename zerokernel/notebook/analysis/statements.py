"""Statements and expressions that bind names or choose a path.

Only a name bound on every path is certain afterwards; see ``scopes``.
"""

from __future__ import annotations

import ast

from zerokernel.notebook.analysis.literals import shown
from zerokernel.notebook.analysis.visitor import CellVisitor, Handler

# --- binding


def _name(visitor: CellVisitor, node: ast.Name) -> None:
    if isinstance(node.ctx, ast.Load):
        visitor.load(node.id)
    elif isinstance(node.ctx, ast.Store):
        visitor.store(node.id)
    else:
        visitor.delete(node.id)


def _assign(visitor: CellVisitor, node: ast.Assign) -> None:
    visitor.visit(node.value)
    visitor.visit_all(node.targets)


def _augmented(visitor: CellVisitor, node: ast.AugAssign) -> None:
    if isinstance(node.target, ast.Name):
        visitor.load(node.target.id)
        visitor.visit(node.value)
        visitor.store(node.target.id)
    else:
        visitor.visit_all([node.target, node.value])


def _annotated(visitor: CellVisitor, node: ast.AnnAssign) -> None:
    visitor.visit_all([node.value, node.annotation])
    visitor.annotates()
    if node.value is None and isinstance(node.target, ast.Name):
        visitor.scope.declare(visitor.mangled(node.target.id))
    else:
        visitor.visit(node.target)


def _walrus(visitor: CellVisitor, node: ast.NamedExpr) -> None:
    visitor.visit(node.value)
    scope = visitor.outside_comprehensions()
    name = visitor.mangled(node.target.id)
    if scope is visitor.scope:
        scope.store(name)
    else:
        scope.store_perhaps(name)  # the comprehension may run over nothing


def _import(visitor: CellVisitor, node: ast.Import) -> None:
    for alias in node.names:
        visitor.module_named(alias.name)
        visitor.store(alias.asname or alias.name.partition(".")[0])


def _import_from(visitor: CellVisitor, node: ast.ImportFrom) -> None:
    visitor.module_named(node.module)
    for alias in node.names:
        if alias.name == "*":
            visitor.opens("import *")
        else:
            visitor.store(alias.asname or alias.name)


def _global(visitor: CellVisitor, node: ast.Global) -> None:
    visitor.scope.globals.update(map(visitor.mangled, node.names))


def _nonlocal(visitor: CellVisitor, node: ast.Nonlocal) -> None:
    visitor.scope.nonlocals.update(map(visitor.mangled, node.names))


# --- paths


def _if(visitor: CellVisitor, node: ast.If) -> None:
    visitor.visit(node.test)
    then = visitor.branch(node.body)
    visitor.scope.certain = then & visitor.branch(node.orelse)


def _if_expression(visitor: CellVisitor, node: ast.IfExp) -> None:
    visitor.visit(node.test)
    visitor.branch([node.body])
    visitor.branch([node.orelse])


def _bool(visitor: CellVisitor, node: ast.BoolOp) -> None:
    visitor.visit(node.values[0])
    visitor.branch(node.values[1:])


def _for(visitor: CellVisitor, node: ast.For | ast.AsyncFor) -> None:
    visitor.visit(node.iter)
    visitor.branch([node.target, *node.body])
    visitor.branch(node.orelse)


def _while(visitor: CellVisitor, node: ast.While) -> None:
    visitor.visit(node.test)
    visitor.branch(node.body)
    visitor.branch(node.orelse)


def _with(visitor: CellVisitor, node: ast.With | ast.AsyncWith) -> None:
    first, *rest = node.items
    visitor.visit(first.context_expr)
    # A context manager may swallow an exception, so nothing in it is certain afterwards.
    visitor.branch([first.optional_vars, *rest, *node.body])


def _try(visitor: CellVisitor, node: ast.Try | ast.TryStar) -> None:
    ends = [visitor.branch([*node.body, *node.orelse])]
    ends += [visitor.branch([handler]) for handler in node.handlers]
    visitor.visit_all(node.finalbody)
    visitor.scope.certain |= set.intersection(*ends)


def _handler(visitor: CellVisitor, node: ast.ExceptHandler) -> None:
    visitor.visit(node.type)
    if node.name is not None:
        visitor.store(node.name)
    visitor.visit_all(node.body)
    if node.name is not None:
        visitor.delete(node.name)


def _assert(visitor: CellVisitor, node: ast.Assert) -> None:
    scope = visitor.scope
    before, scope.certain = scope.certain, set(scope.certain)  # -O leaves assertions out
    visitor.visit(node.test)
    shown(visitor, node.msg)
    scope.certain = before


def _match(visitor: CellVisitor, node: ast.Match) -> None:
    visitor.visit(node.subject)
    for case in node.cases:
        visitor.branch([case])


def _case(visitor: CellVisitor, node: ast.match_case) -> None:
    captured: list[str | None] = []
    for part in ast.walk(node.pattern):
        match part:
            case ast.MatchValue():
                shown(visitor, part.value)
            case ast.MatchClass():
                visitor.visit(part.cls)
            case ast.MatchMapping():
                visitor.visit_all(k for k in part.keys if not isinstance(k, ast.Constant))
                captured.append(part.rest)
            case ast.MatchAs() | ast.MatchStar():
                captured.append(part.name)
    for name in captured:
        if name is not None:
            visitor.store(name)
    visitor.visit_all([node.guard, *node.body])


HANDLERS: dict[type[ast.AST], Handler] = {
    ast.AnnAssign: _annotated,
    ast.Assert: _assert,
    ast.Assign: _assign,
    ast.AsyncFor: _for,
    ast.AsyncWith: _with,
    ast.AugAssign: _augmented,
    ast.BoolOp: _bool,
    ast.ExceptHandler: _handler,
    ast.For: _for,
    ast.Global: _global,
    ast.If: _if,
    ast.IfExp: _if_expression,
    ast.Import: _import,
    ast.ImportFrom: _import_from,
    ast.Match: _match,
    ast.Name: _name,
    ast.NamedExpr: _walrus,
    ast.Nonlocal: _nonlocal,
    ast.Try: _try,
    ast.TryStar: _try,
    ast.While: _while,
    ast.With: _with,
    ast.match_case: _case,
}
