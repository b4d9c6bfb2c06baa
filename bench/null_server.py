"""A server that takes no time: what a client measures against it is the client itself.

    python -P -m bench.null_server

It prints its port and ends when standard input closes. It answers every POST of `{"tokens": n, "gap_s": null}` with n tokens in
one write, rendered beforehand, or with one write for each event and so many seconds between them. It speaks to one well-behaved
client on this machine, no others.
"""

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass

WORD = " token"
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


@dataclass(frozen=True)
class Rendered:
    writes: list[bytes]
    gap_s: float


def body(tokens: int, gap_s: float | None) -> str:
    """The request that is answered with so many tokens; `None`: in one write."""
    return json.dumps({"tokens": tokens, "gap_s": gap_s})


def main() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=1024) as listener:
        sys.stdout.write(f"{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        serve(listener, sys.stdin.fileno())


def serve(listener: socket.socket, until: int) -> None:
    """Answer until the file descriptor `until` can be read."""
    answers: dict[bytes, Rendered] = {}
    begun: dict[socket.socket, bytes] = {}
    with selectors.DefaultSelector() as selector:
        selector.register(listener, selectors.EVENT_READ)
        selector.register(until, selectors.EVENT_READ)
        while True:
            for key, _ in selector.select():
                if key.fd == until:
                    return
                if key.fileobj is listener:
                    accepted, _ = listener.accept()
                    accepted.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    selector.register(accepted, selectors.EVENT_READ)
                elif isinstance(connection := key.fileobj, socket.socket) and not _answer(connection, answers, begun):
                    selector.unregister(connection)
                    connection.close()


def _answer(connection: socket.socket, answers: dict[bytes, Rendered], begun: dict[socket.socket, bytes]) -> bool:
    """Answer what was read, if it is a whole request; whether the connection goes on."""
    try:
        data = connection.recv(65536)
        request = begun.pop(connection, b"") + data
        if not data:
            return False
        if request not in answers and (asked := whole(request)) is not None:
            answers[request] = rendered(**json.loads(asked))
        if request in answers:
            answer = answers[request]
            for write in answer.writes:
                connection.sendall(write)
                if answer.gap_s:
                    time.sleep(answer.gap_s)
        else:
            begun[connection] = request
    except OSError:
        return False
    return True


def whole(request: bytes) -> bytes | None:
    """The body of a complete request; `None` while something is missing."""
    head, end, content = request.partition(b"\r\n\r\n")
    lengths = [int(line.partition(b":")[2]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-length:")]
    return content if end and lengths and len(content) >= lengths[0] else None


def rendered(tokens: int, gap_s: float | None) -> Rendered:
    """A completion, streamed as events in chunks, with usage."""
    choices = [{"choices": [{"index": 0, "text": WORD, "finish_reason": None}]} for _ in range(tokens)]
    last = {
        "choices": [{"index": 0, "text": "", "finish_reason": "length"}],
        "usage": {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": tokens + 1},
    }
    events = [b"data: " + json.dumps(event).encode() + b"\n\n" for event in [*choices, last]] + [b"data: [DONE]\n\n"]
    chunks = [b"%x\r\n%s\r\n" % (len(event), event) for event in events]
    writes = [HEAD, *chunks[:-1], chunks[-1] + b"0\r\n\r\n"]
    return Rendered([b"".join(writes)], 0.0) if gap_s is None else Rendered(writes, gap_s)


if __name__ == "__main__":
    main()
