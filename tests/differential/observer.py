"""Describes everything that a plain cell can observe of a namespace. Runs inside a kernel.

``Observer.report`` walks the object graph from the notebook's names and numbers every object
in the order in which it is met, so that two namespaces have the same description exactly
when they are isomorphic: same types, values, aliases and cycles. It also says which of the
objects were there at the previous report, so that an object replaced by an equal copy shows.
The harness loads this file's text into a module that no cell can see by name.
"""

from __future__ import annotations

import collections
import contextlib
import copyreg
import ctypes
import functools
import gc
import hashlib
import inspect
import io
import json
import os
import random
import re
import select
import signal
import sys
import types
import warnings
from typing import Any

LIMIT = 50_000
ADDRESS = re.compile(r"0x[0-9a-fA-F]{5,}")
ATOMS = (type(None), bool, int, float, complex, str, bytes, type(...), type(NotImplemented), range)
HISTORY = re.compile(r"_i+|_i?\d+|_ih|_oh|_dh|In|Out|__warningregistry__")
"""Names that are not told: results are, once, as Out[n]."""
LIBRARIES_OWN = {"TORCHINDUCTOR_CACHE_DIR"}  # torch sets it when some module of it is imported
# What the interpreter, abc and copyreg keep in a class for themselves.
UNTOLD = {"__dict__", "__weakref__", "_abc_impl", "__slotnames__"}
UNTOLD |= {"__firstlineno__", "__static_attributes__"}
UNTOLD |= {"_autograd_function_id"}  # counts what torch has imported of itself by then


