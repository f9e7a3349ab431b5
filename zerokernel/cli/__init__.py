"""The `zerokernel` command."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

import zerokernel
from zerokernel import settings as configuration
from zerokernel.cli import serving, simulate, users
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
    serving.add_commands(commands)
    users.add_commands(commands)
    status = commands.add_parser("status", help="show slices, queue and notebooks")
    status.add_argument("--json", action="store_true", help="print all that is known as JSON")
    status.add_argument("--watch", action="store_true", help="once a second until Ctrl-C")
    status.set_defaults(command=_status)
    doctor = commands.add_parser("doctor", help="show what this machine allows, and what to mend")
    doctor.add_argument("--json", action="store_true", help="print the findings as JSON")
    doctor.set_defaults(command=_doctor)
    simulate.add_commands(commands)
    stop = commands.add_parser("stop", help="end the broker and all workers")
    stop.set_defaults(command=_stop)
    return parser


def _status(settings: Settings, options: argparse.Namespace) -> int:
    from zerokernel.cli import status

    show = status.show_json if options.json else status.show_table
    return status.watch(settings, show) if options.watch else status.once(settings, show)


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
    print(f"The broker at {address.url} ends.")
    return 0
