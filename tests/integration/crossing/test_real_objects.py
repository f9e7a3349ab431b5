# ruff: noqa: E501 - programs in a table
"""Objects of the standard library and of the libraries that notebooks use.

Each goes out, is changed there, and must be the same object here, in the state that the
same change made locally gives.
"""

import pytest

ALL = {
    "list": ("x = [1, [2]]", "x[1].append(3); x.insert(0, 'a')", "x"),
    "nested dict": ("x = {'a': {'b': [1]}}", "x['a']['b'].append(2); x['a'] = dict(x['a'])", "x"),
    "set": ("x = {1, 2}", "x.add(3); x.discard(1)", "x"),
    "deque": (
        "from collections import deque; x = deque([1, 2, 3], maxlen=3)",
        "x.append(4); x.rotate(1)",
        "(list(x), x.maxlen)",
    ),
    "Counter": ("from collections import Counter; x = Counter('abca')", "x.update('ab')", "x"),
    "OrderedDict": (
        "from collections import OrderedDict; x = OrderedDict(a=1, b=2)",
        "x.move_to_end('a'); x['c'] = 3",
        "list(x.items())",
    ),
    "OrderedDict and the dict below it": (
        "from collections import OrderedDict; x = OrderedDict(a=1, b=2, c=3)",
        "x.move_to_end('a'); x.pop('b', 0); x['c'] += 1",
        "(list(x.items()), list(dict.items(x)))",
    ),
    "mapping proxy": (
        "from types import MappingProxyType; x = {'a': 1}; p = MappingProxyType(x)",
        "x['b'] = p['a'] + len(p)",
        "(p, x)",
    ),
    "view of a subclass": (
        "import numpy as np\nclass T(np.ndarray): pass\nx = np.arange(6.0).view(T); v = x[1:]",
        "u = x[2:]; u[0] += 5; w = v[::2]",
        "(x.tolist(), u.base is x, v.base is x, w.base is v, u.tolist())",
    ),
    "defaultdict": (
        "from collections import defaultdict; x = defaultdict(list)",
        "x['a'].append(1); x.default_factory = dict; x['b']",
        "(dict(x), x.default_factory)",
    ),
    "bytearray": ("x = bytearray(b'abc')", "x += b'd'; x[0] = 65", "bytes(x)"),
    "array.array": (
        "import array; x = array.array('d', [1, 2])",
        "x.append(3); x[0] = 9",
        "x.tolist()",
    ),
    "BytesIO": (
        "import io; x = io.BytesIO(b'abc')",
        "x.seek(0, 2); x.write(b'd')",
        "(x.getvalue(), x.tell())",
    ),
    "StringIO": (
        "import io; x = io.StringIO('ab')",
        "x.seek(0, 2); x.write('c')",
        "(x.getvalue(), x.tell())",
    ),
    "Random": ("import random; x = random.Random(3)", "x.random()", "x.getstate()"),
    "Generator": (
        "import numpy as np; x = np.random.default_rng(3)",
        "x.normal(size=5)",
        "x.bit_generator.state",
    ),
    "RandomState": (
        "import numpy as np; x = np.random.RandomState(3)",
        "x.normal(size=5)",
        "[str(v) for v in x.get_state()]",
    ),
    "torch.Generator": (
        "import torch; x = torch.Generator().manual_seed(3)",
        "torch.rand(3, generator=x)",
        "x.get_state().tolist()",
    ),
    "dataclass": (
        "from dataclasses import dataclass\n@dataclass\nclass C:\n    a: int\n    b: list\nx = C(1, [2])",
        "x.a += 1; x.b.append(x.a)",
        "(x.a, x.b, repr(x))",
    ),
    "slots": (
        "class C:\n    __slots__ = ('a', 'b')\nx = C(); x.a = [1]",
        "x.b = x.a; del x.a; x.b.append(2)",
        "(x.b, hasattr(x, 'a'))",
    ),
    "slots dataclass": (
        "from dataclasses import dataclass\n@dataclass(slots=True)\nclass C:\n    a: int\nx = C(1)",
        "x.a += 1",
        "repr(x)",
    ),
    "class attribute": (
        "class C:\n    n = 1\n    old = 2\nx = C()",
        "C.n += 1; C.more = [1]; del C.old",
        "(x.n, x.more, hasattr(C, 'old'))",
    ),
    "metaclass": (
        "class M(type):\n    def double(cls): return cls.n * 2\n"
        "class C(metaclass=M):\n    n = 1\nx = C()",
        "C.n = 5; x.v = C.double()",
        "(x.v, type(x).double())",
    ),
    "property and methods": (
        "class C:\n    def __init__(self): self._v = 1\n    @property\n    def v(self): return self._v\n"
        "    @v.setter\n    def v(self, new): self._v = new\n    @classmethod\n    def make(cls): return cls()\n"
        "    @staticmethod\n    def two(): return 2\nx = C()",
        "x.v = x.two() + x.make().v",
        "x.v",
    ),
    "super": (
        "class A:\n    def f(self): return [1]\nclass B(A):\n    def f(self): return super().f() + [2]\nx = B()",
        "x.r = x.f()",
        "(x.r, x.f())",
    ),
    "closure": (
        "def outer():\n    n = 0\n    def x():\n        nonlocal n\n        n += 1\n        return n\n"
        "    def peek(): return n\n    return x, peek\nx, peek = outer()",
        "x(); x()",
        "peek()",
    ),
    "function attributes": (
        "def x(a, b=1, *, c=[]): return a, b, c",
        "x.calls = 3; x.__defaults__ = (7,); x.__kwdefaults__['c'].append(1)",
        "(x(0), x.calls)",
    ),
    "exception": (
        "try:\n    try:\n        1 / 0\n    except Exception as e:\n        raise KeyError('k') from e\n"
        "except Exception as e:\n    x = e.with_traceback(None)",
        "x.add_note('n'); x.more = 1; x.args = ('z',)",
        "(x.args, x.more, x.__notes__, type(x.__cause__), x.__suppress_context__)",
    ),
    "array": (
        "import numpy as np; x = np.arange(12.0).reshape(3, 4)",
        "x[1] *= 2; x.T[0] = -1",
        "x.tolist()",
    ),
    "fortran array": (
        "import numpy as np; x = np.asfortranarray(np.arange(200_000).reshape(2, -1))",
        "x[1] *= 2",
        "(x.sum(), x.flags.f_contiguous)",
    ),
    "structured array": (
        "import numpy as np; x = np.zeros(20_000, [('a', 'i4'), ('b', 'f8', (2,))])",
        "x['a'] = 3; x['b'][1] = 4",
        "(x['a'].sum(), x['b'].sum(), x.dtype)",
    ),
    "datetime array": (
        "import numpy as np; x = np.zeros(3, 'M8[D]')",
        "x[1] = np.datetime64('2020-01-01')",
        "x.astype(str).tolist()",
    ),
    "object array": (
        "import numpy as np; x = np.empty(2, object); x[0] = [1]",
        "x[0].append(2); x[1] = x[0]",
        "(x.tolist(), x[0] is x[1])",
    ),
    "masked array": (
        "import numpy as np; x = np.ma.masked_array([1, 2, 3], [0, 1, 0])",
        "x[0] = 9; x.mask[2] = True",
        "(x.filled(-1).tolist(),)",
    ),
    "matrix": (
        "import numpy as np\nx = np.arange(4.0).reshape(2, 2).view(np.matrix)",
        "x[0, 0] = 9",
        "(x.tolist(), type(x).__name__)",
    ),
    "zero-dimensional array": ("import numpy as np; x = np.array(3.0)", "x[()] = 4", "float(x)"),
    "DataFrame": (
        "import pandas as pd; x = pd.DataFrame({'a': [1, 2], 'b': ['p', 'q']})",
        "x['c'] = x.a * 2; x.loc[0, 'a'] = 7",
        "(x.to_dict(), list(x.columns))",
    ),
    "Series": (
        "import pandas as pd; x = pd.Series([1, 2], name='s')",
        "x.iloc[0] = 9; x.loc[5] = 1",
        "(x.to_dict(), x.name)",
    ),
    "sklearn pipeline": (
        "from sklearn.pipeline import make_pipeline\nfrom sklearn.preprocessing import StandardScaler\n"
        "from sklearn.linear_model import LogisticRegression\n"
        "x = make_pipeline(StandardScaler(), LogisticRegression())\nscaler = x[0]",
        "x.fit([[0.0], [1.0], [2.0]], [0, 0, 1])",
        "(x.predict([[0.0], [3.0]]).tolist(), scaler.mean_.tolist(), x[0] is scaler)",
    ),
    "random forest": (
        "from sklearn.ensemble import RandomForestClassifier\n"
        "x = RandomForestClassifier(3, random_state=0)",
        "x.fit([[0.0], [1.0], [2.0], [3.0]], [0, 0, 1, 1])",
        "x.predict_proba([[0.0], [3.0]]).tolist()",
    ),
    "sparse matrix": (
        "import scipy.sparse as sp; x = sp.csr_array([[0, 1], [2, 0]])",
        "x.data[0] = 9",
        "x.toarray().tolist()",
    ),
    "LSTM": (
        "import torch; torch.manual_seed(0); x = torch.nn.LSTM(2, 3)",
        "with torch.no_grad(): x.weight_ih_l0.add_(1)\nx.eval()",
        "(x.weight_ih_l0.tolist(), x.training, x(torch.ones(1, 1, 2))[0].tolist())",
    ),
    "batch norm": (
        "import torch; x = torch.nn.BatchNorm1d(2)",
        "x(torch.arange(8.0).reshape(4, 2))",
        "(x.running_mean.tolist(), x.num_batches_tracked.item())",
    ),
    "SGD": (
        "import torch\np = torch.nn.Parameter(torch.ones(2))\nx = torch.optim.SGD([p], lr=0.1, momentum=0.9)",
        "p.sum().backward(); x.step(); x.param_groups[0]['lr'] = 0.5",
        "(p.tolist(), x.param_groups[0]['lr'], x.state[p]['momentum_buffer'].tolist())",
    ),
    "tensor geometry": (
        "import torch; x = torch.arange(6.0)",
        "x.resize_(2, 3); x.t_(); x.requires_grad_()",
        "(x.tolist(), x.requires_grad)",
    ),
    "tensor data": ("import torch; x = torch.ones(3)", "x.data = torch.zeros(2)", "x.tolist()"),
    "array of a subclass": (
        "import numpy as np\nclass T(np.ndarray):\n"
        "    def __array_finalize__(self, o): self.tag = getattr(o, 'tag', None)\n"
        "x = np.arange(3.0).view(T); x.tag = ['mine']",
        "x[0] += 10; x.tag.append('gpu'); u = x[1:]; u[0] = 7",
        "(x.tolist(), x.tag, type(u).__name__, u.tag is x.tag, u.base is not None)",
    ),
    "large array of a subclass": (
        "import numpy as np\nclass T(np.ndarray): pass\n"
        "x = np.arange(30_000.0).view(T) * 2; x.tag = 1; owns = x.flags.owndata",
        "x[5] += 1; x.tag += 1; owns = x.flags.owndata",
        "(x.sum(), x.tag, owns, type(x).__name__)",
    ),
    "masked array with a shared mask": (
        "import numpy as np; x = np.ma.array([1.0, 2, 3], mask=[0, 1, 0])",
        "x[0] = 100; x.mask[2] = True; mean = x.mean()",
        "(x.tolist(), mean, x.mask.tolist())",
    ),
    "record array over a structured one": (
        "import numpy as np; s = np.zeros(3, [('a', 'f4'), ('n', 'U3')]); x = s.view(np.recarray)",
        "x.a[1] = 5; s['n'][0] = 'z'",
        "(s.tolist(), x.n.tolist(), type(x).__name__, np.shares_memory(x, s))",
    ),
    "empty view": (
        "import numpy as np; x = np.empty((0, 3)); e = x.reshape(3, 0)",
        "f = e.T",
        "(e.strides, e.shape, f.strides, e.base is x)",
    ),
    "strided window": (
        "import numpy as np; x = np.arange(6)",
        "w = np.lib.stride_tricks.as_strided(x, (2, 2), (16, 8)); w[1, 0] = 9",
        "(w.tolist(), x.tolist(), type(w.base).__name__, w.base.base is x)",
    ),
    "tensor over an array": (
        "import numpy as np, torch; n = np.zeros(4); x = torch.from_numpy(n); part = torch.from_numpy(n[2:])",
        "n[0] += 1; x[1] += 2; part[1] += 3; m = x.numpy()",
        "(n.tolist(), x.tolist(), part.tolist(), m.tolist(), type(m.base).__name__)",
    ),
    "tensor over a large array": (
        "import numpy as np, torch; n = np.zeros(40_000); a = torch.from_numpy(n); x = a",
        "n[0] += 1; a[1] += 2; x[7] = 1",
        "(n.sum(), a.sum(), float(n[1]))",
    ),
    "tensor resized": (
        "import torch; x = torch.zeros(2); m = torch.zeros(50_000)",
        "x.resize_(x.numel() + 2).fill_(2); m.resize_(m.numel() + 5).fill_(1)",
        "(x.tolist(), m.sum().item())",
    ),
    "frame in place": (
        "import pandas as pd; x = pd.DataFrame({'a': [1, 2, 3], 'b': list('xyz')}); y = [x]",
        "x['c'] = x['a'] * 2.5; x.loc[1, 'a'] += 10\nimport warnings\nwith warnings.catch_warnings():\n"
        "    warnings.simplefilter('ignore'); x.drop(columns='b', inplace=True, errors='ignore')",
        "(y[0].to_dict(), x.columns.tolist(), x.dtypes.tolist())",
    ),
    "frame sorted and grown in place": (
        "import pandas as pd; x = pd.DataFrame({'b': [3, 1, 2]}, index=list('pqr')); y = [x]",
        "import warnings\nwith warnings.catch_warnings():\n"
        "    warnings.simplefilter('ignore'); x.sort_values('b', inplace=True)\n"
        "x.index.name = 'i'; x.loc['s'] = len(x)",
        "(y[0].to_dict(), x.index.name, x.index.tolist())",
    ),
    "frame copied on write": (
        "import pandas as pd; x = pd.DataFrame({'a': [1, 2, 3]}); col = x['a']; sub = x[:2]",
        "x.iloc[0, 0] += 99; sub2 = sub",
        "(x.to_dict(), col.tolist(), sub.to_dict())",
    ),
    "series in place": (
        "import pandas as pd; x = pd.Series([1, 2], index=['a', 'b'], name='s'); y = [x]",
        "x['b'] += 20; x.loc['d'] = 4; x.name = 't'",
        "(y[0].to_dict(), x.name)",
    ),
    "SimpleNamespace": (
        "from types import SimpleNamespace; x = SimpleNamespace(a=1, b=[2])",
        "x.b.append(x.a); x.a += 1; x.c = x; del x.c; x.d = 1",
        "x",
    ),
    "list iterator": ("x = iter([1, 2, 3])", "next(x)", "x.__reduce__()"),
    "exhausted iterator": ("x = iter((1, 2))", "list(x)", "list(x)"),
    "dict iterator": (
        "d = {'a': 1, 'b': 2, 'c': 3}; x = iter(d.items())",
        "next(x)",
        "x.__length_hint__()",
    ),
    "range iterator": ("x = iter(range(9))", "next(x); next(x)", "x.__length_hint__()"),
    "reversed list": ("x = reversed([1, 2, 3])", "next(x)", "x.__reduce__()"),
    "itertools.count": ("import itertools; x = itertools.count(3, 2)", "next(x); next(x)", "x"),
    "zip of iterators": ("i = iter([1, 2, 3]); x = zip(i, i)", "next(x)", "i.__reduce__()"),
    "image drawn on": (
        "from PIL import Image; x = Image.new('L', (2, 2), 7)",
        "x.putpixel((1, 1), x.getpixel((1, 1)) + 1)",
        "x.tobytes()",
    ),
    "a reduce of its own": (
        "class C:\n    def __init__(self, a): self.a = a\n"
        "    def __reduce__(self): return (C, (self.a,))\nx = C([1])",
        "x.a.append(2); x.a = x.a + [3]",
        "x.a",
    ),
    "class of an instance": (
        "class A:\n    z = 1\nclass B:\n    z = 2\nx = A(); x.v = [1]",
        "x.__class__ = B if type(x) is A else A; x.v.append(x.z); x.w = 1",
        "(type(x).__name__, vars(x))",
    ),
    "class of one of many": (
        "class A: pass\nclass B: pass\nmany = [A() for _ in range(5)]; x = many[2]",
        "x.__class__ = B; many[3].v = 1",
        "([type(m).__name__ for m in many], vars(many[3]))",
    ),
    **{
        f"position of {name}": (
            "import itertools, array; from collections import OrderedDict as O\n"
            f"x = {made}; y = [x]; next(x)",
            "a = next(x)",
            "a",
        )
        for name, made in {
            "enumerate": "enumerate('abcd')",
            "reversed": "reversed((1, 2, 3, 4))",
            "chain": "itertools.chain([1, 2], [3, 4])",
            "cycle": "itertools.cycle([1, 2, 3])",
            "repeat": "itertools.repeat(1, 4)",
            "islice": "itertools.islice(range(9), 4)",
            "accumulate": "itertools.accumulate([1, 2, 3, 4])",
            "product": "itertools.product('ab', 'cd')",
            "combinations": "itertools.combinations('abcd', 2)",
            "permutations": "itertools.permutations('abc')",
            "takewhile": "itertools.takewhile(bool, [1, 2, 3, 4])",
            "dropwhile": "itertools.dropwhile(lambda v: v < 2, [1, 2, 3, 4, 5])",
            "starmap": "itertools.starmap(pow, [(1, 2), (3, 4), (5, 6), (7, 1)])",
            "zip_longest": "itertools.zip_longest([1, 2, 3, 4], [5])",
            "compress": "itertools.compress('abcd', [1, 1, 1, 1])",
            "tee": "itertools.tee(iter([1, 2, 3, 4]))[0]",
            "an array": "iter(array.array('i', [1, 2, 3, 4]))",
            "an OrderedDict": "iter(O(a=1, b=2, c=3, d=4))",
            "a reversed dict": "reversed(dict(a=1, b=2, c=3, d=4))",
            "nested iterators": "itertools.islice(enumerate(itertools.chain('ab', 'cde')), 4)",
        }.items()
    },
    "two iterators of one tee": (
        "import itertools; x, y = itertools.tee(iter(range(9)))",
        "a = next(x), next(x), next(y)",
        "(a, next(y), next(x))",
    ),
    "subclass of Random": (
        "import random\nclass R(random.Random): pass\nx = R(1); x.t = [1]",
        "x.random(); x.t.append(2); x.u = 3",
        "(x.getstate(), x.t, x.u)",
    ),
    "seeds that were spawned": (
        "import numpy as np; x = np.random.default_rng(0)",
        "kids = x.spawn(2)",
        "(x.bit_generator.seed_seq.n_children_spawned, [k.random() for k in kids])",
    ),
    "decimal context": (
        "import decimal; x = decimal.Context(prec=5)",
        "x.prec += 1; x.divide(decimal.Decimal(1), 3); x.traps[decimal.Inexact] = False",
        "(x.prec, x.flags, x.traps)",
    ),
    "partial": (
        "import functools; x = functools.partial(sorted, [3, 1], reverse=False)",
        "x.keywords['reverse'] = True; x.args[0].append(2); x.mark = 1",
        "(x(), x.mark)",
    ),
    "StringIO with attributes": (
        "import io; x = io.StringIO(newline='')",
        "x.write('a\\r\\nb'); x.mark = ['m']",
        "(x.getvalue(), x.tell(), x.mark)",
    ),
    "elements of a tree": (
        "import xml.etree.ElementTree as E; x = E.fromstring('<a><b/></a>'); b = x[0]; t = E.ElementTree(x)",
        "E.SubElement(x, 'c'); x.set('k', str(len(x))); b.text = 't'; b.tail = 'u'",
        "(E.tostring(t.getroot()), x[0] is b)",
    ),
    "weak dicts": (
        "import weakref\nclass A: pass\na = A(); x = weakref.WeakKeyDictionary({a: 1}); v = weakref.WeakValueDictionary(a=a)",
        "x[a] += 1; v['b'] = a; s = weakref.WeakSet([a])",
        "(list(x.values()), sorted(v), len(s), a in s)",
    ),
    "weak reference to the parent": (
        "import weakref\nclass A: pass\na = A(); x = A(); x.up = weakref.ref(a); a.down = x; p = weakref.proxy(a)",
        "x.up().n = 1; p.m = 2",
        "(a.n, a.m, x.up() is a, x.up is weakref.ref(a))",
    ),
    "cached property": (
        "import functools\nclass A:\n    @functools.cached_property\n    def v(self): return [1]\nx = A()",
        "x.v.append(2)",
        "x.v",
    ),
    "single dispatch": (
        "import functools\n@functools.singledispatch\ndef x(a): return 'any'",
        "@x.register\ndef _(a: int): return 'int'",
        "(x(1), x('a'))",
    ),
    "None in a closure": (
        "def make():\n    last = None\n    def f(v):\n        nonlocal last\n"
        "        before, last = last, v\n        return before\n    return f\nx = make()",
        "got = x(1)",
        "got",
    ),
    "module made by hand": (
        "import types; x = types.ModuleType('byhand'); x.a = [1]",
        "x.a.append(2); x.b = x.a",
        "(x.a, x.b is x.a)",
    ),
    "match": (
        "import re; x = re.compile('a(b)?').search('xxab')",
        "got = x.group(1)",
        "(got, x.span(), x.re)",
    ),
    "instance that answers for all": (
        "class W:\n    def __init__(self, a): self.inner = a\n"
        "    def __getattr__(self, name): return getattr(self.inner, name)\nx = W([1])",
        "x.append(2)",
        "x.inner",
    ),
    "element of a structured array": (
        "import numpy as np; r = np.zeros(3, [('a', int), ('b', float)]); x = r[1]; y = r[1].copy()",
        "x['a'] += 1; y['b'] += 2",
        "(x, r, y)",
    ),
    "parametrised module": (
        "import torch; import torch.nn.utils.parametrizations as P\n"
        "x = torch.nn.Linear(2, 2); torch.nn.init.ones_(x.weight)",
        "import torch.nn.utils.parametrize as Q\nif not Q.is_parametrized(x): P.weight_norm(x)\n"
        "for p in x.parameters(): p.data.add_(1)",
        "(type(x).__name__, x.weight.tolist(), len(list(x.parameters())))",
    ),
    "module without shapes": (
        "import torch; x = torch.nn.LazyLinear(2)",
        "_ = x(torch.ones(1, 3)); torch.nn.init.ones_(x.weight)",
        "(type(x).__name__, type(x.weight).__name__, x.weight.tolist())",
    ),
    "drawing": (
        "from PIL import Image, ImageDraw; i = Image.new('L', (2, 2)); x = ImageDraw.Draw(i)",
        "x.point((0, 0), 9)",
        "i.tobytes()",
    ),
    "figure": (
        "import matplotlib; matplotlib.use('agg'); from matplotlib.figure import Figure\n"
        "x = Figure(); a = x.add_subplot(); line, = a.plot([1, 2])",
        "a.plot([3, 4]); a.set_title('t'); line.set_data([1, 2, 3], [5, 6, 7]); x.canvas.draw()",
        "(len(a.lines), a.get_title(), list(line.get_ydata()), x.axes[0] is a, a.lines[0] is line)",
    ),
    "sparse tensor": (
        "import torch; x = [torch.eye(2).to_sparse()]",
        "x.append(x[0] * 2)",
        "[t.to_dense().tolist() for t in x]",
    ),
}

