"""The walk over a cell's syntax tree that hands every name to the scope that it belongs to.

What each kind of node does is in the tables of ``literals``, ``calls``, ``statements`` and
``definitions``; a node without an entry does what its fields do, in their order.
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from zerokernel.notebook.analysis.names import CellNames
from zerokernel.notebook.analysis.openers import IN_ANY_SCOPE, OPENING_BUILTINS, WHOLE_BUILTINS
from zerokernel.notebook.analysis.scopes import CellScope, EmbeddedScope, FunctionScope, Scope
from zerokernel.notebook.analysis.text import identifiers

Node = ast.AST | None


class CellVisitor:
    """Visits the statements of one cell and collects their names.

    Args:
        handlers: what to do for a type of node.
        parse: turns a piece of IPython code (a magic's body) into a tree, or None if it cannot.
    """

    def __init__(
        self,
        handlers: Mapping[type[ast.AST], Handler],
        parse: Callable[[str], ast.Module | None],
    ) -> None:
        self.cell = CellScope()
        self.scope: Scope = self.cell
        self.private = ""  # the class whose private names are mangled here
        self.parse = parse
        self._handlers = handlers
        self._mentioned: set[str] = set()
        self._open_reasons: set[str] = set()
        self._whole_reasons: set[str] = set()

    def names(self) -> CellNames:
        """What the visited nodes do."""
        cell = self.cell
        whole = self._whole_reasons | (cell.opened & WHOLE_BUILTINS)
        opened = self._open_reasons | cell.opened | whole
        return CellNames(
            read=frozenset(cell.read),
            bound=frozenset(cell.bound),
            deleted=frozenset(cell.deleted),
            closed=not opened,
            whole_namespace=bool(whole),
            mentioned=frozenset(self._mentioned),
            open_reasons=frozenset(opened),
            whole_reasons=frozenset(whole),
        )

    # --- walking

    def visit(self, node: Node) -> None:
        """Visit one node with what it contains."""
        if node is None:
            return
        handler = self._handlers.get(type(node))
        if handler is None:
            self._visit_fields(node)
        else:
            handler(self, node)

    def visit_all(self, nodes: Iterable[Node]) -> None:
        """Visit nodes in the order in which Python evaluates them."""
        for node in nodes:
            self.visit(node)

    def _visit_fields(self, node: ast.AST) -> None:
        for field in node._fields:
            value = getattr(node, field, None)
            if isinstance(value, ast.AST):
                self.visit(value)
            elif type(value) is list:
                self.visit_all(v for v in value if isinstance(v, ast.AST))

    def branch(self, nodes: Iterable[Node]) -> set[str]:
        """Visit what may not run, or not to its end; answer what is certain after it if it does."""
        scope = self.scope
        before, scope.certain = scope.certain, set(scope.certain)
        self.visit_all(nodes)
        after, scope.certain = scope.certain, before
        return after

    def within(self, scope: Scope, nodes: Iterable[Node]) -> None:
        """Visit nodes in a scope of their own and close it."""
        outer, self.scope = self.scope, scope
        self.visit_all(nodes)
        scope.close()
        self.scope = outer

    # --- names

    def mangled(self, name: str) -> str:
        """The name as Python stores it: private names of a class carry the class's name."""
        if self.private and name.startswith("__") and not name.endswith("__"):
            owner = self.private.lstrip("_")
            return f"_{owner}{name}" if owner else name
        return name

    def load(self, name: str) -> None:
        """The name is read here."""
        opens = name in OPENING_BUILTINS and (name in IN_ANY_SCOPE or self._at_cell_level())
        self.scope.load(self.mangled(name), opens=opens)

    def store(self, name: str) -> None:
        """The name is bound here."""
        self.scope.store(self.mangled(name))

    def delete(self, name: str) -> None:
        """The name is deleted here."""
        self.scope.delete(self.mangled(name))

    def _at_cell_level(self) -> bool:
        return self.outside_comprehensions() is self.cell

    def outside_comprehensions(self) -> Scope:
        """The scope that a walrus binds in."""
        scope = self.scope
        while isinstance(scope, FunctionScope) and scope.comprehension:
            scope = scope.parent
        return scope

    # --- findings

    def mention(self, text: str) -> None:
        """The text's words may be names that something reads."""
        self._mentioned |= identifiers(text)

    def annotates(self) -> None:
        """An annotation of the cell's own names adds to those that earlier cells wrote."""
        if self._at_cell_level():
            self.mention("__annotations__")

    def opens(self, reason: str) -> None:
        """Names can be reached here that the text does not show."""
        self._open_reasons.add(reason)

    def wants_all(self, reason: str) -> None:
        """The namespace as such is taken hold of here."""
        self._whole_reasons.add(reason)

    def module_named(self, name: object) -> None:
        """A module is named here: ``__main__`` is the notebook's namespace."""
        if name == "__main__":
            self.wants_all("__main__")

    # --- code inside code

    def embedded_scope(self) -> Scope:
        """The scope in which a magic at this place binds names."""
        return self.cell if self.scope is self.cell else EmbeddedScope(self.scope)

    def run_embedded(self, code: str) -> bool:
        """Visit code that a magic runs here; False if it is not Python."""
        tree = self.parse(code)
        if tree is None:
            return False
        if self.scope is self.cell:
            self.branch(tree.body)  # %time shows an error and the cell goes on
        else:
            self.within(self.embedded_scope(), tree.body)
        return True


Handler = Callable[[CellVisitor, Any], None]
