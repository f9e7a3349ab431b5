"""Programs are run with a namespace that records: nothing that they touch may be missed."""

from __future__ import annotations

import random
import re
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

import pytest
from hypothesis import given, note, settings
from hypothesis import strategies as st

from zerokernel.notebook.analysis import CellNames, analyse_cell

NAMES = ["a", "b", "c", "d"]
# The interpreter's own reads and writes: annotations of a cell, a class's module.
IMPLICIT = {"__annotations__", "__name__", "__annotate__", "__conditional_annotations__"}


class Value:
    """Stands for anything, and notes in the trace of its program what is done with it."""

    def __init__(self, trace: list[str], label: str, depth: int = 0) -> None:
        self.trace = trace
        self.label = label
        self.depth = depth

    def _made(self, how: str, *others: object) -> Value:
        if len(self.trace) > 200:
            raise RuntimeError("enough")
        labels = [getattr(other, "label", "?") for other in others]
        self.trace.append(f"{self.label}.{how}({','.join(labels)})")
        return Value(self.trace, f"v{len(self.trace)}", self.depth + 1)

    def __call__(self, *args: object, **kwargs: object) -> Value:
        return self._made("call", *args)

    def __add__(self, other: object) -> Value:
        return self._made("add", other)

    def __getitem__(self, key: object) -> Value:
        return self._made("item", key)

    __radd__ = __iadd__ = __add__

    def __lt__(self, other: object) -> bool:
        self._made("less", other)
        return True

    def __setitem__(self, key: object, value: object) -> None:
        self._made("set", key, value)

    def __delitem__(self, key: object) -> None:
        self._made("remove", key)

    def __iter__(self) -> Iterator[Value]:
        if self.depth > 3:
            raise RuntimeError("too deep")
        return iter([self._made("first"), self._made("second")])

    def __enter__(self) -> Value:
        return self._made("enter")

    def __exit__(self, *exception: object) -> bool:
        self._made("exit")
        return True


class Recorder(dict[str, Any]):
    """A namespace that notes which names are read while they are still as they were outside."""

    def __init__(self, outside: dict[str, Any]) -> None:
        super().__init__(outside)
        self.outside = outside
        self.read: set[str] = set()
        self.bound: set[str] = set()
        self.deleted: set[str] = set()

    def __getitem__(self, name: str) -> Any:
        value = self.get(name, self)
        if value is self.outside.get(name, self):
            self.read.add(name)
        return super().__getitem__(name)

    def __setitem__(self, name: str, value: object) -> None:
        self.bound.add(name)
        super().__setitem__(name, value)

    def __delitem__(self, name: str) -> None:
        self.deleted.add(name)
        super().__delitem__(name)

    def finish(self) -> None:
        """Add what was written past the recorder, as STORE_GLOBAL and DELETE_GLOBAL do."""
        self.deleted |= self.outside.keys() - self.keys()
        self.bound |= {n for n, v in self.items() if v is not self.outside.get(n, self)}
        for names in (self.read, self.bound, self.deleted):
            names -= IMPLICIT
        self.bound.discard("__builtins__")


@dataclass(frozen=True)
class Run:
    """What one run of a program did."""

    read: frozenset[str]
    bound: frozenset[str]
    deleted: frozenset[str]
    told: tuple[str, ...]  # the trace of all values, then how the program ended


def run(source: str, available: Collection[str] = NAMES) -> Run:
    """Run a program in a namespace that has those of ``NAMES`` that are available."""
    trace: list[str] = []
    recorder = Recorder({name: Value(trace, name) for name in NAMES if name in available})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # "str" object is not callable, say
        code = compile(source, "<cell>", "exec", dont_inherit=True)
    try:
        exec(code, recorder)
    except Exception as error:
        trace.append(f"{type(error).__name__}: {error}".partition(" at 0x")[0])
    recorder.finish()
    read, bound, deleted = map(frozenset, (recorder.read, recorder.bound, recorder.deleted))
    return Run(read, bound, deleted, tuple(trace))


def missed(source: str, found: CellNames) -> list[str]:
    """What a run does and the analysis did not foresee."""
    seen = run(source)
    faults = [f"read of {name}" for name in seen.read - found.read]
    faults += [f"binding of {name}" for name in seen.bound - found.bound]
    faults += [f"deletion of {name}" for name in seen.deleted - found.deleted]
    # As in a worker, which has no other names. This sees the reads of class bodies, too.
    if run(source, found.read).told != seen.told:
        faults.append(f"with {sorted(found.read)} alone the program runs differently")
    return faults


