"""Tables: what a cell reads, binds and deletes."""

from __future__ import annotations

import ast
import builtins
import symtable
import sys
import warnings
from collections.abc import Iterator

import pytest

from zerokernel.notebook.analysis import analyse_cell

BUILTIN = frozenset(vars(builtins))


def words(names: frozenset[str]) -> str:
    """The names that are not built in, sorted, as the tables write them."""
    return " ".join(sorted(names - BUILTIN))


# source, read, bound
SIMPLE = [
    ("", "", ""),
    ("# nothing", "", ""),
    ("x", "x", ""),
    ("x = 1", "", "x"),
    ("x = y", "y", "x"),
    ("x = x", "x", "x"),
    ("x = y = z", "z", "x y"),
    ("x, (y, *z) = w", "w", "x y z"),
    ("[a, b] = c", "c", "a b"),
    ("x += 1", "x", "x"),
    ("x += y", "x y", "x"),
    ("x @= y", "x y", "x"),
    ("x.a = 1", "x", ""),
    ("x.a.b += y", "x y", ""),
    ("x[0] = 1", "x", ""),
    ("x[i] += y[j]", "i j x y", ""),
    ("x[a:b:c]", "a b c x", ""),
    ("x.y.z", "x", ""),
    ("f(a, *b, k=c, **d)", "a b c d f", ""),
    ("a if b else c", "a b c", ""),
    ("a and b or not c", "a b c", ""),
    ("a < b < c", "a b c", ""),
    ("(yield_ := x)", "x", "yield_"),
    ("f'{x} {y!r:>{w}}'", "w x y", ""),
    ("f'{x:.3f}'", "x", ""),
    ("f'{(n := x)}'", "x", "n"),
    ("{a: b, **c}", "a b c", ""),
    ("{a, *b}", "a b", ""),
    ("print(x)", "x", ""),
    ("assert x, y", "x y", ""),
    ("raise x from y", "x y", ""),
    ("raise E(x) from y", "E x y", ""),
    ("raise", "", ""),
    ("pass", "", ""),
    ("...", "", ""),
    ("global x\nx = 1", "", "x"),
    ("x: int = y", "y", "x"),
    ("x: T", "T", ""),
    ("x: T = y", "T y", "x"),
    ("x.a: T = y", "T x y", ""),
    ("x[i]: T", "T i x", ""),
    ("await f(x)", "f x", ""),
    ("async with a as b:\n    c", "a c", "b"),
    ("async for a in b:\n    c(a)", "b c", "a"),
    ("r = [x async for x in y]", "y", "r"),
    ("lst.append(v); n = len(lst)", "lst v", "n"),
    ("__file__", "__file__", ""),
    ("_", "_", ""),
    ("Out[3]", "Out", ""),
    ("x = 1\x0c", "", "x"),
]

