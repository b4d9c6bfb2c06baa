"""One HTTP/1.1 client for timed exchanges, on asyncio and httptools: each read gets its time before anything parses it.

Which library it stands on was measured: `benchmarks/http_libraries.py`. What the bytes mean is left to `monitor.stream`.
"""

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult

Clock = Callable[[], float]


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
    """Keeps connections to one endpoint and reuses them, the last used first, while they are fresh."""

    def __init__(self, endpoint: Endpoint, clock: Clock, timeout_s: float) -> None:
        raise NotImplementedError

    def render(self, body: bytes) -> bytes:
        """The bytes of a POST with this JSON body, made before its time comes."""
        raise NotImplementedError

    async def exchange(self, request: bytes) -> Exchange:
        """Send rendered bytes and wait for the end of the answer; never raises for what a server does."""
        raise NotImplementedError

    async def close(self) -> None:
        raise NotImplementedError
