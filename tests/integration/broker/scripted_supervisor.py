"""Run in place of the forkserver: does what SCRIPT says, to see how the engine takes it."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from pathlib import Path

from zerokernel.messages import Park, SupervisorReady, WorkerForked
from zerokernel.wire import listen


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--address")
    parser.add_argument("--address-file", type=Path)
    options = parser.parse_args()
    script, starts = os.environ["SCRIPT"], Path(os.environ["STARTS"])
    with starts.open("a") as file:
        file.write(f"{os.getpid()}\n")
    first = len(starts.read_text().splitlines()) == 1
    if script == "exit" or (script == "ready, then die for good" and not first):
        sys.exit("the interpreter has no such library")
    if script == "never listen":
        time.sleep(600)
    secret = bytes.fromhex(os.environ["ZEROKERNEL_SUPERVISOR_SECRET"])
    listener = listen(options.address, secret)
    options.address_file.write_text(listener.address)
    channel, _ = listener.accept()
    if script == "wrong greeting":
        channel.send(Park("x"))
        time.sleep(600)
    channel.send(SupervisorReady(os.getpid()))
    channel.send(WorkerForked("s1", 12345))
    if script == "stop reading":
        os.kill(os.getpid(), signal.SIGSTOP)
    while True:  # until the broker leaves
        channel.receive(None)
        if script == "garbage":
            os.write(channel.fileno(), b"x" * 100)


if __name__ == "__main__":
    main()
