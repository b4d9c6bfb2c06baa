"""The client as a process: it ends with its parent, gives no key away, and its end is noticed."""

import http.server
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import psutil
import pytest
from golden_server import GoldenServer, Script, body

from bench.client import secrets_hidden
from bench.client_protocol import Item, Job, Phase
from bench.load_clients import CLIENT, ClientEndedError, LoadClients

KEY = "sk-client-0123456789"


def job(url: str) -> Job:
    return Job(url, {"Authorization": f"Bearer {KEY}"}, "openai-chat", 10.0, retries=0, give_up_after=20)


def no_turn(number: int, answer: str) -> bytes:
    raise AssertionError


@contextmanager
def telling_server() -> Iterator[str]:
    """A server whose answer repeats the key that it was sent."""

    class Tell(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["Content-Length"]))
            text = json.dumps(
                {"choices": [{"index": 0, "delta": {"content": self.headers["Authorization"]}, "finish_reason": "stop"}]}
            )
            data = f"data: {text}\n\ndata: [DONE]\n\n".encode()
            self.send_response(200)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: object) -> None: ...

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tell) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/v1/chat/completions"
        server.shutdown()


def test_a_key_that_a_server_repeats_is_not_told() -> None:
    with telling_server() as url, LoadClients(1, job(url), time.perf_counter) as clients:
        (sent,), _ = clients.run([Phase((Item(0, "{}", 0.0),))], lambda *_: None, no_turn)
    assert sent.answer.text == "Bearer ***"
    assert KEY not in repr(sent)


def test_only_what_may_be_a_secret_is_hidden() -> None:
    hide = secrets_hidden(
        {"Authorization": "Bearer sk-123456789", "X-Key": "abc", "Content-Type": "application/json", "User-Agent": "gemmeter/1"}
    )
    assert hide("Bearer sk-123456789 abc application/json gemmeter/1") == "Bearer *** abc application/json gemmeter/1"


def test_clients_stay_for_several_phases_and_end_with_the_block() -> None:
    with GoldenServer() as server, LoadClients(2, job(server.chat_url), time.perf_counter) as clients:
        for number in range(3):
            phases = [Phase((Item(client, body(Script(id=f"{number}{client}")).decode(), 0.0),)) for client in range(2)]
            sent, usages = clients.run(phases, lambda *_: None, no_turn)
            assert [one.number for one in sent] == [0, 1]
            assert [one.connect_s is None for one in sent] == [number > 0] * 2  # connections are used again
            assert len(usages) == 2
        pids = [process.pid for process in psutil.Process().children() if "bench.client" in process.cmdline()]
        assert len(pids) == 2
        assert clients.peak_rss_bytes() > 2 * 2**20
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_the_end_of_a_client_is_an_error_and_the_others_end_too() -> None:
    with GoldenServer() as server:
        clients = LoadClients(2, job(server.chat_url), time.perf_counter)
        pids = [process.pid for process in psutil.Process().children() if "bench.client" in process.cmdline()]
        item = Item(0, body(Script(ttft_s=30.0)).decode(), 0.0)
        threading.Timer(0.5, os.kill, (pids[0], signal.SIGKILL)).start()
        with clients, pytest.raises(ClientEndedError, match="code -9"):
            clients.run([Phase((item,)), Phase((item,))], lambda *_: None, no_turn)
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_a_program_that_is_no_client_is_noticed() -> None:
    chatter = (sys.executable, "-c", "print('hello')")
    with LoadClients(1, job("http://127.0.0.1:1/"), time.perf_counter, chatter) as clients, pytest.raises(ClientEndedError):
        clients.run([Phase(())], lambda *_: None, no_turn)


def test_a_client_without_a_job_ends_at_once() -> None:
    assert subprocess.run(CLIENT, stdin=subprocess.DEVNULL, capture_output=True, timeout=20).returncode == 0


PARENT = """
import sys, time
from bench.client_protocol import Item, Job, Phase
from bench.load_clients import LoadClients
clients = LoadClients(2, Job(sys.argv[1], {}, "openai-chat", 60.0, 0, 9), time.perf_counter)
phases = [Phase((Item(0, sys.argv[2], 0.0),))] * 2
clients.run(phases, lambda *_: print("running", flush=True), None)
"""


@pytest.mark.slow
def test_clients_end_when_their_parent_is_killed_in_the_midst_of_a_phase() -> None:
    with GoldenServer() as server:
        asked = body(Script(ttft_s=50.0)).decode()
        parent = subprocess.Popen([sys.executable, "-c", PARENT, server.chat_url, asked], stdout=subprocess.PIPE, text=True)
        assert parent.stdout
        assert parent.stdout.readline() == "running\n"
        clients = psutil.Process(parent.pid).children()
        assert len(clients) == 2
        parent.kill()
        parent.wait()
        parent.stdout.close()
        _, alive = psutil.wait_procs(clients, timeout=5)
        assert alive == []
