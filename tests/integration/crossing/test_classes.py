# ruff: noqa: E501 - programs in a table
"""Classes and functions of the notebook are the same classes and functions everywhere."""

import pytest

CLASSES = {
    "plain": 'class C:\n    "Doc."\n    z = 1\n    def b(self): return 2\n    a = 3',
    "changed after": "class C:\n    z = 1\nC.later = 2; C.__doc__ = 'x'; del C.z; C.z = 3",
    "equality": "class C:\n    def __eq__(self, other): return True",
    "equality added": "class C: pass\nC.__eq__ = lambda self, other: True",
    "slots": "class C:\n    __slots__ = ('b', 'a')\n    def f(self): return 1",
    "slotted dataclass": (
        "import dataclasses\nfrom dataclasses import dataclass\n"
        "@dataclass(slots=True, order=True)\nclass C:\n    b: int\n    a: str = 'x'"
    ),
    "abstract": (
        "import abc\nclass C(abc.ABC):\n    @abc.abstractmethod\n    def f(self): ...\n"
        "    y = 1\nC.register(int)"
    ),
    "named tuple": "from typing import NamedTuple\nclass C(NamedTuple):\n    a: int\n    b: str = 'x'",
    "collections.namedtuple": "from collections import namedtuple\nC = namedtuple('C', 'b a')",
    "typed dict": "from typing import TypedDict\nclass C(TypedDict, total=False):\n    a: int",
    "generic": (
        "from typing import Generic, TypeVar\nT = TypeVar('T')\n"
        "class C(Generic[T]):\n    y = 1\n    def f(self): ..."
    ),
    "protocol": (
        "from typing import Protocol, runtime_checkable\n"
        "@runtime_checkable\nclass C(Protocol):\n    def f(self) -> int: ..."
    ),
    "enum": "import enum\nclass C(enum.Enum):\n    RED = 1\n    BLUE = 'b'\n    def f(self): return 1",
    "int enum": "import enum\nclass C(enum.IntEnum):\n    LOW = 1\n    HIGH = 2",
    "str enum": "import enum\nclass C(str, enum.Enum):\n    LOW = 'l'",
    "flag": "import enum\nclass C(enum.Flag):\n    A = 1\n    B = 2\n    AB = 3",
    "enum with values of its own": (
        "import enum\nclass C(enum.Enum):\n"
        "    def __new__(cls, code, label):\n"
        "        self = object.__new__(cls); self._value_ = code; self.label = label\n"
        "        return self\n"
        "    ONE = (1, 'one')"
    ),
    "metaclass": (
        "made = []\nclass M(type):\n"
        "    def __new__(m, name, bases, body):\n"
        "        made.append(name); return type.__new__(m, name, bases, body)\n"
        "class C(metaclass=M):\n    y = 1"
    ),
    "told": (
        "told = []\nclass B:\n"
        "    def __init_subclass__(cls, **options): told.append((cls.__name__, options))\n"
        "class C(B, key=1):\n    y = 1"
    ),
    "property and descriptors": (
        "class C:\n    @property\n    def p(self): return 1\n    @staticmethod\n"
        "    def s(): return 2\n    @classmethod\n    def c(cls): return cls"
    ),
    "super": "class B:\n    def f(self): return 1\nclass C(B):\n    def f(self): return super().f() + 1",
}


@pytest.mark.parametrize("source", CLASSES.values(), ids=CLASSES.keys())
@pytest.mark.parametrize("made_in", ["notebook", "worker"])
def test_class_has_the_same_attributes_in_the_same_order(pair, source, made_in):
    """What is in a class, and in which order, is what the class statement made."""
    here = {"__name__": "__main__"}
    exec(source, here)
    expected = list(vars(here["C"]))
    if made_in == "notebook":
        pair.plain(source)
        pair.cell("_result = list(vars(C))")
        assert pair.staged.extra["result"] == expected
    else:
        pair.cell(source)
    assert list(vars(pair.namespace["C"])) == expected
    assert pair.namespace["C"].__mro__[1:][-1] is object
    pair.cell("other = C; same = other is C")
    assert pair.namespace["other"] is pair.namespace["C"]


