"""What Python has learned since 3.11, and what it gives notice of."""

import sys
import warnings

import pytest

from zerokernel.crossing.adapters import iterators

ALIKE = {
    "parameter of a function": (
        (3, 12),
        "def f[T: int](a: T) -> T: return a",
        "x = f(2); f.marked = True",
        "(x, f.marked, f.__type_params__, f.__annotations__['a'] is f.__type_params__[0])",
    ),
    "parameter of a class": (
        (3, 12),
        "class C[T]:\n    n = 1\n    def m(self, a: T) -> T: return a\nx = C[int]()",
        "C.n += 1; x.v = x.m(3)",
        "(C.n, x.v, x.__orig_class__, C.__parameters__ == C.__type_params__, C.__type_params__)",
    ),
    "subclass with parameters": (
        (3, 12),
        "class B[T]: pass\nclass C[T](B[T]): pass\nx = C()",
        "C.seen = [B]",
        "(C.seen[0] is B, C.__orig_bases__[0].__origin__ is B, isinstance(x, B))",
    ),
    "type alias": (
        (3, 12),
        "type Pair[T] = tuple[T, T]\nx = []",
        "x.append(Pair[int]); x.append(Pair)",
        "(x[0].__value__, x[1] is Pair, repr(Pair), Pair.__value__)",
    ),
    "alias of its own": (
        (3, 12),
        "type Tree = list[Tree] | int\nx = []",
        "x.append(Tree)",
        "(x[0] is Tree, Tree.__value__.__args__[0].__args__[0] is Tree)",
    ),
    "parameters of calls": (
        (3, 12),
        "def f[**P, R](g: 'Callable[P, R]', *args: P.args, **kw: P.kwargs): return g(*args, **kw)",
        "x = f(max, 1, 2)",
        "(x, [repr(p) for p in f.__type_params__])",
    ),
    "bound to its own class": (
        (3, 12),
        "class C[T: C]: pass\nT = C.__type_params__[0]; x = []",
        "x += [T, C, T.__bound__]",
        "(x[0] is T, T.__bound__ is C, C.__type_params__[0] is T, x[2] is C, T.__infer_variance__)",
    ),
    "variables of typing": (
        (3, 11),
        "from typing import *\nP = ParamSpec('P'); S = TypeVarTuple('S')\n"
        "T = TypeVar('T', int, str); U = TypeVar('U', bound=list, covariant=True)\n"
        "class G(Generic[T, *S]): pass\nx = [P, S, P.args]",
        "x += [T, U, G[int, str]]",
        "(x, x[0] is P, x[1] is S, x[3] is T, x[4] is U, G.__parameters__[0] is T,"
        " T.__constraints__, U.__bound__, U.__covariant__, T.__module__, P.__name__,"
        " x[2].__origin__ is P)",
    ),
    "parameter with a default": (
        (3, 13),
        "class C[T = int]: pass\nx = C()",
        "x.v = C.__type_params__[0].__default__",
        "x.v",
    ),
    "f-string in an f-string": (
        (3, 12),
        "def f(a): return f'{f'{a!r}'}'",
        "x = f('b')",
        "(x, f('c'))",
    ),
    "comprehension in a class": (
        (3, 12),
        "n = 3\nclass C:\n    a = [i * 2 for i in range(2)]\n    b = [n for _ in a]",
        "C.c = [i + n for i in C.a]",
        "(C.a, C.b, C.c)",
    ),
    "members that a class notes itself": (
        (3, 13),
        "class C:\n    'Doc.\\n\\n    Indented.'\n    def __init__(self): self.a = 1\nx = C()",
        "x.a += 1; C.b = C.__static_attributes__",
        "(x.a, C.b, C.__firstlineno__, C.__doc__)",
    ),
    "replaced copy": (
        (3, 13),
        "import copy, dataclasses\n@dataclasses.dataclass\nclass D:\n    a: int\nx = D(1)",
        "y = copy.replace(x, a=2); x.a = 5",
        "(x, y)",
    ),
    "batches": (
        (3, 12),
        "import itertools\nx = [tuple(b) for b in itertools.batched('abc', 2)]",
        "x += itertools.batched('de', 1)",
        "x",
    ),
}


@pytest.mark.parametrize("case", ALIKE)
def test_it_is_the_same_on_both_sides(pair, case):
    """The cell does in the worker what it does here, twice, and leaves the same behind."""
    since, make, change, look = ALIKE[case]
    if sys.version_info < since:
        pytest.skip(f"new in {since}")
    local = {"__name__": "__main__"}
    pair.plain(make)
    exec(make, local)
    for _ in range(2):
        exec(change, local)
        pair.cell(change)
        assert not pair.shipment.absent
        assert repr(eval(look, pair.namespace)) == repr(eval(look, local))


REFUSED = {
    "bound that is not there yet": (
        "class C[T: Later]: pass\nx = C.__type_params__[0]",
        "evaluated yet",
    ),
    "recursive with parameters": ("type x[T] = list[x[T]] | T", "define it in the cell"),
}


@pytest.mark.skipif(sys.version_info < (3, 12), reason="new in 3.12")
@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_a_remedy(pair, case):
    """A type that cannot be made again is named, with what to do about it."""
    make, remedy = REFUSED[case]
    pair.plain(make)
    with pytest.raises(NameError):
        pair.cell("x", names=["x"])
    assert remedy in pair.shipment.absent["x"]


def test_the_notice_about_iterators_leaves_no_trace(recwarn):
    """Pickling one warns of nothing, and what was warned of before is not warned of again."""
    import itertools

    warnings.simplefilter("default")
    before = list(warnings.filters)
    for _ in range(2):
        iterators.reduced(itertools.chain([1], [2]))
        warnings.warn("said once", UserWarning, stacklevel=1)
    assert [str(one.message) for one in recwarn] == ["said once"]
    assert warnings.filters == before