ORDER = [
    ("x = 1\ny = x", "", "x y"),
    ("y = x\nx = 1", "x", "x y"),
    ("import numpy as np\nnp.zeros(3)", "", "np"),
    ("if c:\n    x = 1\nx", "c x", "x"),
    ("if c:\n    x = 1\nelse:\n    x = 2\nx", "c", "x"),
    ("if c:\n    x = 1\nelif d:\n    x = 2\nx", "c d x", "x"),
    ("if c:\n    x = 1\n    x", "c", "x"),
    ("if (m := f()):\n    m\nm", "f", "m"),
    ("c and (x := 1)\nx", "c x", "x"),
    ("(x := 1) and x", "", "x"),
    ("(c or (x := 1)) if d else x", "c d x", "x"),
    ("y = (x := 1) if c else x", "c x", "x y"),
    ("a < (x := 1) < (y := 2)\nx\ny", "a y", "x y"),
    ("for i in s:\n    x = i\nx\ni", "i s x", "i x"),
    ("for i in s:\n    i\nelse:\n    x = 1\nx", "s x", "i x"),
    ("for x in x:\n    x", "x", "x"),
    ("for x[i] in s:\n    pass", "i s x", ""),
    ("for i, x[i] in s:\n    pass", "s x", "i"),
    ("while c:\n    x = 1\nx", "c x", "x"),
    ("while (x := f()):\n    x\nx", "f", "x"),
    ("while c:\n    use(x)\n    x = 1", "c use x", "x"),
    ("try:\n    x = f()\nexcept E:\n    pass\nx", "E f x", "x"),
    ("try:\n    x = f()\nexcept E:\n    x = 1\nx", "E f", "x"),
    ("try:\n    x = f()\nexcept E:\n    x\nx", "E f x", "x"),
    ("try:\n    f()\nexcept E:\n    x = 1\nelse:\n    x = 2\nx", "E f", "x"),
    ("try:\n    f()\nfinally:\n    x = 1\nx", "f", "x"),
    ("try:\n    x = f()\nfinally:\n    x", "f x", "x"),
    ("try:\n    x = f()\nfinally:\n    pass\nx", "f", "x"),
    ("try:\n    x = f()\nexcept* E as e:\n    e", "E e f", "e x"),
    ("with a as b:\n    x = b\nx", "a x", "b x"),
    ("with a as b, b.c as d:\n    d", "a", "b d"),
    ("with (a as b, c(b) as d):\n    pass", "a c", "b d"),
    ("assert (x := f())\nx", "f x", "x"),
    ("f(x, (x := 1))", "f x", "x"),
    ("f((x := 1), x)", "f", "x"),
    ("{(x := 1): x}", "", "x"),
    ("{a: x, (x := 1): b}", "a b x", "x"),
    ("i, a[i] = 1, 2", "a", "i"),
    ("a[i], i = 1, 2", "a i", "i"),
]