def test_class_statement_has_its_effects_once(pair):
    """Neither the metaclass nor `__init_subclass__` hears of a class again when it travels."""
    for source in (CLASSES["metaclass"], CLASSES["told"].replace("class C", "class D")):
        pair.plain(source)
    pair.cell("class E(D): pass\nclass F(C): pass\nseen = (list(made), list(told))")
    pair.cell("x = (C(), D(), E(), F())")
    assert pair.namespace["seen"] == (["C", "F"], [("D", {"key": 1}), ("E", {})])
    assert (pair.namespace["made"], pair.namespace["told"]) == pair.namespace["seen"]
    assert "__init_subclass__" in vars(pair.namespace["B"])


@pytest.mark.parametrize(
    ("name", "expression"),
    [
        ("enum", "(C.RED is C(1), C['BLUE'] is C('b'), list(C), C.RED.f())"),
        ("int enum", "(C.LOW + 1, C(2) is C.HIGH, {C.LOW: 1}[1])"),
        ("flag", "(C.A | C.B is C.AB, C.A in C.AB, C(3) is C.AB, str(~C.A))"),
        ("enum with values of its own", "(C(1).label, C.ONE.value)"),
        ("collections.namedtuple", "(C(1, 2)._replace(a=5), C._fields, C._make([1, 2]))"),
        ("named tuple", "(C(1), C(2)._replace(b='y'), C.__annotations__)"),
        ("slotted dataclass", "(C(1), C(1) < C(2), C(1) == C(1, 'x'))"),
        (
            "slotted dataclass",
            "[(f.name, f.default is dataclasses.MISSING, f.metadata is dataclasses._EMPTY_METADATA)"
            " for f in dataclasses.fields(C)]",
        ),
        ("abstract", "(isinstance(1, C), C.__abstractmethods__)"),
        ("protocol", "(isinstance(1, C), C._is_protocol)"),
        ("generic", "(C[int]().y, C.__parameters__)"),
        ("super", "C().f()"),
    ],
)
@pytest.mark.parametrize("made_in", ["notebook", "worker"])
def test_class_works_on_the_other_side(pair, name, expression, made_in):
    """A class does what it does where it was made."""
    here = {"__name__": "__main__"}
    exec(CLASSES[name], here)
    expected = repr(eval(expression, here))
    if made_in == "notebook":
        pair.plain(CLASSES[name])
        pair.cell(f"seen = repr({expression})")
        assert pair.namespace["seen"] == expected
    else:
        pair.cell(CLASSES[name])
        assert repr(eval(expression, pair.namespace)) == expected


def test_members_of_an_enumeration_stay_single(pair):
    """Members are one object on each side, also those that `|` made later."""
    pair.plain(CLASSES["flag"] + "\n    X = 8\nkeep = {C.A: [C.B]}; c = C.X")
    pair.cell("both = C.A | C.X; same = keep[C.A][0] is C.B and c is C(8)")
    space = pair.namespace
    assert space["same"]
    assert space["both"] is space["C"].A | space["C"].X
    assert space["both"] is space["C"](9)


def test_functions_of_libraries_keep_their_closures_and_their_world(pair):
    """A function that a library made (contextmanager, wraps, partial) works over there."""
    pair.plain(
        "import contextlib, functools\nlog = []\n"
        "@contextlib.contextmanager\ndef span(n):\n    log.append(n)\n    yield n\n    log.append(-n)\n"
        "def deco(f):\n    @functools.wraps(f)\n    def inner(*a): return f(*a) + 1\n    return inner\n"
        "@deco\ndef one(): return 1\n"
        "own = {}; exec('k = 5\\ndef made():\\n    return k + len([1])', own); made = own['made']"
    )
    pair.cell("with span(3) as s: pass\nx = one(), made()\nback = deco(one)")
    space = pair.namespace
    assert (space["log"], space["x"], space["back"](), space["s"]) == ([3, -3], (2, 6), 3, 3)
    with space["span"](7):
        pass
    assert space["log"] == [3, -3, 7, -7]


