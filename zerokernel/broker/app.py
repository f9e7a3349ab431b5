"""The broker as a tornado application: on loopback, unless a shared one is told otherwise."""

from __future__ import annotations

import ssl
from collections.abc import Sequence

from tornado import httpserver, netutil, web

from zerokernel.broker import handlers
from zerokernel.broker.access import Access
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.identity import Identity

ROUTES: Sequence[tuple[str, str, type[handlers.Guarded]]] = (
    ("GET", r"/v1/status", handlers.Status),
    ("GET", r"/v1/usage", handlers.Usage),
    ("POST", r"/v1/requests/([^/]{1,64})/cancel", handlers.Cancel),
    ("POST", r"/v1/sessions/([^/]{1,64})/end-worker", handlers.EndSessionWorker),
    ("POST", r"/v1/shutdown", handlers.Stop),
    ("GET", r"/v1/events", handlers.Events),
)
"""Method, path and handler of each route."""


def make_application(
    broker: Broker, identity: Identity, access: Access | None = None
) -> web.Application:
    """Gives the application; every route, known or not, requires a token."""
    given = {"broker": broker, "identity": identity, "access": access or Access()}
    return web.Application(
        [(path, handler, given) for _, path, handler in ROUTES],
        default_handler_class=handlers.Missing,
        default_handler_args=given,
        websocket_max_message_size=handlers.MAX_MESSAGE,
        log_function=lambda handler: None,  # a line a request would bury what matters
    )


class Server:
    """The application, listening.

    Args:
        tls: What it serves https by; None for plain http.

    Attributes:
        url: "http://127.0.0.1:PORT".

    Raises OSError where it cannot listen there.
    """

    def __init__(
        self,
        application: web.Application,
        host: str = "127.0.0.1",
        port: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        sockets = netutil.bind_sockets(port, host)
        self._http = httpserver.HTTPServer(
            application,
            ssl_options=tls,
            max_body_size=handlers.MAX_MESSAGE,
            max_buffer_size=2 * handlers.MAX_MESSAGE,
            max_header_size=64 << 10,
        )
        self._http.add_sockets(sockets)
        scheme, name = "http" if tls is None else "https", f"[{host}]" if ":" in host else host
        self.url = f"{scheme}://{name}:{sockets[0].getsockname()[1]}"

    def stop(self) -> None:
        """Stops listening; connections stay."""
        self._http.stop()

    async def close(self) -> None:
        """Stops listening and closes all connections."""
        self._http.stop()
        await self._http.close_all_connections()
