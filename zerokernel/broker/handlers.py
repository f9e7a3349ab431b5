"""The routes: REST for commands, one WebSocket a session for requests and events.

Every byte that arrives is hostile until it is checked: token, Host and Origin first.
"""

from __future__ import annotations

import asyncio
import json
import logging
from typing import Any
from urllib.parse import urlsplit

from tornado import web, websocket

from zerokernel.broker.access import Access
from zerokernel.broker.dispatch import Broker
from zerokernel.broker.identity import Identity, User
from zerokernel.client.closing import DONE, CloseCode
from zerokernel.errors import (
    LedgerUnavailable,
    MalformedMessage,
    ProtocolMismatch,
    WorkerStartFailed,
)
from zerokernel.messages import (
    Message,
    OpenSession,
    WorkerGone,
    check_protocol,
    decode,
    decode_as,
    encode,
)

log = logging.getLogger("zerokernel.broker")

MAX_MESSAGE = 1 << 20
"""Bytes of a request's body or a WebSocket message."""
OPENING_SECONDS = 10.0
"""A connection that did not open its session by then is closed."""
NO_TOKEN = (
    "a valid token is required: this one is unknown or has expired; the broker's administrator "
    "gives a new one (`zerokernel user token NAME`)"
)
"""The only thing that somebody without a token is told."""
TOKEN_ENDED = "Your token for the broker has ended. Ask its administrator for a new one."


class Guarded(web.RequestHandler):
    """Checks token, Host and Origin before anything else; every route descends from it."""

    user: User

    def initialize(self, broker: Broker, identity: Identity, access: Access) -> None:
        """Takes what the routes were made with."""
        self.broker = broker
        self.identity = identity
        self.access = access

    def prepare(self) -> None:
        """Raises HTTPError 403 for a foreign Host or Origin, 401 without a valid token."""
        # A page of a foreign name that resolves to loopback (DNS rebinding) has that name here.
        if not self.access.is_host(_hostname(f"//{self.request.host}")):
            raise web.HTTPError(403, "the Host is not this machine")
        origin = self.request.headers.get("Origin")
        if origin is not None and urlsplit(origin).netloc != self.request.host:
            raise web.HTTPError(403, "the Origin is not the broker's own")
        user = self.caller()
        if user is None:
            raise web.HTTPError(401, NO_TOKEN)
        self.user = user

    def caller(self) -> User | None:
        """Gives who the token says that this is, as of now."""
        scheme, _, token = self.request.headers.get("Authorization", "").partition(" ")
        return self.identity.of_token(token) if scheme.lower() == "token" else None

    def set_default_headers(self) -> None:
        """Answers are data, for nobody's cache."""
        self.clear_header("Server")
        self.set_header("Cache-Control", "no-store")
        self.set_header("X-Content-Type-Options", "nosniff")

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Answers with a reason in JSON, never with a traceback."""
        error = kwargs.get("exc_info", (None, None, None))[1]
        reason = getattr(error, "log_message", None) or self._reason
        self.finish({"error": reason})

    def log_exception(self, typ: Any, value: Any, tb: Any) -> None:
        """Logs what is ours; a refused caller is not."""
        if not isinstance(value, web.HTTPError):
            log.error("a request failed", exc_info=(typ, value, tb))


class Missing(Guarded):
    """Any other path."""

    def prepare(self) -> None:
        """Raises HTTPError 404 for those who have a token."""
        super().prepare()
        raise web.HTTPError(404, "there is no such path")


class Status(Guarded):
    """GET: slices, queue, sessions."""

    def get(self) -> None:
        """Answers with what the caller may see of the snapshot."""
        status = self.access.visible(self.broker.status(), self.user)
        self.finish(json.dumps(status | {"allowance": self.broker.allowance(self.user.name)}))


class Usage(Guarded):
    """GET: the caller's books."""

    def get(self) -> None:
        """Answers with sums and the last leases, in milliseconds; 503 while they are away."""
        try:
            usage = self.broker.usage(self.user.name)
        except LedgerUnavailable as error:
            raise web.HTTPError(503, str(error).replace("%", "%%")) from error
        self.finish(json.dumps(usage))


class Cancel(Guarded):
    """POST: cancels a waiting request or releases its lease."""

    def post(self, request: str) -> None:
        """Answers 404 where the caller has no such request."""
        if not self.broker.cancel(request, self.user.name):
            raise web.HTTPError(404, "there is no such request")
        self.finish({})


class EndSessionWorker(Guarded):
    """POST: ends a session's worker."""

    def post(self, session: str) -> None:
        """Answers 404 where the caller has no such session."""
        if not self.broker.end_worker(session, self.user.name):
            raise web.HTTPError(404, "there is no such session")
        self.finish({})