def test_recursive_closures_stay_one_function(pair):
    """Functions that close over each other and over themselves keep their identity."""
    pair.plain(
        "def outer():\n"
        "    def even(n): return n == 0 or odd(n - 1)\n"
        "    def odd(n): return n != 0 and even(n - 1)\n"
        "    return even, odd\n"
        "even, odd = outer(); pair = [odd, even]"
    )
    source = (
        "ok = (even(10), odd(7), pair[0] is odd, even.__closure__[0].cell_contents is odd,"
        " odd.__closure__[0].cell_contents is even)"
    )
    pair.cell(source)
    assert pair.namespace["ok"] == (True,) * 5
    pair.cell("e2, o2 = outer(); p2 = [o2, e2]")
    space = pair.namespace
    assert space["e2"](4)
    assert space["e2"].__closure__[0].cell_contents is space["o2"] is space["p2"][0]


def test_cell_met_outside_of_a_function_is_not_empty(pair):
    """A closure's cell that the notebook took out travels with what it holds."""
    pair.plain("def f(v):\n    return lambda: v\ncell = f([1]).__closure__[0]")
    pair.cell("cell.cell_contents.append(2); n = len(cell.cell_contents)")
    assert pair.namespace["cell"].cell_contents == [1, 2]


def test_setstate_finds_the_imports_of_the_notebook(pair):
    """A `__setstate__` that is run while loading sees the modules that its cell imported."""
    pair.plain(
        "import threading\nclass G:\n"
        "    def __init__(self): self.n = 0; self.lock = threading.Lock()\n"
        "    def __getstate__(self): return {'n': self.n}\n"
        "    def __setstate__(self, state): self.__dict__.update(state); self.lock = threading.Lock()\n"
        "g = G(); lock = g.lock"
    )
    pair.cell("g.n += 1", names=["g"])
    assert pair.namespace["g"].n == 1
    assert pair.namespace["g"].lock is pair.namespace["lock"]


def test_class_may_hold_instances_of_itself(pair):
    """A singleton stays one, and instances that a class keeps by their hash are found."""
    pair.plain(
        "class One:\n    made = None\n"
        "    def __new__(cls):\n"
        "        if cls.made is None: cls.made = super().__new__(cls); cls.made.v = []\n"
        "        return cls.made\n"
        "class Key:\n    known = {}\n"
        "    def __init__(self, n): self.n = n\n"
        "    def __eq__(self, other): return self.n == other.n\n"
        "    def __hash__(self): return hash(self.n)\n"
        "one = One(); k = Key('a'); Key.known[k] = [k]"
    )
    pair.cell("One().v.append(1); same = One()\nKey.known[Key('a')].append(Key('b'))")
    space = pair.namespace
    assert space["same"] is space["one"] is space["One"]()
    assert space["one"].v == [1]
    assert [key.n for key in space["Key"].known[space["Key"]("a")]] == ["a", "b"]


def test_new_with_arguments_is_not_called_again(pair):
    """An instance whose class wants arguments in `__new__` travels as it is."""
    pair.plain(
        "calls = []\nclass P:\n    def __new__(cls, a):\n        calls.append(a)\n"
        "        self = super().__new__(cls); self.a = a; return self\np = P([1])"
    )
    pair.cell("p.a.append(2); q = P(3)")
    space = pair.namespace
    assert (space["p"].a, space["q"].a, space["calls"]) == ([1, 2], 3, [[1, 2], 3])


def test_generators_of_the_libraries_are_found_by_name(pair):
    """`random`'s, NumPy's and torch's own generators are the other side's own."""
    pytest.importorskip("torch")
    pair.plain(
        "import random, torch, numpy as np\n"
        "x = [random._inst, np.random.mtrand._rand, torch.default_generator]"
    )
    pair.cell(
        "import random, torch, numpy as np\n"
        "same = x[0] is random._inst, x[1] is np.random.mtrand._rand,"
        " x[2] is torch.default_generator"
    )
    assert pair.namespace["same"] == (True, True, True)
