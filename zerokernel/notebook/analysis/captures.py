"""What must travel for a cell: the names it reads, and those that its functions read.

Only notebook functions and classes are followed, through the objects that commonly hold them;
the walk is bounded. What lies deeper is found when the objects themselves are pickled.
"""

from __future__ import annotations

import builtins
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from functools import cached_property, partial, partialmethod
from itertools import islice
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import Any, cast

from zerokernel.notebook.analysis.bytecode import code_names
from zerokernel.notebook.analysis.cell import Transform, analyse_cell
from zerokernel.notebook.analysis.names import Captures, CellNames
from zerokernel.notebook.analysis.openers import OPENING_BUILTINS
from zerokernel.notebook.analysis.text import identifiers

# Every module has these, and the worker's own are right there.
_MODULE_NAMES = frozenset(
    {"__name__", "__doc__", "__package__", "__loader__", "__spec__", "__builtin__", "__builtins__"}
)
# The shell puts these there; the worker's shell has its own, unless the user has rebound them.
_SHELL_NAMES = frozenset({"get_ipython", "exit", "quit"})
_SHELL_PACKAGES = frozenset({"IPython", "ipykernel"})
# Names that IPython keeps: read by a cell they count, a word of a text does not mean them.
_HISTORY_NAMES = frozenset(
    {"In", "Out", "_", "__", "___", "_i", "_ii", "_iii", "_ih", "_oh", "_dh"}
)

_ATOMS = frozenset(
    {str, bytes, int, float, complex, bool, type(None), ModuleType, BuiltinFunctionType}
)
# What wraps a function, with the attributes under which the parts are found.
_HOLDERS: dict[type, tuple[str, ...]] = {
    MethodType: ("__func__", "__self__"),
    staticmethod: ("__func__",),
    classmethod: ("__func__",),
    property: ("fget", "fset", "fdel"),
    partial: ("func", "args", "keywords"),
    partialmethod: ("func", "args", "keywords"),
    cached_property: ("func",),
}
_SEQUENCES: tuple[Any, ...] = (list, tuple, set, frozenset, deque)
_MAX_OBJECTS = 20_000  # looked at in one walk, about 20 ms
_MAX_ELEMENTS = 100  # of one container
_MAX_TEXT = 4096  # characters of a variable that may be an expression


def captures(
    source: str, namespace: Mapping[str, object], transform: Transform | None = None
) -> Captures:
    """The names of ``namespace`` that the cell ``source`` needs where it runs.

    Args:
        source: the cell's body.
        namespace: the notebook's own namespace: a function belongs to the notebook if this very
            object is its ``__globals__``.
        transform: as for ``analyse_cell``.

    Raises:
        SyntaxError: as ``analyse_cell``.
    """
    cell = _without_shadowed(analyse_cell(source, transform), namespace)
    walk = _Walk(namespace)
    walk.want(cell.read)
    walk.want_mentioned(cell.mentioned)
    walk.run(evaluates=not cell.closed)
    return Captures(
        names=tuple(sorted(walk.names)),
        closed=cell.closed and walk.closed,
        cell=cell,
        missing=_missing(cell, namespace),
        whole_namespace=cell.whole_namespace or walk.whole_namespace,
    )


def _missing(cell: CellNames, namespace: Mapping[str, object]) -> frozenset[str]:
    # What the cell makes and then deletes is in `read` only so that its end is noticed.
    own = cell.deleted & cell.bound
    known = vars(builtins).keys() | _MODULE_NAMES | _SHELL_NAMES | own
    return frozenset(name for name in cell.read if name not in namespace and name not in known)


def _without_shadowed(cell: CellNames, namespace: Mapping[str, object]) -> CellNames:
    """A notebook variable named like ``dir`` or ``vars`` opens nothing."""
    shadowed = cell.open_reasons & OPENING_BUILTINS & namespace.keys()
    if not shadowed:
        return cell
    opened, whole = cell.open_reasons - shadowed, cell.whole_reasons - shadowed
    return replace(
        cell,
        closed=not opened,
        whole_namespace=bool(whole),
        open_reasons=opened,
        whole_reasons=whole,
    )


