"""The other end of the tests' socket pair: an interpreter that runs cells on a WorkerReplica."""

import os
import pickle
import socket
import sys
import warnings

from zerokernel.crossing import WorkerReplica


def read(stream, size):
    data = bytearray(size)
    view = memoryview(data)
    while view.nbytes:
        got = stream.readinto(view)
        if not got:
            raise EOFError
        view = view[got:]
    return data


def receive(stream):
    return pickle.loads(read(stream, int.from_bytes(read(stream, 8), "big")))


def send(stream, message):
    data = pickle.dumps(message)
    stream.write(len(data).to_bytes(8, "big") + data)
    stream.flush()


def send_shipment(stream, shipment, **more):
    head = {
        "payload": shipment.payload,
        "specs": shipment.specs,
        "absent": shipment.absent,
        "sizes": [view.nbytes for view in shipment.buffers],
        **more,
    }
    send(stream, head)
    for view in shipment.buffers:
        stream.write(view)
    stream.flush()


def fill(stream, views):
    for view in views:
        while view.nbytes:
            view = view[stream.readinto(view) :]


DETECTION = os.environ.get("DETECTION", "auto")


class NeedsFetch(Exception):
    pass


def run(replica, namespace, head, stream):
    error = None
    try:
        for name in head.get("fetch", ()):
            send(stream, {"fetch": name})
            got = receive(stream)
            views = replica.allocate(got["specs"])
            owners = replica.owners
            fill(stream, views)
            replica.absorb(got["payload"], owners)
        exec(compile(head["source"], "<cell>", "exec"), namespace)
    except BaseException as caught:
        error = caught.with_traceback(None)
    extra = {} if error is None else {"error": error}
    if "_result" in namespace:
        extra["result"] = namespace.pop("_result")
    return extra


def main():
    stream = socket.socket(fileno=int(sys.argv[1])).makefile("rwb")
    exec(os.environ.get("PREPARE", ""), {})
    warnings.simplefilter("ignore")
    namespace = {"__name__": "__main__", "__builtins__": __builtins__}
    replica = WorkerReplica(namespace, DETECTION)
    while True:
        head = receive(stream)
        if head.get("end"):
            return
        if head.get("reset"):
            namespace = {"__name__": "__main__", "__builtins__": __builtins__}
            replica = WorkerReplica(namespace, DETECTION)
            continue
        if head.get("committed"):
            replica.returned()
            continue
        views = replica.allocate(head["specs"])
        owners = replica.owners
        fill(stream, views)
        try:
            replica.receive(head["payload"], owners)
            extra = run(replica, namespace, head, stream)
            send_shipment(stream, replica.returns(extra))
        except Exception as caught:
            import traceback

            send(stream, {"failed": f"{caught!r}\n{traceback.format_exc()}"})


if __name__ == "__main__":
    main()
