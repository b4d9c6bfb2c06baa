"""One HTTP/1.1 client for timed exchanges, on asyncio and httptools: each read gets its time before anything parses it.

Which library it stands on was measured: `benchmarks/http_libraries.py`. What happens on one connection is left to
`monitor.connection`, what the bytes mean to `monitor.stream`. It follows no redirect, logs nothing, and sends again only
what went to a kept connection that the server had closed already.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING
from urllib.parse import SplitResult, quote, urlsplit

from monitor.framing import excerpt
from monitor.secrets import without_secrets
from results.errors import UsageError

if TYPE_CHECKING:
    import ssl

    from monitor.connection import Connection

Clock = Callable[[], float]

MAX_IDLE_S = 4.0
"""Servers close idle connections after five seconds and more; one that dies just as it is used again is an error."""
STALE_WITHIN_S = 0.1
"""For which the end of a connection may be on its way when it is used again."""


@dataclass(frozen=True)
class Endpoint:
    """Where requests go, with the headers that all of them carry (secrets included: never stored, never shown)."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)


@dataclass
class Exchange:
    """One request's raw facts, times of the clock that was passed in."""

    sent: float | None = None
    """When the whole request had been handed to the socket; `None`: there was no connection."""
    connect_s: float | None = None
    """Time to open a connection, when a new one was needed."""
    status: int | None = None
    arrivals: list[tuple[float, bytes]] = field(default_factory=list)
    ended: float | None = None
    error: str | None = None
    """`kind: what happened`, as `results.records.ERROR_KINDS`."""


class Client:
    """Keeps connections to one endpoint and reuses them, the last used first, while they are fresh.

    Args:
        timeout_s: for a whole exchange, connecting included.
        ssl_context: instead of the system's certificates.
        max_idle_s: after which a connection is not used again.

    Raises:
        UsageError: the URL or a header cannot be sent.
    """

    def __init__(
        self, endpoint: Endpoint, clock: Clock, timeout_s: float, *, ssl_context: "ssl.SSLContext | None" = None,
        max_idle_s: float = MAX_IDLE_S,
    ) -> None:  # fmt: skip
        url = _checked(endpoint.url)
        self._clock, self._timeout_s, self._max_idle_s = clock, timeout_s, max_idle_s
        self._address = (url.hostname or "", url.port or (443 if url.scheme == "https" else 80))
        self._ssl = (ssl_context or _system_certificates()) if url.scheme == "https" else None
        self._head = _head(url, endpoint.headers)
        self._headers = endpoint.headers
        self._idle: list[tuple[float, Connection]] = []
        self._connections: set[Connection] = set()

    def render(self, body: bytes) -> bytes:
        """The bytes of a POST with this JSON body, made before its time comes."""
        return b"%sContent-Length: %d\r\n\r\n%s" % (self._head, len(body), body)

    async def exchange(self, request: bytes) -> Exchange:
        """Send rendered bytes and wait for the end of the answer; never raises for what a server does."""
        import asyncio

        loop = asyncio.get_running_loop()
        deadline = loop.time() + self._timeout_s
        kept = self._reusable(loop.time())
        exchange = await self._over(kept, request, Exchange(), deadline) if kept else None
        if exchange is None or _was_stale(exchange):
            if exchange is not None:
                self._max_idle_s = 0.0  # llama.cpp's server promises to keep connections and closes each after its answer
            exchange = Exchange()
            if (fresh := await self._connect(exchange, deadline)) is not None:
                await self._over(fresh, request, exchange, deadline)
        if exchange.status is not None and not 200 <= exchange.status < 300:
            exchange.error = self._refusal(exchange.status, b"".join(data for _, data in exchange.arrivals))
        if exchange.ended is None:
            exchange.ended = self._clock()
        return exchange

    async def _over(self, connection: "Connection", request: bytes, exchange: Exchange, deadline: float) -> Exchange:
        import asyncio

        try:
            await connection.exchange(request, exchange, deadline, self._timeout_s)
        finally:
            if connection.free:
                self._idle.append((asyncio.get_running_loop().time(), connection))
            else:
                self._drop(connection)
        return exchange

    async def close(self) -> None:
        """End all connections; exchanges in flight end as disconnected."""
        connections = list(self._connections)
        self._idle.clear()
        self._connections.clear()
        for connection in connections:
            connection.abort()
        for connection in connections:
            await connection.closed

    def _reusable(self, now: float) -> "Connection | None":
        while self._idle:
            since, connection = self._idle.pop()
            if connection.free and now - since < self._max_idle_s:
                return connection
            self._drop(connection)
        return None

    def _drop(self, connection: "Connection") -> None:
        connection.abort()
        self._connections.discard(connection)

    async def _connect(self, exchange: Exchange, deadline: float) -> "Connection | None":
        import asyncio

        from monitor.connection import Connection, reason

        loop = asyncio.get_running_loop()
        started = self._clock()
        try:
            async with asyncio.timeout_at(deadline) as limit:
                _, connection = await loop.create_connection(lambda: Connection(self._clock), *self._address, ssl=self._ssl)
        except OSError as error:
            late = limit.expired()
            exchange.error = f"timeout: no connection within {self._timeout_s:g} s" if late else f"connect: {reason(error)}"
            return None
        exchange.connect_s = self._clock() - started
        if not connection.free:
            exchange.error = "disconnected: the server closed the connection before the request"
            return None
        self._connections.add(connection)
        return connection

    def _refusal(self, status: int, body: bytes) -> str:
        if 300 <= status < 400:
            return f"http_4xx: {status}, and redirects are not followed: give the address that it leads to"
        text = without_secrets(body[: 64 * 1024].decode(errors="replace"), self._headers)
        return f"{'http_5xx' if status >= 500 else 'http_4xx'}: {status} {excerpt(text)}".rstrip()


