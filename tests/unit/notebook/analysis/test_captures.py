"""What must travel for a cell: its reads, and those of the notebook's functions and classes."""

from __future__ import annotations

import functools
import json
import sys
import textwrap
from collections.abc import Callable
from types import ModuleType
from typing import Any
from unittest import mock

import pytest

from zerokernel.notebook.analysis import captures


def notebook(source: str, **names: Any) -> dict[str, Any]:
    """A notebook's namespace after a cell was run in it."""
    namespace: dict[str, Any] = {"__name__": "__main__", **names}
    exec(compile(textwrap.dedent(source), "<earlier>", "exec", dont_inherit=True), namespace)
    return namespace


def captured(cell: str, earlier: str, **names: Any) -> str:
    return " ".join(captures(cell, notebook(earlier, **names)).names)


VALUES = "a = b = c = d = 1\n"

TABLE = [
    ("a + e", "", "a"),
    ("a = 1", "", ""),
    ("a = 1\na", "", ""),
    ("del a", "", "a"),
    ("f()", "def f(): return a", "a f"),
    ("f()", "def f(): return g()\ndef g(): return a", "a f g"),
    ("f()", "def f(): return g()\ndef g(): return f(), b", "b f g"),
    ("f()", "def f(): return f()", "f"),
    ("f()", "def f(x): return x.a.b", "f"),
    ("f()", "def f():\n a = 1\n return a", "f"),
    ("f()", "def f():\n global a\n a = 1", "f"),
    ("f()", "def f():\n global a\n a += 1", "a f"),
    ("f()", "def f():\n global a\n del a", "a f"),
    ("f()", "def f():\n def g(): return a\n return g", "a f"),
    ("f()", "def f(): return [a for _ in range(3)], lambda: b", "a b f"),
    ("f()", "def f():\n class C:\n  x = a\n  def g(self): return b\n return C", "a b f"),
    ("f()", "f = lambda: a", "a f"),
    ("f()", "def f(x=lambda: a, *, y=lambda: b): pass", "a b f"),
    ("f()", "def make(g):\n return lambda: g()\nf = make(lambda: a)", "a f"),
    ("f()", "async def f():\n async with a: await b", "a b f"),
    ("f()", "def f():\n yield a", "a f"),
    ("f()", "def f(x: 'A') -> 'a | b': pass", "a b f"),
    ("f()", "def f(): return df.query('x > @a', b=1)", "a f"),
    ("f()", "def f():\n 'about a'\n return b", "b f"),
    ("f()", "def f():\n def g():\n  'about a'\n return 'c'", "c f"),
    ("f()", "f = functools.partial(lambda x: a, lambda: b, y=lambda: c)", "a b c f"),
    ("f()", "@functools.lru_cache\ndef f(): return a", "a f"),
    ("f()", "@functools.wraps(print)\ndef f(): return a", "a f"),
    (
        "f()",
        "def deco(g):\n @functools.wraps(g)\n def w(): return b, g()\n return w\n"
        "@deco\ndef f(): return a",
        "a b f",
    ),
    ("f()", "@contextlib.contextmanager\ndef f():\n yield a", "a f"),
    ("f()", "f = staticmethod(lambda: a)", "a f"),
    ("x.go()", "class C:\n def go(self): return a\nx = C()", "a x"),
    ("x.go()", "class B:\n def go(self): return a\nclass C(B): pass\nx = C()", "a x"),
    ("C()", "class C:\n def __init__(self): self.x = a", "C a"),
    (
        "C.m",
        "class C:\n @classmethod\n def m(cls): return a\n @staticmethod\n def s(): return b\n"
        " @property\n def p(self): return c\n @functools.cached_property\n def q(self): return d",
        "C a b c d",
    ),
    ("C", "class M(type):\n def __call__(cls): return a\nclass C(metaclass=M): pass", "C a"),
    ("C", "class C:\n class D:\n  def f(self): return a", "C a"),
    ("C", "class D:\n def __get__(self, *_): return a\nclass C:\n x = D()", "C a"),
    ("C", "@dataclasses.dataclass\nclass C:\n x: int = 1\n def f(self): return a", "C a"),
    ("x", "class C(enum.Enum):\n X = 1\n def f(self): return a\nx = C.X", "a x"),
    ("x", "class C(enum.IntEnum):\n X = 1\n def f(self): return a\nx = C.X", "a x"),
    ("x", "class C(collections.namedtuple('B', 'y')):\n def f(self): return a\nx = C(1)", "a x"),
    ("m()", "class C:\n def go(self): return a\nm = C().go", "a m"),
    ("x", "class C: pass\nx = C()\nx.callback = lambda: a", "a x"),
    ("x", "x = {'f': lambda: a, 'g': [lambda: b, (lambda: c,)]}", "a b c x"),
    ("x", "x = types.SimpleNamespace(f=1)", "x"),
    ("math.pi", "import math", "math"),
    ("f()", "import json\ndef f(): return json.dumps(a)", "a f json"),
    ("x", "x = json.dumps", "x"),
    ("'a'", "", ""),
    ("df.query('x > @a')", "", "a"),
    ("x = 'a + b'", "", "a b"),
    ("eval(q)", "q = 'a + 2'", "a q"),
    ("df.query(q)", "q = 'x > @a'", "a q"),
    ("q", "q = 'a'", "q"),
    ("eval(q)", "q = 'f()'\ndef f(): return r\nr = 'b'", "b f q r"),
]


