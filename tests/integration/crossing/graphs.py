"""Random object graphs: a program that builds and mutates them, and the oracle that compares."""

import collections
import types

import numpy as np

PROGRAM = '''
import collections
import numpy as np

class Node:
    pass

class Slotted:
    __slots__ = ("a", "b", "uid", "__weakref__")

class Bag(list):
    pass

class Keyed:
    """Equal and hashed by value: user code runs when a dict of these is built."""
    def __init__(self, uid): self.uid = uid
    def __eq__(self, other): return isinstance(other, Keyed) and other.uid == self.uid
    def __hash__(self): return hash(self.uid)

class Stateful:
    def __init__(self): self.kept = []; self.lock = object
    def __getstate__(self):
        state = dict(self.__dict__)
        state["extra"] = 1
        return state
    def __setstate__(self, state):
        del state["extra"]
        self.__dict__.update(state)

counter = 0

def fresh_uid():
    global counter
    counter += 1
    return counter

def make(kind, a, b):
    if kind == 0: return [a, b]
    if kind == 1: return {"x": a, "y": b}
    if kind == 2:
        n = Node(); n.uid = fresh_uid(); n.a = a; n.b = b; return n
    if kind == 3:
        s = Slotted(); s.uid = fresh_uid(); s.a = a; return s
    if kind == 4: return (a, [b])
    if kind == 5: return {1, "s", fresh_uid()}
    if kind == 6: return np.arange(fresh_uid() % 7 + 2, dtype=float)
    if kind == 7: return collections.deque([a, b])
    if kind == 8:
        bag = Bag([a]); bag.note = b; return bag
    if kind == 9:
        out = np.empty(2, object); out[0] = a; out[1] = b; return out
    if kind == 10: return collections.OrderedDict([("p", a), ("q", b)])
    if kind == 11: return collections.defaultdict(list, {"k": a})
    if kind == 12: return {Keyed(fresh_uid()): a, tuple([1, "t"]): b}
    if kind == 13:
        s = Stateful(); s.kept.append(a); s.other = b; return s
    if kind == 14: return bytearray(b"abc%d" % fresh_uid())
    if kind == 15:
        def closure(): return a, b
        return closure
    if kind == 16: return collections.Counter({"a": fresh_uid()})
    if kind == 17: return np.arange(20_000.0)
    return fresh_uid() * 1.5 if kind % 2 else "text%d" % fresh_uid()

def children(x):
    if isinstance(x, (list, tuple, collections.deque)):
        out = list(x)
        return out + [x.note] if type(x).__name__ == "Bag" and hasattr(x, "note") else out
    if isinstance(x, dict): return [*x.keys(), *x.values()]
    if type(x).__name__ in ("Node", "Keyed", "Stateful"): return list(vars(x).values())
    if type(x).__name__ == "Slotted": return [getattr(x, s) for s in ("a", "b") if hasattr(x, s)]
    if isinstance(x, np.ndarray): return x.reshape(-1).tolist() if x.dtype == object else []
    if type(x).__name__ == "function" and x.__name__ == "closure":
        return [c.cell_contents for c in x.__closure__]
    return []

ATOMS = (int, float, str, bytes, bool, type(None), type)

def everything(roots):
    seen, order, todo = set(), [], list(roots)
    while todo:
        x = todo.pop(0)
        if isinstance(x, ATOMS) or id(x) in seen: continue
        seen.add(id(x)); order.append(x); todo.extend(children(x))
    return order

def mutate(space, names, ops):
    for kind, i, j, k in ops:
        objs = everything([space[n] for n in names if n in space]) or [[]]
        t, v = objs[i % len(objs)], objs[j % len(objs)]
        if kind == 0 or kind == 1:
            space[names[k % len(names)]] = make(j % 20, t, v)
        elif kind == 2:
            space[names[k % len(names)]] = v
        elif kind == 3:
            if len(names) > 2: space.pop(names[k % len(names)], None)
        else:
            change(t, make(k % 20, v, t) if kind % 2 else v, k)

def change(t, v, k):
    kind = type(t).__name__
    if kind in ("list", "Bag"):
        step = k % 6
        if step == 0: t.append(v)
        elif step == 1 and t: t.pop()
        elif step == 2 and t: t[k % len(t)] = v
        elif step == 3: t.reverse()
        elif step == 4 and kind == "Bag": t.note = v
        elif t: del t[0]
    elif kind in ("dict", "defaultdict"):
        step = k % 4
        if step == 0: t["k%d" % (k % 5)] = v
        elif step == 1 and t: t.pop(next(iter(t)))
        elif step == 2 and t:
            key = next(iter(t)); t[key] = t.pop(key)
        else: t[Keyed(k % 3)] = v
    elif kind == "OrderedDict":
        if k % 2 and t: t.move_to_end(next(iter(t)))
        else: t[k % 4] = v
    elif kind == "Counter": t["a"] += 1
    elif kind == "set":
        if k % 3: t.add(k % 10)
        else: t.discard(k % 10)
    elif kind == "Node":
        step = k % 4
        if step == 3 and hasattr(t, "a"): del t.a
        else: setattr(t, "abc"[step % 3], v)
    elif kind == "Slotted":
        if k % 3 == 2 and hasattr(t, "a"): del t.a
        else: setattr(t, "ab"[k % 2], v)
    elif kind == "Stateful":
        if k % 2: t.kept.append(v)
        else: t.other = v
    elif kind == "deque":
        if k % 2: t.rotate(1)
        else: t.append(v)
    elif kind == "bytearray": t.append(k % 200)
    elif kind == "ndarray":
        if t.size:
            t.reshape(-1)[k % t.size] = v if t.dtype == object else float(k)
'''