class _Walk:
    """Collects names of the namespace and follows the objects under them."""

    def __init__(self, namespace: Mapping[str, object]) -> None:
        self.names: set[str] = set()
        self.closed = True
        self.whole_namespace = False
        self._namespace = namespace
        self._module = namespace.get("__name__", "__main__")
        # The objects stay alive here, so that an id means one object throughout.
        self._seen: dict[int, object] = {id(namespace): namespace}
        self._waiting: deque[object] = deque()

    def want(self, names: Iterable[str]) -> None:
        for name in names:
            if name in self._namespace and name not in self.names and not self._is_shells(name):
                self.names.add(name)
                self._follow(self._namespace[name])

    def want_mentioned(self, words: Iterable[str]) -> None:
        self.want(word for word in words if word not in _HISTORY_NAMES)

    def run(self, *, evaluates: bool) -> None:
        """Follow everything that waits.

        Args:
            evaluates: text is evaluated somewhere, so that texts under captured names count.
        """
        while self._waiting:
            if len(self._seen) > _MAX_OBJECTS:
                self.closed = False
                return
            for found in self._inside(self._waiting.popleft()):
                self._follow(found)
        if evaluates or not self.closed:
            self._want_texts()

    def _want_texts(self) -> None:
        read = {name: self._namespace[name] for name in self.names}
        texts = [v for v in read.values() if type(v) is str and len(v) <= _MAX_TEXT]
        before = len(self.names)
        for text in texts:
            self.want_mentioned(identifiers(text))
        if len(self.names) > before:
            self.run(evaluates=True)

    def _follow(self, value: object) -> None:
        if type(value) not in _ATOMS and id(value) not in self._seen:
            self._seen[id(value)] = value
            self._waiting.append(value)

    def _is_shells(self, name: str) -> bool:
        if name in _MODULE_NAMES:
            return True
        if name not in _SHELL_NAMES:
            return False
        module = getattr(self._namespace[name], "__module__", None) or ""
        return str(module).partition(".")[0] in _SHELL_PACKAGES

    # --- what an object holds; no code of the user's runs here

    def _inside(self, value: object) -> Iterator[object]:
        kind = type(value)  # isinstance would ask a proxy what it stands for
        if issubclass(kind, FunctionType):
            yield from self._of_function(cast(FunctionType, value))
        elif issubclass(kind, type):
            yield from self._of_class(cast(type, value))
        elif issubclass(kind, dict):
            yield from islice(dict.values(cast("dict[Any, Any]", value)), _MAX_ELEMENTS)
        else:
            yield from self._of_holder(kind, value)
        if not issubclass(kind, type):
            yield from self._of_instance(value)

    def _of_holder(self, kind: type, value: Any) -> Iterator[object]:
        for holder, slots in _HOLDERS.items():
            if issubclass(kind, holder):
                yield from (getattr(value, slot) for slot in slots)
        for base in _SEQUENCES:
            if issubclass(kind, base):
                # As the base type does it, whatever a subclass has made of it.
                yield from islice(base.__iter__(value), _MAX_ELEMENTS)

    def _of_function(self, function: FunctionType) -> Iterator[object]:
        if function.__globals__ is self._namespace:
            found = code_names(function.__code__)
            self.closed &= found.closed
            self.whole_namespace |= found.whole_namespace
            self.want(found.read)
            self.want_mentioned(found.mentioned)
            yield from self._of_annotations(function)
        for cell in function.__closure__ or ():
            try:
                yield cell.cell_contents
            except ValueError:  # not filled yet
                continue
        yield from function.__defaults__ or ()
        yield from (function.__kwdefaults__ or {}).values()

    def _of_annotations(self, function: FunctionType) -> Iterator[object]:
        annotate = getattr(function, "__annotate__", None)  # Python 3.14, evaluated when asked for
        if annotate is not None:
            yield annotate
            return
        for annotation in function.__annotations__.values():
            if isinstance(annotation, str):
                self.want_mentioned(identifiers(annotation))
            else:
                yield annotation

    def _of_class(self, cls: type) -> Iterator[object]:
        if self._is_own(cls):
            yield from type.__getattribute__(cls, "__dict__").values()
            yield from type.__getattribute__(cls, "__bases__")
            yield type(cls)

    def _of_instance(self, value: object) -> Iterator[object]:
        attributes = _attributes(value)
        if "__wrapped__" in attributes:
            yield attributes["__wrapped__"]
        if issubclass(type(value), FunctionType) or self._is_own(type(value)):
            yield from islice(attributes.values(), _MAX_ELEMENTS)
        yield type(value)

    def _is_own(self, cls: type) -> bool:
        """Whether the class was defined in the notebook."""
        module = type.__getattribute__(cls, "__dict__").get("__module__")
        return type(module) is str and module == self._module


def _attributes(value: object) -> dict[str, Any]:
    try:
        attributes = object.__getattribute__(value, "__dict__")
    except Exception:  # none, or a class that computes it and fails
        return {}
    return attributes if type(attributes) is dict else {}
