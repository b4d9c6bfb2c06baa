"""What the load client costs by itself, measured against a server that takes no time."""

import contextlib
import logging
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence

from bench import null_server
from bench.client_protocol import Item, Job, Phase, Sent, Usage
from bench.load_clients import LoadClients

NULL_SERVER = (sys.executable, "-P", "-m", "bench.null_server")
READ_GAP_S = 0.0002
"""Between tokens, so that each is read by itself, as those of a model are."""


def calibrate_client(clock: Callable[[], float], server: Sequence[str] = NULL_SERVER) -> dict[str, float]:
    """The client's own cost, in about a second; what could not be told is left out.

    Returns:
        `client_request_s`: CPU time of a request and its connection's share, with an answer of one token; `client_token_s`: CPU
        time of one more read, as each token comes in its own; `client_max_rate`: requests/s that one client reaches with 16 in
        flight, 16 tokens each.
    """
    try:
        values = _costs(clock, server)
    except (RuntimeError, OSError) as error:
        logging.getLogger(__name__).warning("The load client could not be calibrated: %s", error)
        return {}
    return {name: value for name, value in values.items() if value > 0}


def _costs(clock: Callable[[], float], server: Sequence[str]) -> dict[str, float]:
    """
    Raises:
        RuntimeError: the null server, the client or a request failed.
    """
    with null_endpoint(server) as url, LoadClients(1, job(url), clock) as clients:
        exchange(clients, 50, 1)
        short, short_usage = exchange(clients, 300, 1)
        request_s = short_usage.cpu_s / len(short)
        long, long_usage = exchange(clients, 20, 64, gap_s=READ_GAP_S)
        further_reads = sum(one.reads - 1 for one in long)
        many, _ = exchange(clients, 500, 16, runners=16)
    values = {"client_request_s": request_s, "client_max_rate": rate(many)}
    if further_reads > 0:
        values["client_token_s"] = (long_usage.cpu_s - request_s * len(long)) / further_reads
    return values


@contextlib.contextmanager
def null_endpoint(command: Sequence[str] = NULL_SERVER) -> Iterator[str]:
    """The URL of a null server that runs meanwhile in a process of its own.

    Raises:
        RuntimeError: it did not start.
    """
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        try:
            port = server.stdout.readline().strip() if server.stdout else ""
            if not port.isdecimal():
                raise RuntimeError("the null server did not start")
            yield f"http://127.0.0.1:{port}/v1/completions"
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
