"""One connection to a server: request bytes out, (time, bytes) of the answer in. The pool and its limits are left to
`monitor.http`.
"""

import asyncio
import os
import re
import socket
import ssl
from typing import TYPE_CHECKING, cast

from httptools import HttpParserError, HttpParserUpgrade, HttpResponseParser

if TYPE_CHECKING:
    from monitor.http import Clock, Exchange


class Connection(asyncio.Protocol):
    """An open connection; one exchange at a time.

    Attributes:
        closed: done when the connection has ended.
    """

    def __init__(self, clock: "Clock") -> None:
        self._clock = clock
        self._parser: HttpResponseParser | None = HttpResponseParser(self)
        self._exchange: Exchange | None = None
        self._clean = True
        self._writing = False
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    @property
    def free(self) -> bool:
        """Whether it can take another exchange."""
        return self._clean and self._exchange is None and not self._transport.is_closing()

    async def exchange(self, request: bytes, exchange: "Exchange", deadline: float, timeout_s: float) -> None:
        """Fill an exchange; `deadline` is the event loop's time."""
        loop = asyncio.get_running_loop()
        self._exchange, self._done = exchange, loop.create_future()
        self._sized = self._whole = self._interim = self._keep_alive = self._compressed = False
        self._timer = loop.call_at(deadline, self._finish, f"timeout: no end within {timeout_s:g} s")
        # Taken before the call: a server on this machine can have the request before `write` returns. What does not fit into
        # the socket at once goes later, and `resume_writing` takes the time anew.
        exchange.sent = self._clock()
        self._transport.write(request)
        self._writing = self._transport.get_write_buffer_size() > 0
        try:
            await self._done
        except asyncio.CancelledError:
            self._finish("cancelled")
            raise

    def abort(self) -> None:
        self._clean = False
        self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        # Anything that does not fit into the socket at once pauses us, so that `resume_writing` tells when all has gone.
        self._transport.set_write_buffer_limits(high=0)

    def resume_writing(self) -> None:
        # Over TLS it is also called when nothing of ours waited, such as after the server's session ticket.
        if self._writing and self._exchange is not None and self._exchange.status is None:
            self._writing = False
            self._exchange.sent = self._clock()

    def data_received(self, data: bytes) -> None:
        self._read_at = self._clock()
        if self._exchange is None or self._parser is None:
            self.abort()  # bytes that nobody asked for would be taken for the next answer
            return
        try:
            self._parser.feed_data(data)
        except (HttpParserError, HttpParserUpgrade) as error:
            self._clean = False
            if not self._whole:
                self._finish(f"bad_stream: no HTTP: {error}")
        if self._whole:
            self._finish("bad_stream: compressed, though `identity` was asked for" if self._compressed else None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._parser = None  # it holds our methods: a circle that only the garbage collector would break
        if self._exchange is not None:
            begun = self._exchange.status is not None
            if begun and not self._sized and exc is None and self._clean:
                self._finish(None)  # an answer without a length ends with its connection
            where = "in the middle of its answer" if begun else "before its answer"
            self._finish(f"disconnected: {reason(exc) if exc else 'the server closed the connection'} {where}")
        if not self.closed.done():
            self.closed.set_result(None)

    def _finish(self, error: str | None) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is None:
            return
        self._timer.cancel()
        exchange.ended, exchange.error = self._clock(), error
        if error or not self._keep_alive or self._transport.get_write_buffer_size():
            self.abort()
        if not self._done.done():
            self._done.set_result(None)

    # What the parser calls.

    def on_message_begin(self) -> None:
        if self._whole:
            self._clean = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        if name in (b"content-length", b"transfer-encoding"):
            self._sized = True
        elif name == b"content-encoding" and value.lower() != b"identity":
            self._compressed = True

    def on_headers_complete(self) -> None:
        if self._parser is None or self._exchange is None or self._whole:
            return
        status = self._parser.get_status_code()
        self._interim = status < 200
        if not self._interim:
            self._exchange.status = status

    def on_body(self, body: bytes) -> None:
        if self._exchange is not None and not self._whole:
            self._exchange.arrivals.append((self._read_at, body))

    def on_message_complete(self) -> None:
        if self._interim:
            self._sized = False
        elif not self._whole and self._parser is not None:
            self._whole = True
            self._keep_alive = self._parser.should_keep_alive()


def reason(error: Exception) -> str:
    """Why a connection failed, in the system's words and without the address."""
    if isinstance(error, ssl.SSLCertVerificationError):
        # Its own words for a mismatch name the host.
        mismatch = "mismatch" in error.verify_message
        return f"the certificate cannot be verified: {'it is for another host' if mismatch else error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or type(error).__name__}"
    if isinstance(error, socket.gaierror):
        return "the host's name is not known"
    # asyncio puts the address into the message, and several failures into one that has no number.
    number = re.search(r"\[Errno (\d+)\]", str(error))
    return os.strerror(int(number[1])) if number else type(error).__name__
