"""What generated programs are made of: classes, fresh objects, and what can be done to each."""

from __future__ import annotations

import array
import collections
import functools
import io
import random
import types
from collections.abc import Callable
from typing import Any

IMPORTS = "import array, collections, copy, functools, io, random, types"
IMPORTS += "\nimport numpy as np"

CLASSES = {
    "Node": """\
class Node:
    made = []
    def __init__(self, a=None, b=None): self.a, self.b = a, b
    def grow(self, c): self.c = c; return self
    def swap(self): self.a, self.b = self.b, self.a
    def leave(self): Node.made.append(self.a)""",
    "Slotted": """\
class Slotted:
    __slots__ = ("a", "b", "__weakref__")
    def __init__(self, a): self.a = a
    def swap(self): self.a, self.b = getattr(self, "b", 0), self.a""",
    "Half": '''\
class Half(Slotted):
    """Slots and a __dict__ both."""''',
    "Point": """\
import dataclasses
@dataclasses.dataclass
class Point:
    a: object = 0
    b: list = dataclasses.field(default_factory=list)
    def grow(self, c): self.b.append(c); return self""",
    "Pair": 'Pair = collections.namedtuple("Pair", "a b")',
    "Bag": "class Bag(list): pass",
    "Book": "class Book(dict): pass",
    "Keyed": '''\
class Keyed:
    """Equal and hashed by value: user code runs when a dict of these is built."""
    def __init__(self, n): self.n = n
    def __eq__(self, other): return isinstance(other, Keyed) and other.n == self.n
    def __hash__(self): return hash(self.n)''',
    "Stateful": """\
class Stateful:
    def __init__(self, a): self.a = a; self.cache = []
    def __getstate__(self): return {**self.__dict__, "extra": 1}
    def __setstate__(self, state): self.__dict__.update(state); del self.extra""",
    "Color": "import enum\nclass Color(enum.Enum): RED = 1; BLUE = 'b'",
    "Mistake": """\
class Mistake(Exception):
    def __init__(self, a): super().__init__(a); self.a = a""",
    "counter": """\
def counter(kept):
    n = 0
    def count(more=None):
        nonlocal n, kept
        n += 1
        if more is not None: kept, more = more, kept
        return kept
    return count""",
}

FRESH = """\
[{a}, {b}]
dict(x={a}, y={b})
Node({a}, {b})
np.arange(6.0)
({a}, [{b}])
{{1, 'two', (3, 'four')}}
Slotted({a})
np.arange(20_000.0)
collections.deque([{a}, {b}])
Point({a})
bytearray(b'some bytes')
collections.defaultdict(list, k={a})
np.arange(12).reshape(3, 4)
counter({a})
bytearray(100_000)
collections.OrderedDict(p={a}, q={b})
Bag([{a}])
np.array([None, {a}, None], dtype=object)[:2]
frozenset({{1, 't', (2, 3)}})
Stateful({a})
collections.Counter('abca')
np.zeros((3, 4), order='F')
'a text of some length, ' * 3
Keyed(7)
functools.partial(dict, k={a})
'x' * 70_000
Half({a})
b'y' * 70_000
Pair({a}, {b})
types.SimpleNamespace(a={a})
{{Keyed(1): {a}, (1, 'k'): {b}, None: 0}}
iter([{a}, {b}, 3])
lambda: ({a}, {b})
array.array('d', [1.0, 2.0])
Color.BLUE
Mistake({a})
Book(a={a})
np.zeros(3, dtype=[('a', 'i4'), ('b', 'f8')])
np.random.rand(4)
random.Random(3)
io.BytesIO(b'content')
{{Node({a}): {b}}}
np.array(['one', 'three'])
np.random.default_rng(3)
np.float32(1.5)
[[[{a}], {b}], {b}]
np.ones((200, 300), dtype='f4')
torch.arange(6.0)
torch.zeros(3, 4)
torch.ones(20_000)
torch.ones(3, requires_grad=True)
torch.nn.Linear(2, 2)
torch.nn.Parameter(torch.ones(2, 2))""".splitlines()
"""Expressions for new objects; {a} and {b} are values."""

Kinds = tuple[Callable[[Any], bool], str]


def _is(*kinds: type) -> Callable[[Any], bool]:
    return lambda item: isinstance(item, kinds)