class Report:
    """One walk over a graph. ``nodes[i]`` describes the object numbered i."""

    def __init__(self, namespace: dict[str, Any]) -> None:
        self.namespace = namespace
        self.numbers: dict[int, int] = {}
        self.objects: list[Any] = []
        self.paths: list[str] = []
        self.nodes: list[Any] = []
        self.addresses: dict[int, int] = {}

    def walk(self, roots: dict[str, Any]) -> dict[str, Any]:
        described = {name: self.ref(value, name) for name, value in roots.items()}
        sets: list[int] = []
        # The list grows while it is worked through: no recursion, however deep the graph.
        while len(self.nodes) < len(self.objects) or sets:
            if (number := len(self.nodes)) == len(self.objects):
                # A set has no order of its own. When all else is numbered, its members are.
                number = sets.pop(0)
                self.nodes[number] = self._describe(self.objects[number], self.paths[number])
            elif isinstance(self.objects[number], (set, frozenset)):
                self.nodes.append(None)
                sets.append(number)
            else:
                self.nodes.append(self._describe(self.objects[number], self.paths[number]))
        return described

    def ref(self, value: Any, path: str) -> Any:
        """An atom's value, or the number of the object (a new one is put on the list)."""
        if (inline := self._inline(value)) is not None:
            return inline
        number = self.numbers.get(id(value))
        if number is None:
            number = self.numbers[id(value)] = len(self.objects)
            if number > LIMIT:
                raise RuntimeError(f"the graph is too large to compare; now at {path}")
            self.objects.append(value)  # kept alive, so that no id is used twice
            self.paths.append(path if len(path) < 80 else f"…{path[-60:]}")
        return number

    def refs(self, values: Any, path: str) -> list[Any]:
        return [self.ref(value, f"{path}[{i}]") for i, value in enumerate(values)]

    def items(self, pairs: Any, path: str) -> list[Any]:
        return [
            [
                self.ref(key, f"{path} key {shallow(key)}"),
                self.ref(value, f"{path}[{shallow(key)}]"),
            ]
            for key, value in pairs
        ]

    def address(self, pointer: int) -> int:
        """A number for a memory address: equal numbers mean shared memory."""
        return self.addresses.setdefault(pointer, len(self.addresses))

    def _inline(self, value: Any) -> Any:
        kind = type(value)
        if kind is bytes and len(value) > 200:
            return ["bytes", len(value), digest(value)]
        if kind is str and len(value) > 2000:
            return ["str", len(value), digest(value.encode("utf-8", "surrogatepass"))]
        if kind in ATOMS:
            return [kind.__name__, repr(value)]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, (type, types.FunctionType)) and importable(value):
            return ["name", f"{value.__module__}.{value.__qualname__}"]
        if isinstance(value, types.BuiltinFunctionType) and not is_bound(value):
            return ["builtin", f"{value.__module__}.{value.__qualname__}"]
        if kind.__module__ == "numpy" and "numpy" in sys.modules:
            import numpy

            if isinstance(value, numpy.generic) and kind is not numpy.void:
                return [kind.__name__, repr(value)]
        if kind.__module__.startswith("torch") and kind.__name__ in ("dtype", "device", "layout"):
            return [kind.__name__, repr(value)]
        return None

    def _describe(self, value: Any, path: str) -> Any:
        for special in (self._function, self._container, self._array, self._tensor, self._frame):
            if (node := special(value, path)) is not None:
                return node
        return self._instance(value, path)

    # --- functions and classes -----------------------------------------------------------

    def _function(self, value: Any, path: str) -> Any:
        kind = type(value)
        if kind is types.FunctionType:
            return {
                "function": [value.__name__, value.__qualname__, value.__module__, value.__doc__],
                "code": code(value.__code__),
                "notebook's globals": value.__globals__ is self.namespace,
                "defaults": self._defaults(value.__defaults__, f"{path}.__defaults__"),
                "kwdefaults": self.ref(value.__kwdefaults__, f"{path}.__kwdefaults__"),
                "closure": self.refs(value.__closure__ or (), f"{path}.__closure__"),
                "annotations": self.items(value.__annotations__.items(), f"{path}.__annotations__"),
                "dict": self.items(vars(value).items(), path),
            }
        if kind is types.CellType:
            try:
                return {"cell": self.ref(value.cell_contents, f"{path}.cell_contents")}
            except ValueError:
                return {"cell": "empty"}
        if kind in (staticmethod, classmethod):
            return {kind.__name__: self.ref(value.__func__, path)}
        if kind is property:
            return {"property": self.refs((value.fget, value.fset, value.fdel), path)}
        if isinstance(value, (types.MethodType, types.BuiltinFunctionType)):
            # The function of a bound method is found through its class.
            return {
                "method": value.__qualname__,
                "self": self.ref(value.__self__, f"{path}.__self__"),
            }
        if kind is functools._lru_cache_wrapper:
            wrapped = self.ref(value.__wrapped__, f"{path}.__wrapped__")
            return {"lru_cache": wrapped, "parameters": repr(value.cache_parameters())}
        if isinstance(value, functools.partial):
            pieces = self.refs((value.func, value.args, value.keywords), path)
            own = self._attributes(value, path)
            return {"partial": pieces, "dict": own, "type": self.ref(kind, f"type({path})")}
        if isinstance(value, type):
            return self._class(value, path)
        if isinstance(value, (types.GeneratorType, types.CoroutineType, types.AsyncGeneratorType)):
            return {"suspended": kind.__name__, "name": value.__qualname__}
        return None

    def _defaults(self, value: Any, path: str) -> Any:
        """A tuple of atoms is a constant of the code, which is told by its value as well."""
        constant = value is not None and all(type(item) in ATOMS for item in value)
        return self.refs(value, path) if constant else self.ref(value, path)

    def _class(self, value: Any, path: str) -> Any:
        items = [pair for pair in vars(value).items() if pair[0] not in UNTOLD]
        # Where a docstring that is not there stands among the attributes is nobody's business.
        items.sort(key=lambda pair: pair == ("__doc__", None))
        descriptors = (types.GetSetDescriptorType, types.MemberDescriptorType)
        return {
            "class": [value.__module__, value.__qualname__],
            "metaclass": self.ref(type(value), f"type({path})"),
            "bases": self.refs(value.__bases__, f"{path}.__bases__"),
            "slots": [key for key, item in items if isinstance(item, descriptors)],
            "dict": self.items([i for i in items if not isinstance(i[1], descriptors)], path),
        }

    # --- containers and instances --------------------------------------------------------

    def _container(self, value: Any, path: str) -> Any:
        payload = self._payload(value, path)
        if payload is None:
            return None
        if type(value) in (list, tuple, dict, set, frozenset):
            return {type(value).__name__: payload}
        return {
            "type": self.ref(type(value), f"type({path})"),
            "payload": payload,
            "dict": self._attributes(value, path),
            "more": repr(getattr(value, "maxlen", None)),
            "default": self.ref(getattr(value, "default_factory", None), f"{path}.default_factory"),
        }

    def _payload(self, value: Any, path: str) -> Any:
        """The content of a builtin container or a subclass, past what the class overrides."""
        if isinstance(value, list):
            return self.refs(list.__iter__(value), path)
        if isinstance(value, tuple):
            return self.refs(tuple.__iter__(value), path)
        if isinstance(value, collections.OrderedDict):  # the dict below has an order of its own
            return self.items(collections.OrderedDict.items(value), path)
        if isinstance(value, dict):
            return self.items(dict.items(value), path)
        if isinstance(value, (set, frozenset)):
            return self.refs(sorted(value, key=self._rank), path)
        if isinstance(value, bytearray):
            return values(bytes(value))
        return None

    def _rank(self, value: Any) -> tuple[float, str]:
        return self.numbers.get(id(value), float("inf")), shallow(value)

    def _attributes(self, value: Any, path: str, without: str = "") -> Any:
        items = list((getattr(value, "__dict__", None) or {}).items())
        for base in type(value).__mro__:
            slots = base.__dict__.get("__slots__", ())
            for slot in (slots,) if isinstance(slots, str) else slots:
                name = slot if not slot.startswith("__") else f"_{base.__name__.lstrip('_')}{slot}"
                descriptor = base.__dict__.get(name)
                if isinstance(descriptor, types.MemberDescriptorType):
                    try:
                        items.append((slot, descriptor.__get__(value)))
                    except AttributeError:
                        continue
        told = [(str(key), item) for key, item in items if key != (without or None)]
        return [[key, self.ref(item, f"{path}.{key}")] for key, item in told]

    def _instance(self, value: Any, path: str) -> Any:
        kind = type(value)
        node = {"type": self.ref(kind, f"type({path})")}
        if isinstance(value, BaseException):
            node["args"] = self.ref(value.args, f"{path}.args")
            for name in ("__cause__", "__context__", "__suppress_context__"):
                node[name] = self.ref(getattr(value, name), f"{path}.{name}")
        if kind.__module__ == "__main__" or isinstance(value, BaseException):
            return {**node, "attributes": self._attributes(value, path)}
        if isinstance(value, (io.BytesIO, io.StringIO)) and not value.closed:
            content = [self.ref(value.getvalue(), f"{path}.getvalue()"), value.tell()]
            # IPython leaves its own `write` on the stream of a plain %%capture.
            own = self._attributes(value, path, without="write")
            return {**node, "stream": content, "attributes": own}
        reduced = reduce(value)
        if reduced is not None:
            return {
                **node,
                "reduced": reduced if isinstance(reduced, str) else self._pieces(reduced, path),
            }
        if attributes := self._attributes(value, path):
            return {**node, "attributes": attributes}
        return {**node, "repr": object_repr(value)}

    def _pieces(self, reduced: Any, path: str) -> list[Any]:
        padded = (*reduced, *(None,) * (6 - len(reduced)))
        function, arguments, state, elements, items = padded[:5]
        torch = sys.modules.get("torch")
        if torch is not None and function is getattr(torch, "Generator", None):
            function = torch._C.Generator  # whatever stands in its place
        return [
            self.ref(function, f"reduce({path})"),
            self.ref(arguments, f"reduce({path}).args"),
            self.ref(state, f"reduce({path}).state"),
            self.refs(elements or (), path),
            self.items(items or (), path),
        ]

    # --- arrays, tensors, frames ---------------------------------------------------------

    def _array(self, value: Any, path: str) -> Any:
        numpy = sys.modules.get("numpy")
        if numpy is None or not isinstance(value, numpy.ndarray):
            return None
        if not value.nbytes:  # no memory, so nothing to share or to stride over
            return {"empty": [repr(value.dtype), *value.shape], "type": type(value).__name__}
        pointer = value.__array_interface__["data"][0]
        plain = numpy.ndarray.view(value, numpy.ndarray)
        node = {
            "array": self.ref(type(value), f"type({path})"),
            "dtype": repr(value.dtype),
            "shape": list(value.shape),
            "strides": list(value.strides),
            "flags": str(value.flags),
            "memory": self.address(pointer),
            "base": self.ref(base_of(value), f"{path}.base"),
            "dict": self._attributes(value, path),
        }
        if value.dtype.hasobject:
            return {**node, "items": self.refs(plain.ravel().tolist(), path)}
        return {**node, "values": values(plain)}

    def _tensor(self, value: Any, path: str) -> Any:
        torch = sys.modules.get("torch")
        if torch is None or not hasattr(torch, "Tensor"):
            return None
        if isinstance(value, torch.UntypedStorage):
            # Not through .numpy(): that would forbid the cell to resize the storage.
            content = values(ctypes.string_at(value.data_ptr(), value.nbytes()))
            return {
                "storage": value.nbytes(),
                "memory": self.address(value.data_ptr()),
                "values": content,
            }
        if not isinstance(value, torch.Tensor):
            return None
        node = {
            "tensor": self.ref(type(value), f"type({path})"),
            "dtype": [str(value.dtype), str(value.device), str(value.layout)],
            "shape": list(value.shape),
            "requires_grad": [value.requires_grad, value.is_leaf, value.grad_fn is not None],
            "grad": self.ref(value.grad if value.is_leaf else None, f"{path}.grad"),
            "hooks": len(value._backward_hooks or ()),
            "dict": self._attributes(value, path),
        }
        if value.layout != torch.strided:
            return {**node, "dense": value.detach().to_dense().tolist()}
        return {
            **node,
            "stride": [*value.stride(), "from", value.storage_offset()],
            "lazy": [value.is_conj(), value.is_neg()],
            "storage": self.ref(value.untyped_storage(), f"{path}.storage"),
        }

    def _frame(self, value: Any, path: str) -> Any:
        pandas = sys.modules.get("pandas")
        if pandas is None or not isinstance(
            value, (getattr(pandas, "DataFrame", ()), getattr(pandas, "Series", ()))
        ):
            return None
        columns = value.items() if value.ndim == 2 else [(value.name, value)]
        return {
            "pandas": self.ref(type(value), f"type({path})"),
            "index": [
                type(value.index).__name__,
                repr(value.index.tolist()),
                repr(value.index.names),
            ],
            "columns": [
                [repr(name), str(column.dtype), repr(column.tolist())] for name, column in columns
            ],
            "attrs": self.items(value.attrs.items(), f"{path}.attrs"),
        }


