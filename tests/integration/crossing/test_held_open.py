"""What notebooks hold open: files, connections, archives, writers, and what guards them."""

import pytest

# The programs leave files to Python to close, as notebooks do.
pytestmark = [
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

FILE = "import os; p = 'a.txt'; open(p, 'w').write('one\\ntwo\\nthree\\nfour\\n')\n"
TABLE = "import sqlite3; x = sqlite3.connect('q.db'); x.execute('create table t(a)'); x.commit()\n"
HDF = "import h5py\nwith h5py.File('h.h5', 'w') as f: f['a'] = [1, 2]\n"

CROSSES = {
    "text read": (FILE + "x = open(p); x.readline()", "x.readline()", "(x.tell(), x.mode, x.name)"),
    "ends of lines": (
        "open('b', 'wb').write(b'a\\r\\nb\\r\\nc\\r\\n'); x = open('b', newline='')",
        "line = x.readline()",
        "(line, x.tell())",
    ),
    "text written": (
        FILE + "x = open(p, 'w'); x.write('head\\n')",
        "x.write('gpu\\n')",
        "(x.write('plain\\n'), x.flush(), open(p).read(), x.mode)",
    ),
    "text appended": (
        FILE + "x = open(p, 'a')",
        "x.write('gpu\\n')",
        "(x.write('plain\\n'), x.flush(), open(p).read())",
    ),
    "UTF-16": (
        "x = open('u', 'w', encoding='utf-16'); x.write('a')",
        "x.write('b')",
        "(x.write('c'), x.flush(), open('u', encoding='utf-16').read())",
    ),
    "read and written": (
        FILE + "x = open(p, 'r+b'); x.read(4)",
        "x.seek(0); x.write(b'ZZZZ')",  # where it was, but what was read ahead is out of date
        "(x.tell(), x.seek(0), x.read(), x.seek(4))",
    ),
    "unbuffered": (FILE + "x = open(p, 'rb', buffering=0); x.read(2)", "x.read(1)", "x.tell()"),
    "closed by the cell": (FILE + "x = open(p)", "x.close() if not x.closed else 0", "x.closed"),
    "csv writer": (
        FILE + "import csv; f = open(p, 'w', newline=''); x = csv.writer(f, delimiter=';')",
        "x.writerow([1, 2])",
        "(x.writerow([3, 4]), f.flush(), open(p, newline='').read())",
    ),
    "csv by name": (
        FILE + "import csv; f = open(p, 'w', newline=''); x = csv.DictWriter(f, ['a'])",
        "x.writerow({'a': 2})",
        "(f.flush(), open(p, newline='').read())",
    ),
    "log file": (
        "import logging; x = logging.FileHandler('log')\n"
        "r = logging.LogRecord('a', 20, 'f', 1, 'msg', (), None)",
        "x.emit(r)",
        "(x.emit(r), open('log').read())",
    ),
    "log stream": (
        "import logging, sys; x = logging.StreamHandler(sys.stdout)",
        "x.setLevel(x.level + 10)",
        "(x.level, x.stream is sys.stdout)",
    ),
    "zip file": (
        "import zipfile\nwith zipfile.ZipFile('z.zip', 'w') as z: z.writestr('a', 'b')\n"
        "x = zipfile.ZipFile('z.zip')",
        "got = x.read('a')",
        "(got, x.read('a'))",
    ),
    "tar file": (
        FILE + "import tarfile\nwith tarfile.open('t.tgz', 'w:gz') as t: t.add(p)\n"
        "x = tarfile.open('t.tgz')",
        "got = x.getnames()",
        "(got, x.getnames())",
    ),
    "compressed file": (
        "import gzip\nwith gzip.open('g.gz', 'wb') as g: g.write(b'abcdef')\n"
        "x = gzip.open('g.gz'); x.read(1)",
        "x.read(1)",
        "x.tell()",
    ),
    "SQLite": (
        TABLE + "x.row_factory = sqlite3.Row",
        "x.execute('insert into t values(1)'); x.commit()",
        "(x.execute('select count(*) from t').fetchone()[0], x.row_factory)",
    ),
    "SQLite with types": (
        "import sqlite3, decimal; sqlite3.register_converter('dec', lambda b: len(b))\n"
        "x = sqlite3.connect('d.db', detect_types=sqlite3.PARSE_DECLTYPES)\n"
        "x.execute('create table t(a dec)'); x.execute('insert into t values(12)'); x.commit()",
        "import sqlite3; sqlite3.register_converter('dec', lambda b: len(b))\n"
        "got = x.execute('select a from t').fetchone()",
        "(got, x.in_transaction)",
    ),
    "SQLite closed by the cell": (TABLE, "x.close()", "'closed'"),
    "HDF5": (HDF + "x = h5py.File('h.h5', 'r'); d = x['a']", "g = x['a'][0] + d[1]", "(g, d[0])"),
    "HDF5 closed": (HDF + "x = h5py.File('h.h5', 'r')", "x.close()", "bool(x)"),
    "image not loaded": (
        "from PIL import Image; Image.new('L', (2, 2), 7).save('i.png'); x = Image.open('i.png')",
        "got = x.getpixel((0, 0))",
        "(got, x.getpixel((0, 0)), x.size, x.format)",
    ),
    "temporary directory": (
        "import tempfile, os; x = tempfile.TemporaryDirectory()",
        "open(x.name + '/a', 'w').close()",
        "os.listdir(x.name)",
    ),
    "closed stream": ("import io; x = io.BytesIO(); x.close()", "got = x.closed", "got, x.closed"),
    "stream closed by the cell": ("import io; x = io.StringIO('a')", "x.close()", "x.closed"),
    "lock": ("import threading; x = threading.RLock()", "with x: got = 1", "(got, x._is_owned())"),
    "event": ("import threading; x = threading.Event()", "x.set()", "x.is_set()"),
    "queue": (
        "import queue; x = queue.Queue(); x.put([1])",
        "x.get().append(2); x.put(3); x.put(4)",
        "(list(x.queue), x.unfinished_tasks)",
    ),
    "progress bar that is done": (
        "from tqdm import tqdm; import io; x = tqdm(range(2), file=io.StringIO()); n = list(x)",
        "x.mark = x.n",
        "(x.n, x.mark)",
    ),
}

REFUSED = {
    "iterated file": (FILE + "x = open(p); next(x)", "open it inside the cell"),
    "deleted file": (FILE + "x = open(p); os.unlink(p)", "no name any more"),
    "device": ("x = open('/dev/null')", "open it inside the cell"),
    "temporary file": ("import tempfile; x = tempfile.NamedTemporaryFile()", "use its name"),
    "zip file that is written": (
        "import zipfile; x = zipfile.ZipFile('w.zip', 'w')",
        "close it, and open it inside the cell",
    ),
    "database in memory": ("import sqlite3; x = sqlite3.connect(':memory:')", "in memory"),
    "uncommitted changes": (TABLE + "x.execute('insert into t values(1)')", "commit() them first"),
    "functions of its own": (TABLE + "x.create_function('twice', 1, abs)", "twice"),
    "HDF5 that is written": ("import h5py; x = h5py.File('w.h5', 'w')", "open for writing"),
    "held lock": ("import threading; x = threading.Lock(); x.acquire()", "release it first"),
    "running bar": (
        "from tqdm import tqdm; import io; x = tqdm(total=2, file=io.StringIO())",
        "make it inside the cell",
    ),
}


@pytest.fixture
def twin(pair, tmp_path, monkeypatch):
    """Both interpreters in a directory of their own, with a local namespace to compare with."""
    for place in ("notebook", "local"):
        (tmp_path / place).mkdir()

    def at(place):
        monkeypatch.chdir(tmp_path / place)

    at("notebook")
    pair.cell(f"import os; os.chdir({str(tmp_path / 'notebook')!r})", names=())
    pair.local = {}
    yield pair, at
    for space in (pair.namespace, pair.local):
        close(space)
    pair.cell("import os; os.chdir('/')", names=())


def close(space):
    for name in ("x", "f"):
        item = space.get(name)
        for end in ("close", "cleanup"):
            if hasattr(item, end):
                getattr(item, end)()


@pytest.mark.parametrize("case", CROSSES)
def test_it_goes_on_in_the_cell_and_after_it(twin, case):
    """The same object in both processes: what the cell does to it a plain cell would have done."""
    pair, at = twin
    make, change, look = CROSSES[case]
    pair.plain(make)
    x = pair.namespace["x"]
    local = pair.local = {"__name__": "__main__"}
    at("local")
    exec(make, local)
    exec(change, local)
    expected = repr(eval(look, local))
    at("notebook")
    done = pair.cell(change)
    assert "x" not in pair.shipment.absent
    assert done.notes == ()
    assert pair.namespace["x"] is x
    assert repr(eval(look, pair.namespace)) == expected


@pytest.mark.parametrize("case", REFUSED)
def test_it_is_refused_with_a_remedy(twin, case):
    """The message says what to do, and the notebook's object is as it was."""
    pair, _ = twin
    make, remedy = REFUSED[case]
    pair.local = {}
    pair.plain(make)
    with pytest.raises(NameError):
        pair.cell("x", names=["x"])
    assert remedy in pair.shipment.absent["x"]
    if hasattr(pair.namespace["x"], "rollback"):
        pair.namespace["x"].rollback()


def test_a_lock_that_the_cell_keeps_is_listed(pair):
    """It cannot come home held: the receipt names it, and the notebook's name stays."""
    pair.plain("import threading; x = threading.Lock()")
    done = pair.cell("x.acquire()")
    assert "release it first" in done.worker_only["x"]
    assert not pair.namespace["x"].locked()
    assert pair.cell("x.release()").worker_only == {}


def test_a_change_that_stays_in_the_worker_keeps_the_name(pair):
    """A name whose object changed and cannot return is still bound in the notebook."""
    pair.plain("class C: pass\nx = C(); y = [x]")
    pair.cell("x.g = (i for i in 'ab')")
    assert pair.namespace["x"] is pair.namespace["y"][0]
    assert vars(pair.namespace["x"]) == {}


def test_a_temporary_directory_made_in_the_worker_is_the_notebooks(pair):
    """It is there after the worker's own object died, and goes with the notebook's."""
    pair.cell("import tempfile; x = tempfile.TemporaryDirectory()")
    name = pair.namespace["x"].name
    pair.namespace["made"] = __import__("os").path.isdir(name)
    pair.namespace["x"].cleanup()
    assert pair.namespace["made"]
    assert not __import__("os").path.exists(name)


def test_a_summary_writer_writes_events_of_the_cell(pair, tmp_path):
    """Its own file in the same directory has what the cell wrote, when the cell is over."""
    pytest.importorskip("torch")
    pytest.importorskip("tensorboard")
    make = "from torch.utils.tensorboard import SummaryWriter; x = SummaryWriter({!r})"
    pair.plain(make.format(str(tmp_path)))
    pair.cell("x.add_scalar('loss', 1.5, 3)")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(tmp_path)).Reload().Scalars("loss")
    assert [(event.step, event.value) for event in events] == [(3, 1.5)]
    pair.namespace["x"].close()
