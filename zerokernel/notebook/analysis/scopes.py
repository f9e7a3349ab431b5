"""Python's scope rules, as far as they decide which names are the notebook's.

The cell is the outermost scope. Each scope collects what its own code does with names; when it
closes, what it could not resolve goes to the scopes around it and, in the end, to the cell.

``certain`` holds names bound on every path up to the current point. Once a cell has bound (or
deleted) a name, what the notebook had under it can no longer be seen, so reads after that point
need nothing from the notebook, not even in a function that is defined there and called later.
"""

from __future__ import annotations


class CellScope:
    """The module level: its names are the notebook's."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.bound: set[str] = set()
        self.deleted: set[str] = set()
        self.opened: set[str] = set()  # built-ins that reach names which the text does not show
        self.certain: set[str] = set()
        self.globals: set[str] = set()  # `global` says nothing new here, `nonlocal` is an error
        self.nonlocals: set[str] = set()
        self.cell = self

    def load(self, name: str, *, opens: bool = False) -> None:
        """Code of this scope reads the name."""
        if name not in self.certain:
            self.read.add(name)
            if opens:
                self.opened.add(name)

    free = load  # a name that an inner scope could not resolve

    def store(self, name: str) -> None:
        """Code of this scope binds the name."""
        self.bound.add(name)
        self.certain.add(name)

    def store_perhaps(self, name: str) -> None:
        """Code of this scope may bind the name."""
        self.bound.add(name)

    def declare(self, name: str) -> None:
        """An annotation without a value binds nothing here."""

    def delete(self, name: str) -> None:
        """Code of this scope deletes the name."""
        # Also where the cell has bound it before: a name that the notebook had must be seen to go.
        self.deleted.add(name)
        self.read.add(name)

    def close(self) -> None:
        """Nothing is around a cell."""


class FunctionScope:
    """A function, lambda, comprehension or annotation scope: binding makes a local."""

    def __init__(self, parent: Scope, *, comprehension: bool = False) -> None:
        self.parent = parent
        self.cell: CellScope = parent.cell
        self.comprehension = comprehension
        self.certain: set[str] = set()  # not consulted: a local is local from the first line on
        self.locals: set[str] = set()
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self._uses: set[str] = set()
        self._opening: set[str] = set()

    def load(self, name: str, *, opens: bool = False) -> None:
        """Code of this scope reads the name."""
        self._uses.add(name)
        if opens:
            self._opening.add(name)

    free = load

    def store(self, name: str) -> None:
        """Code of this scope binds the name."""
        if name in self.globals:
            self.cell.bound.add(name)
        elif name not in self.nonlocals:
            self.locals.add(name)

    store_perhaps = store
    declare = store

    def delete(self, name: str) -> None:
        """Code of this scope deletes the name."""
        if name in self.globals:
            self.cell.delete(name)
        else:
            self.store(name)

    def close(self) -> None:
        """Hand what is not resolved here to the scopes around."""
        for name in self._uses - self.locals:
            around = self.cell if name in self.globals else self.parent
            around.free(name, opens=name in self._opening)


class EmbeddedScope(FunctionScope):
    """Code that a magic runs inside a function: it sees the locals and binds in the notebook."""

    def store(self, name: str) -> None:
        """Code of this scope binds the name."""
        self.cell.bound.add(name)

    store_perhaps = store
    declare = store

    def delete(self, name: str) -> None:
        """Code of this scope deletes the name."""
        self.cell.delete(name)


class ClassScope:
    """A class body: it runs at once, reads fall through to the globals, functions skip it."""

    def __init__(self, parent: Scope) -> None:
        self.parent = parent
        self.cell: CellScope = parent.cell
        self.certain: set[str] = {"__module__", "__qualname__"}
        self.locals: set[str] = set()
        self.globals: set[str] = set()
        self.nonlocals: set[str] = set()
        self._uses: set[str] = set()
        self._opening: set[str] = set()
        self._own: set[str] = set()  # reads that its own certain bindings answer
        self._deleted: set[str] = set()

    def load(self, name: str, *, opens: bool = False) -> None:
        """Code of this scope reads the name."""
        if name in self.certain:
            self._own.add(name)
            return
        self._uses.add(name)
        if opens:
            self._opening.add(name)

    def free(self, name: str, *, opens: bool = False) -> None:
        """An inner scope reads the name and could not resolve it."""
        if name != "__class__":
            self.parent.free(name, opens=opens)

    def store(self, name: str) -> None:
        """Code of this scope binds the name."""
        self.store_perhaps(name)
        if name in self.locals:
            self.certain.add(name)

    def store_perhaps(self, name: str) -> None:
        """Code of this scope may bind the name."""
        if name in self.globals:
            self.cell.bound.add(name)
        elif name not in self.nonlocals:
            self.locals.add(name)

    def declare(self, name: str) -> None:
        """The name is annotated and not bound."""
        self.locals.add(name)

    def delete(self, name: str) -> None:
        """Code of this scope deletes the name."""
        if name in self.globals:
            self.cell.delete(name)
        else:
            # The global of that name shows again, also in code before this, where it is a loop.
            self.locals.add(name)
            self._deleted.add(name)
            self.certain.discard(name)

    def close(self) -> None:
        """Hand what is not resolved here to the scopes around."""
        for name in self._uses | (self._own & self._deleted):
            # A name that the class binds is looked up in the class, then in the globals.
            is_global = name in self.globals or name in self.locals
            around = self.cell if is_global else self.parent
            around.free(name, opens=name in self._opening)


Scope = CellScope | FunctionScope | ClassScope