# --- small pieces ------------------------------------------------------------------------


def base_of(array: Any) -> Any:
    """The object that owns an array's memory, past the views and tricks that lie between."""
    base, below = None, array.base
    while below is not None:
        base = below
        below = base.obj if isinstance(base, memoryview) else getattr(base, "base", None)
    # A tensor that `.numpy()` made in passing: what counts is whose memory it is.
    return base.untyped_storage() if hasattr(base, "untyped_storage") else base


def digest(data: Any) -> str:
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def values(array: Any) -> Any:
    data = array if isinstance(array, bytes) else array.tobytes()
    return data.hex() if len(data) <= 64 else [len(data), digest(data)]


def importable(value: Any) -> bool:
    if isinstance(value, type) and not value.__flags__ & 1 << 9:
        return True  # a static type of the interpreter, whether it has a name or not
    target = sys.modules.get(value.__module__ or "")
    if target is None or value.__module__ == "__main__":
        return False
    for part in value.__qualname__.split("."):
        target = getattr(target, part, None)
    return target is value


def is_bound(value: Any) -> bool:
    return value.__self__ is not None and not isinstance(value.__self__, types.ModuleType)


def code(value: types.CodeType) -> Any:
    constants = [code(c) if isinstance(c, types.CodeType) else repr(c) for c in value.co_consts]
    names = [value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars]
    return [value.co_name, digest(value.co_code), value.co_flags, constants, *map(list, names)]