SCOPES = [
    ("def f():\n    return x", "x", "f"),
    ("def f():\n    x = 1\n    return x", "", "f"),
    ("def f():\n    print(x)\n    x = 1", "", "f"),
    ("def f(a, /, b, *c, d, **e):\n    return a, b, c, d, e", "", "f"),
    ("def f(a=x, *, b=y):\n    pass", "x y", "f"),
    ("def f(x=x):\n    return x", "x", "f"),
    ("@d(y)\ndef f():\n    pass", "d y", "f"),
    ("def f(a: A, *b: B, c: C = 1, **d: D) -> R:\n    pass", "A B C D R", "f"),
    ("def f():\n    return f()", "", "f"),
    ("@d\ndef f():\n    return f()", "d f", "f"),
    ("def f():\n    return g()\ndef g():\n    return 1", "g", "f g"),
    ("def g():\n    return 1\ndef f():\n    return g()", "", "f g"),
    ("def f():\n    global x\n    x = 1", "", "f x"),
    ("def f():\n    global x\n    x += 1", "x", "f x"),
    ("def f():\n    global x\n    return x", "x", "f"),
    ("def f():\n    global x\n    import x.y", "", "f x"),
    ("def f():\n    global g\n    def g(): pass", "", "f g"),
    ("def f():\n    global C\n    class C: pass", "", "C f"),
    ("def f():\n    global x\n    for x in s: pass", "s", "f x"),
    ("def f():\n    global x\n    with a as x: pass", "a", "f x"),
    ("def f():\n    global x\n    [(x := i) for i in s]", "s", "f x"),
    ("def f():\n    global x\n    def g():\n        return x\n    x = 1", "x", "f x"),
    ("def f():\n    x = 1\n    def g():\n        global x\n        return x", "x", "f"),
    ("def f():\n    x = 1\n    def g():\n        return x + y\n    return g", "y", "f"),
    ("def f():\n    x = 1\n    def g():\n        nonlocal x\n        x += y\n", "y", "f"),
    ("def f():\n    x: T\n    return x", "T", "f"),
    ("def f():\n    del x", "", "f"),
    ("def f():\n    import a.b as c, d.e\n    return a, c, d", "a", "f"),
    ("def f():\n    try: pass\n    except E as e: pass\n    return e", "E", "f"),
    ("def f():\n    match a:\n        case [b, *c]: return b, c", "a", "f"),
    ("async def f():\n    async with a as b:\n        await c(b)", "a c", "f"),
    ("def f():\n    yield x\n    y = yield", "x", "f"),
    ("f = lambda a, *b, c=d: a + b + c + e", "d e", "f"),
    ("f = lambda: (y := x)", "x", "f"),
    ("f = lambda x=x: x", "x", "f"),
    ("[x for x in y]", "y", ""),
    ("[x for x in x]", "x", ""),
    ("[x for x in y if x > z]", "y z", ""),
    ("[a for b in c for a in b]", "c", ""),
    ("[a for b in c for a in a]", "c", ""),
    ("{k: v for k, v in d.items()}", "d", ""),
    ("{f(k) for k in s}", "f s", ""),
    ("g = (x * y for x in s)", "s y", "g"),
    ("[(y := f(x)) for x in s]\ny", "f s y", "y"),
    ("[[(y := x) for x in s] for s in t]", "t", "y"),
    ("[lambda: x for x in s]", "s", ""),
    ("any((last := v) > 0 for v in s)", "s", "last"),
    ("class C:\n    pass", "", "C"),
    ("class C(B, metaclass=M, k=v):\n    pass", "B M v", "C"),
    ("@d\nclass C:\n    pass", "d", "C"),
    ("class C:\n    a = x\n    b = a", "x", "C"),
    ("class C:\n    x = x", "x", "C"),
    ("class C:\n    if c:\n        x = 1\n    y = x", "c x", "C"),
    ("class C:\n    x = 1\n    del x\n    y = x", "x", "C"),
    ("class C:\n    for i in s:\n        x = 1\n        x\n        del x", "s x", "C"),
    ("class C:\n    x = 1\n    def f(self):\n        return x", "x", "C"),
    ("class C:\n    x = 1\n    y = [x for _ in s]", "s x", "C"),
    ("class C:\n    x = 1\n    y = [i for i in x]", "", "C"),
    ("class C:\n    def f(self):\n        return super().f(), __class__", "", "C"),
    ("class C:\n    def f(self):\n        return C", "C", "C"),
    ("class C(C):\n    pass", "C", "C"),
    ("class C:\n    global x\n    x = 1", "", "C x"),
    ("class C:\n    global x\n    y = x", "x", "C"),
    ("class C:\n    a: T = x\n    b: U", "T U x", "C"),
    ("class C:\n    x: T\n    y = x", "T x", "C"),
    ("class C:\n    def f(self):\n        return __x", "_C__x", "C"),
    ("class _C:\n    def f(self):\n        global __x\n        __x = 1", "", "_C _C__x"),
    ("class C:\n    __qualname__\n    __module__", "", "C"),
    ("class C:\n    class D:\n        x = y\n    z = D.x", "y", "C"),
    ("def f():\n    x = 1\n    class C:\n        x = x\n    return C", "x", "f"),
    ("def f():\n    x = 1\n    class C:\n        y = x\n    return C", "", "f"),
    ("def f(x):\n    class C:\n        def g(self):\n            return x, y", "y", "f"),
]

STATEMENTS = [
    ("import a", "", "a"),
    ("import a.b.c", "", "a"),
    ("import a.b as c, d", "", "c d"),
    ("from a import b, c as d", "", "b d"),
    ("from . import a", "", "a"),
    ("from __future__ import annotations\ndef f(a: A): pass", "A", "annotations f"),
    ("match x:\n    case 1: y\n    case _: z", "x y z", ""),
    ("match x:\n    case [a, b, *c]: a, b, c", "x", "a b c"),
    ("match x:\n    case {'k': v, **rest}: v, rest", "x", "rest v"),
    ("match x:\n    case P(a, b=c): a, c", "P x", "a c"),
    ("match x:\n    case m.P() | n.Q: pass", "m n x", ""),
    ("match x:\n    case {m.K: a}: a", "m x", "a"),
    ("match x:\n    case a if a > b: a", "b x", "a"),
    ("match x:\n    case [1 | 2 as a]: a\na", "a x", "a"),
    ("match x:\n    case y: pass\ny", "x y", "y"),
    ("try:\n    f()\nexcept (A, m.B) as e:\n    e", "A e f m", "e"),
]

