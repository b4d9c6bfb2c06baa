"""A server that streams known tokens at known times, as the request's script says, and tells when it wrote what.

In a test:

    with GoldenServer() as server:
        ...  # POST `body(Script(id="a", tokens=8))` to server.chat_url
        record = server.records()["a"]

A script stands in the request's JSON as `golden`, or in the model's name as `golden?tokens=8&ttft_s=0.05`. Times are those of
`perf_counter`, which all processes of a machine share; a write's time is taken just before it, so no reader can be earlier.
"""

import asyncio
import gc
import json
import random
import ssl
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

WORDS = ("grüße", "日本", "🙂", "plain", "naïve", "x", "emoji👩‍💻", "кот")


@dataclass(frozen=True)
class Script:
    """What one answer does. Tokens are numbered from 0."""

    id: str = ""
    tokens: int = 8
    prompt_tokens: int = 7
    ttft_s: float = 0.0
    tpot_s: float = 0.0
    sigma: float = 0.0
    """Of the log-normal jitter on each gap, whose mean stays `tpot_s`."""
    seed: int = 0
    role_first: bool = True
    """An empty chunk at once, before the first token (chat only)."""
    reasoning: int = 0
    """So many of the tokens are thought, not said."""
    hidden: int = 0
    """So many more are thought before them and only counted, never sent."""
    unseen: int = 0
    """So many tokens at the end have no text, as those after an ignored end of sequence."""
    per_event: int = 1
    usage: str = "end"
    """`end`, `each`, `finish` (with the last chunk), `none`, `wrong`, `broken`."""
    finish: str | None = "length"
    eos: bool = False
    """The usage counts one more at the end, which has no event."""
    done: bool = True
    piece_bytes: int = 0
    """An event is written in pieces of this size, also through characters."""
    piece_gap_s: float = 0.002
    padding: int = 0
    """Bytes that make each event's line longer."""
    line_end: str = "\n"
    pings: bool = False
    chunked: bool = True
    """Else the answer ends with its connection."""
    head_after_s: float = 0.0
    """Slow start: not even the status line comes before."""
    stall_at: int = -1
    """The token before which nothing comes for `stall_s`."""
    stall_s: float = 0.0
    status: int = 200
    fault_at: int = -1
    """The token instead of which the fault comes: `cut` (the connection ends), `end` (the answer ends as if whole),
    `garbage`, `error` (an error event, then the end) or `silence` (nothing more, for ever)."""
    fault: str = ""


def body(script: Script, **more: Any) -> bytes:
    return json.dumps({"model": "golden", "stream": True, "golden": asdict(script)} | more).encode()


def token_text(number: int) -> str:
    return f" {WORDS[number % len(WORDS)]}{number}"


def golden_text(script: Script) -> str:
    """What an answer without a fault says."""
    return "".join(token_text(number) for number in range(script.reasoning, script.tokens - script.unseen))


def count_tokens(text: str) -> int:
    """The tokenizer of the golden tokens."""
    return text.count(" ")


@dataclass(frozen=True)
class Write:
    at_s: float
    """After the request had come."""
    data: bytes
    tokens: int = 0
    """That this write completes."""