def shallow(value: Any) -> str:
    """A sort key that does not depend on where objects lie in memory."""
    if type(value) in ATOMS:
        return f"{type(value).__name__} {value!r}"
    if isinstance(value, (tuple, frozenset)):
        return f"{type(value).__name__} {sorted(map(shallow, value))}"
    return f"{type(value).__module__}.{type(value).__qualname__} {getattr(value, '__name__', '')}"


def object_repr(value: Any) -> str:
    return repr(value) if type(value).__repr__ is not object.__repr__ else "<plain>"


def reduce(value: Any) -> Any:
    """What pickle would store of a library's object, None where that is only its __dict__."""
    kind = type(value)
    if function := copyreg.dispatch_table.get(kind):
        return function(value)
    custom = (
        kind.__reduce_ex__ is not object.__reduce_ex__
        or kind.__reduce__ is not object.__reduce__
        or getattr(kind, "__getstate__", None) is not getattr(object, "__getstate__", None)
    )
    if not custom:
        return None
    try:
        return value.__reduce_ex__(4)
    except Exception as error:  # what cannot be pickled is told by its type alone
        return f"cannot be reduced: {type(error).__name__}"


class Described:
    """Carries a report out of the kernel through a user expression, past every stream."""

    def __init__(self, content: Any) -> None:
        self.content = content

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, Any]:
        return {"text/plain": "a report", "application/json": self.content}