VALUES = {
    "enum": "import enum\nclass E(enum.Enum):\n    A = 1\nx = [E.A]",
    "namedtuple": "from collections import namedtuple\nN = namedtuple('N', 'a b')\nx = [N(1, [2])]",
    "partial": "from functools import partial\ndef f(a, b): return a + b\nx = [partial(f, 1)]",
    "Path": "import pathlib; x = [pathlib.Path('/a/b')]",
    "datetime": "import datetime; x = [datetime.datetime(2020, 1, 1, tzinfo=datetime.timezone.utc)]",
    "Decimal": "import decimal; x = [decimal.Decimal('1.5')]",
    "pattern": "import re; x = [re.compile('a+')]",
    "bytes": "x = [b'a' * 100_000]",
    "logger": "import logging; x = [logging.getLogger('some.name')]",
    "range and slice": "x = [range(3), slice(1, 2)]",
    "frozenset": "x = [frozenset({1, 2})]",
    "numpy scalar": "import numpy as np; x = [np.float32(1.5), np.dtype('f4')]",
    "torch dtype": "import torch; x = [torch.float16, torch.device('cpu'), torch.Size([1])]",
    "bound method": "class C:\n    def m(self): return 1\nc = C(); x = [c.m, c]",
    "lambda": "x = [lambda a: a + 1]",
    "lru_cache": "import functools\n@functools.lru_cache(5)\ndef f(a): return a + 1\nx = [f]",
    "module": "import math; x = [math]",
    "image": "from PIL import Image; x = [Image.new('L', (2, 2), 7)]",
    "exception group": "x = [ExceptionGroup('g', [ValueError(1)])]",
    "generic alias": "x = [list[int]]",
}