def _named(*names: str) -> Callable[[Any], bool]:
    return lambda item: type(item).__name__ in names


def is_array(item: Any) -> bool:
    return type(item).__module__ == "numpy" and type(item).__name__ == "ndarray"


def _plain_array(item: Any) -> bool:
    return is_array(item) and item.dtype.kind in "fiu" and item.size > 0


def _object_array(item: Any) -> bool:
    return is_array(item) and item.dtype.kind == "O" and item.size > 0


def is_tensor(item: Any) -> bool:
    return type(item).__module__.startswith("torch") and hasattr(item, "untyped_storage")


DERIVED: list[Kinds] = [
    (
        is_array,
        "{p}[1:]|{p}[::2]|{p}.T|{p}.reshape(-1)|{p}[::-1]|{p}.view()|{p}.copy()|{p}[:0]|"
        "np.concatenate([{p}, {p}])|{p}.astype('f4')|np.asfortranarray({p})",
    ),
    # Of memory that is read-only torch warns once a process, and so once more in a worker.
    (lambda x: is_array(x) and x.flags.writeable, "torch.from_numpy({p})"),
    (is_tensor, "{p}.detach()"),
    # With a graph they would not travel.
    (
        lambda x: is_tensor(x) and not x.requires_grad,
        "{p}[1:]|{p}.view(-1)|{p}.t()|{p}.clone()|{p}.numpy()|{p}[::2]",
    ),
    (_is(bytearray), "bytes({p})|{p}[2:]|{p}.copy()"),
    (_is(bytes), "np.frombuffer({p}, dtype='u1')|{p}[1:]"),
    (_is(list), "{p}[1:]|{p} + {p}|{p}.append|tuple({p})|{p}.copy()"),
    (_is(dict), "dict({p})|list({p}.values())|list({p})"),
    (_is(tuple), "list({p})|{p} + (1,)"),
    (_named("Node", "Point"), "{p}.grow|copy.copy({p})|copy.deepcopy({p})"),
    (_named("Stateful", "Slotted", "Half", "Bag", "Book"), "copy.copy({p})|copy.deepcopy({p})"),
    (_named("list_iterator"), "next({p})"),
    (_is(random.Random), "{p}.random()"),
    (_named("Generator"), "{p}.integers(99)"),
]
"""What can be read of an object: whether it applies, and expressions of its path p."""

_ARRAY = "{p}.flat[0] = 7|{p} += 1|{p}[...] = 3|{p}.sort()|{p}[::2] *= 2|{p}.flat[-1] = 5|"
_ARRAY += "{p}.flags.writeable = False|{p}.shape = (-1,)|np.random.shuffle({p})|{p}[1:] = {p}[:-1]"
_OBJECT = "{p}.a = {v}|{p}.b = {v}|del {p}.a|{p}.a, {p}.b = {p}.b, {p}.a|{p}.swap()|{p}.c = {v}"
_LIST = "{p}.append({v})|{p}.pop()|{p}[0] = {v}|{p}.reverse()|{p}.insert(1, {v})|del {p}[0]|"
_LIST += "{p}.extend([{v}, 1])|{p}.clear()|{p}[1:] = [{v}]|{p} *= 2|"
_LIST += "{p}[0], {p}[-1] = {p}[-1], {p}[0]"
_DICT = "{p}['x'] = {v}|{p}['k'] = {v}|{p}.pop(next(iter({p})))|{p}['x'] = {p}.pop('x')|"
_DICT += "{p}.update(z={v}, x=1)|{p}.popitem()|{p}[Keyed(2)] = {v}|{p}.clear()|"
_DICT += "{p}.setdefault('s', {v})"

