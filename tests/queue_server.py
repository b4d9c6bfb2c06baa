"""An OpenAI-compatible server of known capacity: `slots` requests at a time, each token after `token_s`; the others wait in a queue.

It answers at most `slots / (tokens * token_s)` requests of so many tokens a second. It can also refuse, hang, talk nonsense or die.
"""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self


@dataclass(frozen=True)
class Behaviour:
    slots: int = 4
    token_s: float = 0.01
    models: tuple[str, ...] = ("queue",)
    key: str | None = None
    """Requests without it get 401."""
    fail_every: int = 0
    """Each such request gets 503."""
    dies_at: int = 0
    """It ends in the middle of the answer to this request."""
    answers: str = "tokens"
    """`html`: a page to everything. `silence`: nothing, ever."""
    port: int = 0
    """Any free one unless given."""


class _Server:
    def __init__(self, behaviour: Behaviour) -> None:
        self._is, self._free, self._asked = behaviour, asyncio.Semaphore(behaviour.slots), 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while await self._answer(reader, writer):
                pass
        except (asyncio.IncompleteReadError, ConnectionError):
            pass
        finally:
            writer.close()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        lines = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head.splitlines()[1:])}
        data = await reader.readexactly(int(lines.get("content-length", 0)))
        if self._is.answers == "silence":
            await asyncio.sleep(3600)
        if self._is.answers == "html":
            _whole(writer, 200, b"<!DOCTYPE html><title>Welcome</title><p>It works!", "text/html")
        elif self._is.key and lines.get("authorization") != f"Bearer {self._is.key}":
            _json(writer, 401, {"error": {"message": f"Incorrect key: {lines.get('authorization')}"}})
        elif head.startswith("GET") and head.split()[1].endswith("/models"):
            _json(writer, 200, {"data": [{"id": name} for name in self._is.models]})
        elif head.startswith("POST") and head.split()[1].endswith("/completions"):
            await self._generate(writer, json.loads(data), "chat" in head.split()[1])
        else:
            _json(writer, 404, {"error": {"message": "not found"}})
        return True

    async def _generate(self, writer: asyncio.StreamWriter, asked: dict[str, Any], chat: bool) -> None:
        self._asked += 1
        number = self._asked
        if self._is.fail_every and number % self._is.fail_every == 0:
            _json(writer, 503, {"error": {"message": "too busy"}})
            return
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        tokens = asked["max_tokens"]
        async with self._free:
            start = asyncio.get_running_loop().time()
            for token in range(tokens):
                await asyncio.sleep(start + (token + 1) * self._is.token_s - asyncio.get_running_loop().time())
                if number == self._is.dies_at and token == tokens // 2:
                    os._exit(1)
                said = {"delta": {"content": f" w{token}"}} if chat else {"text": f" w{token}"}
                finish = "length" if token == tokens - 1 else None
                _event(writer, {"choices": [{"index": 0, "finish_reason": finish, **said}]})
        prompt = asked.get("prompt") or " ".join(one["content"] for one in asked["messages"])
        _event(writer, {"choices": [], "usage": {"prompt_tokens": len(prompt.split()), "completion_tokens": tokens}})
        _chunk(writer, b"data: [DONE]\n\n")
        _chunk(writer, b"")


def _event(writer: asyncio.StreamWriter, fields: dict[str, Any]) -> None:
    _chunk(writer, f"data: {json.dumps(fields)}\n\n".encode())


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(b"%x\r\n%s\r\n" % (len(data), data))


def _json(writer: asyncio.StreamWriter, status: int, value: Any) -> None:
    _whole(writer, status, json.dumps(value).encode(), "application/json")


def _whole(writer: asyncio.StreamWriter, status: int, data: bytes, kind: str) -> None:
    writer.write(f"HTTP/1.1 {status} Queue\r\nContent-Type: {kind}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)


async def _run(behaviour: Behaviour) -> None:
    server = await asyncio.start_server(_Server(behaviour).serve, "127.0.0.1", behaviour.port, backlog=1024)
    print(server.sockets[0].getsockname()[1], flush=True)
    ended = asyncio.Event()
    asyncio.get_running_loop().add_reader(sys.stdin.fileno(), ended.set)  # readable when our parent has gone
    await ended.wait()
    os._exit(0)


class QueueServer:
    """The server in a process of its own, which ends with the block, and with us."""

    def __init__(self, **behaviour: Any) -> None:
        self._behaviour = Behaviour(**behaviour)

    def __enter__(self) -> Self:
        command = [sys.executable, "-P", __file__, json.dumps(asdict(self._behaviour))]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}/v1"
        return self

    def __exit__(self, *_: object) -> None:
        with self._process as process:
            process.kill()
            process.wait(10)


def _behaviour(fields: Mapping[str, Any]) -> Behaviour:
    return Behaviour(**{**fields, "models": tuple(fields["models"])})


if __name__ == "__main__":
    asyncio.run(_run(_behaviour(json.loads(sys.argv[1]))))
