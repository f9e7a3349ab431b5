import pathlib
import re
import socket
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from second_interpreter import fill, receive, send, send_shipment

from zerokernel.crossing import KernelReplica, allocate


def skip_without_its_libraries(source):
    """Skips a test whose program needs what not every environment has."""
    for library in ("torch", "h5py"):
        if re.search(rf"\b(import|from)\b.*\b{library}\b", source):
            pytest.importorskip(library)


class Pair:
    """A notebook namespace here and a worker in a second interpreter."""

    def __init__(self, detection="auto", prepare=""):
        self._detection = detection
        ours, theirs = socket.socketpair()
        script = pathlib.Path(__file__).with_name("second_interpreter.py")
        root = pathlib.Path(__file__).parents[3]
        self.process = subprocess.Popen(
            [sys.executable, str(script), str(theirs.fileno())],
            pass_fds=[theirs.fileno()],
            cwd=root,
            env={
                "PYTHONPATH": str(root),
                "PATH": "/usr/bin:/bin",
                "OMP_NUM_THREADS": "1",
                "DETECTION": detection,
                "PREPARE": prepare,
            },
        )
        theirs.close()
        self._socket = ours
        self.stream = ours.makefile("rwb")
        self.namespace = {}
        self.reset(tell=False)

    def reset(self, tell=True):
        self.namespace.clear()
        self.namespace["__name__"] = "__main__"
        self.kernel = KernelReplica(self.namespace, detection=self._detection)
        if tell:
            self.reset_worker()

    def reset_worker(self):
        """The worker begins anew, as another process would."""
        send(self.stream, {"reset": True})

    def plain(self, source):
        """Runs a plain cell in the notebook."""
        skip_without_its_libraries(source)
        exec(compile(source, "<plain>", "exec"), self.namespace)
        self.kernel.prune()

    def cell(self, source, names=None, fetch=(), commit=True):
        """Runs a cell in the worker and commits what it did."""
        if names is None:
            names = [name for name in self.namespace if not name.startswith("__")]
        self.shipment = self.kernel.ship(names)
        send_shipment(self.stream, self.shipment, source=source, fetch=list(fetch))
        head = self._answer()
        owners, views = allocate(head["specs"])
        fill(self.stream, views)
        self.returned = head
        self.staged = self.kernel.stage(head["payload"], owners)
        if not commit:
            return None
        committed = self.staged.commit()
        send(self.stream, {"committed": True})
        error = self.staged.extra.get("error")
        if error is not None:
            raise error
        return committed

    def acknowledge(self):
        """Tells the worker that what it returned was committed."""
        send(self.stream, {"committed": True})

    def _answer(self):
        while True:
            head = receive(self.stream)
            if "failed" in head:
                raise AssertionError(head["failed"])
            if "fetch" not in head:
                return head
            send_shipment(self.stream, self.kernel.fetch(head["fetch"]))

    def close(self):
        send(self.stream, {"end": True})
        self.process.wait(timeout=30)
        self.stream.close()
        self._socket.close()


@pytest.fixture(scope="session")
def shared_pair():
    pair = Pair()
    yield pair
    pair.close()


@pytest.fixture(scope="session", params=["hash", "tracking"])
def shared_detecting_pair(request):
    pair = Pair(request.param)
    yield pair
    pair.close()


@pytest.fixture
def detecting_pair(shared_detecting_pair):
    """The same for each way to find changes of buffers."""
    shared_detecting_pair.reset()
    return shared_detecting_pair


@pytest.fixture
def pair(shared_pair):
    """Two interpreters, with empty namespaces."""
    shared_pair.reset()
    return shared_pair