CHANGES: list[Kinds] = [
    (_plain_array, _ARRAY),
    (_object_array, "{p}[0] = {v}|{p}[...] = None|{p}.flat[-1] = {v}|{p}[::-1] = {p}.copy()"),
    (lambda x: is_array(x) and x.dtype.names, "{p}['a'][1] = 5|{p}[0] = (1, 2.5)|{p}['b'] += 1"),
    (lambda x: is_array(x) and x.dtype.kind == "U", "{p}[0] = 'ten'"),
    (is_tensor, "{p}.add_(1)|{p}[0] = 5|{p}.data.mul_(2)|{p}.zero_()|{p}.t_()"),
    (
        is_tensor,
        "({p} * {p}).sum().backward()|{p}.note = {v}|{p}.grad = None|{p}.data = {p}.data[1:]",
    ),
    (_named("Linear"), "{p}.bias = None|{p}.weight.data += 1|{p}.note = {v}|{p}.eval()"),
    (_named("Linear"), "{p}.weight = torch.nn.Parameter(torch.ones(2, 2))"),
    (_named("Linear"), "{p}(torch.ones(1, 2)).sum().backward()|{p}.register_buffer('m', {v})"),
    (_is(list), _LIST),
    (_is(collections.defaultdict), "{p}['new'].append({v})"),
    (_is(collections.OrderedDict), "{p}.move_to_end(next(iter({p})))"),
    (_is(collections.Counter), "{p}.update('xyx')|{p}['a'] -= 3"),
    (_is(dict), _DICT),
    (_is(set), "{p}.add(5)|{p}.discard(1)|{p}.add((3, 'four'))|{p}.clear()|{p} |= {{'u', 2}}"),
    (_is(collections.deque), "{p}.append({v})|{p}.rotate(1)|{p}.popleft()|{p}[0] = {v}"),
    (_is(bytearray), "{p}[0] = 9|{p}.append(7)|del {p}[2:5]|{p} += b'more'|{p}.reverse()"),
    (_is(array.array), "{p}.append(3.5)|{p}[0] = 9.0"),
    (_named("Node", "Slotted", "Half", "Point", "Stateful", "SimpleNamespace"), _OBJECT),
    (_named("Node"), "{p}.grow({v})|{p}.leave()|Node.made.append({v})|{p}.__class__ = Stateful"),
    (_named("Node"), "Node.kind = {v}|del Node.kind|Node.made = {v}|{p}.__dict__['d'] = {v}"),
    (_named("Point"), "{p}.grow({v})|{p}.b = {v}"),
    (_named("Stateful"), "{p}.cache.append({v})|{p}.later = {v}"),
    (_named("Half", "Bag", "Book", "count"), "{p}.note = {v}|del {p}.note"),
    (_is(types.FunctionType), "{p}.note = {v}|{p}.__defaults__ = ({v},)|{p}.__name__ = 'renamed'"),
    (_named("list_iterator"), "next({p})"),
    (_is(random.Random), "{p}.random()|{p}.seed(5)"),
    (_named("Generator"), "{p}.random(3)"),
    (_is(io.BytesIO), "{p}.write(b'over')|{p}.seek(0, 2)|{p}.truncate(3)"),
    (_is(BaseException), "{p}.a = {v}|{p}.__cause__ = KeyError({v})|{p}.args = (1, 's')"),
    (_is(functools.partial), "{p}.note = {v}|{p}.keywords['k'] = {v}"),
]
"""What can be done to an object: whether it applies, and statements on its path p."""

PLAIN = """\
n{i} = {v}
n{i} = n{j} = {v}
del n{i}
n{i}, n{j} = n{j}, n{i}
n{i} += {v}
globals()['n{i}'] = {v}
exec("n{i} = {v}")
for n{i} in [{v}, {w}]: n{j} = n{i}
def n{i}(x={v}): return n{j}
def n{i}(x=None):
    global n{j}
    n{j} = x, {v}
def n{i}(x=0):
    n{j}.append(x); return eval('n{j}')
class n{i}(Node): own = {v}
n{i} = [n{j} for _ in range(2)]
n{i} = n{j}()
n{j}({v})
try: raise Mistake({v})
except Mistake as n{i}: n{j} = n{i}.a
raise Mistake({v})
n{i} = random.random(), np.random.randint(99)
print('before'); assert n{i} is n{j}
n{i} = globals().get('n{j}')
n{i} = vars().pop('n{j}', None)
if (n{i} := {v}): pass
import math as n{i}
n{i}: object = {v}"""
"""Statements on names i and j with values v and w, a line each; the indented go on."""

RANDOM_DRAWS = "random.random(); np.random.rand(2)"


def uses(text: str) -> list[str]:
    """The classes that a program needs, in the order of their definition."""
    import re

    words = set(re.findall(r"\w+", text))
    needed = {name for name in CLASSES if name in words}
    if "Half" in needed:
        needed.add("Slotted")
    return [name for name in CLASSES if name in needed]
