"""Calls and attributes: most only read names, some reach the namespace, some are magics."""

from __future__ import annotations

import ast

from zerokernel.notebook.analysis.literals import shown
from zerokernel.notebook.analysis.magics import MagicEffects, magic_effects
from zerokernel.notebook.analysis.openers import (
    EVALUATORS,
    MAIN_LOOKUPS,
    OF_AN_OBJECT,
    OPENING_ATTRIBUTES,
    OPENING_BUILTINS,
    SHELL_METHODS,
    SHOWING,
    UNPICKLERS,
    UNPICKLING,
    WHOLE_ATTRIBUTES,
    WHOLE_BUILTINS,
)
from zerokernel.notebook.analysis.syntax import parse_expression
from zerokernel.notebook.analysis.text import expansions, identifiers
from zerokernel.notebook.analysis.visitor import CellVisitor, Handler

_DROPPED_WORDS = 8  # how many leading words of a magic's line may be options and their values


def _call(visitor: CellVisitor, node: ast.Call) -> None:
    match node.func:
        case ast.Attribute() as function:
            if _is_magic(node, function):
                visitor.visit(function.value)
                _magic_call(visitor, node, function.attr)
                return
            _method(visitor, node, function)
        case ast.Name(id=name) if name in SHOWING:
            visitor.load(name)
            for argument in [*node.args, *(k.value for k in node.keywords)]:
                shown(visitor, argument)
            return
        case ast.Name(id=name) if name in OF_AN_OBJECT and node.args:
            visitor.scope.load(name)
            visitor.visit_all([*node.args, *node.keywords])
            return
    if _called_name(node.func) in MAIN_LOOKUPS and node.args:
        visitor.module_named(getattr(node.args[0], "value", None))
    visitor.visit_all([node.func, *node.args, *node.keywords])


def _called_name(function: ast.expr) -> str:
    match function:
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name
    return ""


def _method(visitor: CellVisitor, node: ast.Call, function: ast.Attribute) -> None:
    name = function.attr
    owner = _called_name(function.value)
    if name in EVALUATORS and not all(_is_text(a) for a in node.args):
        visitor.opens(f".{name}")
    elif name in UNPICKLING and owner in UNPICKLERS:
        visitor.opens(f"{owner}.{name}")
    elif name == "get" and owner == "modules" and node.args:
        visitor.module_named(getattr(node.args[0], "value", None))
    elif name in SHELL_METHODS and _is_get_ipython(function.value):
        visitor.opens(f"get_ipython().{name}")


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant | ast.JoinedStr)


def _attribute(visitor: CellVisitor, node: ast.Attribute) -> None:
    if node.attr in WHOLE_ATTRIBUTES:
        visitor.wants_all(f".{node.attr}")
    elif node.attr in OPENING_ATTRIBUTES:
        visitor.opens(f".{node.attr}")
    elif node.attr in OPENING_BUILTINS and _called_name(node.value) in {"builtins", "__builtins__"}:
        note = visitor.wants_all if node.attr in WHOLE_BUILTINS else visitor.opens
        note(f"builtins.{node.attr}")
    visitor.visit(node.value)


# --- magics, as IPython's transformer writes them: get_ipython().run_line_magic("name", "line")


def _is_get_ipython(node: ast.expr) -> bool:
    return isinstance(node, ast.Call) and _called_name(node.func) == "get_ipython"


def _is_magic(node: ast.Call, function: ast.Attribute) -> bool:
    if function.attr in {"run_line_magic", "run_cell_magic"}:
        return True
    return function.attr in {"system", "getoutput"} and _is_get_ipython(function.value)


def _magic_call(visitor: CellVisitor, node: ast.Call, method: str) -> None:
    texts = [a.value for a in node.args if isinstance(a, ast.Constant) and type(a.value) is str]
    if len(texts) != len(node.args) or not texts:
        visitor.opens(f".{method}")
        visitor.visit_all([*node.args, *node.keywords])
    elif method in {"system", "getoutput"}:
        _expand(visitor, texts[0])
    else:
        _magic(visitor, *texts[:3])


def _magic(visitor: CellVisitor, name: str, line: str = "", body: str = "") -> None:
    _expand(visitor, line)
    effects = magic_effects(name, line, body)
    if effects.whole:
        visitor.wants_all(f"%{name}")
    elif effects.opens:
        visitor.opens(f"%{name}")
    for bound in effects.binds:
        visitor.embedded_scope().store_perhaps(bound)
    for deleted in effects.deletes:
        visitor.embedded_scope().delete(deleted)
    for read in identifiers(effects.reads):
        visitor.load(read)
    visitor.mention(effects.mentions)
    _code(visitor, effects)


def _expand(visitor: CellVisitor, text: str) -> None:
    for expression in expansions(text):
        tree = parse_expression(expression)  # plain Python, as IPython evaluates it
        if tree is None:
            visitor.mention(expression)
        else:
            visitor.branch(tree.body)


def _code(visitor: CellVisitor, effects: MagicEffects) -> None:
    if effects.line_code.strip():
        _line_code(visitor, effects.line_code.strip())
    if effects.body_code.strip() and not visitor.run_embedded(effects.body_code):
        _unreadable(visitor, effects.body_code)


def _line_code(visitor: CellVisitor, line: str) -> None:
    """A line such as ``-n 10 f(x)``: the options end where the rest is Python."""
    rest = line
    for word in line.split(maxsplit=_DROPPED_WORDS):
        if not word.startswith("-") and visitor.run_embedded(rest):
            return
        visitor.mention("" if word.startswith("-") else word)
        rest = rest[len(word) :].lstrip()
    _unreadable(visitor, line)


def _unreadable(visitor: CellVisitor, code: str) -> None:
    visitor.mention(code)
    visitor.opens("code that is not Python")


HANDLERS: dict[type[ast.AST], Handler] = {
    ast.Attribute: _attribute,
    ast.Call: _call,
}
