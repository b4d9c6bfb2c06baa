"""The client as a process: it ends with its parent, and its end is noticed."""

import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest
from golden_server import GoldenServer, Script, body

from bench.client_protocol import Item, Job, Phase
from bench.load_clients import CLIENT, ClientEndedError, LoadClients

pytestmark = pytest.mark.slow

KEY = "sk-client-0123456789"


def job(url: str, give_up_after: int = 20) -> Job:
    return Job(url, {"Authorization": f"Bearer {KEY}"}, "openai-chat", 10.0, retries=0, give_up_after=give_up_after)


def no_turn(number: int, answer: str) -> bytes:
    raise AssertionError


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


def test_the_end_of_a_client_is_an_error_that_keeps_what_the_others_told() -> None:
    with GoldenServer() as server:
        clients = LoadClients(2, job(server.chat_url), time.perf_counter)
        pids = [process.pid for process in psutil.Process().children() if "bench.client" in process.cmdline()]
        lost = Phase((Item(0, body(Script(ttft_s=30.0)).decode(), 0.0),))
        kept = Phase((Item(1, body(Script(tokens=4)).decode(), 0.0), Item(2, body(Script()).decode(), 60.0)))
        threading.Timer(0.5, os.kill, (pids[0], signal.SIGKILL)).start()
        with clients, pytest.raises(ClientEndedError, match="code -9") as ended:
            clients.run([lost, kept], lambda *_: None, no_turn)
    assert [(one.number, one.answer.output_tokens, one.answer.error) for one in ended.value.sent] == [
        (1, 4, None),
        (2, None, "unsent: a client of the load had ended"),
    ]
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_when_one_client_gives_up_no_other_goes_on() -> None:
    with GoldenServer() as server, LoadClients(2, job(server.chat_url, give_up_after=1), time.perf_counter) as clients:
        refused = Phase((Item(0, body(Script(status=503)).decode(), 0.0),))
        calm = Phase((Item(1, body(Script()).decode(), 0.0), Item(2, body(Script()).decode(), 30.0)))
        sent, _ = clients.run([refused, calm], lambda *_: None, no_turn)
    assert [(one.answer.error or "ok").partition(":")[0] for one in sent] == ["http_5xx", "ok", "unsent"]
    assert sent[2].answer.error == "unsent: 1 requests in a row had failed"


@pytest.mark.slow
def test_the_cost_is_that_of_sending_by_clients_that_send() -> None:
    phases = [Phase((Item(0, body(Script(ttft_s=1.0)).decode(), 0.0),)), Phase(())]
    with GoldenServer() as server, LoadClients(2, job(server.chat_url), time.perf_counter) as clients:
        (sent,), usages = clients.run(phases, lambda *_: None, no_turn)
    assert sent.ended - sent.scheduled >= 1.0
    assert len(usages) == 1
    assert usages[0].wall_s < sent.ended - sent.scheduled - 0.5


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