class Differs(AssertionError):
    """The two graphs are not the same."""


class Oracle:
    """Compares two graphs pairwise, with a correspondence that lasts over rounds."""

    def __init__(self, remember):
        self._remember = remember
        self._pairs = {}

    def compare(self, here, there, names):
        if not self._remember:
            self._pairs = {}
        present = [name for name in names if name in here]
        if present != [name for name in names if name in there]:
            raise Differs("other names are bound")
        self._backward = {id(b) for _, b in self._pairs.values()}
        self._contents(present, here, there)

    def _contents(self, present, here, there):
        seen = set()
        todo = [(name, here[name], there[name]) for name in present]
        while todo:
            path, a, b = todo.pop()
            if isinstance(a, int | float | str | bytes | bool | type(None)):
                if type(a) is not type(b) or a != b:
                    raise Differs(f"{path}: {a!r} is {b!r}")
                continue
            if isinstance(a, type | types.CodeType):
                continue
            if type(a).__name__ != type(b).__name__:
                raise Differs(f"{path}: {type(a)} is {type(b)}")
            self._same_object(path, a, b)
            if id(a) in seen:
                continue
            seen.add(id(a))
            ours, theirs = parts(a), parts(b)
            if len(ours) != len(theirs):
                raise Differs(f"{path}: {len(ours)} parts are {len(theirs)}")
            for (step, x), (other, y) in zip(ours, theirs, strict=True):
                if step != other:
                    raise Differs(f"{path}{step}: is {other}")
                todo.append((path + step, x, y))

    def _same_object(self, path, a, b):
        known = self._pairs.get(id(a))
        if known is None:
            if id(b) in self._backward:
                raise Differs(f"{path}: one object where there should be two")
            self._pairs[id(a)] = (a, b)
            self._backward.add(id(b))
        elif known[1] is not b:
            raise Differs(f"{path}: another object")


def parts(x):
    if isinstance(x, dict):
        items = [(f"[key {i}]", k) for i, k in enumerate(x)]
        return items + [(f"[{i}]", v) for i, v in enumerate(x.values())]
    if isinstance(x, list | tuple | collections.deque):
        found = [(f"[{i}]", v) for i, v in enumerate(x)]
        return found + [(f".{k}", v) for k, v in getattr(x, "__dict__", {}).items()]
    if isinstance(x, set):
        return [("{}", v) for v in sorted(x, key=repr)]
    if isinstance(x, np.ndarray):
        flat = x.reshape(-1).tolist()
        return [("shape", str(x.shape)), *((f"[{i}]", v) for i, v in enumerate(flat))]
    if isinstance(x, bytearray):
        return [("bytes", bytes(x))]
    if isinstance(x, types.FunctionType):
        return [(f"<{i}>", c.cell_contents) for i, c in enumerate(x.__closure__ or ())]
    found = [(f".{k}", v) for k, v in getattr(x, "__dict__", {}).items()]
    for slot in getattr(type(x), "__slots__", ()):
        if slot != "__weakref__" and hasattr(x, slot):
            found.append((f".{slot}", getattr(x, slot)))
    return found