class Observer:
    """Lives in a kernel from its start to its end, beside the notebook's namespace."""

    def __init__(self, shell: Any) -> None:
        self.shell = shell
        self.previous: Report | None = None
        self.start = (os.getcwd(), dict(os.environ), list(sys.path), list(warnings.filters))
        self.modules = set(sys.modules)

    def names(self) -> dict[str, Any]:
        """The notebook's own names, and what it displayed."""
        shell, hidden = self.shell, self.shell.user_ns_hidden
        own = {
            name: value
            for name, value in shell.user_ns.items()
            if hidden.get(name, self) is not value and not HISTORY.fullmatch(name)
        }
        outputs = {f"Out[{number}]": value for number, value in shell.user_ns["_oh"].items()}
        return {**dict(sorted(own.items())), **outputs}

    def report(self, trace: bool, ignore: tuple[str, ...]) -> Described:
        """Describes the namespace now; with ``trace`` also which objects were there before."""
        report = Report(self.shell.user_ns)
        roots = report.walk({n: v for n, v in self.names().items() if n not in ignore})
        before = self.previous.numbers if self.previous else {}
        content = {
            "roots": roots,
            "nodes": report.nodes,
            "paths": report.paths,
            "order": [n for n in self.shell.user_ns if n in roots],
            "before": [before.get(id(value)) for value in report.objects] if trace else [],
            "around": self.around(),
        }
        # Holding the last graph makes its ids unique until the next report.
        self.previous = report if trace else None
        return Described(content)

    def brief(self, trace: bool) -> str:
        """A digest of the report, equal where the reports are."""
        content = json.dumps(self.report(trace, ()).content)
        return digest(ADDRESS.sub("0x", content.replace(self.start[0], "<cwd>")).encode())

    def around(self) -> dict[str, Any]:
        """State around the namespace."""
        _, environment, path, _ = self.start
        now = {k: v for k, v in os.environ.items() if k not in LIBRARIES_OWN}
        changed = {k: v for k, v in now.items() if environment.get(k) != v}
        state: dict[str, Any] = {
            "cwd": os.getcwd(),
            "environ": changed,
            "unset": sorted(set(environment) - set(os.environ)),
            "path": [p for p in sys.path if p not in path],
            "random": digest(repr(random.getstate()).encode()),
            "In": len(self.shell.user_ns["In"]),
            "history": len(self.shell.history_manager.input_hist_raw),
        }
        if numpy := sys.modules.get("numpy"):
            _, keys, *rest = numpy.random.get_state()
            state["numpy random"] = [digest(keys), *map(repr, rest)]
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "get_rng_state"):
            state["torch random"] = digest(torch.get_rng_state().numpy().tobytes())
        return state

    def reset(self) -> None:
        """Makes the kernel as good as new for the next program."""
        self.previous = None
        self.shell.reset(new_session=True)
        cwd, environment, path, filters = self.start
        os.chdir(cwd)
        os.environ.clear()
        os.environ.update(environment)
        sys.path[:] = path
        warnings.filters[:] = filters
        if mutated := getattr(warnings, "_filters_mutated", None):
            mutated()  # else modules keep the verdicts of the old filters
        for name in [n for n in sys.modules if n.startswith("scratch_")]:
            del sys.modules[name]
        self.seed()
        gc.collect()

    def freeze(self) -> None:
        """Sets apart what is here now, so that later collections and wipes are quick."""
        self.shell.history_manager.enabled = False
        gc.collect()
        gc.freeze()
        self.own = set(self.shell.user_ns)

    def wipe(self) -> None:
        """A quick reset, after `freeze`: names, results and random state are as at first."""
        self.previous = None
        namespace = self.shell.user_ns
        for name in [name for name in namespace if name not in self.own]:
            del namespace[name]
        namespace["_oh"].clear()
        display = self.shell.displayhook
        display._ = display.__ = display.___ = ""
        namespace.update(_="", __="", ___="")
        self.seed()

    def seed(self) -> None:
        random.seed(0)
        if numpy := sys.modules.get("numpy"):
            numpy.random.seed(0)
        torch = sys.modules.get("torch")
        if torch is not None and hasattr(torch, "manual_seed"):
            torch.default_generator.manual_seed(0)
            if torch.cuda.is_available():
                torch.cuda.manual_seed_all(0)
        if pyplot := sys.modules.get("matplotlib.pyplot"):
            pyplot.close("all")
            sys.modules["matplotlib"].rcdefaults()


def lose_worker() -> None:
    """Kills the session's idle worker and waits until it is gone."""
    from zerokernel.notebook import extension

    (loaded,) = extension._loaded.values()
    link = loaded.session._connection.link
    if link is not None:
        with contextlib.suppress(ProcessLookupError):
            handle = os.pidfd_open(link.process)
            os.kill(link.process, signal.SIGKILL)
            select.select([handle], [], [])
            os.close(handle)


def sources() -> str:
    return inspect.getsource(sys.modules[__name__])