CORPUS = [
    "a + b\nc = a",
    "for x in a:\n    b(x)\nelse:\n    c",
    "def f(x=a):\n    return x + b\nf()",
    "def f():\n    global a\n    a = b\nf()\na",
    "def f():\n    global a\n    del a\nf()\nb()",
    "class C:\n    x = a\n    a = b\n    y = a\n    del a\n    z = a()",
    "class C:\n    def f(self): return a, __class__, super().__init__()\nC().f()",
    "class C:\n    x = 1\n    y = [a for _ in b]\n    def f(self, z=x): return c\nC().f()",
    "def f():\n    x = 1\n    class C:\n        x = x\n        y = a\n    return C\nx = c\nf()",
    "[(y := x + a) for x in b]\ny",
    "f = lambda x, *y, z=a, **k: (x, y, z, k, b)\nf(1)",
    "try:\n    raise ValueError(a)\nexcept ValueError as e:\n    b(e)\nfinally:\n    c",
    "try:\n    raise ExceptionGroup('', [ValueError(a)])\nexcept* ValueError as e:\n    b(e)",
    "with a as x, x as y:\n    b(y)\n    raise KeyError\nz = y",
    "with a:\n    nothing\n    x = 1\nb",
    "match [a, {'k': b}]:\n    case [x, {'k': y, **rest}] if c: d(x, y, rest)",
    "match a:\n    case str(): b\n    case int() | float(): c\n    case other: d(other)",
    "import os.path as p, sys\nfrom json import dumps as d\na(p, sys, d(1))",
    "x: a = b\ny: c",
    "x = y = a\nx += b\nx[c] += d\ndel x[a]",
    "def g():\n    yield a\n    yield from b\nlist(g())",
    "def outer():\n    n = a\n    def inner():\n        nonlocal n\n        n += b\n"
    "        return n\n    return inner()\nouter()",
    "f'{a} {b!r:>{5}}'",
    "a < b < c\na and b or c\nd if a else b",
    "@a\ndef f(): return b\nf()",
    "@a\nclass C(*[object], k=b): pass",
    "class M(type):\n    def __new__(m, *x, **k): return type.__new__(m, *x)\n"
    "class C(metaclass=M, k=a): b",
    "def f(): return g()\ndef g(): return a\nf()",
    "def call(h): return h()\n@call\ndef f(): return f",
    "f = 1\n@a\ndef f(): return f",
    "{**{1: a}, 2: b}\n[*c]\nprint(*d, sep=str(a))",
    "import asyncio\nasync def f():\n    return [x async for x in g()]\n"
    "async def g():\n    yield a\nasyncio.run(f())",
    "del a\ntry:\n    a\nexcept NameError:\n    a = 1",
    "for a in b:\n    if a: continue\n    c\nelse:\n    d",
    "while a:\n    b\n    break\nelse:\n    c",
    "class C:\n    global a\n    a = b\n    c()",
    "class _P:\n    def f(self):\n        global __x\n        __x = a\n_P().f()\n_P__x",
    "sorted([3, 1], key=lambda n: (n, a))",
]


@pytest.mark.parametrize("source", CORPUS)
def test_nothing_that_a_program_touches_is_missed(source: str) -> None:
    """Every name read from outside, bound or deleted while it runs was foreseen."""
    found = analyse_cell(source)
    assert found.closed
    assert missed(source, found) == []
    assert run(source).read or run(source).told


def test_the_recorder_can_tell() -> None:
    """The check notices each single name that an analysis would lose."""
    source = "a = b\ndel c\ndef f():\n    global d\n    d = a\nf()"
    found, seen = analyse_cell(source), run(source)
    assert missed(source, found) == []
    assert (seen.read, seen.bound, seen.deleted) == ({"b"}, {"a", "f", "d"}, {"c"})
    for field in ("read", "bound", "deleted"):
        for name in getattr(seen, field):
            mutant = replace(found, **{field: getattr(found, field) - {name}})
            assert missed(source, mutant), (field, name)


def test_the_check_sees_the_reads_of_class_bodies() -> None:
    """Reads that go past the recorder show in the restricted run."""
    source = "class C:\n    a = 1\n    del a\n    b + a"
    found = analyse_cell(source)
    assert missed(source, found) == []
    assert missed(source, replace(found, read=found.read - {"a"}))