def writes_of(script: Script, chat: bool) -> Iterator[Write]:
    """The body of an answer, in order; its faults are left to the player."""
    end = script.line_end
    if chat and script.role_first:
        yield Write(
            0.0, _event(script, {"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}]})
        )
    gaps = random.Random(script.seed)
    at = script.ttft_s
    last = script.tokens if script.fault_at < 0 else script.fault_at
    for start in range(0, last, script.per_event):
        numbers = range(start, min(start + script.per_event, last))
        for number in numbers:
            if number:
                at += script.tpot_s * gaps.lognormvariate(-(script.sigma**2) / 2, script.sigma)
            if number == script.stall_at:
                at += script.stall_s
        thought = "".join(token_text(number) for number in numbers if number < script.reasoning)
        said = "".join(token_text(number) for number in numbers if script.reasoning <= number < script.tokens - script.unseen)
        choice: dict[str, Any] = {"index": 0, "finish_reason": None}
        choice |= {"delta": {"content": said, "reasoning_content": thought or None}} if chat else {"text": said}
        usage = {"usage": _usage(script, numbers[-1] + 1)} if script.usage == "each" else {}
        carried = len(numbers) + (0 if start else script.hidden)
        yield from _pieces(script, at, _event(script, {"choices": [choice]} | usage), carried)
        if script.pings:
            yield Write(at, f": ping{end}{end}".encode())
    if script.fault == "garbage":
        yield Write(at, b"<<<\xff\xfe\x00 no protocol at all\n\n")
    elif script.fault == "error":
        yield Write(at, _event(script, {"error": {"message": "the golden engine broke", "code": 500}}))
    if script.fault:
        return
    if script.finish:
        choice = {"index": 0, "finish_reason": script.finish, "delta" if chat else "text": {} if chat else ""}
        usage = {"usage": _usage(script, script.tokens)} if script.usage in ("finish", "each") else {}
        yield Write(at, _event(script, {"choices": [choice]} | usage))
    if script.usage in ("end", "wrong", "broken"):
        yield Write(at, _event(script, {"choices": [], "usage": _usage(script, script.tokens)}))
    if script.done:
        yield Write(at, f"data: [DONE]{end}{end}".encode())


def _usage(script: Script, tokens: int) -> dict[str, Any]:
    if script.usage == "broken":
        return {"prompt_tokens": True, "completion_tokens": -1}
    ended = script.eos and tokens == script.tokens
    said = 3 * tokens if script.usage == "wrong" else script.hidden + tokens + ended
    details = {"completion_tokens_details": {"reasoning_tokens": script.hidden}} if script.hidden else {}
    return {
        "prompt_tokens": script.prompt_tokens,
        "completion_tokens": said,
        "total_tokens": script.prompt_tokens + said,
    } | details


def _event(script: Script, fields: dict[str, Any]) -> bytes:
    padding = {"padding": "x" * script.padding} if script.padding else {}
    said = json.dumps({"id": "golden", "object": "chunk", "model": "golden"} | padding | fields, ensure_ascii=False)
    return f"data: {said}{script.line_end}{script.line_end}".encode()


def _pieces(script: Script, at: float, data: bytes, tokens: int) -> Iterator[Write]:
    size = script.piece_bytes or len(data)
    starts = range(0, len(data), size)
    for number, start in enumerate(starts):
        yield Write(at + number * script.piece_gap_s, data[start : start + size], tokens if number == len(starts) - 1 else 0)


class Player(asyncio.Protocol):
    """One connection: plays scripts, one after the other."""

    def __init__(self, records: dict[str, Any]) -> None:
        self._records = records
        self._received = b""
        self._task: asyncio.Task[None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if self._task:
            self._task.cancel()

    def data_received(self, data: bytes) -> None:
        came = time.perf_counter()
        self._received += data
        head, found, rest = self._received.partition(b"\r\n\r\n")
        length = next((int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), 0)
        if not found or len(rest) < length:
            return
        self._received = rest[length:]
        method, path, _ = head.decode("latin-1").split(" ", 2)
        if method == "GET":
            self._reply(200, json.dumps(self._records).encode())
            return
        script, chat = script_of(json.loads(rest[:length])), "chat" in path
        record = self._records[script.id] = {"received": came, "writes": [], "head": head.decode("latin-1")}
        self._task = asyncio.create_task(self._play(script, writes_of(script, chat), record))

    async def _play(self, script: Script, writes: Iterator[Write], record: dict[str, Any]) -> None:
        """The writes are made as they go: many answers that begin together must not wait for one another."""
        loop = asyncio.get_running_loop()
        start = loop.time() - (time.perf_counter() - record["received"])
        await asyncio.sleep(max(0.0, start + script.head_after_s - loop.time()))
        if script.status != 200:
            self._reply(script.status, json.dumps({"error": {"message": "golden refusal\x1b[31m"}}).encode())
            return
        framing = "Transfer-Encoding: chunked" if script.chunked else "Connection: close"
        self._transport.write(f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n{framing}\r\n\r\n".encode())
        for write in writes:
            late = loop.time() - start - write.at_s
            if late < 0:
                await asyncio.sleep(-late)
            data = b"%x\r\n%s\r\n" % (len(write.data), write.data) if script.chunked else write.data
            record["writes"].append((time.perf_counter(), write.tokens))
            self._transport.write(data)
        if script.fault == "silence":
            await asyncio.sleep(3600)
        if script.fault == "cut" or not script.chunked:
            self._transport.close()
        else:
            self._transport.write(b"0\r\n\r\n")

    def _reply(self, status: int, data: bytes) -> None:
        self._transport.write(b"HTTP/1.1 %d Golden\r\nContent-Length: %d\r\n\r\n%s" % (status, len(data), data))


def script_of(request: dict[str, Any]) -> Script:
    """The script in a request's `golden` or in its model's name; without either, `max_tokens` tokens at once."""
    asked = {"tokens": request.get("max_tokens", 8)} | request.get("golden", {})
    kinds = {field.name: field.type for field in fields(Script)}
    for name, value in parse_qsl(str(request.get("model", "")).partition("?")[2]):
        asked[name] = json.loads(value) if kinds[name] in (int, float, bool) else value
    return Script(**asked)


async def _serve(certificate: str | None) -> None:
    loop = asyncio.get_running_loop()
    records: dict[str, Any] = {}
    server = await loop.create_server(lambda: Player(records), "127.0.0.1", 0, backlog=1024)
    secure = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH) if certificate else None
    if secure and certificate:
        secure.load_cert_chain(certificate)
    tls = await loop.create_server(lambda: Player(records), "127.0.0.1", 0, backlog=1024, ssl=secure)
    print(*(one.sockets[0].getsockname()[1] for one in (server, tls)), flush=True)
    gc.freeze()
    gc.disable()
    ended = asyncio.Event()
    loop.add_reader(sys.stdin.fileno(), ended.set)  # nothing is ever written there: it is readable when our parent has gone
    await ended.wait()


class GoldenServer:
    """The server in a process of its own, which ends with the block, and with us.

    Args:
        certificate: a PEM file with its key, with which it listens for TLS too.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self._certificate = certificate

    def __enter__(self) -> Self:
        command = [sys.executable, "-P", __file__, *([str(self._certificate)] if self._certificate else [])]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        port, tls_port = map(int, self._process.stdout.readline().split())
        self.url, self.tls_chat_url = f"http://127.0.0.1:{port}", f"https://127.0.0.1:{tls_port}/v1/chat/completions"
        self.chat_url = f"{self.url}/v1/chat/completions"
        self.completions_url = f"{self.url}/v1/completions"
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            assert process.stdin
            process.stdin.close()
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def kill(self) -> None:
        """The server dies in the middle of what it does."""
        self._process.kill()

    def records(self) -> dict[str, Any]:
        """Of each request by its script's id: when it was `received`, its `head`, and its `writes` as [time, tokens]."""
        with urllib.request.urlopen(f"{self.url}/records", timeout=10) as answer:
            return dict(json.load(answer))


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1] if len(sys.argv) > 1 else None))
