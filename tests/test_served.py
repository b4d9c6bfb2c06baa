"""Sessions with servers, and servers of ours as processes: errors stay inside, and nothing is left behind."""

import json
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import psutil
import pytest
from children import Children
from json_standin import JsonStandin

from bench.engines.protocol import Served
from bench.engines.served import Codec, HttpSession, generation
from bench.engines.server_calls import ServerError
from bench.engines.server_process import ServerEndedError, ServerProcess, free_port
from bench.workloads import Prompt
from monitor.http import Endpoint, Exchange
from monitor.stream import Answer, Dialect
from results.cases import PromptFormat

pytestmark = pytest.mark.slow

PROMPT = Prompt(0, "Hello", (1, 2))
EVENT = 'data: {"choices":[{"text":"ab","finish_reason":"length"}]}\n\n'
REPLY = f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: {len(EVENT)}\r\n\r\n{EVENT}".encode()


class Listener:
    """Gives one connection after the other to `answer`, each time with its number."""

    def __init__(self, answer: Callable[[socket.socket, int], None]) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._answer = answer
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection:
                self._answer(connection, number)
            number += 1

    def close(self) -> None:
        self._socket.close()


class Wire:
    def __init__(self, url: str) -> None:
        self._url = url

    def endpoint(self, form: PromptFormat) -> Endpoint:
        return Endpoint(f"{self._url}/{form}")

    def dialect(self, form: PromptFormat) -> Dialect:
        return "openai-completions"

    def body(self, prompt: Prompt, output_tokens: int, stop: str, history: Sequence[str] = ()) -> bytes:
        return b"{}"


class Letters:
    """Every letter is a token."""

    can_encode = True

    def encode(self, text: str, form: PromptFormat) -> Sequence[int]:
        return [ord(letter) for letter in text]

    def decode(self, ids: Sequence[int]) -> str:
        return "".join(map(chr, ids))

    def recount(self, text: str) -> int | None:
        return len(text)


class Nobody(Letters):
    can_encode = False

    def recount(self, text: str) -> int | None:
        raise RuntimeError("nobody was to be asked")


@pytest.fixture
def listening() -> Iterator[Callable[[Callable[[socket.socket, int], None]], str]]:
    started: list[Listener] = []

    def listen(answer: Callable[[socket.socket, int], None]) -> str:
        started.append(Listener(answer))
        return started[-1].url

    yield listen
    for one in started:
        one.close()


def session(url: str, codec: Codec | None = None, timeout_s: float = 5) -> HttpSession:
    return HttpSession(Wire(url), codec or Letters(), request_timeout_s=timeout_s, facts={"context_tokens": 64.0})


def test_it_is_its_wire_and_its_codec() -> None:
    one = session("http://127.0.0.1:1")
    assert isinstance(one, Served)
    assert one.endpoint("chat").url == "http://127.0.0.1:1/chat"
    assert (one.encode("ab", "plain"), one.decode([97]), one.recount("abc")) == ([97, 98], "a", 3)
    assert (one.server_pid, one.alive(), one.values()) == (None, None, {"context_tokens": 64.0})
    one.close()


@pytest.mark.parametrize(("codec", "tokens", "source"), [(Letters(), 2, "tokenizer"), (Nobody(), None, None)])
def test_tokens_are_counted_where_somebody_can(listening: Callable[..., str], codec: Codec, tokens: int, source: str) -> None:
    def answer(connection: socket.socket, _: int) -> None:
        connection.recv(65536)
        connection.sendall(REPLY)

    one = session(listening(answer), codec)
    before = time.perf_counter()
    found = one.generate(PROMPT, 2, "length", time.perf_counter)
    after = time.perf_counter()
    one.close()
    assert (found.text, found.output_tokens, found.token_source, found.error) == ("ab", tokens, source, None)
    assert found.first_content is not None
    assert before < found.sent < found.first_content < after
    assert 0 < found.values["connect_s"] < after - before


def test_a_connection_that_ended_meanwhile_is_not_used_again(listening: Callable[..., str]) -> None:
    def answer(connection: socket.socket, _: int) -> None:
        connection.recv(65536)
        connection.sendall(REPLY)

    one = session(listening(answer))
    for _ in range(3):
        assert one.generate(PROMPT, 2, "length", time.perf_counter).error is None
        time.sleep(0.02)
    one.close()


