"""Functions, classes, lambdas, comprehensions, type parameters: what opens a scope."""

from __future__ import annotations

import ast
from typing import Any

from zerokernel.notebook.analysis.scopes import ClassScope, FunctionScope
from zerokernel.notebook.analysis.visitor import CellVisitor, Handler, Node

_Function = ast.FunctionDef | ast.AsyncFunctionDef


class _FunctionBody(ast.AST):
    """The inside of a function, as a node to be visited in its turn."""

    def __init__(self, function: _Function | ast.Lambda) -> None:
        self.function = function


class _ClassBody(ast.AST):
    """The inside of a class, as a node to be visited in its turn."""

    def __init__(self, node: ast.ClassDef) -> None:
        self.node = node


def _function(visitor: CellVisitor, node: _Function) -> None:
    visitor.visit_all(node.decorator_list)
    visitor.visit_all(_defaults(node.args))
    if not node.decorator_list:  # a decorator might call it before the name is bound
        visitor.store(node.name)
    annotations = [parameter.annotation for parameter in _parameters(node.args)]
    _generic(visitor, node, [*annotations, node.returns, _FunctionBody(node)])
    visitor.store(node.name)


def _lambda(visitor: CellVisitor, node: ast.Lambda) -> None:
    visitor.visit_all(_defaults(node.args))
    _function_body(visitor, _FunctionBody(node))


def _function_body(visitor: CellVisitor, body: _FunctionBody) -> None:
    function = body.function
    scope = FunctionScope(visitor.scope)
    for parameter in _parameters(function.args):
        scope.store(visitor.mangled(parameter.arg))
    visitor.within(scope, [function.body] if isinstance(function, ast.Lambda) else function.body)


def _parameters(arguments: ast.arguments) -> list[ast.arg]:
    parameters = [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs]
    return parameters + [a for a in (arguments.vararg, arguments.kwarg) if a is not None]


def _defaults(arguments: ast.arguments) -> list[ast.expr | None]:
    return [*arguments.defaults, *arguments.kw_defaults]


def _class(visitor: CellVisitor, node: ast.ClassDef) -> None:
    visitor.visit_all(node.decorator_list)
    _generic(visitor, node, [*node.bases, *node.keywords, _ClassBody(node)])
    visitor.store(node.name)


def _class_body(visitor: CellVisitor, body: _ClassBody) -> None:
    outer, visitor.private = visitor.private, body.node.name
    visitor.within(ClassScope(visitor.scope), body.node.body)
    visitor.private = outer


def _generic(visitor: CellVisitor, node: ast.AST, nodes: list[Node]) -> None:
    """Visit ``nodes`` inside the scope of the type parameters, where there are any."""
    parameters: list[Any] = getattr(node, "type_params", [])
    if not parameters:
        visitor.visit_all(nodes)
        return
    scope = FunctionScope(visitor.scope)
    for parameter in parameters:
        scope.store(visitor.mangled(parameter.name))
    visitor.within(scope, [*parameters, *nodes])


def _type_alias(visitor: CellVisitor, node: Any) -> None:
    visitor.store(node.name.id)
    # Its value is evaluated when it is asked for, in a scope of its own.
    value = FunctionScope(visitor.scope)
    for parameter in node.type_params:
        value.store(visitor.mangled(parameter.name))
    visitor.within(value, [*node.type_params, node.value])


def _elements(visitor: CellVisitor, node: ast.ListComp | ast.SetComp | ast.GeneratorExp) -> None:
    _comprehension(visitor, node.generators, [node.elt])


def _items(visitor: CellVisitor, node: ast.DictComp) -> None:
    _comprehension(visitor, node.generators, [node.key, node.value])


def _comprehension(
    visitor: CellVisitor, generators: list[ast.comprehension], results: list[Node]
) -> None:
    first, *others = generators
    visitor.visit(first.iter)  # evaluated outside
    inner: list[Node] = [first.target, *first.ifs]
    for generator in others:
        inner += [generator.iter, generator.target, *generator.ifs]
    visitor.within(FunctionScope(visitor.scope, comprehension=True), inner + results)


HANDLERS: dict[type[ast.AST], Handler] = {
    ast.AsyncFunctionDef: _function,
    ast.ClassDef: _class,
    ast.DictComp: _items,
    ast.FunctionDef: _function,
    ast.GeneratorExp: _elements,
    ast.Lambda: _lambda,
    ast.ListComp: _elements,
    ast.SetComp: _elements,
    _ClassBody: _class_body,
    _FunctionBody: _function_body,
}
if hasattr(ast, "TypeAlias"):  # Python 3.12
    HANDLERS[ast.TypeAlias] = _type_alias