@pytest.mark.parametrize("case", ALL)
def test_change_in_the_worker_lands_in_the_same_object(pair, case):
    """The object keeps its identity and gets the state that the change gives locally, twice."""
    make, change, look = ALL[case]
    local = {"__name__": "__main__"}
    pair.plain(make)
    exec(make, local)
    x = pair.namespace["x"]
    for _ in range(2):
        try:
            exec(change, local)
        except Exception as error:
            with pytest.raises(type(error)):
                pair.cell(change)
        else:
            pair.cell(change)
        assert pair.namespace["x"] is x
        assert repr(eval(look, pair.namespace)) == repr(eval(look, local))


@pytest.mark.parametrize("case", VALUES)
def test_value_keeps_its_identity_when_another_thing_changes(pair, case):
    """What the worker puts back into a list is the notebook's own object, and nothing is said to have changed."""
    pair.plain(VALUES[case])
    pair.plain("y = []")
    x, item = pair.namespace["x"], pair.namespace["x"][0]
    done = pair.cell("y.append(x[0]); x.reverse(); x.append(x[0])")
    assert not pair.shipment.absent
    assert done.notes == ()
    assert done.changed == 2
    assert pair.namespace["y"][0] is item
    assert x[0 if len(x) == 2 else -2] is item
    assert pair.cell("z = 1").changed == 0