TABLE = SIMPLE + ORDER + SCOPES + STATEMENTS

DELETED = [
    ("del x", "x", "", "x"),
    ("del x, y[0], z.a", "x y z", "", "x"),
    ("del (x, [y])", "x y", "", "x y"),
    ("x = 1\ndel x", "x", "x", "x"),
    ("if c:\n    del x", "c x", "", "x"),
    ("def f():\n    global x\n    del x", "x", "f", "x"),
    ("class C:\n    global x\n    del x", "x", "C", "x"),
    ("try:\n    f()\nexcept E as e:\n    pass", "E e f", "e", "e"),
    ("class C:\n    x = 1\n    del x", "", "C", ""),
]


@pytest.mark.parametrize(("source", "read", "bound"), TABLE)
def test_reads_and_bindings(source: str, read: str, bound: str) -> None:
    """A cell reads exactly the names that it needs and binds those that it makes."""
    found = analyse_cell(source)
    assert (words(found.read), words(found.bound)) == (read, bound)
    assert found.closed
    assert not found.whole_namespace


@pytest.mark.parametrize(("source", "read", "bound", "deleted"), DELETED)
def test_deletions(source: str, read: str, bound: str, deleted: str) -> None:
    """A deleted name is read as well, so that its end can be noticed where the cell runs."""
    found = analyse_cell(source)
    assert (words(found.read), words(found.bound)) == (read, bound)
    assert words(found.deleted) == deleted


NEW_SYNTAX = [
    ((3, 12), "type X = list[Y]", "Y", "X"),
    ((3, 12), "type X[T] = dict[T, Y]", "Y", "X"),
    ((3, 12), "type X = X", "", "X"),
    ((3, 12), "def f[T: B](a: T) -> list[T]:\n    return g(a)", "B g", "f"),
    (
        (3, 12),
        "class C[T, *Ts, **P](Base[T]):\n    def f(self, x: T) -> U: return T",
        "Base U",
        "C",
    ),
    ((3, 12), "class C[T]:\n    x: T = y", "y", "C"),
    ((3, 12), "f'{f'{x}'}'", "x", ""),
    ((3, 13), "def f[T = D](a: T): pass", "D", "f"),
    ((3, 14), "t'{x} {y!r:{w}} text'", "w x y", ""),
    ((3, 14), "try:\n    f()\nexcept A, B:\n    pass", "A B f", ""),
]


@pytest.mark.parametrize(("version", "source", "read", "bound"), NEW_SYNTAX)
def test_newer_grammar(version: tuple[int, int], source: str, read: str, bound: str) -> None:
    """What newer Pythons added to the grammar is understood by those that have it."""
    if sys.version_info < version:
        with pytest.raises(SyntaxError):
            analyse_cell(source)
        return
    found = analyse_cell(source)
    assert (words(found.read), words(found.bound)) == (read, bound)


def test_built_in_names_are_read_like_others() -> None:
    """A built-in may be a notebook variable: whoever has the namespace decides."""
    assert analyse_cell("print(len(x))").read == {"print", "len", "x"}


OPEN = [
    ("eval('x')", "eval"),
    ("exec(code)", "exec"),
    ("f = eval", "eval"),
    ("def f():\n    return eval(s)", "eval"),
    ("def f(x):\n    def g():\n        exec(x)", "exec"),
    ("from a import *", "import *"),
    ("builtins.exec(code)", "builtins.exec"),
    ("get_ipython().run_cell(code)", ".run_cell"),
    ("ip.run_cell('x')", ".run_cell"),
    ("get_ipython().ev(code)", "get_ipython().ev"),
    ("get_ipython().run_line_magic(name, '')", ".run_line_magic"),
    ("get_ipython().system(command)", ".system"),
    ("df.query(condition)", ".query"),
    ("df.eval(a + b)", ".eval"),
    ("pickle.loads(data)", "pickle.loads"),
    ("torch.load(path)", "torch.load"),
]

