"""The `zerokernel` command."""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any

import zerokernel
from zerokernel import settings as configuration
from zerokernel.errors import ZeroKernelError
from zerokernel.settings import Settings


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs a command and gives its exit status: 0, 1 where it failed, 2 for bad usage."""
    options = _parser().parse_args(arguments)
    command: Callable[[Settings, argparse.Namespace], int] = options.command
    try:
        status = command(configuration.load(), options)
        sys.stdout.flush()
        return status
    except BrokenPipeError:  # whoever read the output has seen enough (`| head`)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except ZeroKernelError as error:
        print(f"zerokernel: {error}", file=sys.stderr)
        return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="zerokernel", description="A GPU for notebooks, by the cell."
    )
    parser.add_argument("--version", action="version", version=zerokernel.__version__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    broker = commands.add_parser("broker", help="run the broker of this person and machine")
    broker.add_argument("--embedded", action="store_true", help="as notebooks start it")
    broker.set_defaults(command=_broker)
    status = commands.add_parser("status", help="show slices, queue and notebooks")
    status.add_argument("--json", action="store_true", help="print all that is known as JSON")
    status.set_defaults(command=_status)
    doctor = commands.add_parser("doctor", help="show what this machine allows, and what to mend")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(command=_doctor)
    stop = commands.add_parser("stop", help="end the broker and all workers")
    stop.set_defaults(command=_stop)
    return parser


def _broker(settings: Settings, options: argparse.Namespace) -> int:
    from zerokernel.broker.embedded import serve_embedded

    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    serve_embedded(settings, os.environ.get("ZEROKERNEL_VISIBLE_DEVICES"))
    return 0


def _status(settings: Settings, options: argparse.Namespace) -> int:
    from zerokernel.client import fetch_status, find_broker

    address = find_broker(settings)
    if address is None:
        print("{}" if options.json else "No broker runs; the first notebook starts it.")
        return 0
    status = fetch_status(address)
    print(json.dumps(status, indent=2) if options.json else "\n".join(_lines(status)))
    return 0


def _doctor(settings: Settings, options: argparse.Namespace) -> int:
    from zerokernel.doctor import as_json, as_lines, examine, worst

    findings = examine(settings)
    print(as_json(findings) if options.json else "\n".join(as_lines(findings)))
    return 1 if worst(findings) == "bad" else 0


def _stop(settings: Settings, options: argparse.Namespace) -> int:
    from zerokernel.client import find_broker
    from zerokernel.client.rest import shut_down

    address = find_broker(settings)
    if address is None:
        print("No broker runs.")
        return 0
    shut_down(address)
    print(f"The broker, process {address.pid}, ends.")
    return 0


def _lines(status: dict[str, Any]) -> list[str]:
    lines = [
        f"broker {status['version']}, process {status['pid']}, up {status['uptime']:.0f} s",
        "",
        *_table(("slice", "size", "state", "notebook", "left"), map(_slice_row, status["slices"])),
    ]
    if status["queue"]:
        head = ("place", "notebook", "size", "asks for", "starts in")
        lines += ["", *_table(head, map(_queue_row, status["queue"]))]
    if status["sessions"]:
        lines += ["", *_table(("notebook", "worker"), map(_session_row, status["sessions"]))]
    return lines


def _slice_row(one: dict[str, Any]) -> tuple[str, ...]:
    state = f"{one['state']}: {one['reason']}" if one["reason"] else one["state"]
    left = "" if one["remaining"] is None else f"{one['remaining']:.0f} s"
    return one["display"], one["size"], state, one["session_name"], left


def _queue_row(one: dict[str, Any]) -> tuple[str, ...]:
    start = "" if one["starts_in"] is None else f"{one['starts_in']:.0f} s"
    return str(one["place"]), one["session_name"], one["size"], f"{one['duration']:g} s", start


def _session_row(one: dict[str, Any]) -> tuple[str, ...]:
    worker = one["worker"]
    return one["name"], f"process {worker['process']}, {worker['state']}" if worker else "none"


def _table(head: tuple[str, ...], rows: Any) -> list[str]:
    cells = [head, *rows]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]


if __name__ == "__main__":
    sys.exit(main())