def test_series_that_did_not_travel_is_not_written_through_a_frame(pair):
    """A cell that writes to a frame does not change a column that was taken from it before."""
    pair.plain("import pandas as pd; x = pd.DataFrame({'a': [1, 2, 3]}); col = x['a']")
    pair.cell("x.iloc[0, 0] = 99", names=["x"])
    assert pair.namespace["x"]["a"].tolist() == [99, 2, 3]
    assert pair.namespace["col"].tolist() == [1, 2, 3]
    pair.cell("col2 = x['a']", names=["x"])
    pair.plain("x.iloc[1, 0] = 50")
    assert pair.namespace["col2"].tolist() == [99, 2, 3]


def test_what_did_not_change_is_not_sent(pair):
    """Objects of libraries that make their state anew when asked are found unchanged."""
    pair.plain(
        "import io, itertools, numpy as np, pandas as pd; b = io.BytesIO(b'ab'); g = np.random.default_rng(0)\n"
        "d = pd.DataFrame({'a': [1]}); m = pd.MultiIndex.from_product([[1], ['a']])"
    )
    pair.cell("b.write(b'c'); g.random(); d['b'] = d.a * 2; m.names = ['p', 'q']")
    pair.cell("z = 1")
    assert pair.cell("z = 2").changed == 0
