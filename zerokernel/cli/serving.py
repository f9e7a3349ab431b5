"""`zerokernel broker`: the one that notebooks start, or one that several people share."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from zerokernel.settings import Settings

if TYPE_CHECKING:
    from zerokernel.broker.service import Service
    from zerokernel.cli.commands import Commands

SHARED_CONFIGURATION = Path("/etc/zerokernel/broker.toml")


def add_commands(commands: Commands) -> None:
    """Adds `broker` to the commands."""
    broker = commands.add_parser("broker", help="run the broker of this person, or a shared one")
    kind = broker.add_mutually_exclusive_group()
    kind.add_argument("--embedded", action="store_true", help="as notebooks start it")
    kind.add_argument(
        "--shared", action="store_true", help=f"for several users, by {SHARED_CONFIGURATION}"
    )
    kind.add_argument("--config", type=Path, metavar="FILE", help="for several users, by FILE")
    broker.add_argument(
        "--check", action="store_true", help="only check the configuration of a shared one"
    )
    broker.set_defaults(command=_broker)


def add_config_option(parser: argparse.ArgumentParser) -> None:
    """Adds the option that names a shared broker's configuration."""
    parser.add_argument(
        "--config",
        type=Path,
        metavar="FILE",
        default=SHARED_CONFIGURATION,
        help="the shared broker's configuration (%(default)s)",
    )


def _broker(settings: Settings, options: argparse.Namespace) -> int:
    visible = os.environ.get("ZEROKERNEL_VISIBLE_DEVICES")
    logging.basicConfig(
        level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", stream=sys.stderr
    )
    if options.shared or options.config or options.check:
        return _serve_shared(options, visible)
    from zerokernel.broker.embedded import serve_embedded

    serve_embedded(settings, visible)
    return 0


def _serve_shared(options: argparse.Namespace, visible: str | None) -> int:
    from zerokernel.broker.service import read_service
    from zerokernel.broker.service.serving import serve_shared

    path: Path = options.config or SHARED_CONFIGURATION
    service = read_service(path)
    if options.check:
        print(f"{path} is understood. {_summary(service)}")
        return 0
    serve_shared(service, visible)
    return 0


def _summary(service: Service) -> str:
    reach = service.reach
    how = "https" if service.has_tls else "http"
    return f"It is for {how} on {reach.address}, port {reach.port}; users: {service.users_file}."