class Stop(Guarded):
    """POST: ends the broker and all workers."""

    def post(self) -> None:
        """Answers, then ends; 403 for those who are no administrators."""
        if not self.user.admin:
            raise web.HTTPError(403, "only an administrator ends a broker that others use too")
        log.info("%s ends the broker", self.user.name)
        self.finish({})
        asyncio.get_running_loop().call_soon(self.broker.on_shutdown)


class Events(Guarded, websocket.WebSocketHandler):
    """The WebSocket of a session. The first message is OpenSession."""

    def initialize(self, broker: Broker, identity: Identity, access: Access) -> None:
        """Starts without a session."""
        super().initialize(broker, identity, access)
        self._session = ""
        self._opening: asyncio.Task[None] | None = None

    def check_origin(self, origin: str) -> bool:
        """`prepare` has checked it already."""
        return True

    def get_compression_options(self) -> None:
        """No compression: messages are small and wait for nothing."""

    def open(self, *args: str, **kwargs: str) -> None:
        """Waits a bounded time for OpenSession."""
        self.set_nodelay(True)
        loop = asyncio.get_running_loop()
        self._timeout = loop.call_later(OPENING_SECONDS, self._opens_too_late)

    def on_message(self, message: str | bytes) -> None:
        """Takes one message; a malformed one ends this connection and nothing else."""
        try:
            if self.caller() is None:  # removed meanwhile, or the token has expired
                self.end(CloseCode.REFUSED, TOKEN_ENDED)
            elif self._session:
                self._take(decode(message))
            else:
                self._open_session(message)
        except ProtocolMismatch as error:
            self.end(CloseCode.PROTOCOL, str(error))
        except MalformedMessage as error:
            self.end(CloseCode.MALFORMED, str(error))
        except Exception:
            log.exception("a message could not be handled")
            self.end(CloseCode.FAILED, "The broker failed; its log says why.")

    def on_close(self) -> None:
        """Takes note that the notebook is gone."""
        self._timeout.cancel()
        if self._opening is not None:
            self._opening.cancel()
        if self._session:
            self.broker.disconnect(self._session, self, self.close_code == DONE)

    def tell(self, message: Message) -> None:
        """Sends a message to the notebook."""
        try:
            sent = self.write_message(encode(message))
        except websocket.WebSocketClosedError:
            return  # on_close follows
        # The connection's end is noticed by on_close, not by each message that it stopped.
        sent.add_done_callback(lambda done: done.exception())

    def replaced(self) -> None:
        """Another connection took the session over."""
        self.end(CloseCode.REPLACED, "Another connection took the session over.")

    def ending(self, reason: str = "") -> None:
        """The broker ends on purpose."""
        self.end(CloseCode.ENDING, reason or "The broker was ended.")

    def end(self, code: CloseCode, reason: str) -> None:
        """Closes with a reason, cut to what a close frame holds."""
        self.close(code, reason.encode()[:120].decode(errors="ignore"))

    def _open_session(self, data: str | bytes) -> None:
        check_protocol(_protocol_of(data))
        opening = decode_as(OpenSession, data)
        if not opening.session or len(opening.session) > 64:
            raise MalformedMessage("A session's id has 1 to 64 characters.")
        self._timeout.cancel()
        if self.broker.closing and not self.broker.has_lease(opening.session, self.user.name):
            self.ending(self.broker.closing)
            return
        if not self.broker.connect(opening, self.user, self):
            # As with any id that cannot be had: whose it is, or that it is somebody's, is not told.
            self.end(CloseCode.REFUSED, "A session of this id cannot be opened.")
            return
        self._session = opening.session
        self._opening = asyncio.create_task(self._open_engine(opening))

    async def _open_engine(self, opening: OpenSession) -> None:
        try:
            opened = await self.broker.open_engine(opening, self.user)
        except WorkerStartFailed as error:
            self.tell(WorkerGone(opening.session, "start failed", str(error)))
            self.end(CloseCode.START_FAILED, "The worker could not be started.")
        except Exception:
            log.exception("the engine failed")
            self.end(CloseCode.FAILED, "The broker failed; its log says why.")
        else:
            self.tell(opened)

    def _take(self, message: Message) -> None:
        if not self.broker.said(self._session, message):
            raise MalformedMessage(f"A notebook does not send {type(message).__name__}.")

    def _opens_too_late(self) -> None:
        self.end(CloseCode.MALFORMED, "No session was opened in time.")


def _hostname(url: str) -> str | None:
    try:
        return urlsplit(url).hostname
    except ValueError:
        return None


def _protocol_of(data: str | bytes) -> int:
    """Reads the version before the rest: another version's message may have other fields."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise MalformedMessage(f"A message is not JSON: {error}") from error
    version = body.get("protocol") if isinstance(body, dict) else None
    if not isinstance(version, int):
        raise MalformedMessage("The first message must be OpenSession.")
    return version
