"""What the load client costs by itself, measured against a server that takes no time."""

import contextlib
import subprocess
import sys
from collections.abc import Callable, Iterator

from bench import null_server
from bench.client_protocol import Item, Job, Phase, Sent, Usage
from bench.load_clients import LoadClients

NULL_SERVER = (sys.executable, "-P", "-m", "bench.null_server")
READ_GAP_S = 0.0002
"""Between tokens, so that each is read by itself, as those of a model are."""


def calibrate_client(clock: Callable[[], float]) -> dict[str, float]:
    """The client's own cost, in about a second.

    Returns:
        `client_request_s`: CPU time of a request and its connection's share, with an answer of one token; `client_token_s`: CPU
        time of one more read, as each token comes in its own; `client_max_rate`: requests/s that one client reaches with 16 in
        flight, 16 tokens each.
    """
    with null_endpoint() as url, LoadClients(1, job(url), clock) as clients:
        exchange(clients, 50, 1)
        short, short_usage = exchange(clients, 300, 1)
        request_s = short_usage.cpu_s / len(short)
        long, long_usage = exchange(clients, 20, 64, gap_s=READ_GAP_S)
        further_reads = sum(one.reads - 1 for one in long)
        many, _ = exchange(clients, 500, 16, runners=16)
    values = {"client_request_s": request_s, "client_max_rate": rate(many)}
    if further_reads > 0:
        values["client_token_s"] = max(0.0, long_usage.cpu_s - request_s * len(long)) / further_reads
    return values


@contextlib.contextmanager
def null_endpoint() -> Iterator[str]:
    """The URL of a null server that runs meanwhile in a process of its own."""
    with subprocess.Popen(NULL_SERVER, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            yield f"http://127.0.0.1:{int((server.stdout or sys.stdin).readline())}/v1/completions"
        finally:
            server.kill()


def job(url: str) -> Job:
    return Job(url, {}, "openai-completions", timeout_s=10.0, retries=0, give_up_after=1)


def exchange(
    clients: LoadClients, count: int, tokens: int, *, gap_s: float | None = None, runners: int = 1
) -> tuple[list[Sent], Usage]:
    """So many requests in a closed loop of one client, and what they cost it.

    Raises:
        RuntimeError: one of them failed.
    """
    items = tuple(Item(number, null_server.body(tokens, gap_s)) for number in range(count))
    sent, usages = clients.run([Phase(items, (0.0,) * runners, at_least=count)], lambda *_: None, _no_turn)
    for one in sent:
        if one.answer.error:
            raise RuntimeError(f"the client's calibration failed ({one.answer.error}): let this machine connect to 127.0.0.1")
    return sent, usages[0]


def rate(sent: list[Sent]) -> float:
    """Requests per second between the first that was sent and the last that ended."""
    return len(sent) / (max(one.ended for one in sent) - min(one.sent for one in sent))


def _no_turn(number: int, text: str) -> bytes:
    raise ValueError("a calibration has no conversations")
