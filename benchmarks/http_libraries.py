"""What a streamed answer costs in each HTTP library: requests per second of one core against a server that takes no time.

    python benchmarks/http_libraries.py [--requests 2000] [--chunks 17] [--concurrency 8] [--rounds 5]

The server is a process of its own, on another core where that can be had, and sends an answer of so many chunks in one write.
Every client takes the time of each piece that it is given and keeps it, and does nothing else. They take turns. Ours stands
on asyncio and httptools; it is the one by which the others are divided.
"""

import argparse
import asyncio
import gc
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Coroutine

from monitor.http import Client, Endpoint
from monitor.stream import read_answer

BODY = json.dumps({"model": "m", "stream": True, "messages": [{"role": "user", "content": "word " * 100}]}).encode()
TIMEOUT_S = 60.0
Run = Callable[[str, int, int, list[int]], Coroutine[object, object, None]]
"""(url, requests, concurrency, pieces of each request): one turn of a client."""


def answer(chunks: int) -> bytes:
    """A whole response: one event to a chunk, the usage in the last but one."""

    def event(choice: dict[str, object], **more: object) -> bytes:
        said = {"id": "chatcmpl-1", "model": "m", "choices": [{"index": 0, **choice}], **more}
        return b"data: %s\n\n" % json.dumps(said).encode()

    events = [event({"delta": {"content": f" word{number}"}, "finish_reason": None}) for number in range(chunks - 2)]
    events.append(event({"delta": {}, "finish_reason": "length"}, usage={"completion_tokens": chunks - 2}))
    events.append(b"data: [DONE]\n\n")
    framed = b"".join(b"%x\r\n%s\r\n" % (len(one), one) for one in events)
    return b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n" + framed + b"0\r\n\r\n"


class Instant(asyncio.Protocol):
    """Answers every request at once; requests are told apart by their length alone."""

    def __init__(self, response: bytes) -> None:
        self._response, self._received = response, b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        self._received += data
        if len(self._received.partition(b"\r\n\r\n")[2]) >= len(BODY):
            self._received = b""
            self._transport.write(self._response)


async def serve(chunks: int) -> None:
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Instant(answer(chunks)), "127.0.0.1", 0, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()


async def shared_out(requests: int, concurrency: int, one: Callable[[], Awaitable[int]], pieces: list[int]) -> None:
    left = iter(range(requests))

    async def worker() -> None:
        pieces.extend([await one() for _ in left])

    await asyncio.gather(*(worker() for _ in range(concurrency)))


async def ours(url: str, requests: int, concurrency: int, pieces: list[int]) -> None:
    client = Client(Endpoint(url), time.perf_counter, TIMEOUT_S)

    async def one() -> int:
        exchange = await client.exchange(client.render(BODY))
        if exchange.error:
            raise RuntimeError(exchange.error)
        return len(exchange.arrivals)

    await shared_out(requests, concurrency, one, pieces)
    await client.close()


async def with_aiohttp(url: str, requests: int, concurrency: int, pieces: list[int]) -> None:
    import aiohttp

    timeout = aiohttp.ClientTimeout(total=TIMEOUT_S)
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), timeout=timeout, headers=headers) as session:

        async def one() -> int:
            async with session.post(url, data=BODY) as response:
                arrivals = [(time.perf_counter(), data) async for data, _ in response.content.iter_chunks()]
            return len(arrivals)

        await shared_out(requests, concurrency, one, pieces)


async def with_httpx(url: str, requests: int, concurrency: int, pieces: list[int]) -> None:
    import httpx

    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    async with httpx.AsyncClient(limits=limits, timeout=TIMEOUT_S, headers={"Content-Type": "application/json"}) as client:

        async def one() -> int:
            async with client.stream("POST", url, content=BODY) as response:
                arrivals = [(time.perf_counter(), data) async for data in response.aiter_raw()]
            return len(arrivals)

        await shared_out(requests, concurrency, one, pieces)


CLIENTS: dict[str, Run] = {"asyncio + httptools": ours, "aiohttp": with_aiohttp, "httpx": with_httpx}


def installed(names: list[str]) -> list[str]:
    found = []
    for name in names:
        try:
            asyncio.run(CLIENTS[name]("http://127.0.0.1:1/", 0, 1, []))
        except ImportError:
            print(f"{name}: not installed, left out")
        else:
            found.append(name)
    return found


def rate(run: Run, url: str, requests: int, concurrency: int) -> tuple[float, float]:
    """Requests per second, and pieces that one came in."""
    pieces: list[int] = []
    gc.collect()
    start = time.perf_counter()
    asyncio.run(run(url, requests, concurrency, pieces))
    return requests / (time.perf_counter() - start), statistics.mean(pieces)


def reading_us(chunks: int, repeats: int = 300) -> float:
    """Microseconds that reading one event takes, off the timing path."""
    body = [(0.0, line + b"\n") for line in answer(chunks).split(b"\r\n") if line.startswith(b"data:")]
    start = time.perf_counter()
    for _ in range(repeats):
        read_answer(body, "openai-chat")
    return (time.perf_counter() - start) / repeats / chunks * 1e6


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--chunks", type=int, default=17)
    parser.add_argument("--concurrency", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) > 1:
        os.sched_setaffinity(0, {cores[-1] if options.serve else cores[0]})
    if options.serve:
        asyncio.run(serve(options.chunks))
        return
    if len(cores) > 1:
        os.sched_setaffinity(0, set(cores))
    command = [sys.executable, "-P", __file__, "--serve", "--chunks", str(options.chunks)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdin and server.stdout
        url = f"http://127.0.0.1:{int(server.stdout.readline())}/"
        if len(cores) > 1:
            os.sched_setaffinity(0, {cores[0]})
        names = installed(list(CLIENTS))
        rates: dict[str, list[float]] = {name: [] for name in names}
        pieces: dict[str, float] = {}
        for number in range(options.rounds + 1):
            for name in names:
                per_second, pieces[name] = rate(CLIENTS[name], url, options.requests, options.concurrency)
                if number:  # the first round warms up
                    rates[name].append(per_second)
        server.stdin.close()
    own = statistics.median(rates["asyncio + httptools"])
    print(
        f"{options.requests} requests of {options.chunks} chunks, {options.concurrency} at a time, median of {options.rounds} rounds"
    )
    for name in names:
        median = statistics.median(rates[name])
        print(f"{name:20} {median:7.0f} requests/s  ratio {median / own:.3f}  {pieces[name]:.1f} pieces each")
    print(f"reading an answer afterwards: {reading_us(options.chunks):.1f} µs per event")


if __name__ == "__main__":
    main()