# --- random programs

EXPRESSIONS = [
    "($e + $e)",
    "$e($e)",
    "$e[$e]",
    "($n := $e)",
    "($e and $e)",
    "($e if $e else $e)",
    "($e < $e < $e)",
    "{$e: $e, $e: 1}",
    "[*$e, $e]",
    "(lambda $n=$e: $e)()",
    "[$e for $n in $n]",
    "[$n for $n in $n if (w := $e)]",
    "[[($n := q) for q in $n] for r in $n]",
    "list($e for $n in $n for $n in $e)",
    "f'{type($e)}{type($n)!r:>9}'",  # not of the value: its text may have an address in it
]
SIMPLE = [
    "$e",
    "$n = $e",
    "$n, $n = $e",
    "$n = $n[$e] = $e",
    "$n += $e",
    "$n[$e] = $e",
    "$n[$e] += $e",
    "$n: $e",
    "$n: $n = $e",
    "del $n",
    "del $n[$e]",
    "import os as $n",
    "raise KeyError($n)",
    "assert $e, $n",
]
# `$b` is a block, indented as the line that it stands in.
COMPOUND = [
    "if $e:\n    $b\nelse:\n    $b",
    "if $e:\n    $b",
    "for $n in $e:\n    $b\n    break\nelse:\n    $b",
    "for $n in $e:\n    $b",
    "while $e:\n    $b\n    break",
    "try:\n    $b\nexcept Exception as $n:\n    $b",
    "try:\n    $b\nexcept KeyError:\n    $b\nelse:\n    $b",
    "try:\n    $b\nfinally:\n    $b",
    "try:\n    $b\nexcept* KeyError as $n:\n    $b\nexcept* Exception:\n    $b",
    "with $e as $n, $e:\n    $b",
    "match $e:\n    case [$n, *_] if $e:\n        $b\n    case $n:\n        $b",
    "match [$e, $e]:\n    case [$n, $n] if $e:\n        $b\n    case [w, _]:\n        $b",
    "class $n:\n    $b",
    "class $n:\n    global $n\n    $b",
    "class $n:\n    def m(self, p=$e):\n        $b\nC = $n()\nC.m()",
    "def $n(p=$e):\n    $b",
    "@$n\ndef $n():\n    $b",
    "def f($n=$e):\n    $b\nf()",
    "def f():\n    $b\nf()",
    "def f():\n    global $n\n    $b\nf()",
    "def f():\n    $n = 1\n    def g():\n        nonlocal $n\n        $b\n    g()\nf()",
    "def f():\n    $n = 1\n    class $n:\n        $b\n    $b\nf()",
]


class Author:
    """Writes a random program from a seed; the smaller the size, the shorter."""

    def __init__(self, seed: int, size: int) -> None:
        self.random = random.Random(seed)
        self.size = size

    def fill(self, template: str, indent: str = "") -> str:
        written = []
        for line in template.split("\n"):
            margin = indent + line[: len(line) - len(line.lstrip())]
            if line.strip() == "$b":
                written.append(self.block(margin))
            else:
                written.append(indent + re.sub(r"\$[en]", self._part, line))
        return "\n".join(written)

    def _part(self, match: re.Match[str]) -> str:
        self.size -= 1
        if match.group() == "$n" or self.size < 0 or self.random.random() < 0.6:
            return self.random.choice(NAMES)
        return self.fill(self.random.choice(EXPRESSIONS))

    def block(self, indent: str = "") -> str:
        self.size -= 1
        count = self.random.randint(1, 3)
        return "\n".join(self._statement(indent) for _ in range(count))

    def _statement(self, indent: str) -> str:
        nested = self.size > 0 and self.random.random() < 0.5
        return self.fill(self.random.choice(COMPOUND if nested else SIMPLE), indent)


@settings(max_examples=300, deadline=None)
@given(seed=st.integers(0, 2**32), size=st.integers(0, 60))
def test_nothing_that_a_random_program_touches_is_missed(seed: int, size: int) -> None:
    """Also in programs that nobody would write, ended by an error or not."""
    source = Author(seed, size).block()
    note(source)
    try:
        compile(source, "<cell>", "exec", dont_inherit=True)
    except SyntaxError:  # a name both bound and global, say
        return
    assert missed(source, analyse_cell(source)) == []