WHOLE = [
    ("globals()[x]", "globals"),
    ("f = globals", "globals"),
    ("def f():\n    globals()['n'] = 1", "globals"),
    ("locals()", "locals"),
    ("'{x}'.format(**locals())", "locals"),
    ("[locals() for _ in s]", "locals"),
    ("vars()", "vars"),
    ("dir()", "dir"),
    ("list(map(vars, objects))", "vars"),
    ("import __main__", "__main__"),
    ("from __main__ import x", "__main__"),
    ("sys.modules['__main__']", "__main__"),
    ("sys.modules.get('__main__')", "__main__"),
    ("importlib.import_module('__main__')", "__main__"),
    ("__import__('__main__')", "__main__"),
    ("builtins.globals()", "builtins.globals"),
    ("get_ipython().user_ns['x']", ".user_ns"),
    ("ip.user_global_ns", ".user_global_ns"),
    ("f.__globals__['x']", ".__globals__"),
    ("sys._getframe().f_globals", ".f_globals"),
]

CLOSED = [
    "model.eval()",
    "df.query('a > @lim')",
    "df.query(f'a > {lim}')",
    "vars(x)",
    "dir(x)",
    "def f():\n    return locals(), vars(), dir()",
    "class C:\n    x = locals()",
    "dir = '/tmp'\ndir",
    "vars = [1]\nsum(vars)",
    "def f(dir, eval):\n    return eval(dir)",
    "[dir for dir in paths]",
    "if __name__ == '__main__':\n    main()",
    "os.system(command)",
    "json.loads(text)",
    "x.eval",
    "x.locals()",
]


@pytest.mark.parametrize(("source", "reason"), OPEN)
def test_what_reaches_further_names(source: str, reason: str) -> None:
    """Code from a text, star imports and pickles leave the cell open, and it is said why."""
    found = analyse_cell(source)
    assert not found.closed
    assert found.open_reasons == {reason}
    assert not found.whole_namespace


@pytest.mark.parametrize(("source", "reason"), WHOLE)
def test_what_takes_the_namespace(source: str, reason: str) -> None:
    """Whoever takes hold of the namespace itself needs all of it, and it is said why."""
    found = analyse_cell(source)
    assert found.whole_namespace
    assert not found.closed
    assert found.whole_reasons == {reason}


@pytest.mark.parametrize("source", CLOSED)
def test_what_only_looks_like_it(source: str) -> None:
    """Methods, parameters and variables of such names, and what looks at one object, are closed."""
    found = analyse_cell(source)
    assert found.closed
    assert not found.open_reasons


MENTIONED = [
    ("df.query('a > @lim and b.c < 3e5')", "a and b lim"),
    ("q = 'x + y'", "x y"),
    ("f(f'{a} < b')", "b"),
    ("def f(x: 'Foo'): pass", "Foo"),
    ("'a' 'b'", ""),
    ("def f():\n    '''about model'''", ""),
    ("class C:\n    '''about model'''\n    x = 'y'", "y"),
    ("print('training model', f'at {x} of data')", ""),
    ("x['a'] = y['b', 'c']", ""),
    ("x = {'a': 'b'}", "b"),
    ("x == 'a' or x in ('b', 'c')", ""),
    ("getattr(x, 'a')", ""),
    ("raise E('no model')", ""),
    ("assert x, 'no model'", ""),
    ("match x:\n    case 'a' | {'b': 1}: pass", ""),
    ("f'{x:>width}'", ""),
    ("x = b'a'", ""),
]