def test_errors_of_a_server_stay_inside(listening: Callable[..., str]) -> None:
    longer = REPLY.replace(f"Length: {len(EVENT)}".encode(), f"Length: {len(EVENT) + 9}".encode())
    replies = [b"", b"HTTP/1.1 500 Oh\r\nConnection: close\r\n\r\n", longer, b"nonsense\r\n\r\n", REPLY]

    def answer(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        connection.sendall(replies[number])

    one = session(listening(answer))
    errors = [one.generate(PROMPT, 2, "length", time.perf_counter).error for _ in replies]
    one.close()
    kinds = [error.split(":")[0] if error else None for error in errors]
    assert kinds == ["disconnected", "http_5xx", "disconnected", "bad_stream", None]


def test_a_key_that_a_server_repeats_is_in_no_generation(listening: Callable[..., str]) -> None:
    key = 'k3y"-!'
    text = json.dumps({"choices": [{"index": 0, "text": f" {key}", "finish_reason": "stop"}]})
    told = [f"data: {text}\n\n", f"data: {json.dumps({'error': {'message': f'no {key}'}})}\n\n"]

    def answer(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
        connection.sendall((head + told[number]).encode())

    class Keyed(Wire):
        def endpoint(self, form: PromptFormat) -> Endpoint:
            return Endpoint(self._url, {"X-Key": key})

    one = HttpSession(Keyed(listening(answer)), Letters(), request_timeout_s=5.0)
    said, failed = (one.generate(PROMPT, 2, "length", time.perf_counter) for _ in range(2))
    one.close()
    assert (said.text, failed.error) == (" ***", "server_error: no ***")


def test_no_connection_is_an_error_with_a_time() -> None:
    one = session(f"http://127.0.0.1:{free_port()}")
    ticks = iter(range(100))
    found = one.generate(PROMPT, 2, "length", lambda: float(next(ticks)))
    one.close()
    assert (found.error or "").startswith("connect:")
    assert (found.sent, found.event_times, found.output_tokens) == (0.0, (), None)


def test_a_request_that_takes_too_long_is_given_up_and_the_next_one_served(listening: Callable[..., str]) -> None:
    def answer(connection: socket.socket, number: int) -> None:
        connection.recv(65536)
        if number == 0:
            connection.recv(1)  # until the client goes
        else:
            connection.sendall(REPLY)

    one = session(listening(answer), timeout_s=0.2)
    first, second = (one.generate(PROMPT, 2, "length", time.perf_counter).error for _ in range(2))
    one.close()
    assert ((first or "").split(":")[0], second) == ("timeout", None)


def test_what_a_model_thinks_first_has_its_own_time() -> None:
    answer = Answer((3.0, 4.0), (1, 1), "b", "a", first_content=4.0, last_content=4.0, first_reasoning=3.0, values={"x": 1.0})
    found = generation(Exchange(sent=1.0, connect_s=0.5), answer, 0.0)
    assert (found.sent, found.first_content) == (1.0, 4.0)
    assert found.values == {"x": 1.0, "connect_s": 0.5, "first_reasoning_s": 2.0}


class Gone(Letters):
    def recount(self, text: str) -> int | None:
        raise ServerError("The server does not answer: start it.")


def test_a_server_that_cannot_count_any_more_is_no_error_of_what_was_measured(listening: Callable[..., str]) -> None:
    def answer(connection: socket.socket, _: int) -> None:
        connection.recv(65536)
        connection.sendall(REPLY)

    one = session(listening(answer), Gone())
    found = one.generate(PROMPT, 2, "length", time.perf_counter)
    assert (found.text, found.output_tokens, found.error, one.recount("ab")) == ("ab", None, None, None)
    one.close()


SERVER = """
import subprocess, sys
from http.server import BaseHTTPRequestHandler, HTTPServer
class Handler(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"{}")
    def log_message(self, *_): pass
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print("child", child.pid, file=open(sys.argv[2], "w"))
HTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""


@pytest.mark.slow
def test_closing_ends_a_server_and_its_children(tmp_path: Path) -> None:
    port, told = free_port(), tmp_path / "told"
    server = ServerProcess([sys.executable, "-c", SERVER, str(port), str(told)], port)
    family = [psutil.Process(server.pid), psutil.Process(int(told.read_text().split()[1]))]
    assert server.root_url == f"http://127.0.0.1:{port}"
    assert server.ended() is None
    server.close()
    psutil.wait_procs(family, timeout=10)
    assert not any(one.is_running() for one in family)
    assert server.ended() == "The server was killed by signal 9 (SIGKILL)."
    server.close()


def test_a_server_that_ends_before_it_answers_is_told(tmp_path: Path) -> None:
    with pytest.raises(ServerEndedError, match=r"ended with exit code 3\. It had not begun to answer"):
        ServerProcess([sys.executable, "-c", "raise SystemExit(3)"], free_port())
    with pytest.raises(ServerEndedError, match=r"signal 6 \(SIGABRT\)"):
        ServerProcess([sys.executable, "-c", "import os; os.abort()"], free_port())
    with pytest.raises(ServerEndedError, match=r"signal 35 \(real-time\)"):
        ServerProcess([sys.executable, "-c", "import os; os.kill(os.getpid(), 35)"], free_port())
    with pytest.raises(FileNotFoundError):
        ServerProcess([str(tmp_path / "no-such-program")], free_port())


def test_somebody_else_on_the_port_is_not_taken_for_the_server() -> None:
    """Healthy, but not ours, which found its port taken."""

    def healthy_late(_: object) -> tuple[int, object]:
        time.sleep(0.3)  # by then ours has ended
        return 200, {}

    with (
        JsonStandin({"/health": healthy_late}) as other,
        pytest.raises(ServerEndedError, match="exit code 1"),
    ):
        ServerProcess([sys.executable, "-c", "raise SystemExit(1)"], int(other.url.rpartition(":")[2]))


def test_a_start_that_is_interrupted_leaves_nothing(tmp_path: Path) -> None:
    children = Children()

    def interrupt() -> None:
        import signal

        signal.raise_signal(signal.SIGINT)

    threading.Timer(0.3, interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        ServerProcess([sys.executable, "-c", "import time; time.sleep(60)"], free_port())
    assert children() == []