@pytest.mark.parametrize(("cell", "earlier", "expected"), TABLE)
def test_captured_names(cell: str, earlier: str, expected: str) -> None:
    """The cell's reads that exist travel, and so do those of the functions under them."""
    import collections
    import contextlib
    import dataclasses
    import enum
    import types

    modules = {
        module.__name__: module
        for module in (collections, contextlib, dataclasses, enum, functools, types)
    }
    assert captured(cell, VALUES + earlier, json=json, **modules) == expected


def test_a_function_of_another_module_is_not_followed() -> None:
    """Names are the notebook's only where the function's globals are the namespace itself."""
    library = notebook("def f(): return a")
    assert captures("f()", {"f": library["f"], "a": 1, "__name__": "__main__"}).names == ("f",)


def test_what_a_library_function_wraps_is_followed() -> None:
    """A decorator from a library keeps the notebook's function in a closure and `__wrapped__`."""
    namespace = notebook("a = 1\ndef f(): return a")

    def library_decorator(function: Callable[[], Any]) -> Callable[[], Any]:
        @functools.wraps(function)
        def wrapper() -> Any:
            return function()

        return wrapper

    namespace["g"] = library_decorator(namespace["f"])
    assert captures("g()", namespace).names == ("a", "g")


def test_cycles_end() -> None:
    """Containers, functions and instances that hold each other are walked once."""
    namespace = notebook(
        """
        a = 1
        class Node: pass
        x = Node(); x.self = x; x.all = [x]; x.all.append(x.all)
        def f(): return x, f, a
        x.f = f
        """
    )
    assert captures("f()", namespace).names == ("a", "f", "x")


def test_an_empty_closure_cell_is_no_obstacle() -> None:
    """A function whose closure is not filled yet can be captured."""
    source = "def outer():\n g = lambda: later\n if 0: later = 1\n return g\nf = outer()"
    assert captured("f", source) == "f"


def test_the_walk_is_bounded() -> None:
    """A graph beyond the bound leaves the captures open rather than taking long."""
    source = """
        class Node: pass
        def grow(depth):
            node = Node()
            node.children = [grow(depth - 1) for _ in range(30)] if depth else []
            return node
        tree = grow(3)
    """
    found = captures("tree", notebook(source))
    assert found.names == ("tree",)
    assert not found.closed


def test_no_code_of_the_users_runs() -> None:
    """Proxies, properties and attribute hooks are looked at without being asked anything."""
    namespace = notebook(
        """
        class Trap:
            def __getattribute__(self, name): raise RuntimeError("attribute")
            def __iter__(self): raise RuntimeError("iter")
            def __eq__(self, other): raise RuntimeError("eq")
            def __hash__(self): raise RuntimeError("hash")
            def __len__(self): raise RuntimeError("len")
            def __bool__(self): raise RuntimeError("bool")
        class Items(list):
            def __iter__(self): raise RuntimeError("iter")
        class Table(dict):
            def values(self): raise RuntimeError("values")
        class Odd:
            @property
            def __dict__(self): raise RuntimeError("dict")
        a = 1
        trap = Trap()
        items = Items([trap, lambda: a])
        table = Table(x=items)
        odd = Odd()
        """
    )
    namespace["pretender"] = mock.NonCallableMagicMock(spec=dict)
    found = captures("trap, table, odd, pretender", namespace)
    assert found.names == ("a", "odd", "pretender", "table", "trap")


def test_a_module_is_not_walked() -> None:
    """A module travels by name, whatever functions were put into it."""
    namespace = notebook("a = 1\ndef f(): return a")
    module = ModuleType("somewhere")
    module.f = namespace["f"]  # type: ignore[attr-defined]
    assert captures("m", {**namespace, "m": module}).names == ("m",)