@pytest.mark.parametrize(("source", "mentioned"), MENTIONED)
def test_words_of_literals(source: str, mentioned: str) -> None:
    """Words in text that might be evaluated are candidates; text that is only shown is not."""
    assert " ".join(sorted(analyse_cell(source).mentioned)) == mentioned


@pytest.mark.parametrize(
    ("source", "line"),
    [("f(\n", 1), ("x = 1\ny = = 2\n", 2), ("if x:\npass", 2), ("x = 'a", 1), ("1 = x", 1)],
)
def test_a_syntax_error_carries_the_cells_line(source: str, line: int) -> None:
    """A cell that does not parse raises what the parser raises, with the cell's own line."""
    with pytest.raises(SyntaxError) as caught:
        analyse_cell(source)
    assert caught.value.lineno == line


@pytest.mark.parametrize("source", ["x = y\nreturn", "x\nglobal x", "nonlocal x", "x\nbreak"])
def test_errors_of_the_compiler_are_left_to_the_run(source: str) -> None:
    """What only the compiler refuses is analysed: the statements before it run in a plain cell."""
    assert analyse_cell(source).closed


def test_no_warning_of_the_parser_escapes() -> None:
    """An invalid escape warns where the cell runs, and only there."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert analyse_cell("x = '\\d'\ny is 1").bound == {"x"}


def test_flags_of_this_package_do_not_leak_into_the_cell() -> None:
    """The cell is parsed as Python's default has it, whatever future imports the analyser has."""
    assert analyse_cell("def f(a: A): pass").read == {"A"}


@pytest.mark.parametrize(
    "source",
    ["total = " + " + ".join(f"n{i}" for i in range(1500)), "x = " + "f(" * 90 + "y" + ")" * 90],
)
def test_deep_nesting_is_survived(source: str) -> None:
    """An expression deeper than the walk can go loses no name."""
    found = analyse_cell(source)
    expected = {node.id for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Name)}
    assert expected - {"total", "x"} <= found.read
    assert found.bound & {"total", "x"}


def test_equal_text_is_analysed_once() -> None:
    """The answer for a text is kept."""
    assert analyse_cell("kept = 1") is analyse_cell("kept = 1")


def table_of(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from table_of(child)


def global_names(source: str) -> tuple[set[str], set[str]]:
    """Global names that are read and bound, as Python's own compiler sees them."""
    read, bound = set(), set()
    for table in table_of(symtable.symtable(source, "<cell>", "exec")):
        at_top = table.get_type() == "module"
        in_class = table.get_type() == "class"
        for symbol in table.get_symbols():
            reaches = symbol.is_global() or at_top or (in_class and symbol.is_local())
            if symbol.is_referenced() and reaches:
                read.add(symbol.get_name())
            makes = symbol.is_assigned() or symbol.is_imported() or symbol.is_namespace()
            if makes and (at_top or symbol.is_declared_global()):
                bound.add(symbol.get_name())
    return read, bound


# The compiler's table says that `x += 1` does not refer to x, that `x: T` binds x, and that an
# annotation under PEP 563 refers to nothing; it refuses `await` outside a function.
OTHERWISE = ("await", "async", "x += ", "x @= ", "x: T", "from __future__")
PLAIN = [row[0] for row in [*TABLE, *DELETED] if not any(text in row[0] for text in OTHERWISE)]


@pytest.mark.skipif(
    sys.version_info >= (3, 12), reason="later tables mix comprehensions into what is around them"
)
@pytest.mark.parametrize("source", PLAIN)
def test_agrees_with_the_compilers_symbol_table(source: str) -> None:
    """No name is found that the compiler's own table does not have; none that it binds is missed.

    The table knows no order of statements, so it may have more reads.
    """
    found = analyse_cell(source)
    read, bound = global_names(source)
    assert found.read - found.deleted <= read | {"__class__"}
    assert {name for name in bound if not name.startswith(".")} - found.deleted == (
        found.bound - found.deleted
    )