def _was_stale(exchange: Exchange) -> bool:
    """Whether a connection that was used before broke so soon and without a byte that the server had closed it already."""
    return (
        exchange.status is None
        and exchange.sent is not None
        and exchange.ended is not None
        and (exchange.error or "").startswith("disconnected")
        and exchange.ended - exchange.sent < STALE_WITHIN_S
    )


def _checked(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
        (parts.hostname or "").encode("idna")
    except ValueError:
        fine = False
    if not fine:
        raise UsageError("A server's URL is no address: write it as http://HOST:PORT/PATH.")
    if parts.username is not None:
        raise UsageError("A server's address must not hold a user name or password: name the environment variable with the key.")
    return parts


def _head(url: SplitResult, headers: Mapping[str, str]) -> bytes:
    """Everything of a request but its length and its body."""
    from importlib.metadata import version

    host = (url.hostname or "").partition("%")[0]
    host = f"[{host}]" if ":" in host else host.encode("idna").decode()
    given = {
        "Host": host if url.port is None else f"{host}:{url.port}",
        "User-Agent": f"gemmeter/{version('gemmeter')}",
        "Accept": "*/*",
        "Accept-Encoding": "identity",
        "Content-Type": "application/json",
    }
    own = {name.lower() for name in headers}
    lines = {name: value for name, value in given.items() if name.lower() not in own} | dict(headers)
    for name, value in lines.items():
        if not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name) or not re.fullmatch(r"[\x20-\x7e]*", value):
            raise UsageError(f"The header {name!r} cannot be sent: only printable ASCII can; check where its value comes from.")
    target = quote(url.path or "/", safe="/%:@!$&'()*+,;=~-._") + (
        f"?{quote(url.query, safe='/?%:@!$&()*+,;=~-._')}" if url.query else ""
    )
    return "".join([f"POST {target} HTTP/1.1\r\n", *(f"{name}: {value}\r\n" for name, value in lines.items())]).encode()


def _system_certificates() -> "ssl.SSLContext":
    import ssl

    return ssl.create_default_context()