OPEN = [
    ("eval(x)", "", False, False),
    ("f()", "def f(): return eval(a)", False, False),
    ("f()", "def f(): return globals()[a]", False, True),
    ("f()", "def f():\n def g(): return globals()\n return g", False, True),
    ("f()", "def f():\n import __main__\n return __main__", False, True),
    ("f()", "def f(): return sys.modules['__main__']", False, True),
    ("f()", "def f(): return get_ipython().user_ns", False, True),
    ("f()", "def f(): return get_ipython().run_line_magic('run', '-i x')", False, False),
    ("f()", "def f(): return pickle.loads(a)", False, False),
    ("f()", "def f(): return vars(), dir(), locals(), json.loads(a)", True, False),
    ("f()", "def f(): return a.eval()", True, False),
    ("f()", "def f(): return __name__ == '__main__'", True, False),
    ("dir()", "", False, True),
    ("dir", "dir = 1", True, False),
    ("map(vars, x)", "vars = 1", True, False),
    ("eval(a)", "def eval(x): return x", True, False),
    ("globals()", "vars = 1", False, True),
    ("a", "", True, False),
]


@pytest.mark.parametrize(("cell", "earlier", "closed", "whole"), OPEN)
def test_whether_more_names_may_be_reached(
    cell: str, earlier: str, closed: bool, whole: bool
) -> None:
    """A function that takes the namespace opens the captures; a variable so named does not."""
    found = captures(cell, notebook("a = 1\n" + earlier))
    assert (found.closed, found.whole_namespace) == (closed, whole)


def test_a_shadowed_builtin_is_a_name_like_others() -> None:
    """The cell's own answer is corrected too where the notebook has a variable named `dir`."""
    cell = captures("dir", notebook("dir = '/tmp'")).cell
    assert cell.closed
    assert not cell.whole_namespace


MISSING = [
    ("print(x)", "", "x"),
    ("a", "", ""),
    ("x = y", "", "y"),
    ("x = 1\nx", "", ""),
    ("x += 1", "", "x"),
    ("x = 1\ndel x", "", ""),
    ("del x", "", "x"),
    ("get_ipython()", "", ""),
    ("__name__, __doc__", "", ""),
    ("f()", "def f(): return nothing", ""),
    ("'x'", "", ""),
]


@pytest.mark.parametrize(("cell", "earlier", "missing"), MISSING)
def test_names_that_nobody_has(cell: str, earlier: str, missing: str) -> None:
    """A name that the cell reads and that exists nowhere is said to be missing."""
    found = captures(cell, notebook("a = 1\n" + earlier))
    assert " ".join(sorted(found.missing)) == missing


def shell_object() -> Any:
    return type("Autocall", (), {"__module__": "IPython.core.autocall"})()


def test_the_shells_own_names_stay() -> None:
    """The worker's shell has its own `exit` and `get_ipython`; a user's `exit` travels."""
    namespace = notebook("a = 1", exit=shell_object(), get_ipython=shell_object())
    assert captures("exit, get_ipython, __name__, a", namespace).names == ("a",)
    assert captures("exit", {**namespace, "exit": 5}).names == ("exit",)


def test_history_is_captured_only_by_code() -> None:
    """`Out` in code means the earlier results, in a text it is a word."""
    namespace = notebook("", Out={}, In=[], _=1)
    assert captures("Out[1], _", namespace).names == ("Out", "_")
    assert captures("f('Out of In _')", namespace).names == ()


def test_magics_are_read_through_the_transformer() -> None:
    """The caller's transformer makes magics and shell lines part of the analysis."""
    namespace = notebook("a = 1\ndef f(): return a")

    def transform(cell: str) -> str:
        return cell.replace("%time f()", "get_ipython().run_line_magic('time', 'f()')")

    assert captures("%time f()", namespace, transform).names == ("a", "f")


def test_a_syntax_error_is_raised() -> None:
    """A cell that does not parse has no captures."""
    with pytest.raises(SyntaxError):
        captures("x = = 1", {})


def test_many_global_names_are_told_apart() -> None:
    """Beyond 256 names the byte code extends its arguments; each name is still found."""
    names = [f"n{i}" for i in range(700)]
    source = "\n".join(f"{name} = 1" for name in names)
    source += "\ndef f(): return [" + ", ".join(f"{name}, x.{name}_" for name in names) + "]"
    namespace = notebook(source, **{f"{name}_": 1 for name in names})
    assert set(captures("f()", namespace).names) == {"f", *names}


@pytest.mark.skipif(sys.version_info < (3, 14), reason="annotations are evaluated late since 3.14")
def test_late_annotations_are_not_evaluated() -> None:
    """The names in annotations are found without evaluating them."""
    assert captured("f", "a = 1\ndef f(x: a | nothing): pass") == "a f"
