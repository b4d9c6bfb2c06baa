"""The HTTP client: what goes out, what comes back with which times, and every way in which that fails."""

import asyncio
import itertools
import shutil
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from monitor.connection import Connection
from monitor.http import Client, Endpoint, Exchange
from results.errors import UsageError

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
KEY = "sk-0123456789abcdef"
Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Peer:
    """What a server in this process saw."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []


@asynccontextmanager
async def server(
    answers: Callable[[int], bytes] | bytes, *, hold: bool = False, host: str = "127.0.0.1", **options: object
) -> AsyncIterator[tuple[Peer, int]]:
    """Answers the n-th request of each connection with given bytes, and then closes unless they have a length."""
    peer = Peer()
    handlers = set()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        handlers.add(asyncio.current_task())
        peer.connections += 1
        try:
            for number in itertools.count():
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))[15:])
                peer.requests.append(head + await reader.readexactly(length))
                data = answers if isinstance(answers, bytes) else answers(number)
                writer.write(data)
                if not hold and b"content-length" not in data.lower():
                    break
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    listening = await asyncio.start_server(handle, host, 0, **options)  # type: ignore[arg-type]
    try:
        yield peer, listening.sockets[0].getsockname()[1]
    finally:
        listening.close()
        for task in handlers:
            task.cancel()
        await asyncio.gather(*handlers, return_exceptions=True)


@asynccontextmanager
async def client(port: int, *, timeout_s: float = 5.0, **options: object) -> AsyncIterator[Client]:
    made = Client(Endpoint(f"http://127.0.0.1:{port}/v1/x"), time.perf_counter, timeout_s, **options)  # type: ignore[arg-type]
    try:
        yield made
    finally:
        await made.close()


def one_exchange(answer: bytes, *, timeout_s: float = 5.0, hold: bool = False) -> Exchange:
    async def run() -> Exchange:
        async with server(answer, hold=hold) as (_, port), client(port, timeout_s=timeout_s) as ours:
            return await ours.exchange(ours.render(b"{}"))

    return asyncio.run(run())


def content(exchange: Exchange) -> bytes:
    return b"".join(data for _, data in exchange.arrivals)


def test_the_request_is_what_servers_expect() -> None:
    endpoint = Endpoint("https://[::1]:8443/v1/chat?a=b c", {"Authorization": f"Bearer {KEY}", "accept": "text/event-stream"})
    head, _, body = Client(endpoint, time.perf_counter, 1.0).render(b'{"a": "\xc3\xbc"}').partition(b"\r\n\r\n")
    lines = head.decode().split("\r\n")
    assert lines[0] == "POST /v1/chat?a=b%20c HTTP/1.1"
    assert lines[1] == "Host: [::1]:8443"
    assert lines[2].startswith("User-Agent: gemmeter/")
    assert lines[3:] == [
        "Accept-Encoding: identity", "Content-Type: application/json", f"Authorization: Bearer {KEY}",
        "accept: text/event-stream", "Content-Length: 11",
    ]  # fmt: skip
    assert body == b'{"a": "\xc3\xbc"}'


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://x/", "http://", "http://x:99999/", "http://x:0/", f"http://{'a' * 70}/"]
)
def test_what_is_no_address_is_refused(url: str) -> None:
    with pytest.raises(UsageError, match="is no address"):
        Client(Endpoint(url), time.perf_counter, 1.0)


@pytest.mark.parametrize(
    ("url", "headers"),
    [
        (f"http://user:{KEY}@x/", {}),
        (f"ftp://user:{KEY}@x/", {}),
        (f"ftp://inner/{KEY}", {}),
        ("http://x/", {"A": f"{KEY}\r\nB: c"}),
        ("http://x/", {"A": f"{KEY}é"}),
    ],
)
def test_what_is_refused_does_not_show_its_secrets(url: str, headers: dict[str, str]) -> None:
    with pytest.raises(UsageError) as refused:
        Client(Endpoint(url, headers), time.perf_counter, 1.0)
    assert KEY not in str(refused.value)
    assert KEY not in repr(Endpoint("http://x/", headers))


class FakeTransport:
    """Takes what is written; the clock of these tests stands still between reads."""

    def __init__(self) -> None:
        self.written, self.closing = b"", False

    def set_write_buffer_limits(self, high: int) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0

    def write(self, data: bytes) -> None:
        self.written += data

    def is_closing(self) -> bool:
        return self.closing

    def abort(self) -> None:
        self.closing = True


def fed(reads: list[bytes], *, eof: bool = False) -> tuple[Exchange, Connection]:
    """An exchange whose n-th read comes at the time n."""

    async def run() -> tuple[Exchange, Connection]:
        times = itertools.count()
        connection = Connection(lambda: float(next(times)))
        connection.connection_made(FakeTransport())  # type: ignore[arg-type]
        exchange = Exchange()
        waiting = asyncio.create_task(connection.exchange(b"request", exchange, asyncio.get_running_loop().time() + 60, 60))
        await asyncio.sleep(0)
        for data in reads:
            connection.data_received(data)
        if eof:
            connection.connection_lost(None)
        await waiting
        return exchange, connection

    return asyncio.run(run())


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n4;x=y\r\ndefg\r\n0\r\nTrailer: t\r\n\r\n"


@given(cuts=st.lists(st.integers(0, len(CHUNKED)), max_size=12))
def test_however_the_bytes_come_each_piece_has_the_time_of_its_read(cuts: list[int]) -> None:
    ends = [*sorted(cuts), len(CHUNKED)]
    reads = [CHUNKED[start:end] for start, end in zip([0, *ends], ends, strict=False) if end > start]
    exchange, connection = fed(reads)
    assert (exchange.status, exchange.error, content(exchange), connection.free) == (200, None, b"abcdefg", True)
    read_ends = list(itertools.accumulate(map(len, reads)))
    for letter in b"abcdefg":
        position = CHUNKED.index(bytes([letter]), CHUNKED.index(b"\r\n\r\n"))
        at = next(time for time, data in exchange.arrivals if letter in data)
        assert at == 1 + next(number for number, end in enumerate(read_ends) if end > position)  # 0 is the time of sending


def test_what_comes_after_the_answer_spoils_the_connection_but_not_the_answer() -> None:
    for more in (b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"garbage"):
        exchange, connection = fed([OK + more])
        assert (exchange.error, content(exchange), connection.free) == (None, b"ok", False)


def test_bytes_that_nobody_asked_for_end_the_connection() -> None:
    _, connection = fed([OK])
    assert connection.free
    connection.data_received(OK)
    assert not connection.free


def test_a_spoiled_connection_is_closed() -> None:
    async def run() -> None:
        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"{}")
            writer.write(OK + OK)
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()
            gone.set()

        gone = asyncio.Event()
        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with client(listening.sockets[0].getsockname()[1]) as ours:
            assert (await ours.exchange(ours.render(b"{}"))).error is None
            await asyncio.wait_for(gone.wait(), 5)
        listening.close()

    asyncio.run(run())


def test_provisional_answers_are_passed_over() -> None:
    hints = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nContent-Length: 0\r\n\r\n"
    exchange, _ = fed([hints, OK])
    assert (exchange.status, exchange.error, exchange.arrivals) == (200, None, [(2.0, b"ok")])


def test_an_answer_without_a_length_ends_with_its_connection() -> None:
    exchange, connection = fed([b"HTTP/1.1 200 OK\r\n\r\nab", b"cd"], eof=True)
    assert (exchange.error, exchange.arrivals, connection.free) == (None, [(1.0, b"ab"), (2.0, b"cd")], False)


@pytest.mark.parametrize(
    ("reads", "error"),
    [
        ([], "disconnected: the server closed the connection before its answer"),
        ([b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nab"], "disconnected: the server closed the connection in the middle of its answer"),
        ([CHUNKED[:-8]], "disconnected: the server closed the connection in the middle of its answer"),
        ([b"HTTP/1.1 200 OK\r\nContent-Le"], "disconnected: the server closed the connection before its answer"),
        ([b"HTTP/1.1 100 Continue\r\n\r\n"], "disconnected: the server closed the connection before its answer"),
        ([b"SSH-2.0-OpenSSH\r\n"], "bad_stream: no HTTP: "),
        ([CHUNKED.replace(b"4;x=y", b"zzzz")], "bad_stream: no HTTP: "),
        ([b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n"], "bad_stream: no HTTP: "),
        ([b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx"], "bad_stream: compressed"),
    ],
)  # fmt: skip
def test_a_broken_answer_is_an_error_of_its_kind(reads: list[bytes], error: str) -> None:
    exchange, connection = fed(reads, eof=True)
    assert (exchange.error or "").startswith(error)
    assert not connection.free


def test_what_came_before_the_end_is_kept() -> None:
    exchange, _ = fed([CHUNKED[:-25]], eof=True)
    assert content(exchange) == b"abc"


def test_an_exchange_over_a_socket() -> None:
    before = time.perf_counter()
    exchange = one_exchange(OK)
    assert exchange.error is None and exchange.sent and exchange.connect_s and exchange.ended
    ((at, data),) = exchange.arrivals
    assert data == b"ok"
    assert before < exchange.sent < at <= exchange.ended
    assert 0 < exchange.connect_s < exchange.sent - before


@pytest.mark.parametrize(("status", "kind"), [(404, "http_4xx"), (429, "http_4xx"), (500, "http_5xx"), (503, "http_5xx")])
def test_a_refusal_says_what_the_server_said_without_what_could_harm(status: int, kind: str) -> None:
    said = f'{{"error": "no \x1b[31m\x00 {KEY} \n{"x" * 5000}"}}'.encode()
    answer = b"HTTP/1.1 %d Whatever\r\nContent-Length: %d\r\n\r\n%s" % (status, len(said), said)

    async def run() -> Exchange:
        async with server(answer) as (_, port):
            ours = Client(Endpoint(f"http://127.0.0.1:{port}/", {"Authorization": f"Bearer {KEY}"}), time.perf_counter, 5.0)
            exchange = await ours.exchange(ours.render(b"{}"))
            await ours.close()
            return exchange

    error = asyncio.run(run()).error or ""
    assert error.startswith(f'{kind}: {status} {{"error": "no *** xxx')
    assert len(error) < 250
    assert error.isprintable()


def test_a_refusal_that_never_ends_is_still_a_refusal() -> None:
    exchange = one_exchange(b"HTTP/1.1 500 Oops\r\nContent-Length: 9\r\n\r\nbroken", timeout_s=0.2)
    assert exchange.error == "http_5xx: 500 broken"


def test_redirects_are_not_followed() -> None:
    exchange = one_exchange(b"HTTP/1.1 307 Elsewhere\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n")
    assert exchange.error == "http_4xx: 307, and redirects are not followed: give the address that it leads to"


def test_no_answer_in_time_is_a_timeout_and_keeps_what_came() -> None:
    exchange = one_exchange(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nab", timeout_s=0.2)
    assert exchange.error == "timeout: no end within 0.2 s"
    assert content(exchange) == b"ab"


def test_nobody_there_is_no_connection() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))

        async def run() -> Exchange:
            async with client(unused.getsockname()[1]) as ours:
                return await ours.exchange(ours.render(b"{}"))

        exchange = asyncio.run(run())
    assert (exchange.sent, exchange.error) == (None, "connect: Connection refused")
    assert exchange.ended is not None


def test_the_deadline_covers_connecting() -> None:
    async def run() -> Exchange:
        async with server(OK, hold=True) as (_, port):  # it waits for a request, and never answers the handshake
            ours = Client(Endpoint(f"https://127.0.0.1:{port}/"), time.perf_counter, 0.2)
            exchange = await ours.exchange(ours.render(b"{}"))
            await ours.close()
            return exchange

    exchange = asyncio.run(run())
    assert (exchange.sent, exchange.error) == (None, "timeout: no connection within 0.2 s")


def test_connections_are_kept_and_the_last_used_comes_first() -> None:
    async def run() -> None:
        async with server(OK) as (peer, port), client(port) as ours:
            both = await asyncio.gather(*(ours.exchange(ours.render(b"{}")) for _ in range(2)))
            assert all(exchange.connect_s is not None for exchange in both)
            later = [await ours.exchange(ours.render(b"{}")) for _ in range(5)]
            assert [exchange.connect_s for exchange in later] == [None] * 5
            assert peer.connections == 2
            assert len(peer.requests) == 7

    asyncio.run(run())


def test_idle_and_closed_connections_are_not_used_again() -> None:
    async def run(answer: bytes, max_idle_s: float, pause_s: float) -> int:
        async with server(answer) as (peer, port), client(port, max_idle_s=max_idle_s) as ours:
            for _ in range(3):
                exchange = await ours.exchange(ours.render(b"{}"))
                assert (exchange.error, content(exchange)) == (None, b"ok")
                await asyncio.sleep(pause_s)
            return peer.connections

    assert asyncio.run(run(OK, 4.0, 0.0)) == 1
    assert asyncio.run(run(OK, 0.0, 0.0)) == 3
    assert asyncio.run(run(OK.replace(b"\r\n", b"\r\nConnection: close\r\n", 1), 4.0, 0.0)) == 3
    assert asyncio.run(run(b"HTTP/1.1 200 OK\r\n\r\nok", 4.0, 0.0)) == 3


def test_a_connection_that_the_server_closed_meanwhile_is_replaced() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        writer.write(OK)
        writer.close()

    async def run() -> None:
        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with client(listening.sockets[0].getsockname()[1]) as ours:
            for _ in range(3):
                exchange = await ours.exchange(ours.render(b"{}"))
                assert (exchange.error, exchange.connect_s is None) == (None, False)
                await asyncio.sleep(0.02)
        listening.close()

    asyncio.run(run())


def test_a_cancelled_exchange_closes_its_connection() -> None:
    async def run() -> None:
        gone = asyncio.Event()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await reader.readuntil(b"{}")
            with suppress(ConnectionResetError):
                await reader.read()
            writer.close()
            gone.set()

        listening = await asyncio.start_server(handle, "127.0.0.1", 0)
        async with client(listening.sockets[0].getsockname()[1]) as ours:
            task = asyncio.create_task(ours.exchange(ours.render(b"{}")))
            await asyncio.sleep(0.05)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            await asyncio.wait_for(gone.wait(), 5)
        listening.close()

    asyncio.run(run())


def test_closing_ends_what_is_in_flight() -> None:
    async def run() -> Exchange:
        async with server(b"HTTP/1.1 200 OK\r\n\r\nbegun", hold=True) as (_, port), client(port) as ours:
            task = asyncio.create_task(ours.exchange(ours.render(b"{}")))
            await asyncio.sleep(0.05)
            await ours.close()
            return await task

    exchange = asyncio.run(run())
    assert (exchange.error or "").startswith("disconnected: ")
    assert content(exchange) == b"begun"


def test_sent_is_when_the_last_byte_of_the_request_went() -> None:
    """The request is larger than all buffers between, and the server does not read for a while."""
    pause_s, size = 0.2, 64 * 2**20
    began: list[float] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        began.append(time.perf_counter())
        await asyncio.sleep(pause_s)
        left = size
        while left > 0:
            left -= len(await reader.read(2**20))
        writer.write(OK)
        writer.close()

    async def run() -> Exchange:
        listening = await asyncio.start_server(handle, "127.0.0.1", 0, limit=2**16)
        async with client(listening.sockets[0].getsockname()[1]) as ours:
            exchange = await ours.exchange(ours.render(b"x" * size))
        listening.close()
        return exchange

    exchange = asyncio.run(run())
    assert exchange.error is None and exchange.sent
    assert began[0] + pause_s <= exchange.sent <= exchange.arrivals[0][0]


def test_small_writes_are_not_held_back() -> None:
    async def run() -> int:
        async with server(OK) as (_, port):
            loop = asyncio.get_running_loop()
            transport, _ = await loop.create_connection(lambda: Connection(time.perf_counter), "127.0.0.1", port)
            option = transport.get_extra_info("socket").getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
            transport.abort()
            return int(option)

    assert asyncio.run(run())


def test_ipv6() -> None:
    async def run() -> Exchange:
        async with server(OK, host="::1") as (_, port):
            ours = Client(Endpoint(f"http://[::1]:{port}/"), time.perf_counter, 5.0)
            exchange = await ours.exchange(ours.render(b"{}"))
            await ours.close()
            return exchange

    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    assert asyncio.run(run()).error is None


NEEDS_OPENSSL = pytest.mark.skipif(shutil.which("openssl") is None, reason="needs openssl to make a certificate")


def tls_of(folder: Path) -> tuple[ssl.SSLContext, Path]:
    """What a server with a certificate of its own for 127.0.0.1 needs, and that certificate."""
    key, certificate = folder / "key.pem", folder / "cert.pem"
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"]
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2", *subject]
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    serving = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    serving.load_cert_chain(certificate, key)
    return serving, certificate


@NEEDS_OPENSSL
def test_https_verifies_the_certificate(tmp_path: Path) -> None:
    serving, certificate = tls_of(tmp_path)

    async def run(context: ssl.SSLContext | None, host: str = "127.0.0.1") -> list[Exchange]:
        async with server(OK, ssl=serving) as (_, port):
            ours = Client(Endpoint(f"https://{host}:{port}/"), time.perf_counter, 5.0, ssl_context=context)
            exchanges = [await ours.exchange(ours.render(b"{}")) for _ in range(2)]
            await ours.close()
            return exchanges

    first, second = asyncio.run(run(ssl.create_default_context(cafile=certificate)))
    assert (first.error, content(first), second.error, second.connect_s) == (None, b"ok", None, None)
    unknown, _ = asyncio.run(run(None))
    assert (unknown.error or "").startswith("connect: the certificate cannot be verified: ")
    assert "self" in (unknown.error or "")
    elsewhere, _ = asyncio.run(run(ssl.create_default_context(cafile=certificate), "127.1"))
    assert elsewhere.error == "connect: the certificate cannot be verified: it is for another host"


@NEEDS_OPENSSL
def test_over_tls_sent_is_when_it_went_however_far_the_server_is(tmp_path: Path) -> None:
    """What the server says after the handshake, its session tickets, comes a way later than the request goes."""
    way_s, came, served = 0.1, [], asyncio.Event()
    serving, certificate = tls_of(tmp_path)

    async def forward(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, delay_s: float) -> None:
        loop = asyncio.get_running_loop()
        with suppress(ConnectionError):
            while data := await reader.read(2**16):
                loop.call_later(delay_s, writer.write, data)
        writer.close()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"{}")
        came.append(time.perf_counter())
        await asyncio.sleep(way_s)  # so that the tickets, which are on their way, come well before the answer
        writer.write(OK)
        with suppress(ConnectionError):
            await reader.read()
        writer.close()
        served.set()

    async def run() -> Exchange:
        async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            there, back = await asyncio.open_connection("127.0.0.1", listening.sockets[0].getsockname()[1])
            await asyncio.gather(forward(reader, back, 0), forward(there, writer, way_s))

        listening = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=serving)
        proxy = await asyncio.start_server(relay, "127.0.0.1", 0)
        url, trusting = f"https://127.0.0.1:{proxy.sockets[0].getsockname()[1]}/", ssl.create_default_context(cafile=certificate)
        ours = Client(Endpoint(url), time.perf_counter, 5.0, ssl_context=trusting)
        exchange = await ours.exchange(ours.render(b"{}"))
        await ours.close()
        await served.wait()
        proxy.close()
        listening.close()
        return exchange

    exchange = asyncio.run(run())
    assert exchange.error is None and exchange.sent
    assert exchange.sent <= came[0]


def test_a_connection_that_the_server_had_closed_is_no_error_of_the_request() -> None:
    """As llama.cpp's server does: it promises to keep the connection and closes it right after the answer."""
    opened = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened
        opened += 1
        await reader.readuntil(b"}")
        writer.write(OK)
        writer.close()

    async def run() -> list[str | None]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        client = Client(Endpoint(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/"), time.perf_counter, 5.0)
        errors = [(await client.exchange(client.render(b"{}"))).error for _ in range(50)]
        await client.close()
        server.close()
        return errors

    assert asyncio.run(run()) == [None] * 50
    assert opened in (50, 51)
